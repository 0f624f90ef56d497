"""Energy a site can still give or take at a given power, in closed form.

While a string runs at power P and current I, each module is inserted for as long as it has charge, so after
a time T module i has moved min(r_i, I T) and the string has given

    E(T) = sum_i min(r_i, I T) w_i,         w_i = mean of U_i -/+ R_i I over the charge that is left,

which is concave in T. The longest run is the largest T with E(T) >= P T; between two breakpoints r_k / I it
is T = A_k / (P - I W_k) with A_k = sum of r_j w_j over the emptied and W_k = sum of w_j over the others.
The current is free within P / V_max .. P / V_min of the converter's window; the best of a few is taken.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.bounds import Constants, build_constants
from reconf.protection.envelope import Envelope, Insertion
from reconf.site import Site

CURRENT_SHARES: Final = np.linspace(0.0, 1.0, 6)
"""Currents tried between the window's two ends."""
GAUSS_NODES: Final = (0.1127016654, 0.5, 0.8872983346)
GAUSS_WEIGHTS: Final = (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0)
"""Three-point Gauss-Legendre on 0..1: mean open-circuit voltage over the charge that is left."""
VANISHING_W: Final = 1.0
"""A power of 0 asks for the energy at a vanishing power: open-circuit energy without losses."""


def available_energy_kwh(site: Site, estimate: Estimate, envelope: Envelope, power_w: float) -> float:
    """Energy [kWh, at the bus, magnitude] the site can hold `power_w` for; discharge positive.

    0 where the site cannot give that power at all. Strings share the power in proportion to the charge they
    can move, so that they end together. The site's cooling, while it runs, is served as well: what it takes
    is not given; when charging it is fed from outside and counts for nothing.
    """
    constants = site.derived(build_constants)
    sign = -1.0 if power_w < 0.0 else 1.0
    charge = estimate.remaining_ah if sign > 0.0 else estimate.chargeable_ah
    limit = envelope.discharge_now_a if sign > 0.0 else envelope.charge_now_a
    taking_part = (envelope.insertion != Insertion.FORBIDDEN) & (limit > 0.0) & np.isfinite(charge)
    usable = envelope.string_usable[constants.topology.string_of] & (not envelope.site_open)
    r = np.where(taking_part & usable, np.nan_to_num(np.maximum(charge, 0.0)), 0.0)
    mean_v = _mean_ocv_v(constants, estimate, r, sign)
    stored_wh = constants.topology.sum_by_string(r * mean_v)
    total_wh = float(stored_wh.sum())
    if total_wh <= 0.0:
        return 0.0
    if abs(power_w) < VANISHING_W:
        return total_wh / 1000.0
    asked_w = abs(power_w)
    burden_w = asked_w + (envelope.auxiliary_w if sign > 0.0 else 0.0)
    power = burden_w * stored_wh / total_wh
    ohm = np.nan_to_num(estimate.resistance_ohm)
    run_h = longest_run_h(constants, r, mean_v, ohm, limit, power, sign, envelope)
    return float((run_h * power).sum()) / 1000.0 * asked_w / burden_w


def _mean_ocv_v(constants: Constants, estimate: Estimate, charge_ah: FloatArray, sign: float) -> FloatArray:
    """(M,) mean open-circuit voltage of each module while `charge_ah` moves [V]."""
    capacity = np.where(estimate.capacity_ah > 0.0, estimate.capacity_ah, constants.graded_capacity_ah)
    soc = np.nan_to_num(estimate.soc_frac, nan=0.5)
    warm = np.nan_to_num(estimate.temperature_degc, nan=25.0)
    path = soc[:, None] - sign * np.array(GAUSS_NODES) * (charge_ah / capacity)[:, None]
    cells = constants.bank.ocv_v(path, warm, capacity / constants.topology.rated_capacity_ah)
    mean: FloatArray = (cells @ np.array(GAUSS_WEIGHTS)) * constants.topology.n_cells
    return mean


def longest_run_h(
    constants: Constants,
    charge_ah: FloatArray,
    mean_v: FloatArray,
    resistance_ohm: FloatArray,
    limit_a: FloatArray,
    power_w: FloatArray,
    sign: float,
    envelope: Envelope,
) -> FloatArray:
    """(S,) longest time [h] each string can hold its share `power_w` (S,) at the bus."""
    topology, converter = constants.topology, constants.converters
    lowest = power_w / envelope.string_voltage_max_v
    most = envelope.string_discharge_a if sign > 0.0 else envelope.string_charge_a
    highest = np.minimum(1.05 * power_w / envelope.string_voltage_min_v, most)
    rows = []
    for share in CURRENT_SHARES:
        current = np.maximum(lowest + share * (highest - lowest), 1e-6)
        lost = converter.loss_fixed_w + converter.loss_quadratic_w_per_a2 * current**2
        at_string = power_w * (1.0 + sign * converter.loss_linear_frac) + sign * lost
        at_string = at_string + sign * constants.string_r_on_ohm * current**2
        mine = current[topology.string_of]
        able = limit_a >= mine - 1e-9
        worth = np.where(able, mean_v - sign * resistance_ohm * mine, 0.0)
        rows.append(_run_h(constants, np.where(able, charge_ah, 0.0), worth, current, at_string))
    best: FloatArray = np.where(power_w > 0.0, np.max(rows, axis=0), 0.0)
    return best


def _run_h(
    constants: Constants,
    charge_ah: FloatArray,
    worth_v: FloatArray,
    current_a: FloatArray,
    power_w: FloatArray,
) -> FloatArray:
    """(S,) largest T [h] with sum_i min(r_i, I T) w_i >= P T."""
    topology = constants.topology
    order = np.lexsort((charge_ah, topology.string_of))
    string = topology.string_of  # unchanged by a sort that keeps strings together
    r, w = charge_ah[order], worth_v[order]
    first = topology.start[:-1]

    def running(values: FloatArray) -> FloatArray:
        """Cumulative sum within each string."""
        total = np.cumsum(values)
        before = total[first] - values[first]
        inside: FloatArray = total - before[string]
        return inside

    emptied, inserted = running(r * w), running(w)
    others = inserted[topology.start[1:] - 1][string] - inserted
    current, power = current_a[string], power_w[string]
    breakpoint_h = r / current
    holds = emptied + current * breakpoint_h * others >= power * breakpoint_h * (1.0 - 1e-12)
    # E(T) - P T is concave and starts at 0, so it holds on a leading run of breakpoints; the end lies on the
    # segment after the last of them
    place = np.arange(r.size)
    last = np.maximum.reduceat(np.where(holds, place, -1), first)
    at = np.maximum(last, 0)
    shortfall = power_w - current_a * others[at]
    longest: FloatArray = np.where(
        (last >= 0) & (shortfall > 0.0), emptied[at] / np.maximum(shortfall, 1e-12), 0.0
    )
    return longest
