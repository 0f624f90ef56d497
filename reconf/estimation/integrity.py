"""Is each sensor telling the truth? Residual tests every tick, judged in blocks by CUSUMs.

| test | residual | judged untrue |
|---|---|---|
| `sensor_pair` | one temperature sensor against the other | the one further from the observer |
| `observer` | temperatures against a free-running observer (heat and ambient) | those that differ |
| `neighbours` | the same less the median of the string | those that differ |
| `jump` | a temperature that moves faster than any cell can | that sensor |
| `range` | a temperature no cell can have | that sensor |
| `resistance` | resistance seen in current steps against R(T claimed) | both temperatures |
| `no_response` | cell voltages that do not answer to current steps | the cell voltages |
| `cell_sum` | sum of the cells against the module voltage | the odd cell, else the module voltage |
| `string_current` | module current less trim against the others of its string | the module current |
| `quiet_current` | a current where none can flow | the module current |
| `counter` | a charge counter that stands still under current | the counter |

Each residual is averaged over a block of 30 s, its bounded systematic part (the allowance) taken off, and
divided by its standard deviation; `reconf.estimation.cusum` turns the wanted number of false alarms per
year and site into the threshold. A judgement is latched until `reconf.estimation.filter.clear_findings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation import cusum
from reconf.estimation.constants import Constants
from reconf.estimation.state import Finding

BLOCK_S: Final = 30.0
FALSE_ALARMS_PER_YEAR: Final = 0.1
"""Of all tests of a site together."""
DRIFT: Final = 0.5
"""CUSUM reference value: quickest for shifts of one sigma (Siegmund 1985)."""
TESTS: Final = (
    "sensor_pair",
    "observer",
    "neighbours",
    "resistance",
    "cell_sum",
    "string_current",
    "quiet_current",
    "counter",
)
PAIR, OBSERVER, NEIGHBOURS, RESISTANCE, CELL_SUM, STRING_CURRENT, QUIET_CURRENT, COUNTER = range(8)
PLAUSIBLE_DEGC: Final = (-45.0, 120.0)
JUMP_K: Final = 6.0
"""Plus 2 K/s: runaway rises by 1 K/s, sensor noise of 0.5 K makes no 6 K in a year."""
RATIO_ALLOWANCE_FRAC: Final = 0.12
"""Resistance over SOC is known to about this; 4 K at 22 kJ/mol."""
RATIO_STD_FRAC: Final = 0.03
RATIO_PRIOR_STD_FRAC: Final = 0.8
"""Of a salvaged module nobody has measured: twice the resistance believed is an old module, not a lie."""
RATIO_DEAF: Final = -0.7
"""Voltages that answer with less than the rest of this do not answer: nothing to learn a resistance from."""


class Untrue(IntFlag):
    """Sensors of one module that are replaced by their model."""

    TEMPERATURE_1 = 1
    TEMPERATURE_2 = 2
    CURRENT = 4
    MODULE_VOLTAGE = 8
    CELL_VOLTAGES = 16
    COUNTER = 32


BOTH_TEMPERATURES: Final = int(Untrue.TEMPERATURE_1 | Untrue.TEMPERATURE_2)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the filter knows of this tick that the tests need. (M,) unless said otherwise."""

    temperature_degc: FloatArray
    """(M, 2) as read, NaN where unusable."""
    model_degc: FloatArray
    """Surface of the free-running observer."""
    cell_sum_v: FloatArray
    """Sum of the cells less the module voltage, NaN where either is missing or the current just moved."""
    cell_voltage_v: FloatArray
    """(M, C) as read, NaN where there is none."""
    string_current_a: FloatArray
    """Module current less trim less the string's consensus, NaN where it does not apply."""
    quiet_current_a: FloatArray
    """Module current less its learned offset where none can flow, else NaN."""
    current_a: FloatArray
    counter_ah: FloatArray
    """Movement of the charge counter, magnitude, NaN where it is missing."""
    current_ah: FloatArray
    """Magnitude of the charge by the currents."""
    step_xy: FloatArray
    """Sum over groups of weight * drop * change, 0 without a step."""
    step_xx: FloatArray
    """Sum over groups of weight * drop^2."""
    ambient_known: bool


