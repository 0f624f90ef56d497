"""Rules about voltages, currents and power: of the state asked, and of every state on the way to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, no_nan
from reconf.estimation.state import Estimate
from reconf.verify.circuit import RESISTANCE_MARGIN_FRAC
from reconf.verify.context import Context
from reconf.verify.findings import Findings

SECONDS_PER_HOUR = 3600.0
CELL_RESISTANCE_SPREAD = 1.15
"""Resistance of the worst cell group over the module's mean group, where it is not tracked to be more:
retired cells of one pack differ by about 10 % (Schuster et al. 2015, doi 10.1016/j.est.2015.05.003)."""
CHARGE_DOUBT = 1.25
"""Capacity may be 15 % smaller than believed, and the knee comes sooner under load."""
SOC_SIGMAS = 2.0
"""Deviations by which the SOC may be off besides, where nobody looks at the voltage in between."""
SEEN_V = 0.02
"""Of a cell; an error of the SOC that shows as more than this in the open-circuit voltage does not last."""
RISE_FRAC = 0.12
"""By how much the current of a constant power rises, as the voltage falls, while nobody looks."""
LEAST_AH = 1e-9
POLARISATION_DOUBT_V = 0.01
"""Of a group: what is believed of its open-circuit voltage, and so of its polarisation, may be off so far."""
HEAT_DOUBT = 1.5
"""Over the losses in the believed resistance: 15 % more of that, and the reversible heat."""
CHARGE_RESERVE_FRAC = 0.002
"""Of the capacity; what a command may move beyond the charge left when it is looked at again next tick."""


def _tighter(hard: FloatArray, soft: FloatArray, side: float) -> FloatArray:
    """The limit further inside; a soft limit that is NaN counts as the tightest (nothing passes)."""
    tighter: FloatArray = np.minimum(hard * side, soft * side) * side
    return tighter


def check_window(found: Findings, c: Context) -> None:
    """Kirchhoff: string voltage under load within the converter's window and the envelope's."""
    t = c.tables
    low = _tighter(t.voltage_min_v, c.envelope.string_voltage_min_v, -1.0)
    high = _tighter(t.voltage_max_v, c.envelope.string_voltage_max_v, 1.0)
    strict = ~c.resting
    loaded = strict & (c.running | (c.proposed.contactor & ~c.in_force.contactor))
    connected = strict & (c.closed | c.proposed.contactor)
    found.at_least("window_min", c.after.voltage_low_v, low, loaded, t.names)
    found.at_most("window_max", c.after.voltage_high_v, high, connected, t.names)
    # on the way: inside the window, or no worse than what is in force already
    low_now = np.minimum(low, c.before.voltage_low_v)
    high_now = np.maximum(high, c.before.voltage_high_v)
    found.at_least("subset_window_min", c.between.voltage_low_v, low_now, loaded, t.names)
    found.at_most("subset_window_max", c.between.voltage_high_v, high_now, connected, t.names)
    hidden = c.after.maybe & ~c.source.known & connected[t.string_of]
    found.flags("unknown_voltage", hidden, t.serials)


@dataclass(frozen=True, slots=True)
class _Direction:
    """One direction of current: what modules bear and whether it flows."""

    name: str
    envelope_a: FloatArray
    table_a: FloatArray
    flows: BoolArray
    """(S,) under the command asked."""
    flowed: BoolArray
    """(S,) under the command in force."""


def _carries(command: SlotCommand) -> BoolArray:
    """(S,) asked for power, or free to take any: what holds the bus gives what the others leave."""
    free = command.mode == int(ConverterMode.BUS_VOLTAGE)
    mask: BoolArray = (command.mode != int(ConverterMode.OFF)) & ((command.power_w != 0.0) | free)
    return mask


def _directions(c: Context) -> tuple[_Direction, _Direction]:
    """Discharge and charge; only strings that are asked for power count, not the converter's own loss."""
    asked, before = _carries(c.proposed), _carries(c.in_force)
    e, t = c.envelope, c.tables
    return (
        _Direction(
            "discharge",
            e.discharge_now_a,
            t.discharge_max_a * c.aged_frac,
            asked & (c.after.current_high_a > 0.0),
            before & (c.before.current_high_a > 0.0),
        ),
        _Direction(
            "charge",
            e.charge_now_a,
            t.charge_max_a * c.aged_frac,
            asked & (c.after.current_low_a < 0.0),
            before & (c.before.current_low_a < 0.0),
        ),
    )


