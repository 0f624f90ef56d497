"""Cells that are not as they should be: internal shorts, rising resistance, open sense wires.

* *leakage*: charge differences between the groups of a module are constant, as the same current passes
  all of them; a group with an internal short loses against its neighbours. Each voltage measures its
  group's charge; the drift of its distance to the module's median, between a memory of one hour and one of
  48 h, is the leakage current (for a straight drift L the two memories stand L * (48 h - 1 h) apart).
  Feng et al., J. Electrochem. Soc. 165 (2018) A155, doi 10.1149/2.0501802jes, find shorts the same way.
  A hard short does not have hours: within one rest, where neither resistance nor capacity speaks with,
  the distance is held against that of the rest's first minutes. Groups of unlike capacity part by
  themselves with the charge that passes: what their capacities explain of a drift is no leak, and a rest
  through which a small current has carried much charge begins anew.
* *resistance*: the scale of a group against the median of its module and against its own past.
* *sense wire*: a group at 0 V while the module voltage says that it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, row_median
from reconf.estimation.constants import Constants
from reconf.estimation.memory import AnomalyState, GroupState, ResistanceState
from reconf.estimation.state import Finding
from reconf.replacing import replace

ANOMALY_TESTS: Final = frozenset({"leakage", "cell_resistance", "sense_wire"})
BLOCK_S: Final = 60.0
FAST_S: Final = 3600.0
SLOW_S: Final = 48 * 3600.0
LEAK_STD_FRAC: Final = 0.003
"""Deviation of a charge distance, over capacity: 1 mV of sensor offset where the OCV curve changes slope."""
LEAK_SIGMAS: Final = 5.0
LEAK_MIN_SLOPE_V: Final = 0.4
"""Below this slope [V per unit SOC] a voltage measures no charge."""
REST_BEGIN_S: Final = 300.0
"""The first minutes of a rest, whose mean the rest is held against; also the memory of what follows."""
REST_LEAST_S: Final = 900.0
REST_LONGEST_S: Final = 86_400.0
"""A rest begins anew after a day: what sound cells lose differently in weeks is no short."""
REST_MOVED_FRAC: Final = 0.02
"""So does one after this much of the capacity has passed, at however small a current."""
UNLIKE_FRAC: Final = 0.08
"""Sound groups of a module differ in capacity by no more: no leak hides as a capacity."""
RESISTANCE_RATIO: Final = 1.5
"""Of a group over the median of its module."""
OPEN_WIRE_V: Final = 0.05


@dataclass(frozen=True, slots=True)
class CellSignals:
    """What the anomaly tests need of one tick."""

    ocv_v: FloatArray
    """(M, C) measured open-circuit voltage less age, warmth and hysteresis [V], NaN where unusable."""
    raw_v: FloatArray
    """(M, C) cell voltages as read, NaN where missing."""
    answered: BoolArray
    """(M,)"""
    module_v: FloatArray
    """(M,) NaN where missing."""
    quiet: BoolArray
    """(M,) current small enough for a voltage to measure charge."""
    resting: BoolArray
    """(M,) next to no current at all."""


def watch(
    constants: Constants,
    state: AnomalyState,
    groups: GroupState,
    resistance: ResistanceState,
    signals: CellSignals,
    serials: tuple[str, ...],
    time_s: float,
    dt_s: float,
) -> AnomalyState:
    """Sense wires every tick, the rest in blocks."""
    state = _sense_wires(constants, state, signals, serials, time_s)
    elapsed = state.elapsed_s + dt_s
    if elapsed < BLOCK_S:
        return replace(state, elapsed_s=elapsed)
    state = _leakage(constants, state, groups, signals, serials, time_s, elapsed)
    state = _resistance(constants, state, resistance, serials, time_s)
    return replace(state, elapsed_s=0.0)


def _add(
    state: AnomalyState,
    where: BoolArray,
    test: str,
    serials: tuple[str, ...],
    time_s: float,
    value: FloatArray,
    text: str,
) -> AnomalyState:
    """Latch a finding for every True in `where` (M, C) that has none of this test yet."""
    known = {(f.serial, f.subject) for f in state.findings if f.test == test}
    found = [
        Finding(serials[m], f"cell_{k + 1}", test, time_s, text.format(value[m, k]))
        for m, k in np.argwhere(where)
        if (serials[m], f"cell_{k + 1}") not in known
    ]
    return replace(state, findings=state.findings + tuple(found)) if found else state


def _sense_wires(
    constants: Constants, state: AnomalyState, signals: CellSignals, serials: tuple[str, ...], time_s: float
) -> AnomalyState:
    zero = (signals.raw_v <= OPEN_WIRE_V) & constants.mask & signals.answered[:, None]
    if not zero.any():
        return state
    rest = np.where(zero | ~np.isfinite(signals.raw_v), 0.0, signals.raw_v).sum(axis=1)
    share = (signals.module_v - rest) / np.maximum(zero.sum(axis=1), 1)
    # a reversed cell leaves nothing for the module voltage to show, an open wire leaves a whole cell
    open_wire = zero & (share > 1.0)[:, None]
    spread = np.broadcast_to(share[:, None], zero.shape)
    text = "reads 0 V while the module voltage leaves {:.2f} V for it: open sense wire"
    return _add(state, open_wire, "sense_wire", serials, time_s, spread, text)


def _leakage(
    constants: Constants,
    state: AnomalyState,
    groups: GroupState,
    signals: CellSignals,
    serials: tuple[str, ...],
    time_s: float,
    elapsed_s: float,
) -> AnomalyState:
    known = np.isfinite(signals.ocv_v) & constants.mask
    # by the curve, not by the estimate and a slope: the estimate moves while it learns, the slope has kinks
    soc = constants.bank.soc_of_ocv(np.where(known, signals.ocv_v, 0.0))
    steep = known & (constants.bank.docv_dsoc_v(soc) > LEAK_MIN_SLOPE_V)
    usable = signals.quiet & (steep | ~constants.mask).all(axis=1)
    if not usable.any():
        return replace(state, rested_s=np.zeros_like(state.rested_s))
    # one capacity for all groups: a leak must not hide as a change of its group's own
    common = row_median(np.where(constants.mask, groups.capacity_ah, np.nan))
    charge = soc * common
    shown = np.where(constants.mask & usable[:, None], charge, np.nan)
    distance, middle = np.zeros_like(charge), np.zeros_like(state.watched_s)
    middle[usable] = row_median(shown[usable])[:, 0]
    distance[usable] = shown[usable] - middle[usable, None]
    seen = Seen(distance, middle, usable)
    state = _in_rest(constants, state, groups, seen, signals.resting, serials, time_s, elapsed_s)
    state = _remember(state, seen, elapsed_s)
    behind = state.slow_ah - state.fast_ah + _unlike_ah(state, groups, common)
    behind = np.where(constants.mask, behind, 0.0)
    span_s = np.maximum(0.5 * np.minimum(state.watched_s, 2.0 * SLOW_S) - FAST_S, FAST_S)
    leak_a = behind / (span_s[:, None] / 3600.0)
    bar = LEAK_SIGMAS * LEAK_STD_FRAC * groups.capacity_ah + _unlike_doubt_ah(state, groups, common)
    wrong = (behind > bar) & (state.watched_s > 6 * FAST_S)[:, None] & constants.mask
    state = replace(state, leak_a=leak_a)
    text = "loses {:.3f} A against the other groups of its module: internal short suspected"
    return _add(state, wrong, "leakage", serials, time_s, leak_a, text)


@dataclass(frozen=True, slots=True)
class Seen:
    """Charges that one block has measured."""

    distance_ah: FloatArray
    """(M, C) from the module's median; 0 where unusable."""
    median_ah: FloatArray
    """(M,)"""
    usable: BoolArray
    """(M,)"""


