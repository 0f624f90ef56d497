"""Open-circuit voltage from slow discharge and charge: the mean of both, or one corrected by its drop.

Halfway between the two branches ohmic drop, lead resistance and hysteresis cancel where charge and
discharge current are alike (Petzl and Danzer, IEEE Trans. Energy Convers. 28 (2013) 675,
doi 10.1109/TEC.2013.2259490).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.fit_logs import TestLog, steps_of
from reconf.errors import DataFileError

SLOW_C = 0.21
"""A branch counts as slow up to this C-rate."""
OCV_TABLE_SOC = np.concatenate(
    [np.array([0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075]), np.linspace(0.1, 1.0, 19)]
)

Branch: TypeAlias = tuple[FloatArray, FloatArray, float, float]


@dataclass(frozen=True, slots=True)
class OcvFit:
    """Open-circuit voltage over SOC and what stands behind it."""

    soc_frac: FloatArray
    ocv_v: FloatArray
    half_gap_v: FloatArray
    """Half of charge branch minus discharge branch: drop and hysteresis together; NaN with one branch."""
    capacity_ah: float
    spread_v: float
    """Root mean square difference between the cycles of the log; 0 with one cycle."""
    branches: int
    current_a: float
    """Mean current of the branch without a taper: the discharges where there are any."""

    @property
    def drop_at_1c_v(self) -> float:
        """Half gap at 50 % SOC scaled to a current of 1 C; NaN with one branch."""
        half = float(np.interp(0.5, self.soc_frac, self.half_gap_v))
        return half * self.capacity_ah / self.current_a


def fit_ocv(log: TestLog, *, resistance_ohm: float = 0.0) -> OcvFit:
    """From every slow branch in `log`; `resistance_ohm` corrects where only one direction was driven."""
    top = float(np.abs(log.current_a).max())
    borders = steps_of(log, 0.02 * top)
    moved = [log.discharged_ah[b - 1] - log.discharged_ah[a] for a, b in pairwise(borders)]
    full = max(np.abs(moved), default=0.0)
    down: list[Branch] = []
    up: list[Branch] = []
    for (a, b), charge in zip(pairwise(borders), moved, strict=True):
        if abs(charge) < 0.9 * full or np.abs(log.current_a[a:b]).mean() > SLOW_C * full:
            continue
        (down if charge > 0 else up).append(_branch(log, int(a), int(b)))
    if not down and not up:
        raise DataFileError(
            f"{log.name}: no branch of 90 % of the charge at {SLOW_C:g} C or less; a slow test is needed"
        )
    grid = np.linspace(0.0, 1.0, 501)
    lower = np.array([np.interp(grid, z, v) for z, v, _, _ in down])
    upper = np.array([np.interp(grid, z, v) for z, v, _, _ in up])
    spread = float(np.sqrt(np.mean([part.var(axis=0).mean() for part in (lower, upper) if len(part)])))
    if down and up:
        gap = 0.5 * (upper.mean(axis=0) - lower.mean(axis=0))
        # where the charge tapers at constant voltage its branch says nothing: the gap before it holds on
        taper = min(z for _, _, _, z in up)
        gap = np.where(grid <= taper, gap, np.interp(taper, grid, gap))
        middle = lower.mean(axis=0) + gap
    else:
        part = lower if down else upper
        current = float(np.mean([i for _, _, i, _ in (down or up)]))
        middle = part.mean(axis=0) + resistance_ohm * current
        gap = np.full(grid.shape, np.nan)
    rising = np.maximum.accumulate(middle) + 1e-6 * np.arange(len(grid))
    return OcvFit(
        OCV_TABLE_SOC,
        np.interp(OCV_TABLE_SOC, grid, rising),
        np.interp(OCV_TABLE_SOC, grid, gap),
        full,
        spread,
        len(down) + len(up),
        float(np.mean([abs(i) for _, _, i, _ in (down or up)])),
    )


def _branch(log: TestLog, start: int, stop: int) -> Branch:
    """SOC (rising), voltage, mean current of one branch on its own charge, and the SOC where it tapers."""
    charge = log.discharged_ah[start:stop]
    soc = (charge.max() - charge) / (charge.max() - charge.min())
    order = np.argsort(soc, kind="stable")
    current = np.abs(log.current_a[start:stop])
    # the current that moved half of the charge: samples do not count, loggers take most of them in the taper
    moved = np.abs(np.diff(charge, prepend=charge[0]))
    by_size = np.argsort(current, kind="stable")
    half = int(np.searchsorted(np.cumsum(moved[by_size]), 0.5 * moved.sum()))
    steady = soc[current > 0.95 * float(current[by_size[min(half, len(current) - 1)]])]
    mean = float(log.current_a[start:stop].mean())
    return soc[order], log.voltage_v[start:stop][order], mean, float(steady.max())
