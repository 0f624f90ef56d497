"""Who should answer by the site file, and who does: the differences, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from reconf.site import ModuleSpec, Site

Kind = Literal["rm1", "rc1", "unknown"]
RM1_IDS = range(1, 201)
RC1_IDS = range(201, 248)
CAPACITY_STEP_AH = 0.06
"""RATED_CAPACITY is given in steps of 0.1 Ah."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """A unit that answered."""

    gateway: str
    unit_id: int
    kind: Kind
    serial: str = ""
    map_version: int = 0
    n_cells: int = 0
    """RM1 only."""
    chemistry_code: int = 0
    """RM1 only; 0: not told."""
    rated_capacity_ah: float = float("nan")
    """RM1 only; NaN: not told."""
    answer_s: float = float("nan")
    """Time its first answer took."""
    text: str = ""
    """What is odd about it."""
    trips: Mapping[str, float] = field(default_factory=dict)
    """RM1 only; thresholds of its own trips by register."""


class Difference(StrEnum):
    """Kinds of disagreement between site file and wires."""

    MISSING = "missing"
    MOVED = "moved"
    """Its serial number answers elsewhere."""
    EXTRA = "extra"
    WRONG_KIND = "wrong_kind"
    WRONG_VERSION = "wrong_version"
    WRONG_SERIAL = "wrong_serial"
    SWAPPED = "swapped"
    """The serial number is that of another position of the site, and the other way round."""
    DUPLICATE = "duplicate"
    WRONG_CELLS = "wrong_cells"
    WRONG_CHEMISTRY = "wrong_chemistry"
    WRONG_CAPACITY = "wrong_capacity"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One difference, for people."""

    kind: Difference
    subject: str
    """Serial of the site file, name of the string, or serial found."""
    position: str
    """Label of the position, or the string's converter; empty where the site file knows none."""
    gateway: str
    unit_id: int
    expected: str
    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where the site file puts a node."""

    gateway: str
    unit_id: int
    kind: Literal["rm1", "rc1"]
    subject: str
    label: str
    module: ModuleSpec | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Gateway and unit id."""
        return self.gateway, self.unit_id


def places_of(site: Site) -> tuple[Place, ...]:
    """Every node of the site file: modules in site order, then converters."""
    modules = [Place(p.gateway, p.unit_id, "rm1", p.module.serial, p.label, p.module) for p in site.positions]
    converters = [
        Place(s.converter.gateway, s.converter.unit_id, "rc1", s.name, f"converter {s.name}")
        for s in site.strings
    ]
    return (*modules, *converters)


def compare(site: Site, answerers: Sequence[Answerer]) -> tuple[Deviation, ...]:
    """Differences between the site file and who answered, in site order, extra units last."""
    places = places_of(site)
    at = {(a.gateway, a.unit_id): a for a in answerers}
    by_serial: dict[str, list[Answerer]] = {}
    for a in answerers:
        if a.kind == "rm1" and a.serial:
            by_serial.setdefault(a.serial, []).append(a)
    found: list[Deviation] = []
    for place in places:
        answerer = at.get(place.address)
        if answerer is None:
            found.append(_absent(place, by_serial.get(place.subject, [])))
        else:
            found += _disagreements(place, answerer, places, at)
    known = {p.address for p in places}
    moved = {d.found for d in found if d.kind is Difference.MOVED}
    found += [_extra(a) for a in answerers if (a.gateway, a.unit_id) not in known and _where(a) not in moved]
    found += [d for serial, those in by_serial.items() for d in _duplicates(serial, those)]
    return tuple(found)


def _where(a: Answerer) -> str:
    return f"answers at {a.gateway} unit {a.unit_id}"


def _absent(place: Place, elsewhere: Sequence[Answerer]) -> Deviation:
    if elsewhere and place.kind == "rm1":
        return Deviation(
            Difference.MOVED, place.subject, place.label, place.gateway, place.unit_id,
            f"unit {place.unit_id} on {place.gateway}", _where(elsewhere[0]),
            f"set the node's unit id to {place.unit_id}, or enter {elsewhere[0].unit_id} in the site file",
        )  # fmt: skip
    return Deviation(
        Difference.MISSING, place.subject, place.label, place.gateway, place.unit_id,
        f"an {place.kind.upper()} at unit {place.unit_id}", "no answer",
        "check the node's supply, its bus cable and its unit id",
    )  # fmt: skip


