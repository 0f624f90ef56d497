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
BISECTIONS: Final = 8
SHARES: Final = tuple(0.93**k for k in range(17))
"""Of I*, down to a third: where modules' limits lie far apart, more of them at a lower current give more."""


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
    charge_minutes_a: FloatArray,
    *,
    site_open: bool,
) -> Capability:
    """Power at the bus that the site can hold for each of `HORIZONS_S`, in both directions [W].

    V(I) falls with I, so the currents that keep the converter's window end at one I*, found by bisection;
    the best power lies there or, with more modules inserted, a little below.

    Args:
        constants: of the site.
        belief: of this tick.
        strings: converters' limits.
        now_a: (M,) each, instantaneous limits for discharge and charge.
        average_a: (M,) each, duty-averaged limits.
        charge_minutes_a: (M,) what plating allows to stand over the longest horizon.
        site_open: nothing may flow.
    """
    case = _Case.of(constants, belief, now_a, average_a, charge_minutes_a)
    limit = _cases(strings.discharge_a, strings.charge_a)
    low, high = np.zeros(limit.shape), limit.copy()
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        holds = case.voltage_v(middle) >= strings.voltage_min_v
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    low = np.where(case.voltage_v(limit) >= strings.voltage_min_v, limit, low)
    best = np.zeros(limit.shape)
    for share in SHARES:
        current = share * low
        volts = np.minimum(case.voltage_v(current), strings.voltage_max_v)
        np.maximum(best, bus_power_w(constants, volts * current, current, case.sign), out=best)
    usable = strings.usable & (not site_open)
    total = np.where(usable, np.minimum(best, _cases(strings.discharge_w, strings.charge_w)), 0.0).sum(axis=1)
    # what can be held for long can be held for an instant, though cells at rest take in less at one current
    discharge, charge = np.minimum.accumulate(total.reshape(2, len(HORIZONS_S)), axis=1)
    return Capability(
        horizon_s=HORIZONS_S,
        discharge_w=tuple(float(w) for w in discharge),
        charge_w=tuple(float(w) for w in charge),
    )


def _cases(discharge: FloatArray, charge: FloatArray) -> FloatArray:
    """(2 H, N): one row per direction and horizon."""
    rows: FloatArray = np.repeat(np.array([discharge, charge]), len(HORIZONS_S), axis=0)
    return rows


@dataclass(frozen=True, slots=True)
class _Case:
    """All directions and horizons side by side; (2 H, M) unless noted."""

    constants: Constants
    sign: FloatArray
    """(2 H, 1)"""
    ocv_v: FloatArray
    """(M,)"""
    ohm: FloatArray
    """Signed."""
    now_a: FloatArray
    lasting_a: FloatArray
    """String current up to which a module can stay inserted for the whole horizon."""

    @classmethod
    def of(
        cls,
        constants: Constants,
        belief: Belief,
        now_a: tuple[FloatArray, FloatArray],
        average_a: tuple[FloatArray, FloatArray],
        charge_minutes_a: FloatArray,
    ) -> _Case:
        horizon = np.tile(np.array(HORIZONS_S), 2)[:, None]
        sign = np.repeat([1.0, -1.0], len(HORIZONS_S))[:, None]
        charge = _cases(belief.remaining_ah, belief.chargeable_ah)
        lasting = charge * 3600.0 / np.maximum(horizon, 1e-3)
        now = _cases(*now_a)
        long_charge = (horizon[:, 0] > AVERAGED_FROM_S) & (sign[:, 0] < 0.0)
        now[long_charge] = np.minimum(now[long_charge], charge_minutes_a)
        averaged = np.where(horizon > AVERAGED_FROM_S, _cases(*average_a), np.inf)
        return cls(
            constants=constants,
            sign=sign,
            ocv_v=belief.ocv_v,
            ohm=sign * np.where(horizon > 0.0, belief.resistance_ohm, belief.r0_ohm),
            now_a=now,
            lasting_a=np.minimum(lasting, averaged),
        )

    def voltage_v(self, current_a: FloatArray) -> FloatArray:
        """(2 H, S) mean string voltage over the horizon at string currents (2 H, S)."""
        topology = self.constants.topology
        mine = np.maximum(current_a, 1e-9).take(topology.string_of, axis=1)
        each = np.minimum(self.lasting_a / mine, 1.0)
        each *= self.now_a >= mine - 1e-6
        each *= self.ocv_v - self.ohm * mine
        total: FloatArray = np.add.reduceat(each, topology.start[:-1], axis=1)
        total -= self.sign * self.constants.string_r_on_ohm * current_a
        return total


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
