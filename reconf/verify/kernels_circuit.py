"""Compiled bounds of currents and voltages: the steps of `reconf/verify/circuit.py`, to the last bit.

Letters in shapes as there: K cases, C commands, M modules, S strings.
"""

from __future__ import annotations

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import compiled_for

_BUS_VOLTAGE, _OFF = int(ConverterMode.BUS_VOLTAGE), int(ConverterMode.OFF)
_F1, _F2 = "Array(f8, 1, 'A', True)", "Array(f8, 2, 'A', True)"
_I1, _I2 = "Array(i8, 1, 'A', True)", "Array(i8, 2, 'A', True)"
_B2 = "Array(b1, 2, 'A', True)"


@compiled_for("f8", "f8")
def least(a: float, b: float) -> float:
    """As `numpy.minimum`: a NaN wins."""
    return a if a < b or np.isnan(a) else b


@compiled_for("f8", "f8")
def most(a: float, b: float) -> float:
    """As `numpy.maximum`: a NaN wins."""
    return a if a > b or np.isnan(a) else b


@compiled_for("f8", "f8", "f8", "f8", "f8", "f8")
def current_a(emf: float, ohm: float, power: float, linear: float, fixed: float, quadratic: float) -> float:
    """Current of one string for a power at the bus [A]; as `solve_current_a`."""
    string_w = power + linear * abs(power) + fixed
    root = emf * emf - 4.0 * string_w * (ohm + quadratic)
    denominator = emf + np.sqrt(most(root, 0.0))
    if root >= 0.0 and denominator > 0.0:
        return float(2.0 * string_w / denominator)
    return np.inf if string_w > 0.0 else -np.inf


@compiled_for(
    _I1, _F1, _F1, _F1, _F1, _F1, _F1, _F1, _F1, _B2, _B2, _B2, _F2, _F2, _F2, _I2,
)  # fmt: skip
def bounds(  # noqa: C901, PLR0912 - one pass over what numpy does in twenty; calls are what costs
    string_of: IntArray, r_on: FloatArray, linear: FloatArray, fixed: FloatArray, quadratic: FloatArray,
    u_low: FloatArray, u_high: FloatArray, r_low: FloatArray, r_high: FloatArray,
    surely: BoolArray, maybe: BoolArray, takes: BoolArray,
    trims: FloatArray, limits: FloatArray, power: FloatArray, mode: IntArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Highest trim (K, M); limit, lowest and highest current, lowest and highest voltage (K, S)."""
    cases, m = surely.shape
    s, orders = r_on.size, trims.shape[0]
    top = np.empty((cases, m))
    limit = np.full((cases, s), -np.inf)
    low, high = np.empty((cases, s)), np.empty((cases, s))
    volts_low, volts_high = np.zeros((cases, s)), np.zeros((cases, s))
    bottom = np.empty(m)
    emf, ohm_high, ohm_low = np.empty(s), np.empty(s), np.empty(s)
    for k in range(cases):
        emf[:], ohm_high[:], ohm_low[:] = 0.0, 0.0, 0.0
        for i in range(m):
            up, down = -np.inf, np.inf
            for c in range(orders):
                if takes[k, c]:
                    up, down = most(up, trims[c, i]), least(down, trims[c, i])
            top[k, i], bottom[i] = up, down
            j = string_of[i]
            if surely[k, i]:
                emf[j] += u_low[i] - (r_high[i] if up > 0.0 else r_low[i]) * up
                ohm_low[j] += r_low[i]
            if maybe[k, i]:
                ohm_high[j] += r_high[i]
        for j in range(s):
            for c in range(orders):
                if takes[k, c]:
                    limit[k, j] = most(limit[k, j], limits[c, j])
            bound = limit[k, j]
            least_a, most_a = np.inf, -np.inf
            behind = most(emf[j], 0.0)
            for ohm in (ohm_high[j] + r_on[j], ohm_low[j] + r_on[j]):
                for c in range(orders):
                    flow = 0.0
                    if takes[k, c] and mode[c, j] != _OFF:
                        flow = current_a(behind, ohm, power[c, j], linear[j], fixed[j], quadratic[j])
                        flow = least(most(flow, -bound), bound)
                    free = takes[k, c] and mode[c, j] == _BUS_VOLTAGE
                    least_a = least(least_a, -bound if free else flow)
                    most_a = most(most_a, bound if free else flow)
            low[k, j], high[k, j] = least(least_a, 0.0), most(most_a, 0.0)
        for i in range(m):
            j = string_of[i]
            out = high[k, j] + top[k, i]
            into = low[k, j] + bottom[i]
            lowest = u_low[i] - out * (r_high[i] if out > 0.0 else r_low[i])
            highest = u_high[i] - into * (r_low[i] if into > 0.0 else r_high[i])
            if surely[k, i] if lowest > 0.0 else maybe[k, i]:
                volts_low[k, j] += lowest
            if maybe[k, i] if highest > 0.0 else surely[k, i]:
                volts_high[k, j] += highest
        for j in range(s):
            volts_low[k, j] -= high[k, j] * r_on[j]
            volts_high[k, j] -= low[k, j] * r_on[j]
    return top, limit, low, high, volts_low, volts_high
