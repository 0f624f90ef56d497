"""Currents of parallel branches, and what flows when unequal voltages are joined.

Branches k with open-circuit voltage U_k and resistance R_k behind one terminal (Kirchhoff)::

    V = (sum U_k / R_k - I) / sum(1 / R_k),      i_k = (U_k - V) / R_k

The static split by resistance relaxes towards the split by capacity, i_k -> I Q_k / sum Q, with
tau = (R_1 + R_2) / (U' (1/Q_1 + 1/Q_2)) for two branches of OCV slope U' per unit SOC and charge
(Bruen, Marco, J. Power Sources 310 (2016) 91, doi 10.1016/j.jpowsour.2016.01.001).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray, IntArray

BRANCH_RESISTANCE_SPREAD_FRAC: Final = 0.10
"""One-sided spread of resistance between the branches of one module; retired cells of one pack differ in
resistance by about this much (Schuster et al., J. Energy Storage 1 (2015) 44,
doi 10.1016/j.est.2015.05.003)."""


def branch_currents_a(ocv_v: FloatArray, resistance_ohm: FloatArray, current_a: FloatArray) -> FloatArray:
    """Currents of parallel branches [A].

    Args:
        ocv_v: (..., B) open-circuit voltages of the branches.
        resistance_ohm: (..., B), positive.
        current_a: (...) total current, discharge positive; 0 gives the circulating currents.
    """
    conductance = 1.0 / resistance_ohm
    terminal = ((ocv_v * conductance).sum(axis=-1) - current_a) / conductance.sum(axis=-1)
    split: FloatArray = (ocv_v - terminal[..., None]) * conductance
    return split


def settling_time_s(
    resistance_ohm: tuple[float, float], capacity_ah: tuple[float, float], ocv_slope_v: float
) -> float:
    """Time constant with which two branches settle from the split by resistance to that by capacity [s].

    `ocv_slope_v` is dU/dSOC [V] of either branch, positive.
    """
    per_charge = ocv_slope_v * (1.0 / capacity_ah[0] + 1.0 / capacity_ah[1]) / 3600.0
    return sum(resistance_ohm) / per_charge


def worst_branch_share(
    n_parallel: IntArray, spread_frac: float = BRANCH_RESISTANCE_SPREAD_FRAC
) -> FloatArray:
    """Current of the most loaded of n parallel branches over its fair share (1.0 for one branch).

    Static split with one branch `spread_frac` below and the others `spread_frac` above the mean
    resistance. The split by capacity that follows is gentler, as capacity spreads less than resistance.
    """
    n = n_parallel.astype(np.float64)
    low, high = 1.0 / (1.0 - spread_frac), 1.0 / (1.0 + spread_frac)
    share: FloatArray = n * low / (low + (n - 1.0) * high)
    return share


def inrush_a(voltage_difference_v: FloatArray, loop_resistance_ohm: FloatArray) -> FloatArray:
    """Peak current when two sources that differ by `voltage_difference_v` are joined [A]."""
    peak: FloatArray = np.abs(voltage_difference_v) / loop_resistance_ohm
    return peak


def joining_difference_v(current_limit_a: FloatArray, loop_resistance_ohm: FloatArray) -> FloatArray:
    """Largest voltage difference at which joining stays within `current_limit_a` [V]."""
    allowed: FloatArray = current_limit_a * loop_resistance_ohm
    return allowed


def least_loop_resistance_ohm(
    window_min_v: FloatArray, ohm_per_v: FloatArray, switches_ohm: FloatArray
) -> FloatArray:
    """Least resistance of a string whose inserted modules reach `window_min_v`, whichever they are [Ohm].

    sum r_i = sum (r_i / U_i) U_i >= min (r_i / U_i) sum U_i.

    Args:
        window_min_v: (S,) voltage that any joining pattern has at least.
        ohm_per_v: (S,) smallest resistance over open-circuit voltage of the string's modules.
        switches_ohm: (S,) conducting switches of all positions.
    """
    least: FloatArray = window_min_v * ohm_per_v + switches_ohm
    return least