def check_modules(found: Findings, c: Context) -> None:
    """No inserted module may see more than it may give or take now, at any current let through.

    On the way there, with some writes missing, it may see no more than that, or than it does already.
    """
    t, of = c.tables, c.tables.string_of
    strict = (~c.resting & c.running)[of]
    wanted = c.after.surely | c.proposed.inserted
    for way in _directions(c):
        # a module that is only unsure is held to what it can bear, not to the zeros of one out of service
        allowed = np.where(wanted, _tighter(way.table_a, way.envelope_a, 1.0), way.table_a)
        let_through = np.where(way.flows, c.after.limit_a, 0.0)[of]
        found.at_most(f"module_{way.name}", let_through, allowed, strict & c.after.maybe, t.serials)
        already = np.where(c.before.maybe, np.where(way.flowed, c.before.limit_a, 0.0)[of], 0.0)
        on_the_way = np.where(way.flows | way.flowed, c.between.limit_a, 0.0)[of]
        most = np.maximum(allowed, already)
        found.at_most(f"subset_{way.name}", on_the_way, most, strict & c.between.maybe, t.serials)
        _check_sum(found, c, way)


def _check_sum(found: Findings, c: Context, way: _Direction) -> None:
    """String and trim current run through the same cells: together they keep to the safety tier.

    A trim flows whether its module is inserted or not, so bypassed modules are held to it as well.
    """
    t, of = c.tables, c.tables.string_of
    sign = 1.0 if way.name == "discharge" else -1.0
    old = np.maximum(sign * c.in_force.trim_current_a, 0.0)
    new = np.maximum(sign * c.proposed.trim_current_a, 0.0)
    where = ~c.resting[of] & (new > 0.0)
    through = np.where(c.after.maybe, np.where(way.flows, c.after.limit_a, 0.0)[of], 0.0)
    found.at_most(f"sum_{way.name}", through + new, way.table_a, where, t.serials)
    already = np.where(c.before.maybe, np.where(way.flowed, c.before.limit_a, 0.0)[of], 0.0) + old
    passing = np.where(c.between.maybe, np.where(way.flows | way.flowed, c.between.limit_a, 0.0)[of], 0.0)
    most = np.maximum(way.table_a, already)
    where = ~c.resting[of] & (np.maximum(old, new) > 0.0)
    found.at_most(f"sum_{way.name}", passing + np.maximum(old, new), most, where, t.serials)


