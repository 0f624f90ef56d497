"""Compiled loops of the certified lower bound; `optimizer/bound.py` says what they compute and why."""

from __future__ import annotations

import numpy as np

from optimizer.kernels import compiled
from reconf.arrays import FloatArray

MAX_BRACKETS = 70
SPLIT = 5
CYCLES = 3
BISECTIONS = 18
PRICE_MAX = 400.0
"""Prices beyond +-PRICE_MAX [W/W] are not tried; unserved power costs about 100."""


@compiled
def _value(
    m: FloatArray, i: int, sign: float, w: float, p: float, th: float, q: float, t: float
) -> tuple[float, float, float]:  # fmt: skip
    """Objective of module i at (q, t), its load and its power on the trim bus; rows of `m` as in `rows`."""
    u, ohm, wear, mu, c, eta = m[0, i], m[1, i], m[2, i], m[3, i], m[4, i], m[10, i]
    out, into = max(t, 0.0), max(-t, 0.0)
    x = q + sign * t - c
    bus = u * (eta * out - into)
    f = (ohm * w * (1.0 + sign * p) + wear - p * u) * q + ohm * (2.0 * sign + p) * q * t + ohm * t * t
    f += sign * wear * t + 0.5 * mu * x * x + (1.0 - eta) * u * out - th * bus
    return f, q * (u - sign * ohm * w - ohm * t), bus


@compiled
def _module(  # noqa: C901, PLR0912 - every edge of the box in one place
    m: FloatArray, i: int, sign: float, a: float, b: float, p: float, th: float
) -> tuple[float, float, float]:  # fmt: skip
    """Least value of module i over its box on the bracket [a, b], with load and trim power there."""
    u, ohm, wear, mu, c = m[0, i], m[1, i], m[2, i], m[3, i], m[4, i]
    now, avg, forced, give, take, eta = m[5, i], m[6, i], m[7, i], m[8, i], m[9, i], m[10, i]
    if forced > 0.5:
        lo, hi = a, b
    elif a <= now * (1.0 + 1e-9):
        lo, hi = 0.0, max(min(b, now, avg), 0.0)
    else:
        lo, hi = 0.0, 0.0
    bilinear = 1.0 + sign * p
    w = a if bilinear >= 0.0 else b
    linear, cross = ohm * w * bilinear + wear - p * u, ohm * (2.0 * sign + p)
    best, best_z, best_bus = np.inf, 0.0, 0.0
    for side in range(3):
        if side > 0 and give + take == 0.0:
            break
        t = 0.0 if side == 0 else (give if side == 1 else -take)
        q = min(max(c - sign * t - (linear + cross * t) / mu, lo), hi)
        f, z, bus = _value(m, i, sign, w, p, th, q, t)
        if f < best:
            best, best_z, best_bus = f, z, bus
    if give + take > 0.0:
        stiff = 2.0 * ohm + mu
        for side in range(4):
            q = lo if side < 2 else hi
            pull = cross * q + sign * (wear + mu * (q - c))
            if side % 2 == 0:
                t = min(max((th * eta * u - (1.0 - eta) * u - pull) / stiff, 0.0), give)
            else:
                t = min(max((th * u - pull) / stiff, -take), 0.0)
            f, z, bus = _value(m, i, sign, w, p, th, q, t)
            if f < best:
                best, best_z, best_bus = f, z, bus
        qt = sign * mu + cross
        det = mu * stiff - qt * qt
        if det > 0.0:
            for side in range(2):
                slope = (1.0 - eta) * u - th * eta * u if side == 0 else -th * u
                gq, gt = linear - mu * c, slope + sign * (wear - mu * c)
                q, t = (qt * gt - stiff * gq) / det, (qt * gq - mu * gt) / det
                if lo <= q <= hi and (0.0 <= t <= give if side == 0 else -take <= t <= 0.0):
                    f, z, bus = _value(m, i, sign, w, p, th, q, t)
                    if f < best:
                        best, best_z, best_bus = f, z, bus
    return best, best_z, best_bus


