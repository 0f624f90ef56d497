"""Is each sensor telling the truth? Residual tests every tick, judged in blocks by CUSUMs.

| test | residual | judged untrue |
|---|---|---|
| `sensor_pair` | one temperature sensor against the other | the one further from the observer |
| `observer` | temperatures against a free-running observer (heat and ambient); warmer than that only
beyond what its whole zone is (`reconf.estimation.zone`) | those that differ |
| `neighbours` | temperatures against the observer of their zone, less the median there | those that differ |
| `jump` | a temperature that moves faster than any cell can | that sensor |
| `range` | a temperature no cell can have | that sensor |
| `resistance` | resistance seen in current steps against R(T claimed) | both temperatures |
| `no_response` | cell voltages that do not answer to current steps | the cell voltages |
| `cell_sum` | sum of the cells against the module voltage | the odd cell, else the module voltage |
| `string_current` | module current less trim against the others of its string | the module current |
| `converter_current` | the same against the converter of its string | the current, or the converter's |
| `quiet_current` | a current where none can flow | the module current |
| `counter` | a charge counter that stands still under current | the counter |
| `frozen` | how far a module has moved since a sensor last did (temperatures, voltages) | that sensor |

Each residual is averaged over a block of 30 s, its bounded systematic part (the allowance) taken off, and
divided by its standard deviation; `reconf.estimation.integrity_budget` turns the wanted number of false
alarms per year and site into the threshold of each test. A judgement is latched until
`reconf.estimation.filter.clear_findings`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray, middle
from reconf.estimation import cusum
from reconf.estimation.constants import Constants
from reconf.estimation.integrity_frozen import frozen_k, still_voltages
from reconf.estimation.integrity_state import RATIO_DEAF, IntegrityState, Signals, Untrue
from reconf.estimation.integrity_tests import (
    BLOCK_S,
    COUNTER,
    DRIFT,
    FROZEN_1,
    FROZEN_2,
    FROZEN_VOLTAGE,
    OBSERVER,
)
from reconf.estimation.integrity_verdict import Evidence, latch
from reconf.estimation.state import Finding
from reconf.estimation.zone import Block, Zones, follow, median_of
from reconf.replacing import replace

PLAUSIBLE_DEGC: Final = (-45.0, 120.0)
JUMP_K: Final = 6.0
"""Plus 2 K/s: runaway rises by 1 K/s, sensor noise of 0.5 K makes no 6 K in a year."""
RATIO_ALLOWANCE_FRAC: Final = 0.12
"""Resistance over SOC is known to about this; 4 K at 22 kJ/mol."""
RATIO_STD_FRAC: Final = 0.03
FROZEN_ALLOWANCE_K: Final = 1.3
"""A sensor of 1 K resolution shows nothing of a move of 1 K, and the two of a module move not quite alike."""
FROZEN_MOVE_V: Final = 0.010
"""A block in which the mean voltage of a module's cells moves by this leaves no reading where it was."""
FROZEN_STD_K: Final = 0.5


def watch(
    constants: Constants,
    state: IntegrityState,
    signals: Signals,
    string_of: IntArray,
    serials: tuple[str, ...],
    time_s: float,
    dt_s: float,
) -> IntegrityState:
    """Add this tick to the running block; at the end of a block judge."""
    state = _at_once(state, signals, serials, time_s, dt_s)
    values = np.array(
        [
            signals.temperature_degc[:, 0] - signals.model_degc,
            signals.temperature_degc[:, 1] - signals.model_degc,
            signals.cell_sum_v,
            signals.string_current_a,
            signals.converter_current_a,
            signals.quiet_current_a,
            signals.counter_ah,
            np.where(np.isfinite(signals.counter_ah), signals.current_ah, np.nan),
            state.zones.surface_degc - signals.model_degc,
        ]
    )
    seen = np.isfinite(values)
    voltages = np.column_stack([signals.cell_voltage_v, signals.module_voltage_v])
    known_v = np.isfinite(signals.cell_voltage_v)
    level_v = np.where(known_v, signals.cell_voltage_v, 0.0).sum(axis=1) / np.maximum(known_v.sum(axis=1), 1)
    state = replace(
        state,
        # a comparison with NaN is False: after a gap nothing is known to have moved
        changed=state.changed | (np.abs(signals.temperature_degc - state.last_degc) > 0.0),
        changed_v=state.changed_v | (np.abs(voltages - state.last_v) > 0.0),
        last_v=voltages,
        level_v=np.array([np.minimum(state.level_v[0], level_v), np.maximum(state.level_v[1], level_v)]),
        last_degc=signals.temperature_degc,
        elapsed_s=state.elapsed_s + dt_s,
        sums=state.sums + np.where(seen, values, 0.0),
        counts=state.counts + seen,
        step_xy=state.step_xy + signals.step_xy,
        step_xx=state.step_xx + signals.step_xx,
    )
    if state.elapsed_s < BLOCK_S:
        return state
    return _judge(constants, state, signals, string_of, serials, time_s)


