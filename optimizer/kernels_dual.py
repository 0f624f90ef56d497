"""Compiled dual of one string on a bracket of its current; `optimizer/bound.py` says what it is and why."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray
from reconf.compiled import compiled

CYCLES = 3
LINE_STEPS = 30
PRICE_MAX = 400.0
"""Prices beyond +-PRICE_MAX [W/W] are not tried; unserved power costs about 100."""


@compiled
def _value(
    m: FloatArray, i: int, sign: float, w: float, p: float, k: float, th: float, q: float, t: float
) -> tuple[float, float, float]:  # fmt: skip
    """Objective of module i at (q, t), its load and its power on the trim bus; rows of `m` as in `rows`."""
    u, ohm, wear, mu, c, eta = m[0, i], m[1, i], m[2, i], m[3, i], m[4, i], m[10, i]
    out, into = max(t, 0.0), max(-t, 0.0)
    x = q + sign * t - c
    bus = u * (eta * out - into)
    f = (ohm * w * (1.0 + sign * p) + wear - p * u - k) * q + ohm * (2.0 * sign + p) * q * t + ohm * t * t
    f += sign * wear * t + 0.5 * mu * x * x + (1.0 - eta) * u * out - th * bus
    return f, q * (u - sign * ohm * w - ohm * t), bus


@compiled
def module_least(  # noqa: C901, PLR0912 - every edge of the box in one place
    m: FloatArray, i: int, sign: float, a: float, b: float, p: float, k: float, th: float
) -> tuple[float, float, float, float, float]:  # fmt: skip
    """Least value of module i over its box on the bracket [a, b]; q, load, trim power and trim there.

    `p` prices its power, `k` its through-charge current, `th` its power on the trim bus.
    """
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
    linear, cross = ohm * w * bilinear + wear - p * u - k, ohm * (2.0 * sign + p)
    best, best_q, best_z, best_bus, best_t = np.inf, 0.0, 0.0, 0.0, 0.0
    for side in range(3):
        if side > 0 and give + take == 0.0:
            break
        t = 0.0 if side == 0 else (give if side == 1 else -take)
        q = min(max(c - sign * t - (linear + cross * t) / mu, lo), hi)
        f, z, bus = _value(m, i, sign, w, p, k, th, q, t)
        if f < best:
            best, best_q, best_z, best_bus, best_t = f, q, z, bus, t
    if give + take > 0.0:
        stiff = 2.0 * ohm + mu
        for side in range(4):
            q = lo if side < 2 else hi
            pull = cross * q + sign * (wear + mu * (q - c))
            if side % 2 == 0:
                t = min(max((th * eta * u - (1.0 - eta) * u - pull) / stiff, 0.0), give)
            else:
                t = min(max((th * u - pull) / stiff, -take), 0.0)
            f, z, bus = _value(m, i, sign, w, p, k, th, q, t)
            if f < best:
                best, best_q, best_z, best_bus, best_t = f, q, z, bus, t
        qt = sign * mu + cross
        det = mu * stiff - qt * qt
        if det > 0.0:
            for side in range(2):
                slope = (1.0 - eta) * u - th * eta * u if side == 0 else -th * u
                gq, gt = linear - mu * c, slope + sign * (wear - mu * c)
                q, t = (qt * gt - stiff * gq) / det, (qt * gq - mu * gt) / det
                if lo <= q <= hi and (0.0 <= t <= give if side == 0 else -take <= t <= 0.0):
                    f, z, bus = _value(m, i, sign, w, p, k, th, q, t)
                    if f < best:
                        best, best_q, best_z, best_bus, best_t = f, q, z, bus, t
    return best, best_q, best_z, best_bus, best_t


@compiled
def needed(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, room: FloatArray
) -> float:  # fmt: skip
    """Least number of modules in a slot at any current in [a, b]: so many of the strongest reach the window.

    Voltages are the highest the modules can have there (trim taken in, slow polarisation left out). 0 where
    the window's own voltage says more than the count.
    """
    count, total = 0, 0.0
    for i in range(i0, i1):
        if a <= m[5, i] * (1.0 + 1e-9) and m[5, i] > 0.0:
            room[count] = m[0, i] - m[11, i] * ((a if sign > 0.0 else -b) - m[9, i])
            total += m[0, i] - sign * m[1, i] * a
            count += 1
    if count == 0:
        return 0.0
    order = np.sort(room[:count])
    reached, need = 0.0, 0
    target = s[0] + s[2] * (a if sign > 0.0 else -b)
    while need < count and reached < target:
        need += 1
        reached += order[count - need]
    return float(need) if need * total / count > s[0] else 0.0


@compiled
def dual(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, need: float, lam: float,
    nu: float, th: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Dual of one string on [a, b]; its slopes in nu (window) and theta (trim bus); the load there.

    `s`: vmin, vmax, ron, heat, fixed, mean voltage of the string. The lower edge is that of the number of
    modules where `need` gives one: sum q >= need*I, priced in volts of a mean module.
    """
    vmin, vmax, ron, heat, fixed, mean_v = s[0], s[1], s[2], s[3], s[4], s[5]
    by_count = need > 0.0 and nu > 0.0
    low = min(vmin * a + sign * ron * a * a, vmin * b + sign * ron * b * b)
    high = max(vmax * a + sign * ron * a * a, vmax * b + sign * ron * b * b)
    scale = 1.0 + sign * lam
    total = scale * (heat * (a * a if scale >= 0.0 else b * b) + fixed)
    load, trim, through = 0.0, 0.0, 0.0
    p, k = (lam, nu * mean_v) if by_count else (lam + nu, 0.0)
    for i in range(i0, i1):
        f, q, z, bus, _ = module_least(m, i, sign, a, b, p, k, th)
        total += f
        through += q
        load += z
        trim += bus
    if by_count:
        edge, at = need * a * mean_v, through * mean_v
    elif nu > 0.0:
        edge, at = low, load
    elif nu < 0.0 or load > high:
        edge, at = high, load
    elif need > 0.0:
        edge, at = max(need * a, through) * mean_v, through * mean_v
    else:
        edge, at = max(load, low), load
    return total + nu * edge, edge - at, -trim, load


