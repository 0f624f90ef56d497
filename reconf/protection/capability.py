"""What a site can give and take: power for each horizon, and energy at a given power.

Modules share a string's current I in time: over a time T module i can be inserted for the fraction
d_i = min(1, r_i / (I T)) if I is within its limit, else 0. The string then has the mean voltage
V(I) = sum d_i (U_i - R_i I) - N R_on I and gives V I for T seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.protection.bounds import Constants
from reconf.protection.currents import Belief
from reconf.protection.envelope import Capability

HORIZONS_S: Final = (0.0, 10.0, 60.0, 900.0)
AVERAGED_FROM_S: Final = 60.0
"""Duty-averaged limits (heat) bind on horizons longer than this."""
_SIGN: Final = np.array([1.0, -1.0]).reshape(2, 1, 1, 1)
"""Discharge, charge."""
GRID: Final = np.linspace(0.1, 1.0, 10)
"""String currents that are tried, as shares of the string's own limit."""


@dataclass(frozen=True, slots=True)
class StringLimits:
    """Converters' limits now, (S,)."""

    voltage_min_v: FloatArray
    voltage_max_v: FloatArray
    discharge_a: FloatArray
    charge_a: FloatArray
    discharge_w: FloatArray
    charge_w: FloatArray
    usable: BoolArray


def capability(
    constants: Constants,
    belief: Belief,
    strings: StringLimits,
    now_a: tuple[FloatArray, FloatArray],
    average_a: tuple[FloatArray, FloatArray],
    *,
    site_open: bool,
) -> Capability:
    """Power at the bus that the site can hold for each of `HORIZONS_S`, in both directions [W].

    The axes of the arrays inside are direction (2), horizon (H), current tried (G), then module or string.
    """
    topology = constants.topology
    now = np.array(now_a)
    current = _currents_a(constants, now, np.array([strings.discharge_a, strings.charge_a]))
    mine = np.maximum(current[..., topology.string_of], 1e-9)
    horizon = np.array(HORIZONS_S)[:, None, None]
    charge = np.array([belief.remaining_ah, belief.chargeable_ah])[:, None, None, :]
    with np.errstate(divide="ignore"):
        lasts = np.minimum(charge / (mine * (horizon / 3600.0)), 1.0)
    held = np.array(average_a)[:, None, None, :] / mine
    inserted = np.where(horizon > AVERAGED_FROM_S, np.minimum(lasts, held), lasts)
    inserted *= now[:, None, None, :] >= mine - 1e-6
    ohm = np.where(horizon > 0.0, belief.resistance_ohm, belief.r0_ohm)
    inserted *= belief.ocv_v - _SIGN * ohm * mine
    volts = (
        np.add.reduceat(inserted, topology.start[:-1], axis=-1) - _SIGN * constants.string_r_on_ohm * current
    )
    volts = np.minimum(volts, strings.voltage_max_v)
    power = np.where(volts >= strings.voltage_min_v, volts * current, 0.0)
    at_bus = np.maximum(bus_power_w(constants, power, current, _SIGN).max(axis=2), 0.0)
    rating = np.array([strings.discharge_w, strings.charge_w])[:, None, :]
    usable = strings.usable & (not site_open)
    total = np.where(usable, np.minimum(at_bus, rating), 0.0).sum(axis=-1)
    return Capability(
        horizon_s=HORIZONS_S,
        discharge_w=tuple(float(w) for w in total[0]),
        charge_w=tuple(float(w) for w in total[1]),
    )


def _currents_a(constants: Constants, now_a: FloatArray, limit_a: FloatArray) -> FloatArray:
    """(2, 1, G, S) currents to try: the weakest module's, and shares up to the strongest module's."""
    first = constants.topology.start[:-1]
    strongest = np.minimum(np.maximum.reduceat(now_a, first, axis=-1), limit_a)
    weakest = np.minimum.reduceat(np.where(now_a > 0.0, now_a, np.inf), first, axis=-1)
    tried = np.concatenate(
        [np.minimum(weakest, strongest)[:, None, :], GRID[:, None] * strongest[:, None, :]], axis=1
    )
    return tried[:, None]


def bus_power_w(
    constants: Constants, string_power_w: FloatArray, current_a: FloatArray, sign: FloatArray | float
) -> FloatArray:
    """Magnitude at the bus of a string-side power magnitude (..., S), after or before the converter's losses.

    Discharge: P_bus = (P - fixed - k I^2) / (1 + linear); charge: P_bus = (P + fixed + k I^2) / (1 - linear).
    """
    converter = constants.converters
    lost = converter.loss_fixed_w + converter.loss_quadratic_w_per_a2 * current_a**2
    moving = string_power_w > 0.0
    power: FloatArray = np.where(
        moving, (string_power_w - sign * lost) / (1.0 + sign * converter.loss_linear_frac), 0.0
    )
    return power
