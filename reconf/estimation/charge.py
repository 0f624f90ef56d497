"""Which current really flowed, and how much charge it moved.

The charge counter of a node integrates its sensor without gaps, so its difference is preferred to
samples of the current; both are corrected by the sensor's offset, learned whenever a module is
bypassed without trim (then the true current is zero), and by its gain against its string.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.constants import Constants
from reconf.estimation.memory import ChargeState
from reconf.readings import ModuleReadings, SiteImage
from reconf.replacing import replace
from reconf.site import Site

SECONDS_PER_HOUR = 3600.0
COUNTER_MAX_C = 6.0
"""A counter that moves faster than this C-rate has been reset or is untrue."""
BIAS_DRIFT_C = 0.0001
"""Wander of a sensor's offset in an hour [1/h]."""
GAIN_BOUND_FRAC = 0.03
"""No sensor that is still believed is further from its string's consensus."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Current and charge of one tick. All (M,)."""

    current_a: FloatArray
    charge_ah: FloatArray
    """Charge that left the cells since the last tick (corrections of earlier ticks included)."""
    current_std_a: FloatArray
    """Doubt about the current that is not white: offset, or all of it when nothing was read."""
    inserted_frac: FloatArray
    string_gap_a: FloatArray
    """Module sensor less trim against the others of its string, NaN where that says nothing."""
    converter_gap_a: FloatArray
    """Module sensor less trim against the converter of its string, NaN where that says nothing."""
    quiet_gap_a: FloatArray
    """Module sensor less its offset while no current can flow, else NaN."""
    counter_step_ah: FloatArray
    """How far the charge counter moved in this tick, magnitude, NaN without it."""
    jump_a: FloatArray
    """How far the current moved since the last image: a voltage may belong to either side."""
    steady: BoolArray
    """Current and switch as in the last image, so that voltage and current belong together."""


def inserted_frac(readings: ModuleReadings) -> FloatArray:
    """Measured inserted fraction, or the switch state where the echo is missing."""
    inserted = (readings.status & int(Rm1Status.INSERTED)) != 0
    echo = readings.duty_frac
    frac: FloatArray = np.where(echo.usable & inserted, echo.value, inserted.astype(np.float64))
    return frac


def measure(
    site: Site,
    constants: Constants,
    state: ChargeState,
    image: SiteImage,
    dt_s: float,
    untrue: BoolArray,
    untrue_counter: BoolArray,
    untrue_converter: BoolArray,
) -> tuple[ChargeState, Moved]:
    """Current and charge since the last tick.

    `untrue`, `untrue_counter` (M,) mark current sensors and counters not to be used, `untrue_converter` any
    module of a string whose converter's current is not.
    """
    tuning = constants.tuning
    readings = image.modules
    duty = inserted_frac(readings)
    trim = np.where(readings.trim_current_a.usable, readings.trim_current_a.value, 0.0)
    sensed = readings.current_a.usable & readings.answered & ~untrue
    string_ok, string_a = _string_current(site, image)
    if untrue_converter.any():
        string_ok &= (
            site.topology.sum_by_string(untrue_converter.astype(np.float64))[site.topology.string_of] == 0
        )
    own = (readings.current_a.value - state.bias_a) / (1.0 + state.gain_frac)
    substitute = duty * string_a + trim
    blind = np.where(duty > 0.0, state.current_a, 0.0)
    current = np.where(sensed, own, np.where(string_ok, substitute, blind))
    std = np.where(
        sensed,
        np.sqrt(state.bias_var),
        np.where(
            string_ok,
            tuning.string_bias_std_c * constants.rated_ah,
            np.abs(blind) + 0.05 * constants.rated_ah,
        ),
    )
    switched = readings.insert_count != state.insert_count
    bound = np.maximum(
        tuning.steady_current_c * constants.rated_ah, tuning.steady_current_frac * np.abs(current)
    )
    steady = (sensed | string_ok) & ~switched & (np.abs(current - state.current_a) <= bound)
    counted = _count(constants, state, readings, current, dt_s, untrue | untrue_counter)
    after = _learn_bias(constants, counted, image, site, dt_s, switched, untrue)
    # a sensor judged untrue has no voice, else all others learn its gain
    whole = sensed & ~switched & (duty > 0.999)
    # nodes are read one after the other: one read before a change of power agrees with none read after it
    consensus, enough = _consensus(site, constants, own - trim, whole & steady)
    quiet = (after.quiet_s >= 2.0 * dt_s) & (after.quiet_s > 2.0) & readings.current_a.usable
    counter = readings.charge_counter_ah
    both = counter.usable & readings.current_a.usable & readings.answered & (state.counted_s == 0.0)
    moved = Moved(
        string_gap_a=np.where(whole & enough & steady, own - trim - consensus, np.nan),
        converter_gap_a=np.where(whole & string_ok & steady, own - trim - string_a, np.nan),
        quiet_gap_a=np.where(quiet, own, np.nan),
        counter_step_ah=np.where(both, np.abs(counter.value - state.counter_ah), np.nan),
        current_a=current,
        charge_ah=counted.counted_ah,
        current_std_a=std,
        inserted_frac=duty,
        jump_a=np.abs(current - state.current_a),
        steady=steady,
    )
    after = _learn_gain(after, current - trim, consensus, sensed & steady & whole & enough, constants, dt_s)
    after = _expect_load(constants, after, moved, sensed | string_ok, dt_s)
    return _settle(state, after), moved


