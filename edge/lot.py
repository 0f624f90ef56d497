"""Work of `reconf grade lot`: SOH, resistance and self-discharge of every module from what tests exist."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from edge.binning_plot import draw_lot, outliers
from edge.grading import load_models
from edge.inventory.passport import Passport, lot_row
from reconf.binning.lot import Z90, lot_from_rows
from reconf.errors import DataFileError
from reconf.grading.artefact import choose
from reconf.grading.pulses import grade

CAPACITY_STD_FRAC: Final = 0.01
"""Of a full discharge: current and temperature of the test, not the meter."""
REPORTED_STD_FRAC: Final = 0.05
"""Of an SOH a car's own BMS reported."""
PRIOR_FRAC: Final = (0.78, 0.10)
"""Mean and spread of what comes back from cars where nothing at all is measured; a warning goes with it."""
TESTS: Final = (
    ("one 5 s pulse", 0.1, 0.030),
    ("two 5 s pulses, 20 % of the charge apart", 1.5, 0.018),
    ("full charge and discharge at C/3", 7.0, CAPACITY_STD_FRAC),
)
"""(test, hours, standard deviation of the SOH it gives); pulses: `reconf bench soh`."""
OUTLIERS_SHOWN: Final = 8
NARROW_FRAC: Final = 0.012
"""A module known this well needs no further capacity test."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One module."""

    serial: str
    soh_frac: float
    soh_std_frac: float
    resistance_ohm: float | None
    self_discharge_mv_per_day: float | None
    basis: tuple[str, ...]
    next_test: str
    next_hours: float
    next_std_frac: float

    def row(self) -> dict[str, Any]:
        """As stored in the passport and written to tables."""
        return {
            "soh_frac": round(self.soh_frac, 5),
            "soh_low_frac": round(max(self.soh_frac - Z90 * self.soh_std_frac, 0.0), 5),
            "soh_high_frac": round(self.soh_frac + Z90 * self.soh_std_frac, 5),
            "soh_std_frac": round(self.soh_std_frac, 5),
            "resistance_ohm": self.resistance_ohm,
            "self_discharge_mv_per_day": self.self_discharge_mv_per_day,
            "basis": list(self.basis),
        }


def grade_lot(cards: Sequence[Passport]) -> tuple[Graded, ...]:
    """Grade every accepted module by the inverse-variance mean of all its tests.

    Raises:
        DataFileError: there is no accepted module.
    """
    accepted = [c for c in cards if c.status == "accepted"]
    if not accepted:
        raise DataFileError("no module in the inventory is accepted")
    pulses = _pulse_estimates(accepted)
    measured = {c.serial: _estimates(c, pulses.get(c.serial, [])) for c in accepted}
    found = [m for estimates in measured.values() for m in estimates]
    return tuple(_one(c, measured[c.serial], _prior(c, found)) for c in accepted)


def _prior(card: Passport, found: Sequence[tuple[str, float, float]]) -> tuple[str, float, float]:
    """The rest of the lot, for a module of which nothing is measured."""
    if len(found) < 8:
        return ("nothing measured: as modules come back from cars", *PRIOR_FRAC)
    soh = np.array([s for _, s, _ in found])
    return (
        f"nothing measured of {card.serial}: the lot's mean",
        float(soh.mean()),
        max(float(soh.std()), 0.03),
    )


