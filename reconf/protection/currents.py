"""Current limits of every module: the answer of each rule, stacked.

Rows of a stack are rules, columns modules; magnitudes [A]. The smallest of a column is the limit, and its
row says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection import plating, thermal
from reconf.protection.bounds import Bound, Constants
from reconf.protection.observe import Observed
from reconf.protection.voltage import (
    GROUP_RESISTANCE_FACTOR,
    RESISTANCE_SIGMAS,
    current_to_voltage_a,
    group_model,
)

NOW_RULES: Final = (
    "rating",
    "cell_voltage",
    "charge_left",
    "temperature",
    "cold_charge",
    "plating",
    "remote_limit",
)
"""Rules of `discharge_now_a` and `charge_now_a`; the order of their stacks."""
AVERAGE_RULES: Final = ("instantaneous", "thermal_forecast", "charge_left_interval", "soc_window")
"""Rules of `discharge_avg_a` and `charge_avg_a`."""
PLATING_MINUTES_S: Final = 900.0
"""How long `charge_minutes_a` may stand."""
LASTING_STEPS: Final = 2
"""Halvings in the search for it, each with a better end where the middle does not last."""
REMAINING_SIGMAS: Final = 0.25
"""The voltage guards the end of a discharge; the charge estimate only shapes the way there, so that its doubt
need not be paid in stranded energy."""


@dataclass(frozen=True, slots=True)
class CurrentStacks:
    """Answers of all rules."""

    discharge_now_a: FloatArray
    """(len(NOW_RULES), M)"""
    charge_now_a: FloatArray
    discharge_avg_a: FloatArray
    """(len(AVERAGE_RULES), M)"""
    charge_avg_a: FloatArray


@dataclass(frozen=True, slots=True)
class Belief:
    """The estimate with numbers everywhere: where it has none, the cautious end stands in; (M,)."""

    known: BoolArray
    """Every number needed was there."""
    capacity_ah: FloatArray
    capacity_std_ah: FloatArray
    remaining_ah: FloatArray
    remaining_std_ah: FloatArray
    chargeable_ah: FloatArray
    soc_low_frac: FloatArray
    soc_high_frac: FloatArray
    soc_std_frac: FloatArray
    ocv_v: FloatArray
    slope_v_per_ah: FloatArray
    polarisation_v: FloatArray
    r0_ohm: FloatArray
    resistance_ohm: FloatArray
    resistance_std_ohm: FloatArray
    temperature_low_degc: FloatArray
    temperature_high_degc: FloatArray
    temperature_degc: FloatArray
    cell_min_v: FloatArray
    cell_max_v: FloatArray
    current_a: FloatArray
    worst_group_frac: FloatArray
    """Resistance of the worst group over the mean of its module's."""


def believe(constants: Constants, estimate: Estimate, seen: Observed) -> Belief:
    """Read `estimate`, filling gaps so that no NaN travels on; `known` says where there were gaps."""
    needed = (
        estimate.capacity_ah,
        estimate.remaining_ah,
        estimate.chargeable_ah,
        estimate.soc_strongest_frac,
        estimate.ocv_v,
        estimate.r0_ohm,
        estimate.resistance_ohm,
        estimate.temperature_low_degc,
        estimate.temperature_high_degc,
        estimate.cell_voltage_min_v,
        estimate.cell_voltage_max_v,
    )
    known: BoolArray = np.logical_and.reduce([np.isfinite(values) for values in needed])

    def or_else(values: FloatArray, other: FloatArray | float) -> FloatArray:
        filled: FloatArray = np.where(np.isfinite(values), values, other)
        return filled

    limits = constants.limits
    capacity = or_else(estimate.capacity_ah, constants.graded_capacity_ah)
    capacity_std = or_else(estimate.capacity_std_ah, capacity)
    return Belief(
        known=known,
        capacity_ah=np.maximum(capacity, 1e-3),
        capacity_std_ah=capacity_std,
        remaining_ah=np.maximum(or_else(estimate.remaining_ah, 0.0), 0.0),
        remaining_std_ah=or_else(estimate.remaining_std_ah, 0.0),
        chargeable_ah=np.maximum(or_else(estimate.chargeable_ah, 0.0), 0.0),
        soc_low_frac=or_else(estimate.soc_weakest_frac, 0.0),
        soc_high_frac=or_else(estimate.soc_strongest_frac, 1.0),
        soc_std_frac=or_else(estimate.soc_std_frac, 0.0),
        ocv_v=or_else(estimate.ocv_v, 0.0),
        slope_v_per_ah=or_else(estimate.ocv_slope_v_per_ah, 0.0),
        polarisation_v=or_else(estimate.polarisation_v, 0.0),
        r0_ohm=np.maximum(or_else(estimate.r0_ohm, 1.0), 1e-6),
        resistance_ohm=np.maximum(or_else(estimate.resistance_ohm, 1.0), 1e-6),
        resistance_std_ohm=or_else(estimate.resistance_std_ohm, 0.0),
        temperature_low_degc=or_else(estimate.temperature_low_degc, -100.0),
        temperature_high_degc=or_else(estimate.temperature_high_degc, 200.0),
        temperature_degc=or_else(estimate.temperature_degc, 200.0),
        cell_min_v=or_else(estimate.cell_voltage_min_v, limits["cell_voltage_v", "min"].safety),
        cell_max_v=or_else(estimate.cell_voltage_max_v, limits["cell_voltage_v", "max"].safety),
        current_a=or_else(seen.current_a, 0.0),
        worst_group_frac=_worst_group_frac(estimate, capacity.size),
    )


