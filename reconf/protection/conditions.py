"""When each fault of the table is there: arrays of conditions from measured values, bits and site inputs.

Rows with a limit are held against it by `reconf.protection.signals.assemble`. The others are given here by
name; each function's docstring says which rows it fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, middle, no_nan
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.state import Cooling
from reconf.protection.bounds import Constants
from reconf.protection.cooling import CoolingWatch
from reconf.protection.faults import (
    STOP_COMMAND,
    STOP_CONVERTER,
    STOP_LOOP,
    Machine,
    RuleNumbers,
    Scope,
    row_index,
    signals_code,
)
from reconf.protection.observe import Observed, believed
from reconf.protection.runaway import Rise, RiseSigns, follow_rise
from reconf.protection.signals import Signal, bit
from reconf.readings import SiteImage
from reconf.replacing import replace

COLD_CHARGE_A = 0.5
"""Charge current that counts as charging, above sensor offset."""

CLEAR_TAKES_S = 5.0
"""A latch that still stands so long after its fault was cleared has not lost its cause: it is told again."""
TRIPS = {
    "over_voltage_trip": Rm1Status.OVER_VOLTAGE_TRIP,
    "under_voltage_trip": Rm1Status.UNDER_VOLTAGE_TRIP,
    "over_temperature_trip": Rm1Status.OVER_TEMPERATURE_TRIP,
}


def module_values(seen: Observed, capacity_ah: FloatArray) -> dict[tuple[str, str], FloatArray]:
    """Measured values that module rows are held against, by (quantity, side)."""
    spread = seen.cell_max_v - seen.cell_min_v
    current_c = seen.current_a / capacity_ah
    return {
        ("cell_voltage_v", "max"): seen.cell_max_v,
        ("cell_voltage_v", "min"): seen.cell_min_v,
        ("cell_voltage_spread_v", "max"): spread,
        ("temperature_degc", "max"): seen.temperature_max_degc,
        ("temperature_degc", "min"): seen.temperature_min_degc,
        ("temperature_difference_k", "max"): seen.temperature_max_degc - seen.temperature_min_degc,
        ("discharge_current_c", "max"): current_c,
        ("charge_current_c", "max"): -current_c,
    }


@dataclass(frozen=True, slots=True)
class Trend:
    """What the rules about change remember from tick to tick."""

    rise: Rise
    """Of temperatures and cell voltages, for the rule about runaway."""
    cell_min_v: FloatArray
    """(M,) last lowest cell voltage."""
    status: np.ndarray
    """(M,) STATUS bits of the last tick."""
    string_status: np.ndarray
    """(S,) the same of the converters."""
    trip_stands_s: FloatArray
    """(3, M) how long each of `TRIPS` has stood in its node although no fault is present that tells of it."""
    fault_stands_s: FloatArray
    """(S,) the same of the converters' hardware fault."""

    @classmethod
    def start(cls, constants: Constants) -> Trend:
        """Nothing seen yet."""
        m, s = constants.n_modules, constants.n_strings
        return cls(
            rise=Rise.start(m, constants.bank.n_cells_max),
            cell_min_v=np.full(m, np.nan),
            status=np.zeros(m, dtype=np.int64),
            string_status=np.zeros(s, dtype=np.int64),
            trip_stands_s=np.zeros((len(TRIPS), m)),
            fault_stands_s=np.zeros(s),
        )


def follow(
    trend: Trend,
    machines: Mapping[Scope, Machine],
    seen: Observed,
    image: SiteImage,
    dt_s: float,
    rules: RuleNumbers,
) -> tuple[Trend, RiseSigns]:
    """The trend after this tick, and what it says of a beginning runaway; `machines` of the last tick."""
    rise, signs = follow_rise(trend.rise, seen, dt_s, rules)
    bits = np.array([int(flag) for flag in TRIPS.values()])[:, None]
    rows = [row_index("module")[fault] for fault in TRIPS]
    tripped = ((image.modules.status & bits) != 0) & ~machines["module"].present[rows]
    failed = (image.strings.status & int(Rc1Status.HARDWARE_FAULT)) != 0
    failed &= ~machines["string"].present[row_index("string")["converter_fault"]]
    return Trend(
        rise=rise,
        cell_min_v=np.where(np.isnan(seen.cell_min_v), trend.cell_min_v, seen.cell_min_v),
        status=np.where(seen.fresh, image.modules.status, trend.status),
        string_status=np.where(image.strings.answered, image.strings.status, trend.string_status),
        trip_stands_s=np.where(tripped, trend.trip_stands_s + dt_s, 0.0),
        fault_stands_s=np.where(failed, trend.fault_stands_s + dt_s, 0.0),
    ), signs