def _estimates(card: Passport, pulses: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    rated = float(card.master["rated_capacity_ah"])
    found = list(pulses)
    capacities = [t for t in card.tests if t["type"] == "cycler" and t["capacity_ah"] > 0.2 * rated]
    if capacities:
        found.append(("capacity test", capacities[-1]["capacity_ah"] / rated, CAPACITY_STD_FRAC))
    live = [t for t in card.tests if t["type"] == "live_capacity"]
    if live:
        found.append(
            (
                "capacity test in operation",
                live[-1]["capacity_ah"] / rated,
                live[-1]["capacity_std_ah"] / rated,
            )
        )
    reported = card.master.get("reported_soh_frac")
    if reported:
        found.append(("reported by the car", float(reported), REPORTED_STD_FRAC))
    return found


def _pulse_estimates(cards: Sequence[Passport]) -> dict[str, list[tuple[str, float, float]]]:
    """Last pulse of every module, graded type by type; out of domain counts for nothing."""
    groups: dict[tuple[str, float], list[tuple[str, list[float], float]]] = {}
    for card in cards:
        tests = [t for t in card.tests if t["type"] == "pulse"]
        if tests:
            per_cell = float(card.master["rated_capacity_ah"]) / int(card.master.get("n_parallel", 1))
            key = str(card.master["chemistry"]), per_cell
            heat = float(tests[-1].get("temperature_degc", 25.0))
            groups.setdefault(key, []).append((card.serial, tests[-1]["voltage_v"], heat))
    found: dict[str, list[tuple[str, float, float]]] = {}
    models = load_models() if groups else ()
    for (chemistry, rated), rows in groups.items():
        try:
            model, known = choose(models, chemistry, rated, 1)
        except DataFileError:
            continue  # no model of this chemistry: the pulse says nothing, another test must
        got = grade(model, np.array([v for _, v, _ in rows]), None, None, np.array([h for _, _, h in rows]))
        for i, (serial, _, _) in enumerate(rows):
            if known and got.in_domain[i]:
                std = float(got.high_frac[i] - got.low_frac[i]) / (2.0 * Z90)
                found[serial] = [("pulse", float(got.soh_frac[i]), max(std, 0.005))]
    return found


def _one(
    card: Passport, estimates: Sequence[tuple[str, float, float]], prior: tuple[str, float, float]
) -> Graded:
    used = list(estimates) or [prior]
    weight = np.array([1.0 / std**2 for _, _, std in used])
    values = np.array([soh for _, soh, _ in used])
    soh = float((weight * values).sum() / weight.sum())
    # tests that contradict each other widen the interval (Birge ratio; Birge, Phys. Rev. 40 (1932) 207)
    birge = float(np.sqrt((weight * (values - soh) ** 2).sum() / max(len(used) - 1, 1)))
    std = float(weight.sum() ** -0.5) * max(1.0, birge)
    name, hours, after = _next_test(card, std)
    return Graded(
        card.serial, soh, std, _resistance(card), _self_discharge(card), tuple(n for n, _, _ in used),
        name, hours, after,
    )  # fmt: skip


def _next_test(card: Passport, std: float) -> tuple[str, float, float]:
    """The test that would narrow SOH most, its hours and the deviation after it."""
    if std > NARROW_FRAC:
        name, hours, error = min(TESTS, key=lambda t: t[2])
        return name, hours, (std**-2 + error**-2) ** -0.5
    if _self_discharge(card) is None:
        return "open-circuit voltage twice, 14 days apart (self-discharge)", 336.0, std
    return "none: known well enough", 0.0, std


def _resistance(card: Passport) -> float | None:
    measured = [t["resistance_ohm"] for t in card.tests if t.get("resistance_ohm")]
    given = card.master.get("resistance_ohm")
    return float(measured[-1]) if measured else float(given) if given else None


def _self_discharge(card: Passport) -> float | None:
    """Fall of the open-circuit voltage [mV/day] between two readings."""
    first, later, days = (card.master.get(k) for k in ("ocv_v", "ocv_later_v", "ocv_days"))
    return None if None in (first, later, days) else 1e3 * (float(first) - float(later)) / float(days)  # type: ignore[arg-type]  # None is excluded by the test before


def print_lot(graded: Sequence[Graded], console: Console) -> None:
    """The lot in a few lines, and what to test next."""
    soh = np.array([g.soh_frac for g in graded])
    std = np.array([g.soh_std_frac for g in graded])
    console.print(
        f"{len(graded)} modules: SOH mean {soh.mean():.1%}, spread {soh.std():.1%}, "
        f"{soh.min():.1%} to {soh.max():.1%}; 90 % interval +-{Z90 * float(np.median(std)):.1%} (median)"
    )
    odd = [g for g, o in zip(graded, outliers(soh), strict=True) if o]
    rates = np.array([g.self_discharge_mv_per_day for g in graded if g.self_discharge_mv_per_day is not None])
    leaking = outliers(rates) if len(rates) else []
    with_rate = [g for g in graded if g.self_discharge_mv_per_day is not None]
    if odd:
        named = ", ".join(f"{g.serial} {g.soh_frac:.1%}" for g in odd[:OUTLIERS_SHOWN])
        more = f" and {len(odd) - OUTLIERS_SHOWN} more" if len(odd) > OUTLIERS_SHOWN else ""
        console.print(f"far from the lot's median ({float(np.median(soh)):.1%}): {named}{more}")
    for g, bad in zip(with_rate, leaking, strict=True):
        if bad and (g.self_discharge_mv_per_day or 0.0) > float(np.median(rates)):
            console.print(f"leaks: {g.serial} loses {g.self_discharge_mv_per_day:.1f} mV a day")
    table = Table("modules", "next test", "hours each", "SOH then known to +-")
    for (name, hours), count in Counter((g.next_test, g.next_hours) for g in graded).most_common():
        after = max(g.next_std_frac for g in graded if g.next_test == name)
        table.add_row(str(count), name, f"{hours:g}", f"{Z90 * after:.1%}")
    console.print(table)


def write_lot(path: Path, cards: Sequence[Passport], graded: Sequence[Graded]) -> None:
    """All modules as a table that `reconf bin` reads too."""
    kinds = {c.serial: lot_row(c) for c in cards}
    columns = ("chemistry", "cell_model", "n_cells", "n_parallel", "rated_capacity_ah")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        grades = [k for k in graded[0].row() if k != "basis"]
        writer.writerow(["serial", *columns, *grades, "basis", "next_test", "next_hours"])
        for g in graded:
            row = g.row()
            writer.writerow(
                [g.serial, *(kinds[g.serial].get(c, "") for c in columns), *(row[k] for k in grades),
                 " + ".join(g.basis), g.next_test, g.next_hours]
            )  # fmt: skip


def plot_lot(cards: Sequence[Passport], graded: Sequence[Graded], path: Path) -> None:
    """Histogram of SOH and SOH against resistance."""
    by_serial = {c.serial: c for c in cards}
    rows = [{**lot_row(by_serial[g.serial]), **g.row()} for g in graded]
    lot = lot_from_rows("lot", [{k: v for k, v in r.items() if v is not None} for r in rows])
    draw_lot(lot.soh_frac.tolist(), lot.soh_std_frac.tolist(), lot.resistance_scale.tolist(), path)


def lot_document(graded: Sequence[Graded]) -> dict[str, Any]:
    """All grades."""
    return {
        "modules": [
            {
                "serial": g.serial,
                **g.row(),
                "next_test": g.next_test,
                "next_hours": g.next_hours,
                "next_std_frac": g.next_std_frac,
            }
            for g in graded
        ]
    }