def _worst_group_frac(estimate: Estimate, modules: int) -> FloatArray:
    """(M,) as tracked, and no less than groups of one module differ by before anybody has looked."""
    tracked = estimate.group_resistance_frac
    if tracked is None:
        return np.full(modules, GROUP_RESISTANCE_FACTOR)
    return np.fmax(tracked, GROUP_RESISTANCE_FACTOR)


def chargeable_std_ah(belief: Belief) -> FloatArray:
    """(M,) doubt of the charge that still fits, an upper bound.

    What fits is Q (1 - z): doubt of the capacity counts with the share that is still empty. The doubt of the
    charge *left*, which is nearly all the capacity's, would keep a full module from being filled.
    """
    empty = np.clip(1.0 - belief.soc_high_frac, 0.0, 1.0)
    doubt: FloatArray = belief.soc_std_frac * belief.capacity_ah + empty * belief.capacity_std_ah
    return doubt


def derating(value: FloatArray, bound: Bound, side: str) -> FloatArray:
    """1 inside the operating tier, falling linearly to 0 at the recommended one."""
    sign = 1.0 if side == "max" else -1.0
    width = np.maximum(sign * (bound.recommended - bound.operating), 1e-9)
    factor: FloatArray = np.minimum(np.maximum(sign * (bound.recommended - value) / width, 0.0), 1.0)
    return factor


@dataclass(frozen=True, slots=True)
class Asked:
    """What the current limits depend on beside the estimate."""

    string_current_a: FloatArray
    """(M,) magnitude of each module's string current, as heat feels it."""
    heat_limits_w: tuple[FloatArray, FloatArray]
    """(M,) from the thermal forecast, discharging and charging."""
    slope_v_per_ah: FloatArray
    """(M,) OCV slope of the module that a discharge has to reckon with."""
    hold_s: float
    """How long a current may stand before this is asked again."""
    interval_s: float
    """Over which averages are taken."""
    remote_a: tuple[FloatArray, FloatArray]
    """(M,) an operator's limits for discharge and charge, inf where none."""
    soc_window_frac: tuple[float, float]


def current_stacks(constants: Constants, belief: Belief, asked: Asked) -> CurrentStacks:
    """Every rule's current limits."""
    now = [_now(constants, belief, asked, direction) for direction in (0, 1)]
    worst_ohm = belief.resistance_ohm + RESISTANCE_SIGMAS * belief.resistance_std_ohm
    warm = [
        thermal.average_current_a(heat, worst_ohm, asked.string_current_a) for heat in asked.heat_limits_w
    ]
    hours = asked.interval_s / 3600.0
    low = np.maximum(constants.limits["soc_frac", "min"].operating, asked.soc_window_frac[0])
    high = np.minimum(constants.limits["soc_frac", "max"].operating, asked.soc_window_frac[1])
    left = np.maximum(belief.remaining_ah - REMAINING_SIGMAS * belief.remaining_std_ah, 0.0)
    space = np.maximum(belief.chargeable_ah - REMAINING_SIGMAS * chargeable_std_ah(belief), 0.0)
    # at 0 and 1 the voltage is the better judge
    above = np.where(low > 0.0, np.maximum(belief.soc_low_frac - low, 0.0) * belief.capacity_ah, np.inf)
    below = np.where(high < 1.0, np.maximum(high - belief.soc_high_frac, 0.0) * belief.capacity_ah, np.inf)
    return CurrentStacks(
        discharge_now_a=now[0],
        charge_now_a=now[1],
        discharge_avg_a=np.array([now[0].min(axis=0), warm[0], left / hours, above / hours]),
        charge_avg_a=np.array([now[1].min(axis=0), warm[1], space / hours, below / hours]),
    )