def _string_current(site: Site, image: SiteImage) -> tuple[BoolArray, FloatArray]:
    """Current of each module's string and whether it was read."""
    strings = image.strings
    usable = strings.current_a.usable & strings.answered
    value = np.where(usable, strings.current_a.value, 0.0)
    of = site.topology.string_of
    return usable[of], value[of]


def _count(
    constants: Constants,
    state: ChargeState,
    readings: ModuleReadings,
    current_a: FloatArray,
    dt_s: float,
    untrue: BoolArray,
) -> ChargeState:
    """Charge of this tick in `counted_ah` (moved by the caller), bookkeeping of the counter beside it."""
    integral = current_a * (dt_s / SECONDS_PER_HOUR)
    span_s = state.counted_s + dt_s
    counter = readings.charge_counter_ah
    difference = counter.value - state.counter_ah
    plausible = np.abs(difference) <= COUNTER_MAX_C * constants.rated_ah * span_s / SECONDS_PER_HOUR + 0.01
    fresh = counter.usable & readings.answered & ~untrue
    follows = fresh & plausible & (readings.uptime_s >= state.uptime_s)
    corrected = (difference - state.bias_a * span_s / SECONDS_PER_HOUR) / (1.0 + state.gain_frac)
    charge = np.where(follows, corrected - state.counted_ah, integral)
    return replace(
        state,
        current_a=current_a,
        counter_ah=np.where(fresh, counter.value, state.counter_ah),
        uptime_s=np.where(fresh, readings.uptime_s, state.uptime_s),
        insert_count=np.where(readings.answered, readings.insert_count, state.insert_count),
        counted_ah=charge,
        counted_s=np.where(fresh, 0.0, span_s),
    )


def _settle(before: ChargeState, after: ChargeState) -> ChargeState:
    """Close the tick: `counted_ah` becomes the charge counted since the last good counter reading."""
    since = np.where(after.counted_s > 0.0, before.counted_ah + after.counted_ah, 0.0)
    return replace(after, counted_ah=since)


