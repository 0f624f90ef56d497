"""Compiled answer at fixed string currents, and what it costs; see `optimizer.fixed`, `optimizer.solution`.

An interval is answered and priced a dozen times, on arrays of a few values each: numpy spends its time on
calls. The operations and their order are numpy's, so that both give the same answer to the last bit.
"""

from __future__ import annotations

import numpy as np

from optimizer import kernels
from optimizer.kernels_trim import BLOCK, LANES
from optimizer.kernels_trim import _sum as short_sum
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import compiled


@compiled
def total(x: FloatArray) -> float:
    """Sum of (N,) in the order of `numpy.sum`: halves of long rows, lanes in short ones."""
    n = x.size
    if n <= BLOCK:
        return float(short_sum(x))
    half = n // 2
    half -= half % LANES
    return float(total(x[:half]) + total(x[half:]))


@compiled
def answer(
    start: IntArray, sign: float, emf: FloatArray, ohm: FloatArray, price: FloatArray, weight: FloatArray,
    target: FloatArray, limit_now: FloatArray, limit_avg: FloatArray, forced: BoolArray,
    slot_min: FloatArray, slot_max: FloatArray, power_max: FloatArray, r_on: FloatArray,
    loss_fixed: FloatArray, loss_linear: FloatArray, loss_quadratic: FloatArray,
    power_w: float, rho: float, current_a: FloatArray, trim: FloatArray,
) -> tuple[bool, FloatArray, FloatArray, float, FloatArray]:  # fmt: skip
    """`make` and `solve_fixed`: whether the data are sound, q (M,), bus (S,), price, string prices (S,)."""
    m, s = emf.size, current_a.size
    v, a, c = np.empty(m), np.empty(m), np.empty(m)
    lo, hi = np.empty(m), np.empty(m)
    g, k, zlo, zhi = np.empty(s), np.empty(s), np.empty(s), np.empty(s)
    sound = True
    for j in range(s):
        own = current_a[j]
        gain = 1.0 / (1.0 + sign * loss_linear[j])
        stiff = r_on[j] + loss_quadratic[j]
        quad = stiff * (own * own)
        lossy = loss_linear[j] * gain
        least, most = 0.0, 0.0
        for i in range(start[j], start[j + 1]):
            eligible = own <= limit_now[i] * (1.0 + 1e-9) and own > 0.0
            hi[i] = 0.0
            if eligible:
                hi[i] = min(limit_avg[i], own)
            lo[i] = 0.0
            if forced[i]:
                hi[i], lo[i] = own, own
            v[i] = emf[i] - sign * ohm[i] * own - ohm[i] * trim[i]
            a[i] = price[i] + ohm[i] * (own + 2.0 * sign * trim[i]) + lossy * v[i]
            c[i] = target[i] - sign * trim[i]
            finite = np.isfinite(v[i]) and np.isfinite(a[i]) and np.isfinite(weight[i]) and np.isfinite(c[i])
            finite = finite and np.isfinite(lo[i]) and np.isfinite(hi[i])
            sound = sound and finite and v[i] > 0.0 and weight[i] > 0.0 and lo[i] <= hi[i]
            least += v[i] * lo[i]
            most += v[i] * hi[i]
        drop = sign * r_on[j] * (own * own)
        bears = power_max[j] * (1.0 + sign * loss_linear[j]) + sign * (loss_fixed[j] + stiff * (own * own))
        g[j] = gain if own > 0.0 else 0.0
        k[j] = sign * (loss_fixed[j] + quad) * gain if own > 0.0 else 0.0
        low, high = slot_min[j] * own + drop, slot_max[j] * own + drop
        if not high < bears:
            high = bears
        sound = sound and np.isfinite(g[j]) and np.isfinite(k[j]) and np.isfinite(low) and np.isfinite(high)
        zlo[j] = min(max(low, least), most)
        zhi[j] = min(max(high, zlo[j], least), most)
    if not sound:
        return False, hi, g, 0.0, k
    q, site_price, string_price = kernels.solve_fixed(
        start, v, a, weight, c, lo, hi, g, k, zlo, zhi, power_w, rho
    )
    bus = np.empty(s)
    for j in range(s):
        load = 0.0
        for i in range(start[j], start[j + 1]):
            load += v[i] * q[i]
        bus[j] = g[j] * load - k[j]
    return True, q, bus, site_price, string_price


@compiled
def cost(
    start: IntArray, sign: float, used: BoolArray, emf: FloatArray, ohm: FloatArray, weight: FloatArray,
    target: FloatArray, efficiency: FloatArray, r_on: FloatArray, loss_fixed: FloatArray,
    loss_linear: FloatArray, loss_quadratic: FloatArray,
    current_a: FloatArray, q: FloatArray, t: FloatArray, bus: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Losses and the balance term [W], as `loss_w` and `cost_of`."""
    m, s = emf.size, current_a.size
    modules, trims, uneven = np.empty(m), np.empty(m), np.empty(m)
    switches, converters = np.empty(s), np.empty(s)
    for j in range(s):
        own = current_a[j]
        for i in range(start[j], start[j + 1]):
            modules[i] = ohm[i] * (own * q[i] + 2.0 * sign * q[i] * t[i] + t[i] * t[i])
            trims[i] = (1.0 - efficiency[i]) * emf[i] * max(t[i], 0.0)
            off = q[i] + sign * t[i] - target[i]
            uneven[i] = 0.5 * weight[i] * (off * off)
        switches[j] = (r_on[j] + loss_quadratic[j]) * (own * own)
        converters[j] = loss_fixed[j] * (1.0 if used[j] else 0.0) + loss_linear[j] * bus[j]
    loss = total(modules) + total(switches) + total(converters) + total(trims)
    return loss, total(uneven)
