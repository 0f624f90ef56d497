"""A passport: a module's history folded into what holds now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.inventory.store import Entry


@dataclass(frozen=True, slots=True)
class Passport:
    """What is known of one module."""

    serial: str
    master: dict[str, Any]
    """As received: chemistry, n_cells, n_parallel, rated_capacity_ah, origin, vehicle, dates ..."""
    tests: tuple[dict[str, Any], ...]
    grade: dict[str, Any] | None
    status: str
    """received, accepted or refused"""
    refusals: tuple[dict[str, str], ...]
    positions: tuple[dict[str, Any], ...]
    estimates: tuple[dict[str, Any], ...]
    """What sites have learned of it in operation, oldest first."""
    lowest_cell_v: float | None
    """Lowest cell voltage ever seen."""
    locked_out: bool
    """A site has locked it out: refused for ever."""
    entries: tuple[Entry, ...] = field(repr=False)

    @property
    def digest(self) -> str:
        """Hash of the last entry."""
        return self.entries[-1].digest


def passport(serial: str, entries: Sequence[Entry]) -> Passport:
    """Fold a history."""
    master: dict[str, Any] = {}
    tests: list[dict[str, Any]] = []
    grade: dict[str, Any] | None = None
    status = "received"
    refusals: tuple[dict[str, str], ...] = ()
    locked: tuple[dict[str, str], ...] = ()
    positions: list[dict[str, Any]] = []
    estimates: list[dict[str, Any]] = []
    for entry in entries:
        if entry.kind == "received":
            master |= entry.data
        elif entry.kind == "test":
            tests.append({"utc": entry.utc, **entry.data})
        elif entry.kind == "graded":
            grade = dict(entry.data)
        elif entry.kind == "refused":
            status, refusals = "refused", tuple(entry.data["reasons"])
        elif entry.kind == "locked_out":
            locked = (
                *locked,
                {"reason": str(entry.data["fault"]), "found": str(entry.data["text"]), "step": "in service"},
            )
        elif entry.kind == "accepted":
            status, refusals = "accepted", ()
        elif entry.kind == "placed":
            positions.append({"utc": entry.utc, **entry.data})
        elif entry.kind == "estimated":
            estimates.append({"utc": entry.utc, **entry.data})
    # a module's mean cell voltage is never below its lowest cell: it bounds what was not measured
    keys = ("lowest_cell_v", "lowest_mean_cell_v")
    seen = [float(s[k]) for s in (master, *tests) for k in keys if s.get(k) is not None]
    if locked:  # for ever, whatever a later test says
        status, refusals = "refused", (*refusals, *locked)
    return Passport(
        serial=serial,
        master=master,
        tests=tuple(tests),
        grade=grade,
        status=status,
        refusals=refusals,
        positions=tuple(positions),
        estimates=tuple(estimates),
        lowest_cell_v=min(seen, default=None),
        locked_out=bool(locked),
        entries=tuple(entries),
    )


def passports(histories: Mapping[str, Sequence[Entry]]) -> tuple[Passport, ...]:
    """All passports, in the order of arrival."""
    return tuple(passport(serial, entries) for serial, entries in histories.items())


def lot_row(card: Passport) -> dict[str, Any]:
    """Row for `reconf.binning.lot.lot_from_rows`."""
    row: dict[str, Any] = {"serial": card.serial}
    keys = ("chemistry", "cell_model", "n_cells", "n_parallel", "rated_capacity_ah")
    row |= {k: card.master[k] for k in keys if card.master.get(k) is not None}
    row |= {k: v for k, v in (card.grade or {}).items() if v is not None}
    return row


def document(card: Passport) -> dict[str, Any]:
    """The passport as JSON.

    Names follow Annex XIII of Regulation (EU) 2023/1542 where it has the field: manufacturer, place and date
    of manufacture, category (point 1 with Annex VI, part A), chemistry and rated capacity (point 1), state of
    health, resistance and status (point 4: original, repurposed, re-used, remanufactured or waste). The rest
    is under `module`. A passport in the sense of Article 77 is issued by whoever places the battery on the
    market; this one carries its data.
    """
    m, grade = card.master, card.grade or {}
    return {
        "passport": {"standard": "Regulation (EU) 2023/1542, Annex XIII (fields that apply)", "version": 1},
        "identification": {
            "uniqueIdentifier": card.serial,
            "manufacturer": m.get("manufacturer"),
            "manufacturingDate": m.get("manufactured"),
            "batteryCategory": "electric vehicle battery module, second life",
            "batteryStatus": {"accepted": "repurposed", "refused": "waste"}.get(card.status, "original"),
        },
        "origin": {"vehicle": m.get("vehicle"), "source": m.get("origin"), "received": m.get("received")},
        "materials": {"batteryChemistry": m.get("chemistry")},
        "performanceAndDurability": {
            "ratedCapacity_Ah": m.get("rated_capacity_ah"),
            "stateOfHealth_frac": grade.get("soh_frac"),
            "stateOfHealth_90": [grade.get("soh_low_frac"), grade.get("soh_high_frac")],
            "internalResistance_ohm": grade.get("resistance_ohm"),
            "selfDischarge_mV_per_day": grade.get("self_discharge_mv_per_day"),
        },
        "module": {
            "n_cells": m.get("n_cells"),
            "n_parallel": m.get("n_parallel"),
            "lowest_cell_v": card.lowest_cell_v,
            "status": card.status,
            "refusals": list(card.refusals),
            "tests": list(card.tests),
            "positions": list(card.positions),
            "estimates": list(card.estimates),
        },
        "history": [
            {"step": e.step, "utc": e.utc, "kind": e.kind, "data": e.data, "hash": e.digest}
            for e in card.entries
        ],
    }