@dataclass(frozen=True, slots=True)
class IntegrityState:
    """Sums of the running block, scores, and what is latched."""

    threshold: float
    core_degc: FloatArray
    """(M,) free-running observer."""
    surface_degc: FloatArray
    last_degc: FloatArray
    """(M, 2) temperatures of the last tick, NaN where there were none: after a gap nothing is a jump."""
    elapsed_s: float
    sums: FloatArray
    """(7, M): T1 - model, T2 - model, cell sum, string current, quiet current, counter, |charge|."""
    counts: FloatArray
    """(7, M)"""
    step_xy: FloatArray
    step_xx: FloatArray
    ratio_scale: FloatArray
    """(M,) long-term resistance scale of the module."""
    ratio_var: FloatArray
    scores: FloatArray
    """(tests, 2, M)"""
    untrue: IntArray
    """(M,) `Untrue` bits."""
    untrue_cells: BoolArray
    """(M, C) cell voltages judged untrue one by one."""
    findings: tuple[Finding, ...]

    @classmethod
    def start(cls, constants: Constants, temperature_degc: FloatArray, scale: FloatArray) -> IntegrityState:
        """Nothing found, the observer at `temperature_degc` (M,), resistance `scale` (M,) as believed."""
        m, c = constants.mask.shape
        runs = cusum.run_length_for(FALSE_ALARMS_PER_YEAR, 2 * len(TESTS) * m, BLOCK_S)
        return cls(
            threshold=cusum.threshold_for(DRIFT, runs),
            core_degc=temperature_degc.copy(),
            surface_degc=temperature_degc.copy(),
            last_degc=np.full((m, 2), np.nan),
            elapsed_s=0.0,
            sums=np.zeros((7, m)),
            counts=np.zeros((7, m)),
            step_xy=np.zeros(m),
            step_xx=np.zeros(m),
            ratio_scale=scale.copy(),
            ratio_var=(RATIO_PRIOR_STD_FRAC * scale) ** 2,
            scores=np.zeros((len(TESTS), 2, m)),
            untrue=np.zeros(m, dtype=np.int64),
            untrue_cells=np.zeros((m, c), dtype=np.bool_),
            findings=(),
        )

    def is_untrue(self, sensor: Untrue) -> BoolArray:
        """(M,) where `sensor` is replaced."""
        marks: BoolArray = (self.untrue & int(sensor)) != 0
        return marks


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
    values = np.stack(
        [
            signals.temperature_degc[:, 0] - signals.model_degc,
            signals.temperature_degc[:, 1] - signals.model_degc,
            signals.cell_sum_v,
            signals.string_current_a,
            signals.quiet_current_a,
            signals.counter_ah,
            np.where(np.isfinite(signals.counter_ah), signals.current_ah, np.nan),
        ]
    )
    seen = np.isfinite(values)
    state = replace(
        state,
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


def _string_median(values: FloatArray, string_of: IntArray) -> FloatArray:
    """(M,) median of each module's string, NaN where fewer than four are known."""
    result = np.full(values.shape, np.nan)
    for s in range(int(string_of[-1]) + 1 if string_of.size else 0):
        # strings, not modules, and once a block
        rows = string_of == s
        known = values[rows & np.isfinite(values)]
        if known.size >= 4:
            result[rows] = np.median(known)
    return result


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
    rise = np.abs(state.surface_degc - np.median(state.surface_degc)) + np.abs(
        state.core_degc - state.surface_degc
    )
    heated = np.maximum(state.core_degc - constants.ambient_degc, 0.0) if not signals.ambient_known else rise
    median = _string_median(both, string_of)
    rated = constants.rated_ah
    size = np.abs(signals.current_a)
    root = np.sqrt(constants.bank.n_cells)
    ambient_doubt = 2.5 if signals.ambient_known else 20.0
    n = np.maximum(state.counts[2], 1.0)
    charge = np.maximum(state.sums[6], 1e-9)
    ratio, ratio_std, usable = _ratio(state)
    samples = np.stack(
        [
            cusum.beyond(first - second, 2.5, 0.7),
            cusum.beyond(both, ambient_doubt + 0.35 * heated, 1.0),
            cusum.beyond(both - median, 2.5 + 0.35 * rise, 1.0),
            np.where(usable, cusum.beyond(ratio, RATIO_ALLOWANCE_FRAC, ratio_std), np.nan),
            cusum.beyond(_mean(state, 2), 0.02 + 0.003 * root, 0.004 * root / np.sqrt(n) + 0.002),
            cusum.beyond(_mean(state, 3), 0.02 * size + 0.004 * rated, 0.002 * rated),
            cusum.beyond(_mean(state, 4), 0.006 * rated, 0.001 * rated),
            np.where(charge > 0.002 * rated, np.where(state.sums[5] < 0.02 * charge, 3.0, -1.0), np.nan),
        ]
    )
    samples = np.clip(samples, -8.0, 8.0)
    # a residual without a sample (NaN) leaves its score alone
    scores = np.stack([cusum.advance(s, u, DRIFT) for s, u in zip(state.scores, samples, strict=True)])
    state = _learn_ratio(replace(state, scores=scores), ratio, usable)
    over = scores > state.threshold
    over[COUNTER, 1] = False  # a counter that moves is no finding
    alarms: BoolArray = np.asarray(over.any(axis=1), dtype=np.bool_)
    if alarms.any():
        evidence = _Evidence(
            first,
            second,
            both,
            median,
            ratio,
            _mean(state, 2),
            _mean(state, 3),
            _mean(state, 4),
            signals.cell_voltage_v,
        )
        state = _latch(state, alarms, evidence, serials, time_s)
    return replace(
        state,
        elapsed_s=0.0,
        sums=np.zeros_like(state.sums),
        counts=np.zeros_like(state.counts),
        step_xy=np.where(usable, 0.0, state.step_xy),
        step_xx=np.where(usable, 0.0, state.step_xx),
    )


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


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Block means, each (M,)."""

    first_k: FloatArray
    second_k: FloatArray
    both_k: FloatArray
    median_k: FloatArray
    ratio: FloatArray
    cell_sum_v: FloatArray
    string_a: FloatArray
    quiet_a: FloatArray
    cell_voltage_v: FloatArray
    """(M, C)"""

    def deviation_v(self) -> FloatArray:
        """(M, C) cell voltage less the mean of its module."""
        deviation: FloatArray = self.cell_voltage_v - np.nanmean(self.cell_voltage_v, axis=1, keepdims=True)
        return deviation


def _latch(
    state: IntegrityState,
    alarms: BoolArray,
    seen: _Evidence,
    serials: tuple[str, ...],
    time_s: float,
) -> IntegrityState:
    """Turn alarms (tests, M) into untrue sensors with their evidence; the scores start again."""
    untrue = state.untrue.copy()
    cells = state.untrue_cells.copy()
    found: list[Finding] = []
    for test, m in zip(*np.nonzero(alarms), strict=True):
        # only modules with an alarm come here
        for subject, bit, cell, text in _judgement(int(test), int(m), seen):
            if cell >= 0 and cells[m, cell]:
                continue
            if cell < 0 and untrue[m] & int(bit):
                continue
            if cell >= 0:
                cells[m, cell] = True
            else:
                untrue[m] |= int(bit)
            found.append(Finding(serials[m], subject, TESTS[test], time_s, text))
    scores = np.where(alarms[:, None, :], 0.0, state.scores)
    return replace(
        state, untrue=untrue, untrue_cells=cells, scores=scores, findings=state.findings + tuple(found)
    )


def _judgement(test: int, m: int, seen: _Evidence) -> Iterator[tuple[str, Untrue, int, str]]:
    """Which sensors of module `m` the alarm of `test` condemns: (subject, bit, cell or -1, evidence)."""
    t1 = ("temperature_1", Untrue.TEMPERATURE_1, -1)
    t2 = ("temperature_2", Untrue.TEMPERATURE_2, -1)
    if test in {PAIR, OBSERVER, NEIGHBOURS}:
        yield from _temperatures(test, m, seen, t1, t2)
    elif test == RESISTANCE:
        if seen.ratio[m] < RATIO_DEAF:
            text = f"voltages answer to current steps with {1 + seen.ratio[m]:.0%} of the known resistance"
            yield ("cell_voltages", Untrue.CELL_VOLTAGES, -1, text)
            return
        text = f"resistance in current steps is {seen.ratio[m]:+.0%} off what the temperature claims"
        for subject, bit, cell in (t1, t2):
            yield (subject, bit, cell, text)
    elif test == CELL_SUM:
        deviation = np.abs(np.nan_to_num(seen.deviation_v()[m]))
        worst = int(np.argmax(deviation))
        text = f"cells add up to {seen.cell_sum_v[m]:+.3f} V against the module voltage"
        alone = deviation[worst] > 0.5 * abs(seen.cell_sum_v[m])
        if alone:
            yield (f"cell_voltage_{worst + 1}", Untrue.CELL_VOLTAGES, worst, text)
        else:
            yield ("module_voltage", Untrue.MODULE_VOLTAGE, -1, text)
    elif test == STRING_CURRENT:
        text = f"{seen.string_a[m]:+.2f} A against the other modules of the string"
        yield ("current", Untrue.CURRENT, -1, text)
    elif test == QUIET_CURRENT:
        yield ("current", Untrue.CURRENT, -1, f"{seen.quiet_a[m]:+.2f} A while bypassed without trim")
    else:
        yield ("charge_counter", Untrue.COUNTER, -1, "the counter stands still under current")


def _temperatures(
    test: int,
    m: int,
    seen: _Evidence,
    t1: tuple[str, Untrue, int],
    t2: tuple[str, Untrue, int],
) -> Iterator[tuple[str, Untrue, int, str]]:
    """The sensor further from the observer; both where they agree with each other."""
    centre = 0.0 if np.isnan(seen.median_k[m]) else float(seen.median_k[m])
    off1, off2 = float(seen.first_k[m]) - centre, float(seen.second_k[m]) - centre
    text = f"sensors {off1:+.1f} K and {off2:+.1f} K off the thermal model of this string"
    if np.isnan(off1) or np.isnan(off2):
        yield (*(t2 if np.isnan(off1) else t1), text)
    elif test == PAIR:
        yield (*(t1 if abs(off1) > abs(off2) else t2), text)
    else:
        near = 0.5 * max(abs(off1), abs(off2))
        for off, (subject, bit, cell) in ((off1, t1), (off2, t2)):
            if abs(off) >= near:
                yield (subject, bit, cell, text)
