"""Checks of strings: wiring, serials, converter windows, currents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import numpy as np

from reconf.arrays import FloatArray
from reconf.config.build import expand, fill, merge_limits
from reconf.config.draft import Draft, LooseString
from reconf.config.findings import Complaint, KeyPath
from reconf.config.messages import near
from reconf.config.model import ModuleType, PositionGroup, RtuGateway, SinglePosition
from reconf.protection.limits import default_limits

_RTU_REPLY_CHARS = 8 + 75
"""Characters of one RM1 read: 8 asked, 5 + 2 * 35 answered."""


def check_strings(draft: Draft) -> Iterator[Complaint]:
    """All strings, one by one and against each other."""
    found: list[Complaint] = []
    positions: list[tuple[KeyPath, SinglePosition]] = []
    for i, string in enumerate(draft.strings):
        expanded, complaints = _expand(("strings", i), string)
        found += complaints
        positions += expanded
        found += _converter(("strings", i), string, draft)
        if not complaints:
            found += _window(("strings", i), string, [p for _, p in expanded], draft)
    yield from found
    yield from _names(draft, positions)
    yield from _unit_ids(draft, positions)
    for path, position in positions:
        yield from _references(path, position, draft)
    yield from _cells(draft)
    yield from _wire_time(draft, positions)


def _expand(
    path: KeyPath, string: LooseString
) -> tuple[list[tuple[KeyPath, SinglePosition]], list[Complaint]]:
    """Single positions of a string, and what keeps groups from being unfolded."""
    singles: list[tuple[KeyPath, SinglePosition]] = []
    found: list[Complaint] = []
    for k, entry in enumerate(string.positions):
        at: KeyPath = (*path, "positions", k)
        complaints = list(_group(at, entry)) if isinstance(entry, PositionGroup) else []
        found += complaints
        if not complaints:
            singles += [(at, single) for single in expand(entry)]
    return singles, found


def _group(path: KeyPath, group: PositionGroup) -> Iterator[Complaint]:
    """A group unfolds into valid unit ids, labels and serials."""
    last = group.first_unit_id + group.count - 1
    if last > 200:
        allowed = f"at most {201 - group.count} with count {group.count}: RM1 unit ids end at 200"
        yield Complaint((*path, "first_unit_id"), str(group.first_unit_id), allowed)
    for n in group.exceptions:
        if not 1 <= n <= group.count:
            yield Complaint((*path, "exceptions", n), f"position {n}", f"1..{group.count}")
    for key, longest in (("label", 64), ("serial", 16)):
        pattern = str(getattr(group, key))
        try:
            filled = [fill(pattern, n) for n in range(1, group.count + 1)]
        except ValueError as error:
            yield Complaint((*path, key), repr(pattern), str(error))
            continue
        if len(set(filled)) < len(filled):
            allowed = f"a pattern with {{n}}, or all {group.count} are called the same"
            yield Complaint((*path, key), repr(pattern), allowed)
        elif any(not 1 <= len(text) <= longest for text in filled):
            yield Complaint((*path, key), repr(max(filled, key=len)), f"1..{longest} characters")


def _names(draft: Draft, positions: list[tuple[KeyPath, SinglePosition]]) -> Iterator[Complaint]:
    """String names, labels and serials stand once on a site."""
    first: dict[tuple[str, str], KeyPath] = {}
    named: list[tuple[str, KeyPath, str]] = [
        ("string name", ("strings", i, "name"), s.name) for i, s in enumerate(draft.strings)
    ]
    for path, p in positions:
        named += [("label", (*path, "label"), p.label), ("serial", (*path, "serial"), p.serial)]
    for what, path, value in named:
        if (what, value) in first:
            other = draft.in_file(first[what, value])
            place = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in other).lstrip(".")
            yield Complaint(path, f"{what} {value!r} a second time, first at {place}", f"each {what} once")
        else:
            first[what, value] = path


def _unit_ids(draft: Draft, positions: list[tuple[KeyPath, SinglePosition]]) -> Iterator[Complaint]:
    """A unit id stands once behind a gateway."""
    first: dict[tuple[str, int], str] = {}
    units: list[tuple[KeyPath, str, int, str]] = [
        ((*path, "unit_id"), p.gateway, p.unit_id, p.label) for path, p in positions
    ]
    units += [
        (
            ("strings", i, "converter", "unit_id"),
            s.converter.gateway,
            s.converter.unit_id,
            f"converter of {s.name}",
        )
        for i, s in enumerate(draft.strings)
        if s.converter
    ]
    units += [
        (("site_io", i, "unit_id"), u.gateway, u.unit_id, f"site I/O unit {u.name}")
        for i, u in enumerate(draft.site_io)
    ]
    for path, gateway, unit_id, owner in units:
        if (gateway, unit_id) in first:
            found = (
                f"unit id {unit_id} on gateway {gateway!r} for {owner}, taken by {first[gateway, unit_id]}"
            )
            yield Complaint(path, found, "each unit id once per gateway")
        else:
            first[gateway, unit_id] = owner


def _references(path: KeyPath, position: SinglePosition, draft: Draft) -> Iterator[Complaint]:
    """Gateway and module type exist."""
    gateways, types = draft.names["gateways"], draft.names["module_types"]
    if position.gateway not in gateways:
        allowed = f"{', '.join(gateways)}{near(position.gateway, gateways)}"
        yield Complaint((*path, "gateway"), repr(position.gateway), allowed)
    if position.module_type not in types:
        allowed = f"{', '.join(types)}{near(position.module_type, types)}"
        yield Complaint((*path, "module_type"), repr(position.module_type), allowed)


def _converter(path: KeyPath, string: LooseString, draft: Draft) -> Iterator[Complaint]:
    """The converter's ratings agree with each other and with the fuse."""
    converter = string.converter
    if converter is None:
        return
    at: KeyPath = (*path, "converter")
    gateways = draft.names["gateways"]
    if converter.gateway not in gateways:
        allowed = f"{', '.join(gateways)}{near(converter.gateway, gateways)}"
        yield Complaint((*at, "gateway"), repr(converter.gateway), allowed)
    if converter.voltage_min_v >= converter.voltage_max_v:
        found = f"{converter.voltage_min_v:g} V"
        yield Complaint(
            (*at, "voltage_min_v"), found, f"less than voltage_max_v, {converter.voltage_max_v:g} V"
        )
    if string.fuse_a is not None and converter.current_rating_a > string.fuse_a:
        found = f"{converter.current_rating_a:g} A"
        yield Complaint((*at, "current_rating_a"), found, f"at most the string's fuse, {string.fuse_a:g} A")
    reach_w = converter.voltage_max_v * converter.current_rating_a
    if converter.power_rating_w > reach_w:
        allowed = f"at most voltage_max_v * current_rating_a, {reach_w:g} W"
        yield Complaint((*at, "power_rating_w"), f"{converter.power_rating_w:g} W", allowed)


