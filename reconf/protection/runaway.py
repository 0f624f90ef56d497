"""Signs of a beginning thermal runaway: a temperature that keeps rising, and a cell voltage that has fallen.

A node renews its readings every half second and rounds them, and ticks are not quite even: a rise of 1 K/s
shows 0.5, 1.0 or 1.6 K from tick to tick. So a rise is followed from where it began and has to keep up with
its line, less what one sample may hide (`slack_k`). Of a single step only so much counts as `step_k_per_s`
allows: a sensor that jumps and stays there has not been rising.

Which of the two signs comes first is open: an internal short pulls the cell down before it heats the case.
Cell voltages are therefore held against their highest of the last one to two `memory_s`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.protection.faults import RuleNumbers
from reconf.protection.observe import Observed


@dataclass(frozen=True, slots=True)
class Rise:
    """What is remembered of temperatures and cell voltages; NaN: nothing yet."""

    temperature_degc: FloatArray
    """(M, 2) last value of each sensor."""
    age_s: FloatArray
    """(M, 2) time since."""
    rise_k: FloatArray
    """(M, 2) since the rise began."""
    rising_s: FloatArray
    """(M, 2) how long each sensor has been rising fast; 0: it is not."""
    lowest_degc: FloatArray
    """(M, 2) lowest since it was last found to have risen."""
    high_v: FloatArray
    """(2, M, C) highest cell voltages: of the running period, and of the one before."""
    period_s: FloatArray
    """(M,) length of the running period so far."""

    @classmethod
    def start(cls, n_modules: int, n_cells_max: int) -> Rise:
        """Nothing seen yet."""
        pair = (n_modules, 2)
        return cls(
            temperature_degc=np.full(pair, np.nan),
            age_s=np.zeros(pair),
            rise_k=np.zeros(pair),
            rising_s=np.zeros(pair),
            lowest_degc=np.full(pair, np.nan),
            high_v=np.full((2, n_modules, n_cells_max), np.nan),
            period_s=np.zeros(n_modules),
        )


@dataclass(frozen=True, slots=True)
class RiseSigns:
    """What one tick says; (M,)."""

    rising: BoolArray
    """A temperature has been rising fast for long enough."""
    sagged: BoolArray
    """A cell voltage is down by the rule's share."""
    steady: BoolArray
    """No temperature rose since the last tick by more than a sensor's unrest above its lowest."""
    rate_k_per_s: FloatArray
    """Steepest mean rate since a rise began; NaN unknown."""


def follow_rise(before: Rise, seen: Observed, dt_s: float, rules: RuleNumbers) -> tuple[Rise, RiseSigns]:
    """The memory after this tick, and its signs; modules that did not answer keep theirs."""
    degc = np.where(seen.fresh[:, None], seen.temperature_degc, np.nan)
    told = ~np.isnan(degc)
    age = before.age_s + dt_s
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.minimum(degc - before.temperature_degc, rules.runaway_step_k_per_s * age)
        rise, since = before.rise_k + step, before.rising_s + age
        keeps_up = rise >= rules.runaway_rate_k_per_s * since - rules.runaway_slack_k
        rate = rise / since
        broke = degc > before.lowest_degc + rules.runaway_steady_k
    lowest = np.where(broke, degc, np.fmin(before.lowest_degc, degc))
    high, period = _highest(before, seen, dt_s, rules.runaway_memory_s)
    after = Rise(
        temperature_degc=np.where(told, degc, before.temperature_degc),
        age_s=np.where(told, 0.0, age),
        rise_k=np.where(told, np.where(keeps_up, rise, 0.0), before.rise_k),
        rising_s=np.where(told, np.where(keeps_up, since, 0.0), before.rising_s),
        lowest_degc=lowest,
        high_v=high,
        period_s=period,
    )
    with np.errstate(invalid="ignore"):
        limit = (1.0 - rules.runaway_voltage_drop_frac) * np.fmax(high[0], high[1])
        sagged: BoolArray = np.logical_or.reduce(seen.cell_v < limit, axis=1)
    # floating sums of ticks come out just short of the whole seconds they stand for
    rising: BoolArray = np.logical_or.reduce(after.rising_s >= rules.runaway_for_s - 1e-6, axis=1)
    steady: BoolArray = np.logical_or.reduce(told, axis=1) & ~np.logical_or.reduce(broke, axis=1)
    return after, RiseSigns(rising, sagged, steady, np.fmax.reduce(rate, axis=1))


def _highest(before: Rise, seen: Observed, dt_s: float, memory_s: float) -> tuple[FloatArray, FloatArray]:
    """(2, M, C) highest cell voltages with this tick's, and (M,) how long the running period is."""
    period = before.period_s + dt_s
    ends = seen.fresh & (period >= memory_s)
    cells = np.where(seen.fresh[:, None], seen.cell_v, np.nan)
    running = np.where(ends[:, None], cells, np.fmax(before.high_v[0], cells))
    earlier = np.where(ends[:, None], before.high_v[0], before.high_v[1])
    return np.stack((running, earlier)), np.where(ends, 0.0, period)
