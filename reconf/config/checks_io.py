"""Checks of site I/O: gateways, profiles, and whether each signal fits the point it is wired to."""

from __future__ import annotations

from collections.abc import Iterator

from reconf.config.build import io_unit
from reconf.config.draft import Draft
from reconf.config.findings import Complaint, KeyPath
from reconf.config.messages import near
from reconf.devices.site_io import load_io_profile, wiring_errors
from reconf.errors import ConfigError

OUTPUTS_ONCE = "each output once: two units that are asked for the same do not agree when one is lost"


def check_site_io(draft: Draft) -> Iterator[Complaint]:
    """All units."""
    gateways = draft.names.get("gateways", [])
    names: set[str] = set()
    outputs: set[str] = set()
    for i, unit in enumerate(draft.site_io):
        path: KeyPath = ("site_io", i)
        if unit.name in names:
            yield Complaint((*path, "name"), f"site I/O unit {unit.name!r} a second time", "each name once")
        names.add(unit.name)
        if unit.gateway not in gateways:
            allowed = f"{', '.join(gateways)}{near(unit.gateway, gateways)}"
            yield Complaint((*path, "gateway"), repr(unit.gateway), allowed)
        spec = io_unit(unit)
        if not spec.inputs and not spec.outputs:
            yield Complaint(path, f"site I/O unit {unit.name!r} without a signal", "inputs, outputs or both")
        try:
            profile = load_io_profile(unit.profile)
        except ConfigError as error:
            yield Complaint((*path, "profile"), repr(unit.profile), f"a site I/O profile ({error})")
            continue
        for section, signal, found, allowed in wiring_errors(spec, profile):
            yield Complaint((*path, section, signal), found, allowed)
        for point in spec.outputs:
            if point.signal in outputs:
                yield Complaint((*path, "outputs", point.signal), "wired a second time", OUTPUTS_ONCE)
            outputs.add(point.signal)
    if draft.model is not None and draft.model.thermal.cooling != "off" and "cooling" not in outputs:
        yield Complaint(
            ("thermal", "cooling"),
            f"{draft.model.thermal.cooling!r} without an output",
            "an output `cooling` of a unit of site_io, or off",
        )
