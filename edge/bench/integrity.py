"""Lies of sensors, and false alarms over honest hours: `edge.bench.integrity_lies`, `.integrity_honest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.bench.integrity_cold import cold_lies
from edge.bench.integrity_honest import false_alarms, upper95
from edge.bench.integrity_lies import lies
from edge.bench.integrity_scene import MODULES

HOURS_OF_YEAR = 8766.0


def run(
    hours: float,
    data: Path | None,
    say: Callable[[str], None],
    *,
    sites: int = 1,
    dt_s: float = 5.0,
    budget_s: float = float("inf"),
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Lies first, then `hours` of honest operation (see `false_alarms` for the arguments)."""
    found = lies(data=data)
    for row in found:
        say(str(row))
    cold = cold_lies()
    for row in cold:
        say(str(row))
    honest = false_alarms(
        hours, dt_s=dt_s, data=data, sites=sites, budget_s=budget_s, file=checkpoint, say=say
    )
    count, years = len(honest.findings), honest.hours / HOURS_OF_YEAR
    return {
        "lies": [row for row in found if "found_s" in row],
        "honest_neighbours_accused": found[-1]["count"],
        "charging_cold_under_lies": cold,
        "false_alarms": count,
        "cooling_told_lost": honest.cooling_told,
        "hours": round(honest.hours, 2),
        "complete": honest.complete,
        "findings": honest.findings,
        "cores_degc": [round(honest.coldest_degc, 1), round(honest.hottest_degc, 1)],
        "cells_soc_frac": [round(honest.emptiest_frac, 3), round(honest.fullest_frac, 3)],
        "cpu_s": round(honest.cpu_s),
        "sites_side_by_side": sites,
        "modules": MODULES,
        "false_alarms_per_year_upper95": round(upper95(count, years), 3),
        "wanted": {"found_s": 600.0, "ramp_found_s": 6000.0, "false_alarms": 0, "plating_s": 600.0},
    }
