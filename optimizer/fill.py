"""Exact solution of the problem of one price: fill unequal modules to a common power.

    minimise   sum a_i*q_i + mu_i/2*(q_i - c_i)^2
    subject to sum v_i*q_i = Z,   lo_i <= q_i <= hi_i

Its answer is q_i(pi) = clip(c_i + (pi*v_i - a_i)/mu_i, lo_i, hi_i), and Z(pi) is piecewise linear and never
falls: sort the breakpoints, walk to the segment that holds Z, solve it there (Brucker, doi
10.1016/0167-6377(84)90010-5). Batched: every leading axis is a problem of its own.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray


def fill(
    v: FloatArray, a: FloatArray, mu: FloatArray, c: FloatArray, lo: FloatArray, hi: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solve; arrays (..., N) with v > 0, mu > 0, lo <= hi, and `z` (...) within reach.

    A `z` beyond reach gives the nearest end; the caller knows the reach and decides what that means.

    Returns:
        q (..., N) and the price pi (...), cost per unit of Z.
    """
    shape = np.broadcast_shapes(v.shape, hi.shape, a.shape)
    v, a, mu, c, lo, hi = (np.broadcast_to(x, shape) for x in (v, a, mu, c, lo, hi))
    enter, leave = (a + mu * (lo - c)) / v, (a + mu * (hi - c)) / v
    slope = np.where(hi > lo, v * v / mu, 0.0)
    points = np.concatenate((enter, leave), axis=-1)
    order = np.argsort(points, axis=-1)
    points = np.take_along_axis(points, order, axis=-1)
    steps = np.take_along_axis(np.concatenate((slope, -slope), axis=-1), order, axis=-1)
    slopes = np.maximum(np.cumsum(steps, axis=-1), 0.0)
    rise = slopes[..., :-1] * np.diff(points, axis=-1)
    base = (v * lo).sum(axis=-1)
    reach = np.concatenate((base[..., None], base[..., None] + np.cumsum(rise, axis=-1)), axis=-1)
    segment = np.clip((reach <= z[..., None]).sum(axis=-1) - 1, 0, points.shape[-1] - 2)[..., None]
    at, have, grow = (np.take_along_axis(x, segment, axis=-1)[..., 0] for x in (points, reach, slopes))
    price = at + np.where(grow > 0.0, (z - have) / np.where(grow > 0.0, grow, 1.0), 0.0)
    for _ in range(2):
        # the sums above lose digits with many modules: polish on the segment found
        raw = c + (price[..., None] * v - a) / mu
        q = np.clip(raw, lo, hi)
        inside = ((raw > lo) & (raw < hi) & (hi > lo)) * slope
        free = inside.sum(axis=-1)
        miss = z - (v * q).sum(axis=-1)
        price = price + np.where(free > 0.0, miss / np.where(free > 0.0, free, 1.0), 0.0)
    q = np.clip(c + (price[..., None] * v - a) / mu, lo, hi)
    return q, price


def cost(a: FloatArray, mu: FloatArray, c: FloatArray, q: FloatArray) -> FloatArray:
    """Objective of `fill` (...,)."""
    total: FloatArray = (a * q + 0.5 * mu * (q - c) ** 2).sum(axis=-1)
    return total
