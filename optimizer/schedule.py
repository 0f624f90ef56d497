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
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion
from reconf.site import Site

BAND_FRAC = 0.006
"""Residual that is allowed to stand, as a share of the module's remaining charge."""
BAND_MIN_SLOTS = 1.0
BAND_MAX_SLOTS = 12.0
RESIDUAL_MAX_SLOTS = 30.0
"""Beyond this the plan cannot be followed (limits, window); what is older is forgotten."""
REST_C = 0.02
"""Below this C-rate a string rests: nothing is switched that need not be."""


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
        conv = [s.converter for s in site.strings]
        self._fixed = np.array([c.loss_fixed_w for c in conv])
        self._linear = np.array([c.loss_linear_frac for c in conv])
        self._quadratic = np.array([c.loss_quadratic_w_per_a2 for c in conv])
        self._rating_a = np.array([c.current_rating_a for c in conv])

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
        trim = np.zeros(n)
        if plan is not None:
            trim = self._trim(plan, envelope)
        for string in range(s):
            if not connected[string]:
                continue
            where = self._site.topology.slice_of(string)
            view = _StringView.of(self, string, where, plan, estimate, envelope, in_force, trim)
            chosen = view.choose(self._memory.residual_slots[where], self._memory.dwell_slots[where])
            self._carry(where, view, chosen, in_force)
            inserted[where] = chosen
            power[string], limit[string] = view.power_and_limit(chosen)
        node = self._duty_nodes & (in_force.duty_mode | self._duty_nodes)
        duty = plan.duty_frac if plan is not None else np.zeros(n)
        return SlotCommand(
            inserted=inserted,
            duty_mode=in_force.duty_mode.copy(),
            duty_frac=np.where(node & in_force.duty_mode, duty, in_force.duty_frac),
            trim_current_a=trim,
            mode=in_force.mode.copy(),
            power_w=power,
            bus_voltage_v=in_force.bus_voltage_v.copy(),
            current_limit_a=limit,
            contactor=in_force.contactor.copy(),
        )

    def _carry(self, where: slice, view: _StringView, chosen: BoolArray, in_force: SlotCommand) -> None:
        """Book the slot: residuals move by planned less real, dwell counts the slots since a switch."""
        residual, dwell = self._memory.residual_slots, self._memory.dwell_slots
        moved = residual[where] + np.where(view.resting, 0.0, view.duty - chosen)
        free = view.allowed & ~view.forced
        moved = np.where(free, np.clip(moved, -RESIDUAL_MAX_SLOTS, RESIDUAL_MAX_SLOTS), 0.0)
        # a window that asks for more modules than planned must not make the sum run away
        excess = float(moved.sum()) - float(np.clip(moved.sum(), -1.0, 1.0))
        share = np.where(free, view.duty, 0.0)
        residual[where] = moved - excess * share / max(float(share.sum()), 1e-9)
        switched = chosen != in_force.inserted[where]
        dwell[where] = np.where(switched, 1.0, dwell[where] + 1.0)

    def _trim(self, plan: Plan, envelope: Envelope) -> FloatArray:
        """Planned trim inside the fresh envelope, balanced again on every string's trim bus."""
        trim = np.clip(plan.trim_current_a, -envelope.trim_take_a, envelope.trim_give_a)
        if not trim.any():
            return trim
        efficiency = np.array([m.trim_efficiency_frac for m in self._site.modules])
        topology = self._site.topology
        give = topology.sum_by_string(np.maximum(trim, 0.0) * efficiency)
        take = topology.sum_by_string(np.maximum(-trim, 0.0))
        lesser = np.minimum(give, take)
        scale_give = np.where(give > 0.0, lesser / np.where(give > 0.0, give, 1.0), 0.0)
        scale_take = np.where(take > 0.0, lesser / np.where(take > 0.0, take, 1.0), 0.0)
        of = topology.string_of
        return np.where(trim > 0.0, trim * scale_give[of], trim * scale_take[of])


