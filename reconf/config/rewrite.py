"""Other modules at the positions of a site file, comments and everything else as they were."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from reconf.config.build import fill
from reconf.config.load import parse_site
from reconf.config.model import ModuleFields, ModuleType
from reconf.errors import ConfigError
from reconf.site import ModuleSpec

KIND_KEYS = ("chemistry", "cell_model", "n_cells", "n_parallel", "rated_capacity_ah")
"""What makes a module type; the rest may differ from module to module."""
GRADE_KEYS = {"soh_frac": 4, "soh_std_frac": 4, "resistance_scale": 3}
"""Always written with a module, with so many digits: a type's mean does not hold for a module one knows."""


def with_modules(text: str, name: str, wanted: Mapping[str, ModuleSpec]) -> str:
    """The site file `text` with the modules `wanted` (by label of the position) in place of those there.

    Only positions that get another module change. What comes out has passed the checks of a site file, and
    holds exactly the modules that were wanted.

    Args:
        text: a site file without faults.
        name: what it is called in messages.
        wanted: modules by label; positions that are not named keep theirs.

    Raises:
        ConfigError: a label is not in it, or the result would not be a valid site file.
    """
    site = parse_site(text, name)
    there = {p.label: p.module.serial for p in site.positions}
    strangers = sorted(set(wanted) - set(there))
    if strangers:
        raise ConfigError(f"{name}: no position is called {', '.join(strangers)}")
    yaml = _yaml()
    document = yaml.load(text)
    for place, spec in wanted.items():
        if there[place] != spec.serial:
            _put(document, place, spec)
    out = io.StringIO()
    yaml.dump(document, out)
    after = parse_site(out.getvalue(), name)
    found = {p.label: p.module.serial for p in after.positions}
    if found != {**there, **{place: spec.serial for place, spec in wanted.items()}}:
        raise ConfigError(f"{name}: cannot be rewritten as wanted (anchors shared between positions?)")
    return out.getvalue()


def _yaml() -> YAML:
    """Round trip: quotes, comments, flow style and indents of the file stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _put(document: Any, place: str, spec: ModuleSpec) -> None:
    """Write `spec` at the position `place`."""
    type_name = _type_name(document, spec)
    defaults = ModuleType.model_validate(dict(document["module_types"][type_name])).model_dump()
    for string in document["strings"]:
        positions = string["positions"]
        for i, entry in enumerate(positions):
            if "count" not in entry:
                if entry["label"] == place:
                    positions[i] = own = copy.deepcopy(entry)  # an alias of another entry must not change
                    own.update(_fields(type_name, spec, defaults, inherited=_kept(own)))
                    return
                continue
            for n in range(1, int(entry["count"]) + 1):
                said = entry.get("exceptions", {}).get(n, {})
                if said.get("label", fill(entry["label"], n)) == place:
                    _except(entry, n, said, _fields(type_name, spec, defaults, inherited=dict(entry)))
                    return


def _kept(entry: Any) -> dict[str, Any]:
    """Drop what the entry itself says of its module; what it inherits by a merge key stays."""
    for key in ModuleFields.model_fields:
        if key in entry and key not in GRADE_KEYS:
            entry.pop(key, None)
    return dict(entry)


def _except(entry: Any, n: int, said: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Make position `n` of a group an exception; what it says of the position itself stays."""
    row = CommentedMap({k: v for k, v in said.items() if k in ("label", "r_on_ohm")} | dict(fields))
    row.fa.set_flow_style()
    if "exceptions" not in entry:
        entry["exceptions"] = CommentedMap()
        entry["exceptions"].fa.set_flow_style()
    entry["exceptions"][n] = row


def _fields(
    type_name: str, spec: ModuleSpec, defaults: Mapping[str, Any], inherited: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be written so that the position holds `spec`."""
    values = asdict(spec) | {"chemistry": spec.chemistry.value}
    fields: dict[str, Any] = {"serial": spec.serial, "module_type": type_name}
    fields |= {key: round(float(values[key]), digits) for key, digits in GRADE_KEYS.items()}
    for key in ModuleFields.model_fields:
        if key not in GRADE_KEYS and inherited.get(key, defaults[key]) != values[key]:
            fields[key] = values[key]
    return fields


def _type_name(document: Any, spec: ModuleSpec) -> str:
    """The module type of this kind; one is added where the file has none."""
    values = asdict(spec) | {"chemistry": spec.chemistry.value}
    kind = {key: values[key] for key in KIND_KEYS}
    for name, entry in document["module_types"].items():
        said = ModuleType.model_validate(dict(entry)).model_dump()
        if {key: said[key] for key in KIND_KEYS} == kind:
            return str(name)
    rated = f"{spec.rated_capacity_ah:g}".replace(".", "p")
    name = f"{spec.chemistry.value.lower()}_{spec.n_cells}s{spec.n_parallel}p_{rated}ah"
    document["module_types"][name] = CommentedMap(kind)
    return name
