"""One string in one slot: which modules to insert, at which power and current limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.model import BALANCE_STIFFNESS
from optimizer.result import Plan
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray, middle
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion
from reconf.replacing import replace
from reconf.site import Site

BAND_FRAC_MAX = 0.008
"""Most residual that is allowed to stand, as a share of the module's remaining charge."""
BAND_MIN_SLOTS = 1.0
BAND_MAX_SLOTS = 24.0
KNEE_S = 90.0
"""A string whose charge is used up within this time is at its knee: limits fall from slot to slot."""
KNEE_TIGHT = 1.5
"""Limits below this many times the current then leave no room for the coming slot."""
REST_C = 0.02
"""Below this C-rate a string rests: nothing is switched that need not be."""


def band_slots(
    site: Site, duty: FloatArray, left_ah: FloatArray, emf_v: FloatArray, current_a: float
) -> FloatArray:
    """(N,) residual that may stand before a module is switched: what a switching costs against unevenness.

    In a band of B slots a module of duty d is switched d(1-d)/B times a slot. What B slots stand for, carried
    over the charge r that is left, costs K/6*U*I*(B*I*slot/r)^2 (the balance term; a triangle between +-B has
    a third of its square). With a switching worth s [Wh] the sum a/B + b*B^2 is least at B = (a/2b)^(1/3),

        a = s*d(1-d)/slot,   b = K/6*U*I*(I*slot/r)^2     [W, slot in h]
    """
    economics, slot_h = site.economics, site.timing.slot_s / 3600.0
    price_wh = 1000.0 * economics.switching_price_per_event / economics.energy_price_per_kwh
    current = max(current_a, 1e-3)
    share = current * slot_h / np.maximum(left_ah, 1e-9)
    a = price_wh * duty * (1.0 - duty) / slot_h
    b = BALANCE_STIFFNESS / 6.0 * emf_v * current * share**2
    best = np.cbrt(a / np.maximum(2.0 * b, 1e-30))
    return np.clip(np.minimum(best, BAND_FRAC_MAX / share), BAND_MIN_SLOTS, BAND_MAX_SLOTS)