def _remember(state: AnomalyState, seen: Seen, elapsed_s: float) -> AnomalyState:
    """Both memories a block further."""
    usable = seen.usable
    first = usable & (state.watched_s == 0.0)
    # a young memory is a plain mean, so that its first value is no drift
    slow_gain = elapsed_s / np.minimum(SLOW_S, np.maximum(state.watched_s + elapsed_s, elapsed_s))
    slow_gain = np.where(usable, slow_gain, 0.0)
    fast_gain = np.where(first, 1.0, np.where(usable, 1.0 - np.exp(-elapsed_s / FAST_S), 0.0))
    return replace(
        state,
        fast_ah=state.fast_ah + fast_gain[:, None] * (seen.distance_ah - state.fast_ah),
        slow_ah=state.slow_ah + slow_gain[:, None] * (seen.distance_ah - state.slow_ah),
        fast_median_ah=state.fast_median_ah + fast_gain * (seen.median_ah - state.fast_median_ah),
        slow_median_ah=state.slow_median_ah + slow_gain * (seen.median_ah - state.slow_median_ah),
        watched_s=state.watched_s + np.where(usable, elapsed_s, 0.0),
    )


def _unlike_ah(state: AnomalyState, groups: GroupState, common_ah: FloatArray) -> FloatArray:
    """(M, C) what unlike capacities explain of slow less fast: a larger group lies behind at full."""
    travelled = (state.slow_median_ah - state.fast_median_ah)[:, None]
    unlike = np.clip(groups.capacity_ah / common_ah - 1.0, -UNLIKE_FRAC, UNLIKE_FRAC)
    return unlike * travelled