def _now(constants: Constants, belief: Belief, asked: Asked, direction: int) -> FloatArray:
    """(len(NOW_RULES), M) instantaneous limits; direction 0 discharge, 1 charge."""
    discharging = direction == 0
    sign, side = (1.0, "min") if discharging else (-1.0, "max")
    limits = constants.limits
    rating = limits["discharge_current_c" if discharging else "charge_current_c", "max"].operating
    nominal = rating * belief.capacity_ah / constants.branch_share
    group = group_model(
        belief.cell_min_v if discharging else belief.cell_max_v,
        belief.current_a,
        belief.polarisation_v,
        belief.r0_ohm,
        belief.resistance_ohm,
        belief.resistance_std_ohm,
        asked.slope_v_per_ah if discharging else belief.slope_v_per_ah,
        constants.topology.n_cells.astype(np.float64),
        belief.worst_group_frac,
    )
    by_voltage = current_to_voltage_a(group, limits["cell_voltage_v", side].operating, sign, asked.hold_s)
    charge = belief.remaining_ah if discharging else belief.chargeable_ah
    chill = plate = np.full(nominal.shape, np.inf)
    if not discharging:
        chill = nominal * _both_ends(constants, belief, "charge_temperature_degc")
        plate = plating_limit_a(constants, belief)
    return np.array(
        [
            nominal,
            by_voltage,
            charge * 3600.0 / asked.hold_s,
            nominal * _both_ends(constants, belief, "temperature_degc"),
            chill,
            plate,
            asked.remote_a[direction],
        ]
    )


def plating_limit_a(
    constants: Constants, belief: Belief, soc_ahead_frac: FloatArray | float = 0.0
) -> FloatArray:
    """(M,) largest charge current before plating, with the doubt of SOC and temperature and with age.

    Args:
        constants: of the site.
        belief: of this tick.
        soc_ahead_frac: SOC to come on top of the present one.
    """
    soc = belief.soc_high_frac + belief.soc_std_frac + soc_ahead_frac
    cold, capacity = belief.temperature_low_degc, belief.capacity_ah
    soh = np.minimum(capacity / constants.topology.rated_capacity_ah, 1.0)
    return plating.charge_limit_a(soc, cold, capacity, soh)


def plating_minutes_a(constants: Constants, belief: Belief, limit_a: FloatArray) -> FloatArray:
    """(M,) largest charge current that may stand for `PLATING_MINUTES_S`: SOC rises, and the limit falls.

    The current that is its own limit at the SOC it leads to. f(i) = limit(soc + i H / Q) falls with i, so i
    is on the safe side of it exactly where f(i) >= i, and f of a value beyond it is on the safe side again.

    Args:
        constants: of the site.
        belief: of this tick.
        limit_a: `plating_limit_a` of this tick; it begins the search. The module's rating does not, or a
            lower one could find a better end.
    """
    rating = constants.limits["charge_current_c", "max"].operating * belief.capacity_ah
    per_ampere = PLATING_MINUTES_S / 3600.0 / belief.capacity_ah
    most = limit_a
    safe = np.minimum(plating_limit_a(constants, belief, most * per_ampere), most)
    for _ in range(LASTING_STEPS):
        middle = 0.5 * (safe + most)
        beyond = plating_limit_a(constants, belief, middle * per_ampere)
        lasts = beyond >= middle
        safe = np.where(lasts, middle, np.maximum(beyond, safe))
        most = np.where(lasts, most, middle)
    lasting: FloatArray = np.minimum(safe, rating)
    return lasting


def plating_margin_v(belief: Belief, limit_a: FloatArray) -> FloatArray:
    """(M,) anode potential against lithium at the present current, an estimate on the low side [V].

    Args:
        belief: of this tick.
        limit_a: `plating_limit_a` of this tick.
    """
    soc = belief.soc_high_frac + belief.soc_std_frac
    return plating.margin_v(soc, belief.temperature_low_degc, -belief.current_a, limit_a)


def _both_ends(constants: Constants, belief: Belief, quantity: str) -> FloatArray:
    """(M,) derating by temperature at both ends, each with the doubt on its own side."""
    hot = derating(belief.temperature_high_degc, constants.limits[quantity, "max"], "max")
    cold = derating(belief.temperature_low_degc, constants.limits[quantity, "min"], "min")
    factor: FloatArray = np.minimum(hot, cold)
    return factor