def _at_once(
    state: IntegrityState, signals: Signals, serials: tuple[str, ...], time_s: float, dt_s: float
) -> IntegrityState:
    """Tests that need no statistics: range and jump."""
    value = signals.temperature_degc
    low, high = PLAUSIBLE_DEGC
    outside = (value < low) | (value > high)
    jumped = np.abs(value - state.last_degc) > JUMP_K + 2.0 * dt_s
    wrong = outside | jumped
    if not wrong.any():
        return state
    bits = np.where(wrong[:, 0], 1, 0) | np.where(wrong[:, 1], 2, 0)
    new = bits & ~state.untrue
    found = []
    for m in np.flatnonzero(new):
        for k in (0, 1):
            if new[m] & (1 << k):
                test = "range" if outside[m, k] else "jump"
                text = f"{value[m, k]:.1f} degC after {state.last_degc[m, k]:.1f} degC within {dt_s:g} s"
                found.append(Finding(serials[m], f"temperature_{k + 1}", test, time_s, text))
    return replace(state, untrue=state.untrue | new, findings=state.findings + tuple(found))


def _mean(state: IntegrityState, row: int) -> FloatArray:
    """(M,) block mean of `sums[row]`, NaN without a sample."""
    count = state.counts[row]
    mean: FloatArray = np.where(count > 0, state.sums[row] / np.maximum(count, 1.0), np.nan)
    return mean


def _judge(
    constants: Constants,
    state: IntegrityState,
    signals: Signals,
    string_of: IntArray,
    serials: tuple[str, ...],
    time_s: float,
) -> IntegrityState:
    """Block means into scores, scores into findings, then a new block."""
    first, second = _mean(state, 0), _mean(state, 1)
    first = np.where(state.is_untrue(Untrue.TEMPERATURE_1), np.nan, first)
    second = np.where(state.is_untrue(Untrue.TEMPERATURE_2), np.nan, second)
    both = np.where(np.isnan(first), second, np.where(np.isnan(second), first, 0.5 * (first + second)))
    rise = np.abs(state.surface_degc - middle(state.surface_degc)) + np.abs(
        state.core_degc - state.surface_degc
    )
    heated = np.maximum(state.core_degc - constants.ambient_degc, 0.0) if not signals.ambient_known else rise
    # warmer than the observer counts only as far as the zone is not warmer as a whole
    zones = state.zones
    common = _mean(state, 8)
    alone = both - common
    median = median_of(alone, zones.of)[zones.of]
    # its observer lags where the readings move fast
    excused = np.maximum(common + np.maximum(np.nan_to_num(median), 0.0), 0.0)
    off = np.minimum(both, 0.0) + np.maximum(both - excused, 0.0)
    apart = np.maximum(rise, _rise(zones))
    rated = constants.rated_ah
    size = np.abs(signals.current_a)
    root = np.sqrt(constants.bank.n_cells)
    allowed = (2.5 if signals.ambient_known else 20.0) + 0.35 * heated
    n = np.maximum(state.counts[2], 1.0)
    charge = np.maximum(state.sums[7], 1e-9)
    ratio, ratio_std, usable = _ratio(state)
    state, frozen = frozen_k(state, first, second)
    still = still_voltages(state)
    off_current = 0.02 * size + 0.004 * rated
    samples = np.array(
        [
            cusum.beyond(first - second, 2.5, 0.7),
            cusum.beyond(off, allowed, 1.0),
            cusum.beyond(alone - median, 2.5 + 0.35 * apart, 1.0),
            np.where(usable, cusum.beyond(ratio, RATIO_ALLOWANCE_FRAC, ratio_std), np.nan),
            cusum.beyond(_mean(state, 2), 0.02 + 0.003 * root, 0.004 * root / np.sqrt(n) + 0.002),
            cusum.beyond(_mean(state, 3), off_current, 0.002 * rated),
            cusum.beyond(_mean(state, 4), off_current, 0.002 * rated),
            cusum.beyond(_mean(state, 5), 0.006 * rated, 0.001 * rated),
            np.where(charge > 0.002 * rated, np.where(state.sums[6] < 0.02 * charge, 3.0, -1.0), np.nan),
            cusum.beyond(frozen[:, 0], FROZEN_ALLOWANCE_K, FROZEN_STD_K),
            cusum.beyond(frozen[:, 1], FROZEN_ALLOWANCE_K, FROZEN_STD_K),
            np.where(np.ptp(state.level_v, axis=0) > FROZEN_MOVE_V, np.where(still >= 0, 8.0, -8.0), np.nan),
        ]
    )
    samples = np.clip(samples, -8.0, 8.0)
    # a residual without a sample (NaN) leaves its score alone
    scores = np.array([cusum.advance(s, u, DRIFT) for s, u in zip(state.scores, samples, strict=True)])
    # what has moved is not frozen, whatever was thought of it
    scores[FROZEN_1][:, state.changed[:, 0]] = 0.0
    scores[FROZEN_2][:, state.changed[:, 1]] = 0.0
    state = _learn_ratio(replace(state, scores=scores), ratio, usable)
    over = scores > state.threshold[:, None, None]
    # what moves is no finding
    over[[COUNTER, FROZEN_VOLTAGE], 1] = False
    alarms: BoolArray = np.asarray(over.any(axis=1), dtype=np.bool_)
    if alarms.any():
        evidence = Evidence(
            first - common,
            second - common,
            median,
            ratio,
            _mean(state, 2),
            _mean(state, 3),
            _mean(state, 4),
            _mean(state, 5),
            frozen,
            still,
            signals.cell_voltage_v,
        )
        state = latch(state, alarms, evidence, string_of, serials, time_s)
    return replace(
        state,
        pair=state.pair.learned(first - second),
        zones=_zones(constants, state, signals, alone, both, allowed),
        elapsed_s=0.0,
        changed=np.zeros_like(state.changed),
        changed_v=np.zeros_like(state.changed_v),
        level_v=np.array([np.full(rated.shape, np.inf), np.full(rated.shape, -np.inf)]),
        sums=np.zeros_like(state.sums),
        counts=np.zeros_like(state.counts),
        step_xy=np.where(usable, 0.0, state.step_xy),
        step_xx=np.where(usable, 0.0, state.step_xx),
    )