def _disagreements(
    place: Place, a: Answerer, places: Sequence[Place], at: dict[tuple[str, int], Answerer]
) -> list[Deviation]:
    def deviation(kind: Difference, expected: str, found: str, remedy: str) -> Deviation:
        return Deviation(
            kind, place.subject, place.label, place.gateway, place.unit_id, expected, found, remedy
        )

    if a.kind != place.kind:
        what = a.kind.upper() if a.kind != "unknown" else f"an unknown device ({a.text})"
        remedy = "look which device sits there; RM1 nodes have ids 1..200, RC1 converters 201..247"
        return [deviation(Difference.WRONG_KIND, place.kind.upper(), what, remedy)]
    out: list[Deviation] = []
    if a.map_version != 1:
        remedy = "bring the node's firmware to one that speaks register map 1"
        out.append(deviation(Difference.WRONG_VERSION, "map version 1", str(a.map_version), remedy))
    if place.module is None:
        return out
    if a.serial != place.module.serial:
        out.append(_wrong_serial(place, a, places, at))
        return out  # another module: its other registers say nothing about this one
    if a.n_cells != place.module.n_cells:
        remedy = "correct n_cells of the module type, or find out which module this is"
        out.append(deviation(Difference.WRONG_CELLS, f"{place.module.n_cells} cells", f"{a.n_cells}", remedy))
    if a.chemistry_code not in (0, place.module.chemistry.code):
        remedy = "limits depend on the chemistry: find out which is true before anything else"
        expected = f"chemistry {place.module.chemistry.value} ({place.module.chemistry.code})"
        out.append(deviation(Difference.WRONG_CHEMISTRY, expected, f"code {a.chemistry_code}", remedy))
    if abs(a.rated_capacity_ah - place.module.rated_capacity_ah) > CAPACITY_STEP_AH:
        expected = f"{place.module.rated_capacity_ah:g} Ah"
        remedy = "correct rated_capacity_ah in the site file or in the node"
        out.append(deviation(Difference.WRONG_CAPACITY, expected, f"{a.rated_capacity_ah:g} Ah", remedy))
    return out


def _wrong_serial(
    place: Place, a: Answerer, places: Sequence[Place], at: dict[tuple[str, int], Answerer]
) -> Deviation:
    home = next((p for p in places if p.module is not None and p.module.serial == a.serial), None)
    kind, remedy = (
        Difference.WRONG_SERIAL,
        "write the true serial into the site file, or put the module right",
    )
    if home is not None:
        there = at.get(home.address)
        remedy = f"{a.serial} belongs at {home.label}"
        if there is not None and there.serial == place.subject:
            kind = Difference.SWAPPED
            remedy = (
                f"{place.label} and {home.label} hold each other's module: swap the two modules, "
                "or their serials in the site file"
            )
    return Deviation(
        kind, place.subject, place.label, place.gateway, place.unit_id, place.subject,
        a.serial or "no serial", remedy,
    )  # fmt: skip


def _extra(a: Answerer) -> Deviation:
    what = a.kind.upper() if a.kind != "unknown" else f"unknown device, answers ({a.text})"
    return Deviation(
        Difference.EXTRA, a.serial or f"unit {a.unit_id}", "", a.gateway, a.unit_id, "nobody",
        f"{what} {a.serial}".strip(), "enter it in the site file, or take it off the bus",
    )  # fmt: skip


def _duplicates(serial: str, those: Sequence[Answerer]) -> list[Deviation]:
    if len(those) < 2:
        return []
    where = ", ".join(f"{a.gateway} unit {a.unit_id}" for a in those)
    return [
        Deviation(
            Difference.DUPLICATE, serial, "", those[0].gateway, those[0].unit_id, "one node",
            where, "two nodes claim one serial: read the labels and correct one of them",
        )
    ]  # fmt: skip