def check_cells(found: Findings, c: Context) -> None:
    """The weakest and strongest cell groups stay inside the safety tier at the current that will flow."""
    t, e, trim = c.tables, c.estimate, c.proposed.trim_current_a
    through = _carries(c.proposed)[t.string_of] & c.after.maybe
    active = ~c.resting[t.string_of] & (through | (trim != 0.0))
    unseen = max(1.0 - c.dt_s / c.hold_s, 0.0)
    rising = np.minimum(c.after.current_high_a * (1.0 + RISE_FRAC * unseen), c.after.limit_a)
    # a trim flows in and out of bypassed modules, too, and without the converter
    high = np.maximum(np.where(through, rising[t.string_of], 0.0) + trim, 0.0)
    low = np.minimum(np.where(through, c.after.current_low_a[t.string_of], 0.0) + trim, 0.0)
    moved_out, moved_in = high * c.hold_s / SECONDS_PER_HOUR, -low * c.hold_s / SECONDS_PER_HOUR
    spare = CHARGE_RESERVE_FRAC * e.capacity_ah * (1.0 - unseen)
    left = (np.maximum(e.remaining_ah, 0.0) + spare) / CHARGE_DOUBT
    room = (np.maximum(e.chargeable_ah, 0.0) + spare) / CHARGE_DOUBT
    bottom = e.cell_voltage_min_v - _fall_v(c, high) - _spent_v(c, moved_out, left)
    top = e.cell_voltage_max_v + _fall_v(c, -low, -1.0) + _spent_v(c, moved_in, room, -1.0)
    found.at_least("cell_voltage_min", bottom, t.cell_voltage_min_v, active & (high > 0.0), t.serials)
    found.at_most("cell_voltage_max", top, t.cell_voltage_max_v, active & (low < 0.0), t.serials)
    found.at_most("charge_left", moved_out, left, active & (high > 0.0), t.serials)
    found.at_most("charge_room", moved_in, room, active & (low < 0.0), t.serials)
    hot, cold = e.temperature_high_degc + _warming_k(c, np.maximum(high, -low)), e.temperature_low_degc
    found.at_most("temperature_max", hot, t.temperature_max_degc, active, t.serials)
    found.at_least("temperature_min", cold, t.temperature_min_degc, active, t.serials)
    charged = active & (low < 0.0)
    found.at_most("charge_temperature", hot, t.charge_temperature_max_degc, charged, t.serials)
    found.at_least("charge_temperature", cold, t.charge_temperature_min_degc, charged, t.serials)


def _spent_v(c: Context, moved_ah: FloatArray, left_ah: FloatArray, sign: float = 1.0) -> FloatArray:
    """(M,) by how much the outermost group's open-circuit voltage falls (rises) with the charge moved [V].

    The slope that is told is the mean of the groups: the weakest may be at its knee while the others are on
    their plateau. As the curve steepens towards its end, it lies inside the chord from where the group is
    now to its last charge, and goes on as steep as the curve ends. Where nobody looks in between, the last
    charge may come sooner by the doubt of the SOC: on a plateau all of it, on a slope as much as is not seen.
    """
    t, e = c.tables, c.estimate
    outermost = e.cell_voltage_min_v if sign > 0.0 else e.cell_voltage_max_v
    drop = (e.r0_ohm * no_nan(c.image.modules.current_a.value) + e.polarisation_v) / t.n_cells
    end_v = t.cell_empty_v if sign > 0.0 else t.cell_full_v
    span_v = np.maximum(sign * (outermost + drop - end_v), 0.0)
    slope = e.ocv_slope_v_per_ah / t.n_cells
    unseen = max(1.0 - c.dt_s / c.hold_s, 0.0)
    with np.errstate(divide="ignore"):
        hidden_ah = SEEN_V / np.maximum(slope, 0.0)
    doubt_ah = np.minimum(SOC_SIGMAS * e.soc_std_frac * e.capacity_ah, hidden_ah)
    surely = np.maximum(left_ah - unseen * doubt_ah, LEAST_AH)
    beyond = np.maximum(t.end_slope_v[0 if sign > 0.0 else 1] / e.capacity_ah, slope)
    chord = span_v * np.minimum(moved_ah / surely, 1.0) + beyond * np.maximum(moved_ah - surely, 0.0)
    spent: FloatArray = np.maximum(chord, slope * moved_ah)
    return spent


