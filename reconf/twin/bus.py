"""The DC bus while one RC1 holds it (MODE 2): C*V*dV/dt = sum of RC1 powers - PCS power.

The master does not know what the PCS will draw: its power follows what the bus needs with a time constant of
BUS_TIME_S, and it brings the voltage back with the gain that makes both together critically damped,

    dP/dt = (P_need - P)/tau,   P_need = drawn + C*V*(V* - V)/(4*tau).

A load step of dP therefore dips the bus by about 0.74*dP*tau/(C*V) before it returns. What it may give or
take is limited by its rating, its current limit and its string's window; a change of the string's voltage
changes its power at once, since the current needs the same time to follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.site import BusSpec

BUS_CAPACITANCE_F = 0.020
BUS_TIME_S = 0.020
"""Time constant of an RC1 in MODE 2."""
BUS_STEP_S = 0.001


@dataclass(slots=True)
class BusMaster:
    """What the string that holds the bus carries from step to step."""

    power_w: float = 0.0
    """Momentary, towards the bus."""
    emf_v: float = 0.0
    """Of its string; 0 while nobody holds the bus."""
    _next: tuple[float, float] = (0.0, 0.0)

    def mean_power_w(
        self,
        bus_v: float,
        emf_v: float,
        target_v: float,
        drawn_w: float,
        reach_w: tuple[float, float],
        dt_s: float,
    ) -> float:
        """Mean power over a step; `commit` makes its end the beginning of the next."""
        # the current has not followed yet when the string's voltage changes
        before = self.power_w * (emf_v / self.emf_v if self.emf_v > 0.0 else 1.0)
        step = hold_bus(bus_v, before, target_v, drawn_w, reach_w[0], reach_w[1], dt_s)
        self._next = (step.power_end_w, emf_v)
        return step.power_mean_w

    def commit(self) -> None:
        """The step is done."""
        self.power_w, self.emf_v = self._next

    def release(self) -> None:
        """Nobody holds the bus."""
        self._next = (0.0, 0.0)


def free_bus_v(voltage_v: float, surplus_w: float, bus: BusSpec, dt_s: float) -> float:
    """Voltage after `dt_s` of a bus that nobody holds: C V dV/dt = surplus over what the PCS draws."""
    squared = voltage_v**2 + 2.0 * surplus_w * dt_s / BUS_CAPACITANCE_F
    # the PCS stops drawing (or feeding) where the bus leaves what any PCS works at
    low, high = 0.5 * bus.min_v, 1.2 * bus.max_v
    return float(np.sqrt(np.clip(squared, low**2, high**2)))


@dataclass(frozen=True, slots=True)
class BusStep:
    """What the master did in a step."""

    power_mean_w: float
    power_end_w: float
    voltage_end_v: float


def hold_bus(
    voltage_v: float,
    power_w: float,
    target_v: float,
    drawn_w: float,
    least_w: float,
    most_w: float,
    dt_s: float,
) -> BusStep:
    """Follow bus and master over `dt_s` in steps of at most 1 ms.

    Args:
        voltage_v: of the bus at the beginning.
        power_w: of the master at the beginning, towards the bus.
        target_v: set point.
        drawn_w: what the PCS takes less what the other converters give, constant over the step.
        least_w: least power of the master (negative: it can take).
        most_w: most power of the master.
        dt_s: length of the step.
    """
    steps = max(round(dt_s / BUS_STEP_S), 1)
    h = dt_s / steps
    keep = float(np.exp(-h / BUS_TIME_S))
    squared, moved = voltage_v**2, 0.0
    for _ in range(steps):
        volts = max(squared, 1.0) ** 0.5
        need = drawn_w + BUS_CAPACITANCE_F * volts * (target_v - volts) / (4.0 * BUS_TIME_S)
        # the mean of the exponential over the sub-step carries the energy
        after = need + (power_w - need) * keep
        mean = need + (power_w - need) * (1.0 - keep) * BUS_TIME_S / h
        power_w = min(max(after, least_w), most_w)
        mean = min(max(mean, least_w), most_w)
        squared = max(squared + 2.0 * (mean - drawn_w) * h / BUS_CAPACITANCE_F, 0.0)
        moved += mean * h
    return BusStep(moved / dt_s, power_w, squared**0.5)
