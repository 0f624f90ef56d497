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
    """Power at the bus that the site can hold for each of `HORIZONS_S`, in both directions [W]."""
    usable = strings.usable & (not site_open)
    totals = []
    for direction, sign in enumerate((1.0, -1.0)):
        charge = belief.remaining_ah if direction == 0 else belief.chargeable_ah
        limit = strings.discharge_a if direction == 0 else strings.charge_a
        rating = strings.discharge_w if direction == 0 else strings.charge_w
        best = _best_w(
            constants, belief, strings, sign, limit, now_a[direction], average_a[direction], charge
        )
        totals.append(np.where(usable, np.minimum(best, rating), 0.0).sum(axis=-1))
    return Capability(
        horizon_s=HORIZONS_S,
        discharge_w=tuple(float(w) for w in totals[0]),
        charge_w=tuple(float(w) for w in totals[1]),
    )


def _best_w(
    constants: Constants,
    belief: Belief,
    strings: StringLimits,
    sign: float,
    limit_a: FloatArray,
    now_a: FloatArray,
    average_a: FloatArray,
    charge_ah: FloatArray,
) -> FloatArray:
    """(H, S) largest bus power of every string for each horizon, over the currents that are tried (G).

    One horizon after the other: (G, M) arrays stay in the processor's cache.
    """
    topology = constants.topology
    current = _currents_a(constants, now_a, limit_a)  # (G, S)
    mine = current[:, topology.string_of]
    np.maximum(mine, 1e-9, out=mine)
    inverse = 1.0 / mine
    able = now_a >= mine - 1e-6
    drop = sign * constants.string_r_on_ohm * current
    held = np.minimum(average_a * inverse, 1.0)
    moves = charge_ah * 3600.0 * inverse
    best = []
    for horizon_s in HORIZONS_S:
        ohm = belief.r0_ohm if horizon_s == 0.0 else belief.resistance_ohm
        each = mine * (-sign * ohm)
        each += belief.ocv_v
        each *= able
        if horizon_s > 0.0:
            each *= np.minimum(moves * (1.0 / horizon_s), held if horizon_s > AVERAGED_FROM_S else 1.0)
        volts = np.add.reduceat(each, topology.start[:-1], axis=-1) - drop
        np.minimum(volts, strings.voltage_max_v, out=volts)
        power = np.where(volts >= strings.voltage_min_v, volts * current, 0.0)
        best.append(np.maximum(bus_power_w(constants, power, current, sign).max(axis=0), 0.0))
    return np.array(best)


def _currents_a(constants: Constants, now_a: FloatArray, limit_a: FloatArray) -> FloatArray:
    """(G, S) currents to try: the weakest module's, and shares up to the strongest module's."""
    first = constants.topology.start[:-1]
    strongest = np.minimum(np.maximum.reduceat(now_a, first), limit_a)
    weakest = np.minimum.reduceat(np.where(now_a > 0.0, now_a, np.inf), first)
    tried: FloatArray = np.concatenate(
        [np.minimum(weakest, strongest)[None, :], GRID[:, None] * strongest], axis=0
    )
    return tried


def bus_power_w(
    constants: Constants, string_power_w: FloatArray, current_a: FloatArray, sign: float
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