def _fall_v(c: Context, current_a: FloatArray, sign: float = 1.0) -> FloatArray:
    """(M,) by how much the worst group's drop grows until the hold ends, beyond what its reading holds [V].

    Ohmic drop of the new current less that of the one it was read at, and polarisation on its way from what
    it is to what the new current makes of it. One that is there already neither counts twice nor is
    forgotten: it may still grow at an unchanged current, and it does not vanish with the current at once. Two
    bounds hold, the lower counts: the whole way at the pace of the faster RC pair, and each pair's way from
    nothing at its own pace (a polarisation the other way fades on top).

    Args:
        c: the question.
        current_a: (M,) magnitude that will flow.
        sign: +1.0 out of the module, -1.0 into it.
    """
    t, e = c.tables, c.estimate
    now = sign * no_nan(c.image.modules.current_a.value)
    fast = e.r0_ohm / t.n_cells
    slow = np.maximum(e.resistance_ohm / t.n_cells - fast, 0.0)
    seen = now * np.where(now > 0.0, 1.0 - RESISTANCE_MARGIN_FRAC, 1.0 + RESISTANCE_MARGIN_FRAC)
    worst = _worst_group_frac(c.estimate)
    ohmic = fast * (worst * current_a - seen)
    stands = sign * e.polarisation_v / t.n_cells - POLARISATION_DOUBT_V
    settled = worst * slow * current_a
    fast_part, slow_part = -np.expm1(-c.hold_s / t.polarisation_times_s)
    paired = t.polarisation_fast_frac * fast_part + (1.0 - t.polarisation_fast_frac) * slow_part
    grows = np.minimum(
        np.maximum(settled - stands, 0.0) * fast_part,
        settled * paired + np.maximum(-stands, 0.0) * fast_part,
    )
    fall: FloatArray = ohmic + grows
    return fall


def _worst_group_frac(e: Estimate) -> FloatArray:
    """(M,) resistance of the worst group over the believed mean of its module's, two deviations high."""
    doubt = 1.0 + 2.0 * e.resistance_std_ohm / e.resistance_ohm
    tracked = e.group_resistance_frac
    spread = CELL_RESISTANCE_SPREAD if tracked is None else np.fmax(tracked, CELL_RESISTANCE_SPREAD)
    worst: FloatArray = spread * doubt
    return worst


def _warming_k(c: Context, current_a: FloatArray) -> FloatArray:
    """(M,) rise of the core until the hold ends, were none of its heat to leave it [K]."""
    heat_w = HEAT_DOUBT * c.estimate.resistance_ohm * current_a**2
    rise: FloatArray = heat_w * c.hold_s / c.tables.heat_capacity_j_per_k
    return rise


def check_converter(found: Findings, c: Context) -> None:
    """Rating and allowance of each converter, and the site's ramp."""
    t, p, e = c.tables, c.proposed, c.envelope
    strict = ~c.resting & c.running
    free = p.mode == int(ConverterMode.BUS_VOLTAGE)
    for flows, power, allowed_w, allowed_a in (
        (p.power_w > 0.0, p.power_w, e.string_discharge_w, e.string_discharge_a),
        (p.power_w < 0.0, -p.power_w, e.string_charge_w, e.string_charge_a),
    ):
        asked_w = _tighter(t.power_rating_w, allowed_w, 1.0)
        found.at_most("converter_power", power, asked_w, strict & flows, t.names)
        found.at_most("converter_current", p.current_limit_a, allowed_a, strict & (flows | free), t.names)
    found.at_most("converter_current", p.current_limit_a, t.current_rating_a, strict, t.names)
    # the register of one that is off moves nothing, but stands there when it starts: what another left in it
    # may stay, nothing beyond the rating is put there
    left_w = np.fmax(t.power_rating_w, np.abs(c.in_force.power_w))
    found.at_most("converter_power", np.abs(p.power_w), left_w, ~c.running & (p.power_w != 0.0), t.names)
    began = c.history.ramp_from_w
    before, after = c.in_force.running_w if began is None else began, p.running_w
    step = c.history.ramp_w_per_s * c.dt_s
    if (abs(after) > abs(before) or after * before < 0.0) and not abs(after - before) <= step + 1.0:
        found.site("ramp", abs(after - before), step)