def reach_v(types: list[ModuleType], cells_v: FloatArray) -> FloatArray:
    """Smallest and largest voltage of K inserted modules at the given lowest and highest cell voltage.

    Args:
        types: the string's modules.
        cells_v: (2, N) lowest and highest operating cell voltage of each [V].

    Returns:
        (2, N) for K = 1..N: the K smallest modules at their lowest, the K largest at their highest [V].
    """
    n_cells = np.array([t.n_cells for t in types], dtype=np.float64)
    lowest = np.cumsum(np.sort(n_cells * cells_v[0]))
    highest = np.cumsum(np.sort(n_cells * cells_v[1])[::-1])
    return np.stack([lowest, highest])


def module_at(position: SinglePosition, draft_types: dict[str, ModuleType]) -> ModuleType | None:
    """The module type at a position with what the position overrides; None when it is unknown."""
    base = draft_types.get(position.module_type)
    if base is None:
        return None
    keys = set(ModuleType.model_fields)
    return base.model_copy(update=position.model_dump(include=keys, exclude_none=True))


def _window(
    path: KeyPath, string: LooseString, positions: list[SinglePosition], draft: Draft
) -> Iterator[Complaint]:
    """Some number of inserted modules lies inside the converter's window."""
    types = [t for t in (module_at(p, draft.module_types) for p in positions) if t is not None]
    converter = string.converter
    if converter is None or not types or len(types) < len(positions):
        return
    if converter.voltage_min_v >= converter.voltage_max_v:
        return
    rows = [merge_limits(default_limits(t.chemistry), draft.limits.get(t.chemistry, [])) for t in types]
    cells_v = np.array([[r["cell_voltage_v", side].operating for r in rows] for side in ("min", "max")])
    reach = reach_v(types, cells_v)
    fits = (reach[0] <= converter.voltage_max_v) & (reach[1] >= converter.voltage_min_v)
    if fits.any():
        return
    at: KeyPath = (*path, "converter", "voltage_min_v")
    window = f"a window of {converter.voltage_min_v:g}..{converter.voltage_max_v:g} V"
    nearest = (
        f"{len(types)} modules give {reach[0, -1]:g}..{reach[1, -1]:g} V,"
        f" one gives {reach[0, 0]:g}..{reach[1, 0]:g} V"
    )
    yield Complaint(
        at, f"{window} that no number of inserted modules meets", f"a window they can meet: {nearest}"
    )