def module_signals(
    constants: Constants,
    seen: Observed,
    image: SiteImage,
    before: Trend,
    after: Trend,
    signs: RiseSigns,
    trusted: BoolArray,
    stale_s: float,
    rules: RuleNumbers,
    switches_apart: BoolArray | None = None,
) -> dict[str, Signal]:
    """Rows about zero and copper, cold charge, runaway, trips, node bits, staleness and trust."""
    status, fresh = image.modules.status, seen.fresh
    lowest, highest = constants.limits["cell_voltage_v", "min"], constants.limits["cell_voltage_v", "max"]
    hot, cold = (
        constants.limits["temperature_degc", "max"],
        constants.limits["charge_temperature_degc", "min"],
    )

    def on(flag: Rm1Status) -> BoolArray:
        set_: BoolArray = (status & int(flag)) != 0
        return set_

    def tripped(fault: str, cause_gone: BoolArray) -> Signal:
        # the node keeps its bit until it is told to clear: its coming is news, and that it still stands a
        # while after that. The fault is over when its cause is
        flag = TRIPS[fault]
        came = on(flag) & ((before.status & int(flag)) == 0) & fresh
        came |= after.trip_stands_s[list(TRIPS).index(fault)] >= CLEAR_TAKES_S
        return Signal(raised=came, released=cause_gone & ~came)

    apart = np.zeros_like(fresh) if switches_apart is None else switches_apart
    was_low = before.cell_min_v < lowest.safety
    exposed = (seen.cell_min_v < rules.copper_exposure_v) | (seen.cell_zero & was_low)
    above = constants.limits["charge_temperature_degc", "max"]
    charging_hot = (seen.current_a < -COLD_CHARGE_A) & (seen.temperature_max_degc > above.safety)
    charging_cold = (seen.current_a < -COLD_CHARGE_A) & (seen.temperature_min_degc < cold.safety)
    connected = ((after.string_status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)[constants.topology.string_of]
    runaway = signs.rising & (signs.sagged | (seen.temperature_max_degc > hot.safety))
    age = image.modules.age_s
    return {
        "cell_reading_zero": Signal(seen.cell_zero, ~seen.cell_zero & fresh, 0.0, rules.reversed_v),
        "copper_exposure": Signal(exposed, ~exposed & fresh, seen.cell_min_v, rules.copper_exposure_v),
        "cold_charge": Signal(
            charging_cold, seen.current_a > -COLD_CHARGE_A, seen.temperature_min_degc, cold.safety
        ),
        "hot_charge": Signal(
            charging_hot, seen.current_a > -COLD_CHARGE_A, seen.temperature_max_degc, above.safety
        ),
        "thermal_runaway": Signal(
            runaway,
            ~runaway & signs.steady,
            signs.rate_k_per_s,
            rules.runaway_rate_k_per_s - rules.runaway_slack_k / rules.runaway_for_s,
        ),
        "over_voltage_trip": tripped("over_voltage_trip", seen.cell_max_v < highest.recommended),
        "under_voltage_trip": tripped("under_voltage_trip", seen.cell_min_v > lowest.recommended),
        "over_temperature_trip": tripped(
            "over_temperature_trip", seen.temperature_max_degc < hot.recommended
        ),
        "switch_fault": bit(on(Rm1Status.SWITCH_FAULT) | apart, fresh),
        "trim_fault": bit(on(Rm1Status.TRIM_FAULT), fresh),
        "cell_sensing_fault": bit(on(Rm1Status.CELL_SENSING_FAULT), fresh),
        "temperature_sensor_fault": bit(on(Rm1Status.TEMPERATURE_SENSOR_FAULT), fresh),
        "node_watchdog": bit(on(Rm1Status.WATCHDOG_EXPIRED) & connected, fresh),
        "readings_stale": Signal(age > stale_s, fresh, age, stale_s),
        "sensors_untrusted": Signal(~trusted, trusted),
    }


def soc_signal(constants: Constants, low_frac: FloatArray, high_frac: FloatArray) -> Signal:
    """Row soc_implausible: the weakest group below, or the strongest above, what charge can be."""
    least, most = constants.limits["soc_frac", "min"], constants.limits["soc_frac", "max"]
    below, above = least.safety - low_frac, high_frac - most.safety
    return Signal(
        raised=(below > 0.0) | (above > 0.0),
        released=(below < -least.hysteresis) & (above < -most.hysteresis),
        value=np.where(below > above, low_frac, high_frac),
        bound=np.where(below > above, least.safety, most.safety),
    )


def string_values(
    constants: Constants, seen: Observed, image: SiteImage
) -> dict[tuple[str, str], FloatArray]:
    """Measured values that string rows are held against; a converter that does not run has no window."""
    converter, strings = constants.converters, image.strings
    running = (strings.status & int(Rc1Status.RUNNING)) != 0
    volts = seen.string_voltage_v
    inside = np.minimum(volts - converter.voltage_min_v, converter.voltage_max_v - volts)
    return {
        ("string_current_frac", "max"): np.abs(seen.string_current_a) / converter.current_rating_a,
        ("string_power_frac", "max"): np.abs(believed(strings.power_w)) / converter.power_rating_w,
        ("string_voltage_margin_frac", "min"): np.where(running, inside / converter.voltage_max_v, np.inf),
        ("heatsink_temperature_degc", "max"): seen.heatsink_degc,
    }


def string_signals(
    constants: Constants,
    seen: Observed,
    image: SiteImage,
    before: Trend,
    after: Trend,
    reach_v: FloatArray,
    cannot_leave: BoolArray,
    stale_s: float,
    rules: RuleNumbers,
    opened_unasked: BoolArray | None = None,
    join_failed: BoolArray | None = None,
) -> dict[str, Signal]:
    """Rows string_voltage_implausible, converter bits, contactors, converter_lost, reach, leaving."""
    strings = image.strings
    status, fresh = strings.status, strings.answered
    topology = constants.topology

    def on(flag: Rc1Status) -> BoolArray:
        set_: BoolArray = (status & int(flag)) != 0
        return set_

    inserted = (image.modules.status & int(Rm1Status.INSERTED)) != 0
    terminal = np.where(inserted, image.modules.voltage_v.value, 0.0)
    total = topology.sum_by_string(terminal) - constants.string_r_on_ohm * no_nan(seen.string_current_a)
    rated_v = constants.converters.voltage_max_v
    steady = ~(image.modules.duty_frac.value * (1.0 - image.modules.duty_frac.value) > 0.0)
    comparable = constants.min_by_string((seen.fresh & steady).astype(np.float64)) > 0.0
    apart = np.abs(total - seen.string_voltage_v)
    allowed = rules.discrepancy_frac * rated_v
    closed = on(Rc1Status.CONTACTOR_CLOSED) | on(Rc1Status.PRECHARGING)
    stands = seen.link_voltage_v > 0.95 * seen.string_voltage_v
    welded = ~closed & stands & (seen.link_voltage_v > 60.0) & fresh
    failed = (
        on(Rc1Status.HARDWARE_FAULT) & ((before.string_status & int(Rc1Status.HARDWARE_FAULT)) == 0) & fresh
    )
    failed |= after.fault_stands_s >= CLEAR_TAKES_S
    low = constants.converters.voltage_min_v
    return {
        "string_voltage_implausible": Signal(
            (apart > allowed) & comparable & fresh, (apart < 0.5 * allowed) & fresh, apart, allowed
        ),
        "converter_fault": Signal(failed, ~failed & fresh),
        "contactor_mismatch": bit(on(Rc1Status.CONTACTOR_MISMATCH), fresh),
        "contactor_opened": bit(fresh & False if opened_unasked is None else opened_unasked, fresh),
        "join_failed": bit(fresh & False if join_failed is None else join_failed),
        "contactor_welded": Signal(welded, ~stands & fresh, seen.link_voltage_v, 60.0),
        "converter_lost": Signal(strings.age_s > stale_s, fresh, strings.age_s, stale_s),
        "window_unreachable": Signal(reach_v < low, reach_v > 1.01 * low, reach_v, low),
        "module_cannot_leave": Signal(cannot_leave, ~cannot_leave),
    }


INSULATION = frozenset({"insulation_ohm", "insulation_device_fault"})
"""Signals of the insulation monitor; they have a fault of their own."""


def site_values(image: SiteImage, *, monitor_fitted: bool) -> dict[tuple[str, str], FloatArray]:
    """Measured values that site rows are held against.

    A monitor that was taken out of the site file says nothing against the insulation any more: its latch can
    be cleared like any other.
    """
    told = image.inputs.insulation_ohm_per_v
    nothing = np.isnan(told) and not monitor_fitted
    return {("insulation_ohm_per_v", "min"): np.array([np.inf if nothing else told])}


def cooling_lost_signal(constants: Constants, cooling: Cooling | None) -> Signal:
    """Row cooling_lost, with how far the string's modules are above the model."""
    none = np.zeros(constants.n_strings, dtype=np.bool_)
    if cooling is None:
        return Signal(none, ~none)
    topology = constants.topology
    lost = topology.sum_by_string(cooling.lost.astype(np.float64)) > 0.0
    first = topology.start[:-1]
    # all modules of a string are in one zone
    return Signal(lost, ~lost, cooling.warmer_k[first], cooling.allowed_k[first])


def cooling_signal(watch: CoolingWatch) -> Signal:
    """Row cooling_ineffective, with how far the modules are above what cooled ones would be."""
    return Signal(np.array([watch.failed]), np.array([not watch.failed]), watch.above_k, watch.apart_k)


def site_signals(
    image: SiteImage,
    seen: Observed,
    margin_frac: float,
    bus_v: tuple[float, float],
    *,
    stop: bool,
    monitor_fitted: bool,
    output_failed: bool = False,
    isolation_lost: bool = False,
    stopped_by_unseen: bool = False,
) -> dict[str, Signal]:
    """Rows emergency_stop, alarms, door_open, insulation_unknown, bus_voltage."""
    inputs = image.inputs
    pressed = (image.strings.status & int(Rc1Status.EMERGENCY_STOP)) != 0
    asked = bool(inputs.emergency_stop or pressed.any() or stop)
    where = STOP_LOOP if inputs.emergency_stop else STOP_CONVERTER if pressed.any() else STOP_COMMAND
    where = where if asked else 0.0
    place = float(np.argmax(pressed)) + 1.0 if where == STOP_CONVERTER else float("nan")

    unknown = frozenset(inputs.unknown)

    def flag(value: bool) -> Signal:
        return bit(np.array([value]))

    def told(value: bool, signal: str) -> Signal:
        """A bit of a detector: it comes at once, and goes only when the detector says so."""
        return Signal(np.array([value]), np.array([not value and signal not in unknown]))

    span = margin_frac * (bus_v[1] - bus_v[0])
    bus = seen.bus_voltage_v[~np.isnan(seen.bus_voltage_v)]
    # the median: one converter's sensor alone does not stop the site
    level = middle(bus)
    outside = level < bus_v[0] or level > bus_v[1]
    inside = bus_v[0] + span < level < bus_v[1] - span
    # the converter at which it was pressed has not answered since the start: it may still be pressed
    stop_signal = told(asked, "emergency_stop")
    if stopped_by_unseen:
        stop_signal = replace(stop_signal, released=np.array([False]))
    return {
        "emergency_stop": replace(stop_signal, value=where, bound=place),
        "emergency_stop_unknown": flag("emergency_stop" in unknown),
        "gas_alarm": told(inputs.gas_alarm, "gas_alarm"),
        "smoke_alarm": told(inputs.smoke_alarm, "smoke_alarm"),
        "fire_alarm": told(inputs.fire_alarm, "fire_alarm"),
        "door_open": told(inputs.door_open, "door_open"),
        "ventilation_failed": told(inputs.ventilation_failed, "ventilation_failed"),
        "cooling_failed": told(inputs.cooling_failed, "cooling_failed"),
        "site_input_unknown": replace(
            flag(bool(unknown - INSULATION)), value=signals_code(unknown), bound=float("nan")
        ),
        "site_output_failed": flag(output_failed),
        "isolation_lost": flag(isolation_lost),
        "insulation_unknown": flag(
            monitor_fitted
            and (not unknown.isdisjoint(INSULATION) or bool(np.isnan(inputs.insulation_ohm_per_v)))
        ),
        "bus_voltage": Signal(
            np.array([outside]), np.array([inside]), level, bus_v[0] if level < bus_v[0] else bus_v[1]
        ),
    }
