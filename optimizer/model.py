"""The numbers of one interval's problem, from the estimate, the envelope and the request.

Magnitudes: currents and powers are positive in the direction of the interval (`sign` +1 discharge, -1
charge). For string current I, through-charge currents q = d*I and trim currents t (out positive)

    v_i   = U_i - sign*R_i*I - R_i*t_i                    terminal voltage of an inserted module
    Z     = sum v_i*q_i                                   power of the inserted modules
    V     = Z/I - sign*Ron*I                              string voltage, averaged over the interval
    y     = (Z - sign*(F + (Ron + k2)*I^2))/(1 + sign*k1) power at the bus
    loss  = sum R_i*(I*q_i + 2*sign*q_i*t_i + t_i^2) + (Ron + k2)*I^2 + F + k1*y

A module carries the full string current or nothing, so its loss is linear in duty. docs/allocation.md
derives all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.result import AllocationInput
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.protection.envelope import Insertion
from reconf.replacing import replace
from reconf.site import EconomicsSpec, Site

BALANCE_STIFFNESS = 10.0
"""Price of uneven emptying: a module that runs ahead of its share by x strands about
BALANCE_STIFFNESS/2 * x^2 of its power. At the spread of retired modules (x = 0.13) that is 8 %, of the order
of what a fixed string really strands."""
WEAR_DOUBLING_K = 10.0
"""Wear doubles every 10 K above 25 degC (rule of thumb of calendar ageing, Arrhenius with 50 kJ/mol)."""
SLOT_SIGMAS = 1.0
"""A count of modules whose mean lies this many standard deviations of a draw below the window is still used:
one draw in six reaches it, and the schedule finds them."""
SOC_SOFT_PRICE_FRAC = 0.5
"""Price of charge beyond a soft SOC bound, as a share of the module's power: dearer than any loss, cheaper
than not serving."""


@dataclass(frozen=True, slots=True)
class Model:
    """One interval's problem; see the module docstring for the symbols."""

    interval: int
    sign: float
    power_w: float
    """Asked at the bus with the aux load, magnitude."""
    string_of: IntArray
    """(M,)"""
    start: IntArray
    """(S+1,)"""
    used: BoolArray
    """(S,) may carry power."""
    emf_v: FloatArray
    """(M,) U."""
    resistance_ohm: FloatArray
    """(M,) R."""
    slot_resistance_ohm: FloatArray
    """(M,) what acts within a slot; R without slow polarisation."""
    available_ah: FloatArray
    """(M,) charge that can move in this direction."""
    target_a: FloatArray
    """(M,) c: through-charge current at which all modules end together."""
    weight_w_per_a2: FloatArray
    """(M,) mu of the balance term mu/2*(q + sign*t - c)^2."""
    price_w_per_a: FloatArray
    """(M,) wear and soft SOC bounds, per ampere through the module."""
    limit_now_a: FloatArray
    """(M,) instantaneous limit on I; 0 where the module must be out."""
    limit_avg_a: FloatArray
    """(M,) limit on q."""
    forced: BoolArray
    """(M,) must stay inserted: q = I."""
    trim_give_a: FloatArray
    trim_take_a: FloatArray
    trim_efficiency_frac: FloatArray
    window_min_v: FloatArray
    """(S,) the converter's window with its margin."""
    window_max_v: FloatArray
    slot_min_v: FloatArray
    """(S,) the same for an average over slots, each with a whole number of modules."""
    slot_max_v: FloatArray
    current_max_a: FloatArray
    """(S,)"""
    power_max_w: FloatArray
    """(S,) at the bus."""
    r_on_ohm: FloatArray
    """(S,) all switches of the string in series."""
    loss_fixed_w: FloatArray
    loss_linear_frac: FloatArray
    loss_quadratic_ohm: FloatArray
    unserved_price: float
    """W of cost per W not served."""

    @property
    def n_strings(self) -> int:
        """S."""
        return int(self.used.size)

    @property
    def n_modules(self) -> int:
        """M."""
        return int(self.emf_v.size)

    def string_sum(self, values: FloatArray) -> FloatArray:
        """(M,) -> (S,)."""
        sums = np.bincount(self.string_of, weights=values, minlength=self.n_strings)
        return sums.astype(np.float64)

    def string_load_w(self, bus_w: FloatArray, current_a: FloatArray) -> FloatArray:
        """Z that gives `bus_w` at the bus; strings along axis 0, any further axes broadcast."""
        quad = self.r_on_ohm + self.loss_quadratic_ohm
        shape = (-1,) + (1,) * (np.ndim(current_a) - 1)
        load: FloatArray = bus_w * (1.0 + self.sign * self.loss_linear_frac.reshape(shape)) + self.sign * (
            self.loss_fixed_w.reshape(shape) + quad.reshape(shape) * current_a**2
        )
        return load

    def bus_power_w(self, load_w: FloatArray, current_a: FloatArray) -> FloatArray:
        """Bus power y of module power Z; the inverse of `string_load_w`."""
        quad = self.r_on_ohm + self.loss_quadratic_ohm
        shape = (-1,) + (1,) * (np.ndim(current_a) - 1)
        fixed = self.loss_fixed_w.reshape(shape) + quad.reshape(shape) * current_a**2
        power: FloatArray = (load_w - self.sign * fixed) / (
            1.0 + self.sign * self.loss_linear_frac.reshape(shape)
        )
        return power