@compiled
def _dual(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, lam: float, nu: float,
    th: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Dual of one string on [a, b]; its slopes in nu (window) and theta (trim bus).

    `s`: vmin, vmax, ron, heat, fixed, cut_v, cut_ohm of the string.
    """
    vmin, vmax, ron, heat, fixed, cut_v, cut_ohm = s[0], s[1], s[2], s[3], s[4], s[5], s[6]
    edge_a, edge_b = vmin * a + sign * ron * a * a, vmin * b + sign * ron * b * b
    low = max(min(edge_a, edge_b), a * (cut_v - cut_ohm * b))
    high = max(vmax * a + sign * ron * a * a, vmax * b + sign * ron * b * b)
    scale = 1.0 + sign * lam
    total = scale * (heat * (a * a if scale >= 0.0 else b * b) + fixed)
    load, trim = 0.0, 0.0
    for i in range(i0, i1):
        f, z, bus = _module(m, i, sign, a, b, lam + nu, th)
        total += f
        load += z
        trim += bus
    edge = low if nu > 0.0 else high
    if nu == 0.0:
        edge = min(max(load, low), high)
    return total + nu * edge, edge - load, -trim


@compiled
def _ascend(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, lam: float, nu: float,
    th: float, target: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Best dual value found by turns of bisection in the window's and the trim bus's price."""
    best, slope_nu, slope_th = _dual(m, i0, i1, s, sign, a, b, lam, nu, th)
    trims = False
    for i in range(i0, i1):
        trims = trims or m[8, i] + m[9, i] > 0.0
    for _ in range(CYCLES):
        before = best
        for kind in range(2):
            if kind == 1 and not trims:
                continue
            slope = slope_nu if kind == 0 else slope_th
            if slope == 0.0:
                continue
            step, near, far, sure = 0.01, 0.0, 0.0, False
            for _ in range(40):
                # walk out while the dual still rises, then bisect between the last two points
                offset = 0.5 * (near + far) if sure else (step if slope > 0.0 else -step)
                if abs(offset) > PRICE_MAX:
                    break
                # the value of a watt on the trim bus follows the price of power
                try_nu = nu + offset if kind == 0 else nu
                value, g_nu, g_th = _dual(m, i0, i1, s, sign, a, b, lam, try_nu, th + offset)
                here = g_nu if kind == 0 else g_th
                best = max(best, value)
                if best >= target:
                    return best, nu, th
                if here * slope > 0.0:
                    near = offset
                else:
                    far, sure = offset, True
                step *= 3.0
                if sure and abs(far - near) < 1e-4:
                    break
            nu, th = (nu + near, th + near) if kind == 0 else (nu, th + near)
            value, slope_nu, slope_th = _dual(m, i0, i1, s, sign, a, b, lam, nu, th)
            best = max(best, value)
        if best - before <= 1e-7 * abs(best):
            break
    return best, nu, th


@compiled
def string_bound(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, lam: float, th: float, top: float, at: float,
    target: float, tolerance: float,
) -> float:  # fmt: skip
    """True lower bound of min (cost - lam*Z...) of one string over currents 0..top.

    Brackets that already reach `target` (what the plan itself has) need no better prices; the lowest of the
    others is split until the bound is within `tolerance` of the target or the brackets are used up.
    """
    left, right, value = np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS)
    near_nu, near_th = np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS)
    edges = np.empty(21)
    for j in range(11):
        edges[j] = top * j / 10.0
    widths = np.array([-0.1, -0.03, -0.01, -0.003, -0.0005, 0.0005, 0.003, 0.01, 0.03, 0.1])
    for j in range(10):
        edges[11 + j] = min(at * (1.0 + widths[j]), top)
    edges.sort()
    count = 0
    for j in range(20):
        if edges[j + 1] <= edges[j] and not (top == 0.0 and j == 0):
            continue
        left[count], right[count] = edges[j], edges[j + 1]
        value[count], near_nu[count], near_th[count] = _ascend(
            m, i0, i1, s, sign, edges[j], edges[j + 1], lam, 0.0, th, target
        )
        count += 1
    while True:
        worst = 0
        for j in range(count):
            if value[j] < value[worst]:
                worst = j
        if value[worst] >= target - tolerance or count + SPLIT > MAX_BRACKETS:
            return float(value[worst])
        a, b, known = left[worst], right[worst], value[worst]
        if b - a <= 1e-6 * max(b, 1e-6):
            return float(known)
        nu, t0 = near_nu[worst], near_th[worst]
        for k in range(SPLIT):
            j = worst if k == 0 else count
            left[j], right[j] = a + (b - a) * k / SPLIT, a + (b - a) * (k + 1) / SPLIT
            found, near_nu[j], near_th[j] = _ascend(
                m, i0, i1, s, sign, left[j], right[j], lam, nu, t0, target
            )
            # a part is never worse than the whole
            value[j] = max(found, known)
            if k > 0:
                count += 1
