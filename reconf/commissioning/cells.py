"""Polarity, voltage and cell groups of every module as its node reads them at rest. Pure."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray
from reconf.commissioning.outcome import Finding
from reconf.devices.rm1 import TRIPS, Rm1Status
from reconf.protection.limits import LimitTable, Tier
from reconf.readings import SiteImage
from reconf.site import PositionSpec, Site

SUM_FRAC = 0.005
SUM_V = 0.1
"""MODULE_VOLTAGE against the sum of its cells: gain errors and 1 mV steps of both meters."""
NEIGHBOUR_V = 0.15
"""Per cell, from the median of modules of its kind: more is worth a look before they share a string."""


def judge_cells(site: Site, image: SiteImage) -> tuple[Finding, ...]:
    """Findings over all modules that answer."""
    m = image.modules
    per_cell = m.voltage_v.value / site.topology.n_cells
    findings: list[Finding] = []
    for i, position in enumerate(site.positions):
        if not m.answered[i]:
            continue
        cells = m.cell_voltage_v.value[i, : position.module.n_cells]
        found = _module(position, cells, float(m.voltage_v.value[i]), int(m.status[i]), site)
        findings += found
        kind = [k for k, p in enumerate(site.positions) if p.module.chemistry is position.module.chemistry]
        usual = float(np.nanmedian(np.where(m.answered[kind], per_cell[kind], np.nan)))
        if not found and abs(per_cell[i] - usual) > NEIGHBOUR_V:
            findings.append(
                _finding(
                    position, f"about {usual:.2f} V a cell like the others", f"{per_cell[i]:.2f} V a cell",
                    "charge or discharge it to its neighbours, or let reconf do so by trim", fault=False,
                )
            )  # fmt: skip
    return tuple(findings)


def _finding(
    position: PositionSpec, expected: str, found: str, remedy: str, *, fault: bool = True
) -> Finding:
    return Finding(position.module.serial, position.label, expected, found, remedy, fault)


def _module(
    position: PositionSpec, cells: FloatArray, module_v: float, status: int, site: Site
) -> list[Finding]:
    """Findings of one module, the gravest cause alone."""
    n = position.module.n_cells
    zero = np.flatnonzero(cells <= 0.0)
    if zero.size == n:
        found = f"all {n} cells and MODULE_VOLTAGE read {module_v:.2f} V"
        remedy = "module reversed at its node, or its sense plug is off: measure by hand, turn it round"
        return [_finding(position, "positive cell voltages", found, remedy)]
    if zero.size:
        which = ", ".join(str(k + 1) for k in zero)
        remedy = "an open sense wire, or a reversed cell: measure by hand; a reversed cell ends the module"
        return [_finding(position, "positive cell voltages", f"cell {which} reads 0 V", remedy)]
    if not np.isfinite(cells).all() or not np.isfinite(module_v):
        remedy = "the node cannot measure: look at its sense plug and its supply"
        return [_finding(position, "voltages of every cell", "not available", remedy)]
    return [
        *_range(position, cells, site.limits[position.module.chemistry]),
        *_sum(position, cells, module_v),
        *_status(position, status),
    ]


def _range(position: PositionSpec, cells: FloatArray, limits: LimitTable) -> list[Finding]:
    low = limits["cell_voltage_v", "min"].tier(Tier.SAFETY)
    high = limits["cell_voltage_v", "max"].tier(Tier.SAFETY)
    k = int(np.argmin(cells)) if float(cells.min()) < low else int(np.argmax(cells))
    if low <= float(cells[k]) <= high:
        return []
    chemistry = position.module.chemistry.value
    remedy = f"over-discharged or over-charged, or not {chemistry} at all: take it out and test it"
    return [
        _finding(position, f"{low:g}..{high:g} V ({chemistry})", f"cell {k + 1} {cells[k]:.3f} V", remedy)
    ]


def _sum(position: PositionSpec, cells: FloatArray, module_v: float) -> list[Finding]:
    total = float(cells.sum())
    if abs(total - module_v) <= SUM_FRAC * total + SUM_V:
        return []
    remedy = "a sense wire on the wrong cell, or N_CELLS is wrong: count the groups"
    return [_finding(position, f"{total:.2f} V, the sum of its cells", f"{module_v:.2f} V", remedy)]


def _status(position: PositionSpec, status: int) -> list[Finding]:
    told = (
        (int(Rm1Status.CELL_SENSING_FAULT), "cell sensing fault", "look at the sense plug"),
        (int(TRIPS), "tripped (latched)", "find out why, then clear: reconf does not clear trips"),
    )
    return [
        _finding(position, "no fault in STATUS", text, remedy) for bit, text, remedy in told if status & bit
    ]