def _rise(zones: Zones) -> FloatArray:
    """(M,) heat that may be wrong by a share: each module's against its zone's, and within it."""
    level = median_of(zones.surface_degc, zones.of)[zones.of]
    apart = np.nan_to_num(np.abs(zones.surface_degc - level))
    rise: FloatArray = apart + np.abs(zones.core_degc - zones.surface_degc)
    return rise


def _zones(
    constants: Constants,
    state: IntegrityState,
    signals: Signals,
    above_zone_k: FloatArray,
    above_free_k: FloatArray,
    allowed_k: FloatArray,
) -> Zones:
    """The zones after this block."""
    bank = constants.bank
    capacity = bank.heat_capacity_core_j_per_k + bank.heat_capacity_surface_j_per_k
    driven_k = state.zones.surface_degc - signals.ambient_degc
    block = Block(
        above_zone_k=above_zone_k,
        above_free_k=above_free_k,
        free_core_degc=state.core_degc,
        free_surface_degc=state.surface_degc,
        loss_k_per_s=signals.cooling_gain * bank.conductance_surface_ambient_w_per_k * driven_k / capacity,
        allowed_k=allowed_k,
        cooling_gain=signals.cooling_gain,
    )
    return follow(state.zones, block, state.elapsed_s, float(state.threshold[OBSERVER]))


def _ratio(state: IntegrityState) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Resistance in the steps over the long-term one, less 1; its deviation; where there is enough of it."""
    enough = state.step_xx > 1.0 / (RATIO_STD_FRAC * state.ratio_scale) ** 2
    seen = state.step_xy / np.where(enough, state.step_xx, 1.0)
    ratio = np.where(enough, seen / state.ratio_scale - 1.0, 0.0)
    std = np.sqrt(2.0 * RATIO_STD_FRAC**2 + state.ratio_var / state.ratio_scale**2)
    return ratio, std, enough


def _learn_ratio(state: IntegrityState, ratio: FloatArray, usable: BoolArray) -> IntegrityState:
    """Long-term resistance: an average over weeks that a lie of hours cannot pull along."""
    var = state.ratio_var + (0.10 * state.ratio_scale) ** 2 * BLOCK_S / (30 * 86400.0)
    noise = (2.0 * RATIO_STD_FRAC**2) * state.ratio_scale**2
    likely = np.maximum(0.5, 3.0 * np.sqrt(state.ratio_var) / state.ratio_scale)
    fits = usable & (ratio > RATIO_DEAF) & (np.abs(ratio) < likely) & (state.untrue == 0)
    gain = np.where(fits, var / (var + noise), 0.0)
    return replace(
        state,
        ratio_scale=state.ratio_scale * (1.0 + gain * ratio),
        ratio_var=np.where(fits, var * (1.0 - gain), var),
    )
