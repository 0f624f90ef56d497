"""Compiled closed forms of a string: the steps of `reconf/twin/electrical_string.py`, to the last bit.

A step of the twin solves its strings up to three times, on arrays of one value per string: in numpy that is
sixty calls for a handful of numbers.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import compiled


@compiled
def _least(a: float, b: float) -> float:
    """As `numpy.minimum`: a NaN wins."""
    return a if a < b or np.isnan(a) else b


@compiled
def _most(a: float, b: float) -> float:
    """As `numpy.maximum`: a NaN wins."""
    return a if a > b or np.isnan(a) else b


@compiled
def solve_strings(
    rating_w: FloatArray, rating_a: FloatArray, low_v: FloatArray, high_v: FloatArray, fixed_w: FloatArray,
    linear: FloatArray, quadratic: FloatArray, emf_v: FloatArray, ohm: FloatArray, running: BoolArray,
    power_w: FloatArray, limit_a: FloatArray, was_outside: BoolArray, before_w: FloatArray,
    slew_frac: float, return_frac: float,
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, BoolArray]:  # fmt: skip
    """(S,) current, bus power, limiting, outside the window, running; `slew_frac` of the rating per step."""
    n = emf_v.size
    current_a, bus_w = np.zeros(n), np.zeros(n)
    limiting, beyond = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    supplied = np.zeros(n, dtype=np.bool_)
    for s in range(n):
        emf, r = emf_v[s], ohm[s]
        margin = return_frac if was_outside[s] else 0.0
        outside = emf < low_v[s] * (1.0 + margin) or emf > high_v[s] * (1.0 - margin)
        reach = rating_w[s] * slew_frac
        wanted = _least(_most(power_w[s], -rating_w[s]), rating_w[s])
        asked = _least(_most(wanted, before_w[s] - reach), before_w[s] + reach)
        if not running[s] or outside:
            asked = 0.0
        k2 = r + quadratic[s]
        draw = asked + fixed_w[s] + linear[s] * abs(asked)
        root = emf * emf - 4.0 * k2 * draw
        if root > 0.0:
            current = 2.0 * draw / _most(emf + np.sqrt(_most(root, 0.0)), 1e-9)
        else:
            current = emf / (2.0 * _most(k2, 1e-12))
        limit = _least(abs(limit_a[s]), rating_a[s])
        safe_r = _most(r, 1e-12)
        top = _least(limit, limit if outside else (emf - low_v[s]) / safe_r)
        bottom = _most(-limit, -limit if outside else (emf - high_v[s]) / safe_r)
        held = _least(_most(current, bottom), _most(top, bottom))
        unsupplied = outside and root <= 0.0
        if not running[s] or unsupplied:
            held = 0.0
        changed = running[s] and (held != current or root <= 0.0)
        power = asked
        if changed:
            net = (emf - r * held) * held - fixed_w[s]
            net -= quadratic[s] * (held * held)
            power = net / (1.0 + linear[s] if net >= 0.0 else 1.0 - linear[s])
        supplied[s] = running[s] and not unsupplied
        current_a[s] = held
        bus_w[s] = power if supplied[s] else 0.0
        limiting[s] = running[s] and not outside and (changed or abs(power_w[s]) > rating_w[s])
        beyond[s] = outside
    return current_a, bus_w, limiting, beyond, supplied


@compiled
def balance_trim(
    start: IntArray, setpoint_a: FloatArray, voltage_v: FloatArray, efficiency: FloatArray
) -> FloatArray:
    """(M,) trim currents that flow."""
    trim = np.empty(setpoint_a.size)
    for s in range(start.size - 1):
        given, taken = 0.0, 0.0
        for i in range(start[s], start[s + 1]):
            power = setpoint_a[i] * voltage_v[i]
            given += _most(power, 0.0) * efficiency[i]
            taken += _most(-power, 0.0)
        flow = _least(given, taken)
        give = flow / given if given > 0.0 else 0.0
        take = flow / taken if taken > 0.0 else 0.0
        for i in range(start[s], start[s + 1]):
            trim[i] = setpoint_a[i] * (give if setpoint_a[i] > 0.0 else take)
    return trim