def _learn_bias(
    constants: Constants,
    state: ChargeState,
    image: SiteImage,
    site: Site,
    dt_s: float,
    switched: BoolArray,
    untrue: BoolArray,
) -> ChargeState:
    """Offset of the module sensors from the times at which no current can flow."""
    tuning = constants.tuning
    readings = image.modules
    open_string = image.strings.answered & ((image.strings.status & int(Rc1Status.CONTACTOR_CLOSED)) == 0)
    apart = ((readings.status & int(Rm1Status.INSERTED)) == 0) | open_string[site.topology.string_of]
    no_trim = (readings.status & int(Rm1Status.TRIM_RUNNING)) == 0
    no_trim &= readings.trim_current_a.usable & (np.abs(readings.trim_current_a.value) < 0.02)
    quiet = readings.answered & apart & no_trim & ~switched
    quiet_s = np.where(quiet, state.quiet_s + dt_s, 0.0)
    # two quiet images in a row, more than the second that the reading is a mean of apart
    known = (quiet_s >= 2.0 * dt_s) & (quiet_s > 2.0) & readings.current_a.usable & ~untrue
    var = state.bias_var + (BIAS_DRIFT_C * constants.rated_ah) ** 2 / SECONDS_PER_HOUR * dt_s
    gain = np.where(known, var / (var + (tuning.current_noise_c * constants.rated_ah) ** 2), 0.0)
    error = np.where(known, readings.current_a.value - state.bias_a, 0.0)
    known &= np.abs(error) < 0.02 * constants.rated_ah
    bias = state.bias_a + np.where(known, gain * error, 0.0)
    return replace(state, bias_a=bias, bias_var=np.where(known, var * (1.0 - gain), var), quiet_s=quiet_s)


def _consensus(
    site: Site, constants: Constants, string_part_a: FloatArray, whole: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Mean of the sensors that carry the whole string current, without those far off; are there three?"""
    topology = site.topology
    value = np.where(whole, string_part_a, 0.0)

    def mean(use: BoolArray) -> tuple[FloatArray, FloatArray]:
        count = topology.sum_by_string(use.astype(np.float64))
        total = topology.sum_by_string(np.where(use, value, 0.0))
        average = np.divide(total, count, out=np.zeros_like(total), where=count > 0.5)
        return average[topology.string_of], count[topology.string_of]

    first, _ = mean(whole)
    near = whole & (np.abs(value - first) <= 0.05 * np.abs(first) + 0.02 * constants.rated_ah)
    second, count = mean(near)
    return second, count > 2.5


def _learn_gain(
    state: ChargeState,
    string_part_a: FloatArray,
    consensus_a: FloatArray,
    usable: BoolArray,
    constants: Constants,
    dt_s: float,
) -> ChargeState:
    """Gain of each sensor against the mean of the sensors that carry the same string current."""
    size = np.abs(consensus_a)
    heavy = usable & (size > 0.05 * constants.rated_ah)
    ratio = np.divide(string_part_a, consensus_a, out=np.ones_like(size), where=heavy) - 1.0
    var = state.gain_var + 1e-12 * dt_s
    noise = np.divide(0.001 * constants.rated_ah, size, out=np.ones_like(size), where=heavy) ** 2
    weight = np.where(heavy & (np.abs(ratio) < GAIN_BOUND_FRAC), var / (var + noise), 0.0)
    gain = np.clip(state.gain_frac + weight * ratio, -GAIN_BOUND_FRAC, GAIN_BOUND_FRAC)
    # the consensus carries the common error of all sensors, which can never be removed from one
    return replace(state, gain_frac=gain, gain_var=np.maximum(var * (1.0 - weight), 0.002**2))


def _expect_load(
    constants: Constants, state: ChargeState, moved: Moved, known: BoolArray, dt_s: float
) -> ChargeState:
    """Follow the discharge current while inserted, and its mean with the bypassed time."""
    weight = 1.0 - np.exp(-dt_s / constants.tuning.load_memory_s)
    threshold = 0.02 * constants.rated_ah
    loaded = known & (moved.inserted_frac > 0.0) & (moved.current_a > threshold)
    while_inserted = moved.current_a / np.where(moved.inserted_frac > 0.0, moved.inserted_frac, 1.0)
    load = state.load_a + np.where(loaded, weight * (while_inserted - state.load_a), 0.0)
    resting = known & (moved.inserted_frac == 0.0) & (np.abs(moved.current_a) <= threshold)
    mean = state.load_mean_a + np.where(loaded, weight * (moved.current_a - state.load_mean_a), 0.0)
    # bypassed time lowers the mean only down to a third of the load: a long rest tells nothing of it
    mean = np.where(resting, np.maximum(mean * (1.0 - weight), load / 3.0), mean)
    return replace(state, load_a=load, load_mean_a=mean)
