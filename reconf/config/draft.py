"""A site file as far as it can be understood, so that cross-checks also run on a file with errors."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from reconf.config.findings import Complaint, KeyPath
from reconf.config.messages import complaint_of
from reconf.config.model import (
    Allocator,
    Bus,
    Converter,
    Fallback,
    Gateway,
    IoUnit,
    LimitOverride,
    ModuleType,
    Position,
    SiteFile,
    String,
    StringBase,
    Timing,
)
from reconf.config.model_links import Mqtt, Sparkplug, SunSpec
from reconf.config.model_parts import ChemistryName
from reconf.config.walk import place_of, plain_path, value_at


class LooseString(StringBase):
    """A string some part of which may not have been readable."""

    converter: Converter | None = None
    positions: list[Position] = Field(default=[])


@dataclass
class Draft:
    """Sections that could be read; None or empty where one could not."""

    model: SiteFile | None = None
    """The whole file, when nothing in it is wrong by itself."""
    gateways: list[Gateway] = field(default_factory=list)
    bus: Bus | None = None
    module_types: dict[str, ModuleType] = field(default_factory=dict)
    strings: list[LooseString] = field(default_factory=list)
    limits: dict[ChemistryName, list[LimitOverride]] = field(default_factory=dict)
    timing: Timing | None = None
    allocator: Allocator | None = None
    mqtt: Mqtt | None = None
    sunspec: SunSpec | None = None
    sparkplug: Sparkplug | None = None
    fallback: Fallback | None = None
    site_io: list[IoUnit] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    """Names defined in `gateways`, `module_types` and `strings`, broken entries included."""
    moved: dict[KeyPath, list[int]] = field(default_factory=dict)
    """For a list that lost entries: the index in the file of each entry kept."""

    def in_file(self, path: KeyPath) -> KeyPath:
        """The path in the file of a path in this draft."""
        true: KeyPath = ()
        for key in path:
            kept = self.moved.get(true)
            true = (*true, kept[key] if kept is not None and isinstance(key, int) else key)
        return true


SECTIONS = (
    "gateways",
    "bus",
    "module_types",
    "strings",
    "limits",
    "timing",
    "allocator",
    "mqtt",
    "sunspec",
    "sparkplug",
    "fallback",
    "site_io",
)
"""Sections that are checked against each other."""


def read_draft(data: Any) -> tuple[Draft, list[Complaint]]:
    """Validate `data`; return what can be used of it and every complaint of the models."""
    try:
        model = SiteFile.model_validate(data)
    except ValidationError as error:
        complaints = [complaint_of(e, data) for e in error.errors(include_url=False)]
    else:
        sections = {name: getattr(model, name) for name in SECTIONS}
        sections["strings"] = [LooseString.model_construct(**dict(s)) for s in model.strings]
        return Draft(model=model, names=_names(data), **sections), []
    draft = Draft(names=_names(data))
    if isinstance(data, dict):
        work = copy.deepcopy(data)
        for name in SECTIONS:
            _read_section(draft, work, name)
    return draft, complaints


def _names(data: Any) -> dict[str, list[str]]:
    """Names by section, read without any model."""
    names: dict[str, list[str]] = {}
    for section in ("gateways", "module_types", "strings"):
        entries = value_at(data, (section,))
        if isinstance(entries, dict):
            names[section] = [str(key) for key in entries]
        elif isinstance(entries, list):
            names[section] = [str(e["name"]) for e in entries if isinstance(e, dict) and "name" in e]
        else:
            names[section] = []
    return names


def _read_section(draft: Draft, data: dict[str, Any], name: str) -> None:
    """Validate one section, leaving out what is broken in it."""
    info = SiteFile.model_fields[name]
    expected: Any = list[LooseString] if name == "strings" else info.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(expected)
    kept: dict[KeyPath, list[int]] = {}
    while name in data:
        try:
            setattr(draft, name, adapter.validate_python(data[name]))
        except ValidationError as error:
            paths = [(name, *plain_path(e["loc"])) for e in error.errors(include_url=False)]
            _leave_out(data, paths, kept)
            continue
        draft.moved |= kept
        return
    default = info.get_default(call_default_factory=True)
    if default is not PydanticUndefined and name not in ("gateways", "module_types", "strings"):
        setattr(draft, name, default)


def _leave_out(data: dict[str, Any], paths: list[KeyPath], kept: dict[KeyPath, list[int]]) -> None:
    """Remove the smallest part around each broken value without which the rest can stand."""
    places = {_removable(data, path) for path in paths}
    outermost = [p for p in places if not any(p != q and p[: len(q)] == q for q in places)]
    for path in sorted(outermost, key=lambda p: tuple(map(str, p)), reverse=True):
        parent, key = value_at(data, path[:-1]), path[-1]
        if isinstance(parent, dict):
            parent.pop(key, None)
    # entries of lists go last and highest index first, so that earlier indices stay true
    entries = [p for p in outermost if isinstance(value_at(data, p[:-1]), list)]
    for path in sorted(entries, key=lambda p: (tuple(map(str, p[:-1])), p[-1]), reverse=True):
        parent, index = value_at(data, path[:-1]), path[-1]
        if isinstance(index, int) and index < len(parent):
            kept.setdefault(path[:-1], list(range(len(parent)))).pop(index)
            parent.pop(index)


def _removable(data: dict[str, Any], path: KeyPath) -> KeyPath:
    """`path` or the nearest thing around it that may be absent."""
    while len(path) > 1:
        parent = value_at(data, path[:-1])
        if isinstance(parent, list) and isinstance(path[-1], int):
            return path
        if isinstance(parent, dict) and path[-1] in parent:
            place = place_of(path, data)
            loose = place.owner is String and path[-1] in ("converter", "positions")
            if loose or place.owner is None or place.field is None or not place.field.is_required():
                return path
        path = path[:-1]
    return path
