"""Compiled loops of the structured solver: the same steps as `optimizer/structured.py`, string by string.

Imported only where a problem is solved.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.compiled import compiled

MAX_STEPS = 200


@compiled
def _string_response(
    i0: int, i1: int, price: float, v: FloatArray, base: FloatArray, rise: FloatArray,
    lo: FloatArray, hi: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Load Z of one string at `price`, and its slope."""
    load, slope = 0.0, 0.0
    for i in range(i0, i1):
        q = base[i] + price * rise[i]
        if q <= lo[i]:
            q = lo[i]
        elif q >= hi[i]:
            q = hi[i]
        else:
            slope += v[i] * rise[i]
        load += v[i] * q
    return load, slope


@compiled
def _site_response(
    price: float, start: IntArray, v: FloatArray, base: FloatArray, rise: FloatArray, lo: FloatArray,
    hi: FloatArray, g: FloatArray, zlo: FloatArray, zhi: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Sum of g*Z with windows kept, and its slope."""
    power, slope = 0.0, 0.0
    for s in range(g.size):
        load, steep = _string_response(start[s], start[s + 1], g[s] * price, v, base, rise, lo, hi)
        if load < zlo[s]:
            power += g[s] * zlo[s]
        elif load > zhi[s]:
            power += g[s] * zhi[s]
        else:
            power += g[s] * load
            slope += g[s] * g[s] * steep
    return power, slope


@compiled
def _site_price(
    wanted: float, rho: float, start: IntArray, v: FloatArray, base: FloatArray, rise: FloatArray,
    lo: FloatArray, hi: FloatArray, g: FloatArray, zlo: FloatArray, zhi: FloatArray,
) -> float:  # fmt: skip
    """Price at which the strings give `wanted`; Newton in a bracket that only shrinks."""
    low, high, price = -rho, rho, 0.0
    ends_known = False
    for _ in range(MAX_STEPS):
        power, slope = _site_response(price, start, v, base, rise, lo, hi, g, zlo, zhi)
        miss = wanted - power
        if abs(miss) <= 1e-13 * max(abs(wanted), 1.0):
            return price
        if miss > 0.0:
            low = price
        else:
            high = price
        step = price + miss / slope if slope > 0.0 else np.inf
        if low < step < high:
            following = step
        elif not ends_known:
            # a step that leaves [-rho, rho] asks whether the power is within reach at all
            ends_known = True
            edge = rho if miss > 0.0 else -rho
            power, slope = _site_response(edge, start, v, base, rise, lo, hi, g, zlo, zhi)
            if (miss > 0.0 and power <= wanted) or (miss < 0.0 and power >= wanted):
                return edge
            following = 0.5 * (low + high)
        else:
            following = 0.5 * (low + high)
        if following in (low, high):
            return price
        price = following
    return price


@compiled
def _string_price(
    goal: float, price: float, i0: int, i1: int, v: FloatArray, a: FloatArray, mu: FloatArray, c: FloatArray,
    base: FloatArray, rise: FloatArray, lo: FloatArray, hi: FloatArray,
) -> float:  # fmt: skip
    """Price at which one string's load is `goal`."""
    low, high = np.inf, -np.inf
    for i in range(i0, i1):
        low = min(low, (a[i] + mu[i] * (lo[i] - c[i])) / v[i])
        high = max(high, (a[i] + mu[i] * (hi[i] - c[i])) / v[i])
    low, high = min(low - 1.0, price), max(high + 1.0, price)
    for _ in range(MAX_STEPS):
        load, slope = _string_response(i0, i1, price, v, base, rise, lo, hi)
        miss = goal - load
        if abs(miss) <= 1e-13 * max(abs(goal), 1.0):
            return price
        if miss > 0.0:
            low = price
        else:
            high = price
        step = price + miss / slope if slope > 0.0 else np.inf
        following = step if low < step < high else 0.5 * (low + high)
        if following in (low, high):
            return price
        price = following
    return price


@compiled
def solve_fixed(
    start: IntArray, v: FloatArray, a: FloatArray, mu: FloatArray, c: FloatArray, lo: FloatArray,
    hi: FloatArray, g: FloatArray, k: FloatArray, zlo: FloatArray, zhi: FloatArray, power_w: float,
    rho: float,
) -> tuple[FloatArray, float, FloatArray]:  # fmt: skip
    """Answer: q (M,), price of power, string prices (S,); see `optimizer.fixed` for the problem."""
    m, n = v.size, g.size
    base, rise, q, string_price = np.empty(m), np.empty(m), np.empty(m), np.empty(n)
    for i in range(m):
        base[i] = c[i] - a[i] / mu[i]
        rise[i] = v[i] / mu[i]
    price = _site_price(power_w + k.sum(), rho, start, v, base, rise, lo, hi, g, zlo, zhi)
    for s in range(n):
        i0, i1 = start[s], start[s + 1]
        p = g[s] * price
        load, _ = _string_response(i0, i1, p, v, base, rise, lo, hi)
        if load < zlo[s]:
            p = _string_price(zlo[s], p, i0, i1, v, a, mu, c, base, rise, lo, hi)
        elif load > zhi[s]:
            p = _string_price(zhi[s], p, i0, i1, v, a, mu, c, base, rise, lo, hi)
        string_price[s] = p
        for i in range(i0, i1):
            q[i] = min(max(base[i] + p * rise[i], lo[i]), hi[i])
    return q, price, string_price