def _unlike_doubt_ah(state: AnomalyState, groups: GroupState, common_ah: FloatArray) -> FloatArray:
    """(M, C) how far `_unlike_ah` may be wrong."""
    travelled = np.abs(state.slow_median_ah - state.fast_median_ah)[:, None]
    return np.minimum(np.sqrt(groups.var_qq) / common_ah, UNLIKE_FRAC) * travelled


def _in_rest(
    constants: Constants,
    state: AnomalyState,
    groups: GroupState,
    seen: Seen,
    resting: BoolArray,
    serials: tuple[str, ...],
    time_s: float,
    elapsed_s: float,
) -> AnomalyState:
    """A short that is hard enough to show within one rest."""
    resting = seen.usable & resting
    moved_ah = np.abs(seen.median_ah - state.began_median_ah)
    lasts = resting & (state.rested_s < REST_LONGEST_S) & (moved_ah < REST_MOVED_FRAC * constants.rated_ah)
    rested = np.where(lasts | (resting & (state.rested_s == 0.0)), state.rested_s + elapsed_s, 0.0)
    young = (rested <= REST_BEGIN_S)[:, None]
    # a plain mean at first
    share = np.minimum(elapsed_s / np.maximum(np.minimum(rested, REST_BEGIN_S), elapsed_s), 1.0)[:, None]
    now = state.now_ah + share * (seen.distance_ah - state.now_ah)
    began = np.where(young, now, state.began_ah)
    began_median = np.where(young[:, 0], seen.median_ah, state.began_median_ah)
    lost = began - now
    # both are means over some minutes, half of them ago
    leak_a = lost / (np.maximum(rested - REST_BEGIN_S, REST_BEGIN_S) / 3600.0)[:, None]
    wrong = (lost > LEAK_SIGMAS * LEAK_STD_FRAC * groups.capacity_ah) & (rested >= REST_LEAST_S)[:, None]
    wrong &= constants.mask & resting[:, None]
    state = replace(state, rested_s=rested, began_ah=began, now_ah=now, began_median_ah=began_median)
    text = "loses {:.2f} A against the other groups of its module within one rest: internal short"
    return _add(state, wrong, "leakage", serials, time_s, leak_a, text)


def _resistance(
    constants: Constants,
    state: AnomalyState,
    resistance: ResistanceState,
    serials: tuple[str, ...],
    time_s: float,
) -> AnomalyState:
    scale = np.where(constants.mask, resistance.scale, np.nan)
    ratio = scale / row_median(scale)
    sure = np.sqrt(resistance.var) / resistance.scale
    wrong = constants.mask & (ratio - 4.0 * sure > RESISTANCE_RATIO) & (sure < 0.05)
    text = "has {:.2f} times the resistance of the other groups: weld, tab or cell"
    return _add(state, wrong, "cell_resistance", serials, time_s, ratio, text)