@dataclass(frozen=True, slots=True)
class _StringView:
    """One string in one slot."""

    duty: FloatArray
    state: BoolArray
    """Inserted before the slot."""
    allowed: BoolArray
    forced: BoolArray
    emf_v: FloatArray
    r_ohm: FloatArray
    trim_a: FloatArray
    limit_a: FloatArray
    """Instantaneous limits in the direction of the plan."""
    limit_both_a: FloatArray
    band: FloatArray
    sign: float
    power_w: float
    """Planned at the bus, magnitude."""
    planned_a: float
    """Planned string current, magnitude."""
    window_min_v: float
    window_max_v: float
    string_limit_a: float
    fixed_w: float
    linear_frac: float
    quadratic_ohm: float
    r_on_ohm: float
    min_dwell: int
    resting: bool
    master: bool

    @classmethod
    def of(
        cls,
        scheduler: Scheduler,
        string: int,
        where: slice,
        plan: Plan | None,
        estimate: Estimate,
        envelope: Envelope,
        in_force: SlotCommand,
        trim: FloatArray,
    ) -> _StringView:
        """Cut the string out of the site's arrays."""
        site, topology = scheduler._site, scheduler._site.topology  # noqa: SLF001 - own class, same file
        signed = 0.0 if plan is None else float(plan.string_power_w[string])
        current = 0.0 if plan is None else abs(float(plan.string_current_a[string]))
        sign = -1.0 if signed < 0.0 else 1.0
        allowed = (envelope.insertion[where] != np.uint8(Insertion.FORBIDDEN)) & estimate.trusted[where]
        forced = envelope.insertion[where] == np.uint8(Insertion.FORCED)
        out, into = envelope.discharge_now_a[where], envelope.charge_now_a[where]
        ceiling = envelope.string_discharge_w if sign > 0 else envelope.string_charge_w
        string_a = envelope.string_discharge_a if sign > 0 else envelope.string_charge_a
        slot_ah = max(current, 1e-3) * site.timing.slot_s / 3600.0
        left = estimate.remaining_ah[where] if sign > 0 else estimate.chargeable_ah[where]
        mean_c = current / float(np.mean(estimate.capacity_ah[where]))
        return cls(
            duty=np.zeros(allowed.size) if plan is None else plan.duty_frac[where],
            state=in_force.inserted[where],
            allowed=allowed | forced,
            forced=forced,
            emf_v=estimate.ocv_v[where] - estimate.polarisation_v[where],
            r_ohm=estimate.r0_ohm[where],
            trim_a=trim[where],
            limit_a=out if sign > 0 else into,
            limit_both_a=np.minimum(out, into),
            band=np.clip(BAND_FRAC * left / slot_ah, BAND_MIN_SLOTS, BAND_MAX_SLOTS),
            sign=sign,
            power_w=min(abs(signed), float(ceiling[string])),
            planned_a=current,
            window_min_v=float(envelope.string_voltage_min_v[string]),
            window_max_v=float(envelope.string_voltage_max_v[string]),
            string_limit_a=float(string_a[string]),
            fixed_w=float(scheduler._fixed[string]),  # noqa: SLF001 - own class, same file
            linear_frac=float(scheduler._linear[string]),  # noqa: SLF001 - own class, same file
            quadratic_ohm=float(scheduler._quadratic[string]),  # noqa: SLF001 - own class, same file
            r_on_ohm=float(topology.r_on_ohm[where].sum()),
            min_dwell=site.allocator.min_dwell_slots,
            resting=mean_c < REST_C,
            master=int(in_force.mode[string]) == ConverterMode.BUS_VOLTAGE,
        )

    def choose(self, residual: FloatArray, dwell: FloatArray) -> BoolArray:
        """The set of modules to insert."""
        want = residual + np.where(self.resting, 0.0, self.duty)
        current = min(self.planned_a, self.string_limit_a)
        able = self.allowed & ((self.limit_a >= current) | self.forced)
        chosen = (self.state & able) | self.forced
        if not self.resting:
            chosen = self._rounded(want, dwell, chosen, able)
        return self._into_window(want, chosen)

    def _rounded(self, want: FloatArray, dwell: FloatArray, chosen: BoolArray, able: BoolArray) -> BoolArray:
        """Switch what has left its band, then bring the count back to what the residuals ask."""
        chosen = chosen.copy()
        held = dwell < self.min_dwell
        planned = able & (self.duty > 0.0)
        chosen |= planned & ~held & (want > self.band)
        chosen &= ~((want - 1.0 < -self.band) & ~held & ~self.forced)
        total = float(want[planned | chosen].sum())
        miss = total - float(chosen.sum())
        slack = 1.0
        if abs(miss) <= slack:
            return chosen
        count = round(abs(miss))
        if miss > 0.0:
            pool = np.flatnonzero(planned & ~chosen & ~held)
            chosen[pool[np.argsort(-want[pool])][:count]] = True
        else:
            pool = np.flatnonzero(chosen & ~self.forced & ~held)
            chosen[pool[np.argsort(want[pool])][:count]] = False
        return chosen

    def current_a(self, chosen: BoolArray) -> float:
        """I that gives the planned power with `chosen` in: the smaller root of V*I = Z."""
        emf = float((self.emf_v - self.r_ohm * self.trim_a) @ chosen)
        ohm = float(self.r_ohm @ chosen) + self.r_on_ohm + self.quadratic_ohm
        need = self.power_w * (1.0 + self.sign * self.linear_frac) + self.sign * self.fixed_w
        if emf <= 0.0:
            return 0.0
        root = emf * emf - 4.0 * self.sign * ohm * need
        if root <= 0.0:
            return emf / (2.0 * ohm)
        return abs(2.0 * need / (emf + float(np.sqrt(root))))

    def voltage_v(self, chosen: BoolArray, current_a: float) -> float:
        """String voltage under load."""
        emf = float((self.emf_v - self.r_ohm * self.trim_a) @ chosen)
        return emf - self.sign * current_a * (float(self.r_ohm @ chosen) + self.r_on_ohm)

    def _into_window(self, want: FloatArray, chosen: BoolArray) -> BoolArray:
        """Insert or bypass the best next module until the window holds, at load and at no load."""
        chosen = chosen.copy()
        for _ in range(chosen.size):
            current = self.current_a(chosen)
            low, high = sorted((self.voltage_v(chosen, current), self.voltage_v(chosen, 0.0)))
            if low < self.window_min_v:
                pool = np.flatnonzero(self.allowed & ~chosen & (self.limit_a >= min(current, self.planned_a)))
                if pool.size == 0:
                    break
                chosen[pool[want[pool].argmax()]] = True
            elif high > self.window_max_v:
                pool = np.flatnonzero(chosen & ~self.forced)
                if pool.size == 0:
                    break
                chosen[pool[want[pool].argmin()]] = False
            else:
                break
        return chosen

    def _window_limit_a(self, chosen: BoolArray) -> float:
        """Current at which `chosen` reaches the edge of the window: less power rather than none."""
        emf = self.voltage_v(chosen, 0.0)
        ohm = float(self.r_ohm @ chosen) + self.r_on_ohm
        room = emf - self.window_min_v if self.sign > 0 else self.window_max_v - emf
        return max(room, 0.0) / max(ohm, 1e-9) if chosen.any() else 0.0

    def power_and_limit(self, chosen: BoolArray) -> tuple[float, float]:
        """Set point at the bus [W, signed] and the converter's current limit [A] for `chosen`."""
        limits = self.limit_both_a if self.master else self.limit_a
        limit = min(float(limits[chosen].min(initial=np.inf)), self.string_limit_a)
        limit = min(limit, self._window_limit_a(chosen))
        current = self.current_a(chosen)
        if current <= limit:
            return self.sign * self.power_w, limit
        volts = self.voltage_v(chosen, limit)
        fixed = self.fixed_w + self.quadratic_ohm * limit * limit
        power = (volts * limit - self.sign * fixed) / (1.0 + self.sign * self.linear_frac)
        return self.sign * max(min(power, self.power_w), 0.0), limit