@compiled
def _line(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, need: float, lam: float,
    nu: float, th: float, both: float, start: float, slope: float, enough: float, target: float,
) -> tuple[float, float]:  # fmt: skip
    """Highest dual on a line through (nu, th): along theta alone, or along both.

    Along both, since the value of a watt on the trim bus follows the price of power. The slope along the line
    never rises, so its zero is bracketed and found by the Illinois rule (regula falsi that halves the weight
    of an end that stays). It ends where slope times bracket, the most that is still to be had, is below
    `enough`. Returns the offset and the value there.
    """
    near, near_slope, far, far_slope, sure = 0.0, slope, 0.0, 0.0, False
    weight_near, weight_far = slope, 0.0
    best, best_at = start, 0.0
    step = 0.02 if slope > 0.0 else -0.02
    for _ in range(LINE_STEPS):
        if sure:
            offset = (near * weight_far - far * weight_near) / (weight_far - weight_near)
            if not min(near, far) < offset < max(near, far):
                offset = 0.5 * (near + far)
        else:
            offset = near + step
            step *= 4.0
            if abs(offset) > PRICE_MAX:
                break
        here, g_nu, g_th, _ = dual(m, i0, i1, s, sign, a, b, need, lam, nu + both * offset, th + offset)
        along = both * g_nu + g_th
        if here > best:
            best, best_at = here, offset
            if best >= target:
                break
        if along * slope > 0.0:
            near, near_slope, weight_near = offset, along, along
            weight_far *= 0.5
        else:
            far, far_slope, weight_far = offset, along, along
            weight_near = 0.5 * weight_near if sure else weight_near
            sure = True
        if sure and min(abs(near_slope), abs(far_slope)) * abs(far - near) <= enough:
            break
    return best_at, best


@compiled
def ascend(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, a: float, b: float, need: float, lam: float,
    nu: float, th: float, target: float, enough: float, trims: bool,
) -> tuple[float, float, float]:  # fmt: skip
    """Best dual value found by turns in the window's and the trim bus's price, and these prices."""
    best, g_nu, g_th, _ = dual(m, i0, i1, s, sign, a, b, need, lam, nu, th)
    for _ in range(CYCLES):
        before = best
        for kind in range(2):
            # the trim bus first: with its price right, whether the window binds at all is plain to see
            both = 0.0 if kind == 0 else 1.0
            slope = both * g_nu + g_th
            if best >= target or slope == 0.0 or (kind == 0 and not trims):
                continue
            offset, best = _line(
                m, i0, i1, s, sign, a, b, need, lam, nu, th, both, best, slope, enough, target
            )
            nu, th = nu + both * offset, th + offset
            _, g_nu, g_th, _ = dual(m, i0, i1, s, sign, a, b, need, lam, nu, th)
        if best >= target or best - before <= enough:
            break
    return best, nu, th