@dataclass(frozen=True, slots=True)
class StringView:
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
    left_ah: FloatArray
    """Charge left in the direction of the plan."""
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
        site: Site,
        string: int,
        where: slice,
        plan: Plan | None,
        estimate: Estimate,
        envelope: Envelope,
        in_force: SlotCommand,
        trim: FloatArray,
    ) -> StringView:
        """Cut the string out of the site's arrays."""
        topology, converter = site.topology, site.strings[string].converter
        signed = 0.0 if plan is None else float(plan.string_power_w[string])
        current = 0.0 if plan is None else abs(float(plan.string_current_a[string]))
        sign = -1.0 if signed < 0.0 else 1.0
        allowed = (envelope.insertion[where] != np.uint8(Insertion.FORBIDDEN)) & estimate.trusted[where]
        forced = envelope.insertion[where] == np.uint8(Insertion.FORCED)
        out, into = envelope.discharge_now_a[where], envelope.charge_now_a[where]
        ceiling = envelope.string_discharge_w if sign > 0 else envelope.string_charge_w
        string_a = envelope.string_discharge_a if sign > 0 else envelope.string_charge_a
        duty = np.zeros(allowed.size) if plan is None else plan.duty_frac[where]
        left = estimate.remaining_ah[where] if sign > 0 else estimate.chargeable_ah[where]
        mean_c = current / float(np.mean(estimate.capacity_ah[where]))
        return cls(
            duty=duty,
            state=in_force.inserted[where],
            allowed=allowed | forced,
            forced=forced,
            emf_v=estimate.ocv_v[where] - estimate.polarisation_v[where],
            r_ohm=estimate.r0_ohm[where],
            trim_a=trim[where],
            limit_a=out if sign > 0 else into,
            limit_both_a=np.minimum(out, into),
            band=band_slots(site, duty, left, estimate.ocv_v[where], current),
            left_ah=left,
            sign=sign,
            power_w=min(abs(signed), float(ceiling[string])),
            planned_a=current,
            window_min_v=float(envelope.string_voltage_min_v[string]),
            window_max_v=float(envelope.string_voltage_max_v[string]),
            string_limit_a=float(string_a[string]),
            fixed_w=converter.loss_fixed_w,
            linear_frac=converter.loss_linear_frac,
            quadratic_ohm=converter.loss_quadratic_w_per_a2,
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
        """Change the best next module until window and limits hold, at load and at no load.

        A module whose limit lies below the current of this very slot is left out rather than holding back the
        power of all: with one module less in, the current is a few per cent above its mean.
        """
        chosen = chosen.copy()
        for _ in range(2 * chosen.size):
            current = self.current_a(chosen)
            low, high = sorted((self.voltage_v(chosen, current), self.voltage_v(chosen, 0.0)))
            weak = chosen & ~self.forced & (self.limit_a < current * (1.0 - 1e-9))
            if low < self.window_min_v:
                pool = self._pool(chosen, current)
                if pool.size == 0:
                    break
                chosen[pool[want[pool].argmax()]] = True
            elif high > self.window_max_v:
                pool = np.flatnonzero(chosen & ~self.forced)
                if pool.size == 0:
                    break
                chosen[pool[want[pool].argmin()]] = False
            elif self._at_knee(chosen, current):
                more = self._more_power(chosen)
                if not more.any():
                    break
                chosen |= more
            elif weak.any() and self._reaches_without(chosen, weak, current):
                chosen &= ~weak
            else:
                break
        return chosen

    def _more_power(self, chosen: BoolArray) -> BoolArray:
        """Modules that raise the power the string can give: more voltage at a current that all carry.

        At the knee every limit falls below the current within seconds. More modules at less current serve on,
        and how evenly the last seconds are spread no longer matters.
        """
        least = float(self.limit_a[chosen].min(initial=np.inf))
        if not np.isfinite(least):
            return np.zeros_like(chosen)
        free = np.flatnonzero(self.allowed & ~chosen)
        free = free[np.argsort(-self.limit_a[free], kind="stable")]
        volts = self.voltage_v(chosen, 0.0) + np.cumsum(self.emf_v[free] + self.r_ohm[free] * least)
        power = np.where(volts <= self.window_max_v, volts * np.minimum(self.limit_a[free], least), 0.0)
        more = np.zeros_like(chosen)
        if power.size and power.max() > self.voltage_v(chosen, 0.0) * least * (1.0 + 1e-9):
            more[free[: int(power.argmax()) + 1]] = True
        return more

    def _at_knee(self, chosen: BoolArray, current: float) -> bool:
        """Whether most of the string is nearly used up and stands close to its limits."""
        free = chosen & ~self.forced
        if not free.any() or current <= 0.0:
            return False
        left_s = 3600.0 * middle(self.left_ah[free]) / current
        return left_s < KNEE_S and middle(self.limit_a[free]) < KNEE_TIGHT * current

    def _pool(self, chosen: BoolArray, current: float) -> IntArray:
        """Modules that may come in: such as carry the current, else any; their limit then stops the power."""
        free = self.allowed & ~chosen
        for bar in (current, min(current, self.planned_a), 0.0):
            pool = np.flatnonzero(free & (self.limit_a >= bar))
            if pool.size:
                return pool.astype(np.int64)
        return np.zeros(0, dtype=np.int64)

    def _reaches_without(self, chosen: BoolArray, weak: BoolArray, current: float) -> bool:
        """Whether the modules that carry `current` could hold the window without the weak ones."""
        able = self.allowed & (self.limit_a >= current) & ~weak
        return self.voltage_v(able | (chosen & self.forced), current) >= self.window_min_v

    def _window_limit_a(self, chosen: BoolArray) -> float:
        """Current at which `chosen` reaches the edge of the window: less power rather than none."""
        emf = self.voltage_v(chosen, 0.0)
        ohm = float(self.r_ohm @ chosen) + self.r_on_ohm
        room = emf - self.window_min_v if self.sign > 0 else self.window_max_v - emf
        return max(room, 0.0) / max(ohm, 1e-9) if chosen.any() else 0.0

    def power_and_limit(self, chosen: BoolArray, nodes: BoolArray) -> tuple[float, float]:
        """Set point at the bus [W, signed] and the converter's current limit [A].

        `nodes` run their own duty: they count for the current limit, not for the voltage.
        """
        limits = self.limit_both_a if self.master else self.limit_a
        limit = min(float(limits[chosen | nodes].min(initial=np.inf)), self.string_limit_a)
        limit = min(limit, self._window_limit_a(chosen))
        current = self.current_a(chosen)
        if current <= limit:
            return self.sign * self.power_w, limit
        volts = self.voltage_v(chosen, limit)
        fixed = self.fixed_w + self.quadratic_ohm * limit * limit
        power = (volts * limit - self.sign * fixed) / (1.0 + self.sign * self.linear_frac)
        return self.sign * max(min(power, self.power_w), 0.0), limit

    def scaled(self, more: float) -> StringView:
        """The same string, asked for `more` times the planned power."""
        return replace(self, power_w=self.power_w * more)

    def without(self, nodes: BoolArray) -> StringView:
        """The same string with `nodes` out of the host's hands and, for the lower edge, out of the string."""
        return replace(self, allowed=self.allowed & ~nodes, state=self.state & ~nodes)

    def may_run_duty(self, nodes: BoolArray, rest: BoolArray) -> bool:
        """Whether the window holds whatever `nodes` do, together or apart, beside `rest`.

        Nodes that run their own PWM are not synchronised: each counts as inserted for the upper edge and as
        bypassed for the lower one.
        """
        current = self.current_a(rest)
        low = min(self.voltage_v(rest, current), self.voltage_v(rest, 0.0))
        both = rest | nodes
        high = max(self.voltage_v(both, current), self.voltage_v(both, 0.0))
        return bool(rest.any()) and low >= self.window_min_v and high <= self.window_max_v
