"""Holding a proposal inside the fresh envelope between slots: pure array functions.

A slot's proposal may stand for several ticks while limits and set point move. Here it is only ever
made smaller: power follows a falling set point at once, current limits follow the weakest inserted
module down at once and up in steps, so that a register is not written for every last digit.
"""

from __future__ import annotations

import numpy as np

from optimizer.result import Plan
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.protection.envelope import Envelope, Insertion
from reconf.replacing import replace
from reconf.site import Site, Topology

PLAN_MARGIN_FRAC = 0.006
"""Share of the converter's window that plans leave free at both ends."""
SERVED_FRAC = 0.99
"""A plan that gives less than this share of what it was asked for stands at a limit."""
LIMIT_STEP_A = 0.1
"""Resolution of STRING_CURRENT_LIMIT."""
RAISE_FRAC = 0.03
"""A current limit is raised only by at least this share (or when it would bind)."""


def follow(plan: Plan | None, request_w: float) -> float:
    """Share (0..1) of the plan's power that the set point still asks for."""
    if plan is None or request_w == 0.0:
        return 0.0
    # a plan that could not serve all of its request gives what it planned, not a share of what was asked
    full_w = min(plan.power_asked_w, plan.power_planned_w, key=abs)
    if full_w == 0.0:
        return 1.0  # a plan for no power: whatever it moves is its own (trim)
    return float(np.clip(request_w / full_w, 0.0, 1.0))


def beyond(plan: Plan | None, request_w: float) -> float:
    """How many times the plan's power the set point asks for, at least 1.

    1 as well for the other direction, for a plan that could not give what it was asked for (limits bind), and
    for one that asks for no power or lets strings work against each other: its shares say nothing of more.
    """
    if plan is None or plan.power_asked_w * request_w <= 0.0:
        return 1.0
    power_w = float(plan.string_power_w.sum())
    against = bool((plan.string_power_w * np.sign(request_w) < 0.0).any())
    if against or abs(power_w) < SERVED_FRAC * abs(plan.power_asked_w):
        return 1.0
    return max(1.0, request_w / power_w)


def average_room(topology: Topology, plan: Plan, envelope: Envelope) -> float:
    """How many times its currents a plan may be followed for an interval, by averages over its duties."""
    current_a = plan.string_current_a[topology.string_of]
    mean_a = plan.duty_frac * np.abs(current_a)
    limit_a = np.where(current_a > 0.0, envelope.discharge_avg_a, envelope.charge_avg_a)
    used = mean_a > 0.0
    return float((limit_a[used] / mean_a[used]).min(initial=np.inf))


def ramped_w(wanted_w: float, now_w: float, step_w: float) -> float:
    """`wanted_w` no further from what is commanded now than `step_w`; towards zero is always free."""
    if not np.isfinite(step_w):
        return wanted_w
    return float(np.clip(wanted_w, min(0.0, now_w - step_w), max(0.0, now_w + step_w)))


def narrowed(envelope: Envelope) -> Envelope:
    """`envelope` as plan and schedule see it: windows a little inside, so that verify's doubt has room."""
    span = envelope.string_voltage_max_v - envelope.string_voltage_min_v
    return replace(
        envelope,
        string_voltage_min_v=envelope.string_voltage_min_v + PLAN_MARGIN_FRAC * span,
        string_voltage_max_v=envelope.string_voltage_max_v - PLAN_MARGIN_FRAC * span,
    )


def insertable(envelope: Envelope) -> BoolArray:
    """(M,) modules that may be in their string."""
    mask: BoolArray = envelope.insertion != np.uint8(Insertion.FORBIDDEN)
    return mask


def outdated(command: SlotCommand, envelope: Envelope) -> bool:
    """Whether the switch states no longer fit the envelope, so that a new slot is due now."""
    forced = envelope.insertion == np.uint8(Insertion.FORCED)
    wrong = (command.inserted & ~insertable(envelope)) | (~command.inserted & forced)
    return bool(wrong.any())


def rid(command: SlotCommand, envelope: Envelope) -> SlotCommand:
    """`command` without the modules that must be bypassed, and with those that must stay in."""
    forced = envelope.insertion == np.uint8(Insertion.FORCED)
    return replace(command, inserted=(command.inserted & insertable(envelope)) | forced)


def instantaneous_a(
    topology: Topology, command: SlotCommand, envelope: Envelope, power_w: FloatArray
) -> FloatArray:
    """(S,) smallest instantaneous limit of the inserted modules, in the direction that power flows."""
    both = np.minimum(envelope.discharge_now_a, envelope.charge_now_a)
    direction = np.sign(power_w)
    direction[command.mode == int(ConverterMode.BUS_VOLTAGE)] = 0.0
    of = direction[topology.string_of]
    now = np.where(of > 0.0, envelope.discharge_now_a, np.where(of < 0.0, envelope.charge_now_a, both))
    lowest = np.full(topology.n_strings, np.inf)
    np.minimum.at(lowest, topology.string_of[command.inserted], now[command.inserted])
    string_now = np.where(
        direction > 0.0,
        envelope.string_discharge_a,
        np.where(
            direction < 0.0,
            envelope.string_charge_a,
            np.minimum(envelope.string_discharge_a, envelope.string_charge_a),
        ),
    )
    limit_a: FloatArray = np.minimum(lowest, string_now)
    return limit_a


def stepped_limit_a(wanted_a: FloatArray, in_force_a: FloatArray) -> FloatArray:
    """Down at once, up only in worthwhile steps, always a whole register step and never above `wanted_a`."""
    floor = np.floor(wanted_a / LIMIT_STEP_A + 1e-9) * LIMIT_STEP_A
    keep = (in_force_a <= floor) & (in_force_a >= (1.0 - RAISE_FRAC) * floor)
    limit_a: FloatArray = np.where(keep, in_force_a, floor)
    return limit_a


def tighten(
    site: Site, target: SlotCommand, in_force: SlotCommand, envelope: Envelope, share: float
) -> SlotCommand:
    """`target` made smaller to what set point and envelope allow now."""
    power_w = target.power_w * share
    power_w = np.clip(power_w, -envelope.string_charge_w, envelope.string_discharge_w)
    power_w = np.trunc(power_w)  # the register counts whole watts; towards zero is inside
    limit_a = instantaneous_a(site.topology, target, envelope, power_w)
    limit_a = np.minimum(target.current_limit_a, limit_a)
    trim_a = _allowed_trim(site.topology, target.trim_current_a, envelope)
    return replace(
        target,
        power_w=power_w,
        current_limit_a=stepped_limit_a(limit_a, in_force.current_limit_a),
        trim_current_a=_in_register_steps(trim_a, envelope),
    )


def _in_register_steps(trim_a: FloatArray, envelope: Envelope) -> FloatArray:
    """To the nearest 0.01 A (cutting would starve one side of the bus), but never beyond what is allowed."""
    near = np.round(trim_a, 2)
    over = (near > envelope.trim_give_a) | (-near > envelope.trim_take_a)
    stepped: FloatArray = np.where(over, np.trunc(trim_a * 100.0) / 100.0, near)
    return stepped


def _allowed_trim(topology: Topology, trim_a: FloatArray, envelope: Envelope) -> FloatArray:
    """Trim stops on a string where one of its currents is no longer allowed: the bus must balance."""
    over = (trim_a > envelope.trim_give_a + 1e-9) | (-trim_a > envelope.trim_take_a + 1e-9)
    stopped = np.bincount(topology.string_of[over], minlength=topology.n_strings) > 0
    return np.where(stopped[topology.string_of], 0.0, trim_a)