def build(site: Site, asked: AllocationInput) -> Model:
    """The problem of this interval."""
    estimate, envelope, request = asked.estimate, asked.envelope, asked.request
    topology, economics = site.topology, site.economics
    total_w = request.power_w + site.allocator.aux_load_w
    sign = -1.0 if total_w < 0.0 else 1.0
    used = request.connected & envelope.string_usable & (not envelope.site_open)
    forced = envelope.insertion == np.uint8(Insertion.FORCED)
    allowed = (envelope.insertion != np.uint8(Insertion.FORBIDDEN)) & estimate.trusted
    allowed = (allowed | forced) & used[topology.string_of]
    now = envelope.discharge_now_a if sign > 0 else envelope.charge_now_a
    average = envelope.discharge_avg_a if sign > 0 else envelope.charge_avg_a
    available = _available_ah(asked, sign)
    converters = [s.converter for s in site.strings]
    target = _targets(np.where(allowed, available, 0.0), estimate.ocv_v, abs(total_w))
    slot_min, slot_max = _slot_window(site, asked, allowed, sign, abs(total_w))
    return Model(
        interval=asked.interval,
        sign=sign,
        power_w=abs(total_w),
        string_of=topology.string_of,
        start=topology.start,
        used=used,
        emf_v=estimate.ocv_v,
        resistance_ohm=estimate.resistance_ohm,
        slot_resistance_ohm=np.minimum(estimate.r0_ohm, estimate.resistance_ohm),
        available_ah=available,
        target_a=target,
        weight_w_per_a2=_weights(target, estimate.ocv_v, allowed),
        price_w_per_a=_prices(site, asked, sign, available, economics),
        limit_now_a=np.where(allowed, now, 0.0),
        limit_avg_a=np.where(allowed, np.minimum(average, now), 0.0),
        forced=forced & allowed,
        trim_give_a=envelope.trim_give_a,
        trim_take_a=envelope.trim_take_a,
        trim_efficiency_frac=np.array([m.trim_efficiency_frac for m in site.modules]),
        window_min_v=envelope.string_voltage_min_v,
        window_max_v=envelope.string_voltage_max_v,
        slot_min_v=slot_min,
        slot_max_v=slot_max,
        current_max_a=envelope.string_discharge_a if sign > 0 else envelope.string_charge_a,
        power_max_w=envelope.string_discharge_w if sign > 0 else envelope.string_charge_w,
        r_on_ohm=topology.sum_by_string(topology.r_on_ohm),
        loss_fixed_w=np.array([c.loss_fixed_w for c in converters]),
        loss_linear_frac=np.array([c.loss_linear_frac for c in converters]),
        loss_quadratic_ohm=np.array([c.loss_quadratic_w_per_a2 for c in converters]),
        unserved_price=economics.unserved_price_per_kwh / economics.energy_price_per_kwh,
    )


def at_power(model: Model, power_w: float) -> Model:
    """The same interval asked for less (what can be served of it), targets and weights with it."""
    if model.power_w <= 0.0:
        return model
    target = model.target_a * (power_w / model.power_w)
    # weights are relative to the targets; a horizon may have changed them
    weight = model.weight_w_per_a2 * (model.power_w / power_w) if power_w > 0.0 else model.weight_w_per_a2
    return replace(model, power_w=power_w, target_a=target, weight_w_per_a2=weight)


