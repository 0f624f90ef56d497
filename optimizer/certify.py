"""The certificate of an interval: what the plan costs as it will be switched, against a true lower bound.

Averages over an interval are a relaxation: real slots hold whole modules. The plan is therefore played
through
the schedule, slot by slot, and its losses are taken from those switch states. The charge that rounding leaves
over is not lost but carried, so its deviation counts as what it adds to the rate over the rest of the charge.
Switching is priced where it is decided, in the band of the schedule; what it costs is reported beside the
gap, since no bound knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.bound import gap_frac
from optimizer.model import Model
from optimizer.result import AllocationInput, Plan
from optimizer.schedule import Scheduler
from optimizer.solution import Cost, Solution, cost_of, loss_w
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.replacing import replace
from reconf.site import Site

PREVIEW_STRING_SLOTS = 120
"""Slots times strings that are played through; large sites see fewer slots of the interval."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Cost as scheduled, bound and gap."""

    cost: Cost
    lower_bound_w: float
    gap_frac: float
    switchings: int
    """Switch operations in the slots played."""
    slots: int

    def switching_w(self, site: Site) -> float:
        """What the switchings cost in watts, at the rate of the slots played."""
        economics = site.economics
        wh = 1000.0 * economics.switching_price_per_event / economics.energy_price_per_kwh
        changes = max(self.slots - 1, 1)
        return wh * self.switchings * 3600.0 / (changes * site.timing.slot_s)


def certify(
    site: Site, model: Model, asked: AllocationInput, plan: Plan, solution: Solution, bound_w: float
) -> Certificate:
    """Play the plan through its slots and hold it against `bound_w`, what any plan costs at least."""
    slots = preview_slots(site, model)
    cost, switchings = scheduled_cost(site, model, asked, plan, solution, slots)
    rated = float(model.power_max_w[model.used].sum())
    return Certificate(cost, bound_w, gap_frac(cost.total_w, bound_w, cost.loss_w, rated), switchings, slots)


def preview_slots(site: Site, model: Model) -> int:
    """Slots of the interval that are played through."""
    slots = max(round(site.timing.interval_s / site.timing.slot_s), 1)
    return min(slots, max(PREVIEW_STRING_SLOTS // max(model.n_strings, 1), 1))


def scheduled_cost(
    site: Site, model: Model, asked: AllocationInput, plan: Plan, solution: Solution, slots: int
) -> tuple[Cost, int]:
    """Cost of the plan in real switch states over `slots` slots, and the switchings in them."""
    scheduler = Scheduler(site)
    scheduler.accept(plan, asked.estimate.time_s)
    command = _standing(site, asked, plan)
    current_sum, bus = np.zeros(model.n_strings), np.zeros(model.n_strings)
    losses, switched = 0.0, 0
    for k in range(slots):
        now = asked.estimate.time_s + k * site.timing.slot_s
        following = scheduler.slot(now, asked.estimate, asked.envelope, command, model.used)
        if k > 0:
            switched += int((following.inserted != command.inserted).sum())
        command = following
        current = slot_current_a(model, command, solution.trim_a)
        q = current[model.string_of] * (command.inserted & model.used[model.string_of])
        slot_bus = np.where(current > 0.0, np.abs(command.power_w), 0.0)
        losses += loss_w(model, current, q, solution.trim_a, slot_bus)
        current_sum, bus = current_sum + current, bus + slot_bus
    mean_bus = bus / slots
    carried = scheduler.residual_slots * (current_sum / slots)[model.string_of]
    deviation = solution.through_a + model.sign * solution.trim_a - model.target_a
    deviation = deviation - carried / _slots_left(site, model)
    balance = float((0.5 * model.weight_w_per_a2 * deviation**2).sum())
    wear = cost_of(model, solution).wear_w
    short = model.power_w - float(mean_bus.sum())
    total = losses / slots + balance + wear + model.unserved_price * abs(short)
    return Cost(losses / slots, wear, balance, short, total), switched


def _standing(site: Site, asked: AllocationInput, plan: Plan) -> SlotCommand:
    """The command in force as far as the question tells it."""
    safe = SlotCommand.safe(site.topology.n_modules, site.topology.n_strings)
    mode = np.where(asked.request.connected, int(ConverterMode.POWER), int(ConverterMode.OFF)).astype(
        np.int64
    )
    return replace(safe, inserted=asked.inserted.copy(), mode=mode, power_w=plan.string_power_w)


def slot_current_a(model: Model, command: SlotCommand, trim_a: FloatArray) -> FloatArray:
    """String currents (S,) of one slot: the smaller root of (E - sign*R*I)*I = Z(I)."""
    inserted: BoolArray = command.inserted & model.used[model.string_of]
    emf = model.string_sum((model.emf_v - model.resistance_ohm * trim_a) * inserted)
    ohm = model.string_sum(model.resistance_ohm * inserted) + model.r_on_ohm + model.loss_quadratic_ohm
    need = (
        np.abs(command.power_w) * (1.0 + model.sign * model.loss_linear_frac)
        + model.sign * model.loss_fixed_w
    )
    need = np.where((np.abs(command.power_w) > 0.0) & model.used, need, 0.0)
    root = np.sqrt(np.maximum(emf**2 - 4.0 * model.sign * ohm * need, 0.0))
    current: FloatArray = np.where(emf > 0.0, 2.0 * np.maximum(need, 0.0) / np.maximum(emf + root, 1e-9), 0.0)
    return current


def _slots_left(site: Site, model: Model) -> FloatArray:
    """(M,) slots until the module's charge is used at its target rate, at least one interval."""
    hours = model.available_ah / np.maximum(model.target_a, 1e-6)
    least = max(site.timing.interval_s / site.timing.slot_s, 1.0)
    return np.maximum(hours * 3600.0 / site.timing.slot_s, least)
