"""Duties to switch states: slot by slot, few switchings, the converter window kept in every slot.

Each module carries a residual: slots it was planned in less slots it was in. A module is switched only
when its residual leaves a band, or when the string's count or window asks for it; then the module with the
most residual goes in and the one with the least goes out (sum-up rounding with hysteresis; Sager, Zeile,
Robuschi, doi 10.1007/s10107-020-01533-x). What is left over is carried into the next interval, so the
deviation of the charge is bounded and never grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.result import Plan
from optimizer.schedule_string import StringView
from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.replacing import replace
from reconf.site import Site

RESIDUAL_MAX_SLOTS = 100.0
"""Beyond this the plan cannot be followed (limits, window); what is older is forgotten."""


@dataclass(slots=True)
class _Memory:
    """What the schedule carries from slot to slot."""

    residual_slots: FloatArray
    dwell_slots: FloatArray


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """Everything the schedule remembers, for records: `Scheduler.restore` goes on exactly from here."""

    plan: Plan | None
    residual_slots: FloatArray
    """(M,)"""
    dwell_slots: FloatArray
    """(M,)"""


class Scheduler:
    """Turns accepted plans into one `SlotCommand` per slot. One object per site, fed in order."""

    def __init__(self, site: Site, duty_nodes: BoolArray | None = None) -> None:
        self._site = site
        n = site.topology.n_modules
        self._duty_nodes = np.zeros(n, dtype=np.bool_) if duty_nodes is None else duty_nodes
        self._plan: Plan | None = None
        self._memory = _Memory(np.zeros(n), np.full(n, 1e6))
        self._efficiency = np.array([m.trim_efficiency_frac for m in site.modules])

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._plan

    @property
    def residual_slots(self) -> FloatArray:
        """(M,) planned less real insertions, in slots."""
        return self._memory.residual_slots.copy()

    def snapshot(self) -> ScheduleState:
        """What is remembered now."""
        memory = self._memory
        return ScheduleState(self._plan, memory.residual_slots.copy(), memory.dwell_slots.copy())

    def restore(self, state: ScheduleState) -> None:
        """Go on from `state`."""
        self._plan = state.plan
        self._memory = _Memory(state.residual_slots.copy(), state.dwell_slots.copy())

    def accept(self, plan: Plan, now_s: float) -> None:  # noqa: ARG002 - part of the agreed signature
        """Follow `plan` from the next slot on; residuals are carried over."""
        self._plan = plan

    def slot(
        self,
        now_s: float,  # noqa: ARG002 - part of the agreed signature
        estimate: Estimate,
        envelope: Envelope,
        in_force: SlotCommand,
        connected: BoolArray,
    ) -> SlotCommand:
        """Commanded state of the coming slot.

        Contactors, modes, bus voltage and every string that is not `connected` are copied from `in_force`:
        joining and leaving is the sequencer's work.
        """
        plan = self._plan
        n, s = self._site.topology.n_modules, self._site.topology.n_strings
        inserted, power = in_force.inserted.copy(), np.zeros(s)
        limit = in_force.current_limit_a.copy()
        by_duty, duty = in_force.duty_mode.copy(), in_force.duty_frac.copy()
        trim = np.zeros(n) if plan is None else self._trim(plan, envelope)
        for string in np.flatnonzero(connected):
            where = self._site.topology.slice_of(int(string))
            view = StringView.of(self._site, int(string), where, plan, estimate, envelope, in_force, trim)
            chosen, nodes = self._choose(where, view)
            self._carry(where, view, chosen, nodes, in_force)
            inserted[where] = chosen | nodes
            by_duty[where], duty[where] = nodes, np.where(nodes, view.duty, duty[where])
            power[string], limit[string] = view.power_and_limit(chosen, nodes)
        return SlotCommand(
            inserted=inserted,
            duty_mode=by_duty,
            duty_frac=duty,
            trim_current_a=trim,
            mode=in_force.mode.copy(),
            power_w=power,
            bus_voltage_v=in_force.bus_voltage_v.copy(),
            current_limit_a=limit,
            contactor=in_force.contactor.copy(),
        )

    def repowered(
        self,
        target: SlotCommand,
        estimate: Estimate,
        envelope: Envelope,
        *,
        connected: BoolArray,
        more: float,
    ) -> SlotCommand:
        """`target` with its switch states and the plan's power, `more` times as much, inside their limits.

        Between slots nothing is switched and nothing is booked: what the inserted modules and the converter's
        window bear is served at once, the rest from the next slot on.
        """
        power, limit = np.zeros_like(target.power_w), target.current_limit_a.copy()
        for string in np.flatnonzero(connected):
            where = self._site.topology.slice_of(int(string))
            view = StringView.of(
                self._site, int(string), where, self._plan, estimate, envelope, target, target.trim_current_a
            ).scaled(more)
            nodes = target.duty_mode[where] & target.inserted[where]
            power[string], limit[string] = view.power_and_limit(target.inserted[where] & ~nodes, nodes)
        return replace(target, power_w=power, current_limit_a=limit)

    def _choose(self, where: slice, view: StringView) -> tuple[BoolArray, BoolArray]:
        """Modules the host inserts, and nodes that run their duty by themselves."""
        residual, dwell = self._memory.residual_slots[where], self._memory.dwell_slots[where]
        nodes = self._duty_nodes[where] & view.allowed & ~view.forced & (view.duty > 0.0) & (view.duty < 1.0)
        nodes &= view.limit_a >= view.planned_a
        if nodes.any() and not view.resting:
            rest = view.without(nodes).choose(residual, dwell)
            if view.may_run_duty(nodes, rest):
                return rest, nodes
        return view.choose(residual, dwell), np.zeros_like(nodes)

    def _carry(
        self, where: slice, view: StringView, chosen: BoolArray, nodes: BoolArray, in_force: SlotCommand
    ) -> None:
        """Book the slot: residuals move by planned less real, dwell counts the slots since a switch."""
        residual, dwell = self._memory.residual_slots, self._memory.dwell_slots
        moved = residual[where] + np.where(view.resting, 0.0, view.duty - chosen)
        free = view.allowed & ~view.forced & ~nodes
        moved = np.where(free, np.clip(moved, -RESIDUAL_MAX_SLOTS, RESIDUAL_MAX_SLOTS), 0.0)
        # a window that asks for more modules than planned must not make the sum run away
        excess = float(moved.sum()) - float(np.clip(moved.sum(), -1.0, 1.0))
        share = np.where(free, view.duty, 0.0)
        residual[where] = moved - excess * share / max(float(share.sum()), 1e-9)
        switched = (chosen | nodes) != in_force.inserted[where]
        dwell[where] = np.where(switched, 1.0, dwell[where] + 1.0)

    def _trim(self, plan: Plan, envelope: Envelope) -> FloatArray:
        """Planned trim inside the fresh envelope, balanced again on every string's trim bus."""
        trim = np.clip(plan.trim_current_a, -envelope.trim_take_a, envelope.trim_give_a)
        if not trim.any():
            return trim
        topology = self._site.topology
        give = topology.sum_by_string(np.maximum(trim, 0.0) * self._efficiency)
        take = topology.sum_by_string(np.maximum(-trim, 0.0))
        lesser = np.minimum(give, take)
        scale_give = np.where(give > 0.0, lesser / np.where(give > 0.0, give, 1.0), 0.0)
        scale_take = np.where(take > 0.0, lesser / np.where(take > 0.0, take, 1.0), 0.0)
        of = topology.string_of
        return np.where(trim > 0.0, trim * scale_give[of], trim * scale_take[of])