@cache
def cell_models() -> dict[str, str]:
    """Shipped cell parameter files: name and chemistry."""
    found: dict[str, str] = {}
    for file in files("reconf.cells").joinpath("data").iterdir():
        if file.name.endswith(".yaml"):
            lines = file.read_text(encoding="utf-8").splitlines()
            chemistry = next(
                (
                    line.split(":", 1)[1].split("#")[0].strip()
                    for line in lines
                    if line.startswith("chemistry:")
                ),
                "",
            )
            found[file.name.removesuffix(".yaml")] = chemistry
    return found


def _cells(draft: Draft) -> Iterator[Complaint]:
    """Cell models exist and are of the module's chemistry."""
    known = cell_models()
    for name, kind in draft.module_types.items():
        path: KeyPath = ("module_types", name, "cell_model")
        if kind.cell_model not in known:
            allowed = f"{', '.join(sorted(known))}{near(kind.cell_model, known)}"
            yield Complaint(path, repr(kind.cell_model), allowed)
        elif known[kind.cell_model] not in ("", kind.chemistry):
            found = f"{kind.cell_model!r}, a model of {known[kind.cell_model]}"
            yield Complaint(path, found, f"a model of {kind.chemistry}")


def _wire_time(draft: Draft, positions: list[tuple[KeyPath, SinglePosition]]) -> Iterator[Complaint]:
    """Reading every node of a serial bus once fits into a tick (11 bits a character at most)."""
    if draft.timing is None:
        return
    for i, gateway in enumerate(draft.gateways):
        if not isinstance(gateway, RtuGateway):
            continue
        nodes = sum(p.gateway == gateway.name for _, p in positions)
        nodes += sum(s.converter.gateway == gateway.name for s in draft.strings if s.converter)
        bits = 10 + (gateway.parity != "N") + (gateway.stop_bits - 1)
        silence_s = 2.0 * max(3.5 * bits / gateway.baudrate, 0.00175)
        need_s = nodes * (_RTU_REPLY_CHARS * bits / gateway.baudrate + silence_s)
        if need_s > draft.timing.tick_s:
            found = (
                f"{nodes} nodes at {gateway.baudrate} baud, {need_s:.2f} s on the wire for one read of each"
            )
            allowed = (
                f"less than tick_s, {draft.timing.tick_s:g} s: a faster bus, fewer nodes or a longer tick"
            )
            yield Complaint(("gateways", i, "baudrate"), found, allowed)