def _available_ah(asked: AllocationInput, sign: float) -> FloatArray:
    """Charge that can move in the direction of the interval, down to the soft SOC bound."""
    estimate, request = asked.estimate, asked.request
    if sign > 0:
        return np.maximum(estimate.remaining_ah - request.soc_min_frac * estimate.capacity_ah, 0.0)
    return np.maximum(estimate.chargeable_ah - (1.0 - request.soc_max_frac) * estimate.capacity_ah, 0.0)


def _targets(available_ah: FloatArray, emf_v: FloatArray, power_w: float) -> FloatArray:
    """c_i = P*r_i/sum(r_j*U_j): every module's share of the power is its share of the energy."""
    energy = float(available_ah @ emf_v)
    if energy <= 0.0:
        return np.zeros_like(available_ah)
    return available_ah * (power_w / energy)


def _slot_window(
    site: Site, asked: AllocationInput, allowed: BoolArray, sign: float, power_w: float
) -> tuple[FloatArray, FloatArray]:
    """Window of the average voltage when every slot holds whole modules (S,), (S,).

    With K the least number of modules of which a good part of all draws reaches the window (a standard
    deviation of a random draw), an average of K mean modules can be made of slots that all reach it. At the
    top one standard deviation stays free.
    """
    envelope, estimate = asked.envelope, asked.estimate
    low, high = envelope.string_voltage_min_v.copy(), envelope.string_voltage_max_v.copy()
    used = asked.request.connected & envelope.string_usable
    each_w = power_w / max(int(used.sum()), 1)
    for string in np.flatnonzero(used):
        where = site.topology.slice_of(int(string))
        current = min(each_w / max(float(low[string]), 1.0), float(envelope.string_discharge_a[string]))
        volts = np.sort(
            (estimate.ocv_v[where] - sign * estimate.resistance_ohm[where] * current)[allowed[where]]
        )
        if volts.size == 0 or float(volts.sum()) < low[string]:
            continue
        counts = np.arange(1, volts.size + 1)
        spread = float(volts.std()) * np.sqrt(counts * (volts.size - counts) / volts.size)
        least = 1 + int((counts * volts.mean() + SLOT_SIGMAS * spread < low[string]).sum())
        most = int((counts * volts.mean() + spread <= high[string]).sum())
        if least > min(most, volts.size):
            continue
        low[string] = max(low[string], min(least * float(volts.mean()), float(volts.sum())) * (1.0 - 1e-9))
        if most < volts.size:
            high[string] = min(
                high[string], max(most * float(volts.mean()), float(low[string])) * (1.0 + 1e-9)
            )
    return low, high


def _weights(target_a: FloatArray, emf_v: FloatArray, allowed: BoolArray) -> FloatArray:
    """mu_i = stiffness*U_i/c_i, so that all deviations are relative; floored for nearly empty modules."""
    mean = float(target_a[allowed].mean()) if allowed.any() else 0.0
    floor = max(0.05 * mean, 0.01)
    return BALANCE_STIFFNESS * emf_v / np.maximum(target_a, floor)


def _prices(
    site: Site, asked: AllocationInput, sign: float, available_ah: FloatArray, economics: EconomicsSpec
) -> FloatArray:
    """Wear per ampere (throughput weighted by age and heat) and the price beyond a soft SOC bound."""
    estimate = asked.estimate
    soh = np.maximum(estimate.capacity_ah / site.topology.rated_capacity_ah, 0.1)
    heat = np.exp2((estimate.temperature_degc - 25.0) / WEAR_DOUBLING_K)
    ratio = economics.wear_price_per_kwh / economics.energy_price_per_kwh
    wear = ratio * estimate.ocv_v * heat / soh
    bounded = asked.request.soc_min_frac > 0.0 if sign > 0 else asked.request.soc_max_frac < 1.0
    soft = SOC_SOFT_PRICE_FRAC * estimate.ocv_v * (available_ah <= 0.0) if bounded else 0.0
    return np.asarray(wear + soft, dtype=np.float64)
