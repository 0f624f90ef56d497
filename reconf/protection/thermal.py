"""Thermal forecast: the heat a module may make so that its core stays below its limit over the horizon.

Lumped node between core and surroundings (exact solution of C dT/dt = P - (T - T_a)/R_th)::

    P <= [T_lim - T_a - (T_0 - T_a) e^(-H/tau)] / [R_th (1 - e^(-H/tau))],    tau = R_th C
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray

HORIZON_S: Final = 1800.0


def heat_limit_w(
    core_degc: FloatArray,
    surroundings_degc: FloatArray,
    limit_degc: FloatArray,
    resistance_k_per_w: FloatArray,
    time_constant_s: FloatArray,
    horizon_s: FloatArray | float = HORIZON_S,
) -> FloatArray:
    """Constant heat [W] that brings the core to its limit at the end of the horizon; not below 0; (M,)."""
    kept = np.exp(-horizon_s / time_constant_s)
    room = limit_degc - surroundings_degc - (core_degc - surroundings_degc) * kept
    heat: FloatArray = np.maximum(room, 0.0) / (resistance_k_per_w * (1.0 - kept))
    return heat


def average_current_a(
    heat_w: FloatArray, resistance_ohm: FloatArray, string_current_a: FloatArray
) -> FloatArray:
    """Duty-averaged current q that makes at most `heat_w`.

    An inserted module carries the whole string current I, so its mean heat is q I R: q = P / (R I) while
    I is above sqrt(P / R), and q = I = sqrt(P / R) where the module may stay inserted all the time.
    """
    steady = np.sqrt(heat_w / resistance_ohm)
    allowed: FloatArray = heat_w / (resistance_ohm * np.maximum(np.maximum(string_current_a, steady), 1e-6))
    return allowed
