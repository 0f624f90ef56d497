"""What the daemon tells on site about modules: who answers where, and how a capacity test stands."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from reconf.captest.trial import CapacityTest

if TYPE_CHECKING:
    from edge.supervisor import Daemon


async def nodes_report(made: Daemon) -> dict[str, Any]:
    """Identity of every module node, read now over the daemon's own lines, beside what is expected there."""
    who = await made.parts.south.identities()
    outcome = made.outcome
    rows: dict[str, Any] = {}
    for m, (position, identity) in enumerate(zip(made.parts.site.positions, who.modules, strict=True)):
        row: dict[str, Any] = {"expected": position.module.serial, "unit_id": position.unit_id, "node": None}
        if identity is not None and outcome is not None:
            readings = outcome.view.input.image.modules
            cells = readings.cell_voltage_v.value[m, : max(identity.n_cells, 0)]
            row["node"] = {
                "serial": identity.serial,
                "n_cells": identity.n_cells,
                "chemistry_code": identity.chemistry_code,
                "rated_capacity_ah": identity.rated_capacity_ah,
                "cell_voltage_v": [float(v) if isfinite(v) else None for v in cells],
                "status": int(readings.status[m]),
                "fresh": bool(readings.answered[m]),
            }
        rows[position.label] = row
    return {"nodes": rows}


def capacity_report(test: CapacityTest | None) -> dict[str, Any]:
    """Trials, what waits, results, what was given up."""
    if test is None:
        return {"capacity_test": None}
    return {
        "capacity_test": {
            "running": test.running,
            "current_c": test.current_c,
            "trials": [
                None if t is None else {"serial": t.serial, "phase": t.phase.value, "direction": t.sign}
                for t in test.trials
            ],
            "waiting": [list(w) for w in test.waiting],
            "results": [asdict(r) for r in test.results],
            "given_up": [{"serial": s, "why": why} for s, why in test.given_up],
        }
    }
