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
GRID: Final = np.linspace(1.0 / 12.0, 1.0, 12)
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
    powers = []
    for direction, sign in enumerate((1.0, -1.0)):
        charge = belief.remaining_ah if sign > 0.0 else belief.chargeable_ah
        limit = strings.discharge_a if sign > 0.0 else strings.charge_a
        power = strings.discharge_w if sign > 0.0 else strings.charge_w
        shares = [
            _string_power_w(
                constants,
                belief,
                strings,
                sign,
                limit,
                power,
                now_a[direction],
                average_a[direction],
                charge,
                t,
            )
            for t in HORIZONS_S
        ]
        powers.append(tuple(0.0 if site_open else float(s[strings.usable].sum()) for s in shares))
    return Capability(horizon_s=HORIZONS_S, discharge_w=powers[0], charge_w=powers[1])


def _string_power_w(
    constants: Constants,
    belief: Belief,
    strings: StringLimits,
    sign: float,
    current_limit_a: FloatArray,
    power_limit_w: FloatArray,
    now_a: FloatArray,
    average_a: FloatArray,
    charge_ah: FloatArray,
    horizon_s: float,
) -> FloatArray:
    """(S,) largest bus power of each string over the grid of currents."""
    topology = constants.topology
    current = GRID[:, None] * current_limit_a  # (G, S)
    mine = current[:, topology.string_of]  # (G, M)
    share = (now_a >= mine - 1e-9) & (mine > 0.0)
    inserted = share.astype(np.float64)
    if horizon_s > 0.0:
        moved = np.maximum(mine, 1e-9) * (horizon_s / 3600.0)
        inserted *= np.minimum(charge_ah / moved, 1.0)
    if horizon_s > 60.0:
        inserted *= np.minimum(average_a / np.maximum(mine, 1e-9), 1.0)
    ohm = belief.r0_ohm if horizon_s == 0.0 else belief.resistance_ohm
    each = inserted * (belief.ocv_v - sign * ohm * mine)
    volts = np.add.reduceat(each, topology.start[:-1], axis=1) - sign * constants.string_r_on_ohm * current
    volts = np.minimum(volts, strings.voltage_max_v)
    power = np.where(volts >= strings.voltage_min_v, volts * current, 0.0)
    at_bus = bus_power_w(constants, power, current, sign)
    best: FloatArray = np.minimum(np.maximum(at_bus.max(axis=0), 0.0), power_limit_w)
    return best


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
