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
from reconf.protection.voltage import current_to_voltage_a, group_model

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
    return Belief(
        known=known,
        capacity_ah=np.maximum(capacity, 1e-3),
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
    )


def derating(value: FloatArray, bound: Bound, side: str) -> FloatArray:
    """1 inside the operating tier, falling linearly to 0 at the recommended one."""
    sign = 1.0 if side == "max" else -1.0
    width = np.maximum(sign * (bound.recommended - bound.operating), 1e-9)
    factor: FloatArray = np.clip(sign * (bound.recommended - value) / width, 0.0, 1.0)
    return factor


def current_stacks(
    constants: Constants,
    belief: Belief,
    string_current_a: FloatArray,
    surroundings_degc: FloatArray,
    resistance_k_per_w: FloatArray,
    time_constant_s: FloatArray,
    hold_s: float,
    interval_s: float,
    remote: tuple[FloatArray, FloatArray],
    soc_window: tuple[float, float],
) -> CurrentStacks:
    """Every rule's current limits.

    Args:
        constants: of the site.
        belief: estimate without gaps.
        string_current_a: (M,) magnitude of each module's string current now.
        surroundings_degc: (M,) effective temperature around the module.
        resistance_k_per_w: (M,) core to surroundings.
        time_constant_s: (M,)
        hold_s: how long a current may stand before this is asked again.
        interval_s: over which averages are taken.
        remote: (M,) operator's limits for discharge and charge, inf where none.
        soc_window: operator's SOC window.
    """
    now = [_now(constants, belief, sign, hold_s, remote[i]) for i, sign in enumerate((1.0, -1.0))]
    heat = thermal.heat_limit_w(
        belief.temperature_high_degc,
        surroundings_degc,
        constants.limits["temperature_degc", "max"].operating,
        resistance_k_per_w,
        time_constant_s,
    )
    worst_ohm = belief.resistance_ohm + 2.0 * belief.resistance_std_ohm
    warm = thermal.average_current_a(heat, worst_ohm, string_current_a)
    hours = interval_s / 3600.0
    low, high = soc_window
    left = np.maximum(belief.remaining_ah - REMAINING_SIGMAS * belief.remaining_std_ah, 0.0)
    space = np.maximum(belief.chargeable_ah - REMAINING_SIGMAS * belief.remaining_std_ah, 0.0)
    above = np.maximum(belief.soc_low_frac - low, 0.0) * belief.capacity_ah if low > 0.0 else np.inf
    below = np.maximum(high - belief.soc_high_frac, 0.0) * belief.capacity_ah if high < 1.0 else np.inf
    shape = belief.capacity_ah.shape
    averages = [
        np.array([now[i].min(axis=0), warm, charge / hours, np.broadcast_to(window, shape) / hours])
        for i, (charge, window) in enumerate(((left, above), (space, below)))
    ]
    return CurrentStacks(now[0], now[1], averages[0], averages[1])


def _now(
    constants: Constants, belief: Belief, sign: float, hold_s: float, remote_a: FloatArray
) -> FloatArray:
    """(len(NOW_RULES), M) instantaneous limits in one direction."""
    limits, n_cells = constants.limits, constants.topology.n_cells.astype(np.float64)
    discharging = sign > 0.0
    side = "min" if discharging else "max"
    rating = limits["discharge_current_c" if discharging else "charge_current_c", "max"].operating
    nominal = rating * belief.capacity_ah / constants.branch_share
    group = group_model(
        belief.cell_min_v if discharging else belief.cell_max_v,
        belief.current_a,
        belief.polarisation_v,
        belief.r0_ohm,
        belief.resistance_ohm,
        belief.resistance_std_ohm,
        belief.slope_v_per_ah,
        n_cells,
    )
    by_voltage = current_to_voltage_a(group, limits["cell_voltage_v", side].operating, sign, hold_s)
    charge = belief.remaining_ah if discharging else belief.chargeable_ah
    by_charge = charge * 3600.0 / hold_s
    hot, cold = limits["temperature_degc", "max"], limits["temperature_degc", "min"]
    factor = np.minimum(
        derating(belief.temperature_high_degc, hot, "max"), derating(belief.temperature_low_degc, cold, "min")
    )
    unlimited = np.full(nominal.shape, np.inf)
    chill = plate = unlimited
    if not discharging:
        hot, cold = limits["charge_temperature_degc", "max"], limits["charge_temperature_degc", "min"]
        chill = nominal * np.minimum(
            derating(belief.temperature_high_degc, hot, "max"),
            derating(belief.temperature_low_degc, cold, "min"),
        )
        plate = plating.charge_limit_a(
            belief.soc_high_frac + belief.soc_std_frac,
            belief.temperature_low_degc,
            belief.capacity_ah,
        )
    return np.array([nominal, by_voltage, by_charge, nominal * factor, chill, plate, remote_a])
