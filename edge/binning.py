"""Work of `reconf bin`: from an inventory or a table to bins as a JSON document."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge.files import read_bytes, read_document, read_table_lines
from edge.inventory.passport import lot_row, passports
from edge.inventory.store import Inventory
from reconf.binning.assign import (
    Assignment,
    Layout,
    Objective,
    assign,
    group_bound_frac,
    group_gap_frac,
    sort_key,
)
from reconf.binning.compare import Ageing, Comparison, compare
from reconf.binning.lot import Lot, lot_from_rows
from reconf.errors import DataFileError

FORMAT = "reconf bins"
POLICY_TEXT = {
    "random_fixed": "random, fixed strings",
    "sorted_fixed": "sorted, fixed strings",
    "random_shared": "random, time-shared",
    "planned": "this plan",
}


@dataclass(frozen=True, slots=True)
class Request:
    """Options of `reconf bin`, by their names there."""

    strings: int
    length: int
    parallel: int = 1
    spares: int = 0
    objective: Objective = Objective.ENERGY
    confidence: float = 0.9
    current_a: float = 0.0
    rack_gradient_k: float = 0.0
    years: int = 10
    fade_per_year: float = 0.02
    fade_cv: float = 0.4
    draws: int = 100
    seed: int = 1


def read_lot(source: Path) -> Lot:
    """Graded modules of an inventory, or of a CSV or .xlsx table.

    Raises:
        DataFileError: with line and column.
    """
    if read_bytes(source)[:6] == b"SQLite":
        inventory = Inventory.open(source)
        try:
            cards = passports(inventory.histories())
        finally:
            inventory.close()
        rows = [lot_row(c) for c in cards if c.status == "accepted" and c.grade]
        if not rows:
            raise DataFileError(
                f"{source}: no module in it is accepted and graded; 'reconf grade lot {source}' grades"
            )
        return lot_from_rows(str(source), rows)
    reader = csv.DictReader(read_table_lines(source))
    if not {"serial", "ID"} & set(reader.fieldnames or ()):
        raise DataFileError(
            f"{source}:1: no column serial; found {', '.join((reader.fieldnames or ['nothing'])[:12])}"
        )
    rows, lines = [], []
    for row in reader:
        if None in row or None in row.values():
            raise DataFileError(f"{source}:{reader.line_num}: not as many fields as the header has")
        rows.append(row)
        lines.append(reader.line_num)
    return lot_from_rows(str(source), rows, lines)


def make_bins(source: Path, request: Request) -> dict[str, Any]:
    """Assign, compare, describe.

    Raises:
        ReconfError: bad file, too few modules, impossible layout.
    """
    lot = read_lot(source)
    current = request.current_a or request.parallel * float(np.median(lot.capacity_ah)) / 3.0
    layout = Layout(
        request.strings, request.length, request.parallel, request.spares, current, request.rack_gradient_k
    )
    ageing = Ageing(request.fade_per_year, request.fade_cv, request.years)
    deviations = NormalDist().inv_cdf(request.confidence)
    plan = assign(
        lot, layout, sort_key(lot, request.objective, deviations, request.fade_per_year, request.years)
    )
    plain = assign(lot, layout, lot.capacity_ah)
    result = compare(lot, layout, plan, plain, ageing, request.draws, np.random.default_rng(request.seed))
    return _document(source, request, lot, layout, plan, result)


def _document(
    source: Path, request: Request, lot: Lot, layout: Layout, plan: Assignment, result: Comparison
) -> dict[str, Any]:
    planned = next(w for w in result.worth if w.name == "planned")
    return {
        "format": FORMAT,
        "version": 1,
        "source": str(source),
        "request": {**asdict(request), "objective": request.objective.value, "current_a": layout.current_a},
        "modules": len(lot.serials),
        "kinds": {k.name: {**asdict(k), "chemistry": k.chemistry.value} for k in lot.kinds},
        "energy": {w.name: w.summary() for w in result.worth},
        "promised_kwh": float(np.quantile(planned.energy_wh[:, 0], 1.0 - request.confidence)) / 1e3,
        "objective_kwh": result.objective_wh / 1e3,
        "bound_kwh": result.bound_wh / 1e3,
        "gap": result.gap_frac,
        "group_gap": group_gap_frac(lot.capacity_ah[plan.index]) if layout.parallel > 1 else 0.0,
        "group_bound": group_bound_frac(lot.capacity_ah[plan.index]) if layout.parallel > 1 else 0.0,
        "strings": [
            {
                "name": _name(s),
                "positions": [[_module(lot, int(i)) for i in group] for group in plan.index[s]],
            }
            for s in range(layout.strings)
        ],
        "shelf": [_module(lot, int(i)) for i in plan.shelf],
    }


def _module(lot: Lot, i: int) -> dict[str, Any]:
    return {
        "serial": lot.serials[i],
        "kind": lot.kinds[lot.kind_of[i]].name,
        "soh_frac": round(float(lot.soh_frac[i]), 4),
        "soh_std_frac": round(float(lot.soh_std_frac[i]), 4),
        "capacity_ah": round(float(lot.capacity_ah[i]), 3),
        "resistance_ohm": float(lot.resistance_ohm[i]),
        "resistance_scale": round(float(lot.resistance_scale[i]), 3),
    }


def _name(number: int) -> str:
    """A, B ... Z, AA, AB ..."""
    name = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def load_bins(path: Path) -> dict[str, Any]:
    """Read what `reconf bin --json` wrote.

    Raises:
        DataFileError: not such a file.
    """
    return read_document(path, FORMAT, f"not bins; 'reconf bin ... --json {path}' writes them")


def print_bins(bins: Mapping[str, Any], console: Console) -> None:
    """Tables for people."""
    request = bins["request"]
    years = request["years"]
    table = Table(
        title=f"{request['strings']} x {request['length']} of {bins['modules']} modules, "
        f"{request['spares']} resting, kWh per full discharge"
    )
    for title in ("", "now", "5..95 %", "of what is inside", f"mean of {years} years"):
        table.add_column(title, justify="left" if not title else "right")
    for name, worth in bins["energy"].items():
        low, high = worth["now_kwh_90"]
        table.add_row(
            POLICY_TEXT[name], f"{worth['now_kwh']:.2f}", f"{low:.2f}..{high:.2f}",
            f"{worth['utilisation']:.1%}", f"{worth['mean_of_years_kwh']:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"At the graded values {bins['objective_kwh']:.2f} kWh; no assignment passes {bins['bound_kwh']:.2f} "
        f"(gap {bins['gap']:.2%}). Met with {request['confidence']:.0%} probability: "
        f"{bins['promised_kwh']:.2f} kWh."
    )
    if request["parallel"] > 1:
        console.print(
            f"Parallel groups: the smallest is {bins['group_gap']:.2%} below the mean of its string. No "
            f"grouping passes the mean, so this one is proven within {bins['group_gap']:.2%} of the best "
            f"(filling in rounds loses {bins.get('group_bound', bins['group_gap']):.2%} here at worst)."
        )
    table = Table("string", "modules", "SOH weakest", "SOH strongest", "serials from .. to")
    for string in bins["strings"][:30]:
        modules = [m for group in string["positions"] for m in group]
        soh = [m["soh_frac"] for m in modules]
        ends = f"{modules[0]['serial']} .. {modules[-1]['serial']}"
        table.add_row(string["name"], str(len(modules)), f"{min(soh):.1%}", f"{max(soh):.1%}", ends)
    console.print(table)
    if len(bins["strings"]) > 30:
        console.print(f"... and {len(bins['strings']) - 30} more strings")
    console.print(f"{len(bins['shelf'])} modules stay on the shelf.")
