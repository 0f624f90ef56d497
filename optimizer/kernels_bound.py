"""Compiled search for the least priced cost of one string over its current; see `optimizer/bound.py`."""

from __future__ import annotations

import numpy as np

from optimizer.kernels_dual import PRICE_MAX, ascend, dual, module_least, needed
from reconf.arrays import FloatArray
from reconf.compiled import compiled, compiled_for

MAX_BRACKETS = 120
LIMIT_EDGES = 24
"""Module limits that begin a bracket of their own; further ones only cost splits."""
SPLIT = 5


@compiled
def _edges(m: FloatArray, i0: int, i1: int, lo: float, top: float, at: float) -> FloatArray:
    """Ends of the first brackets: coarse over [lo, top], fine around `at`, and just above module limits.

    A bracket that begins just above a limit knows that this module is out.
    """
    widths = np.array([-0.1, -0.03, -0.01, -0.003, -0.0005, 0.0005, 0.003, 0.01, 0.03, 0.1])
    edges = np.empty(11 + 10 + LIMIT_EDGES)
    for j in range(11):
        edges[j] = lo + (top - lo) * j / 10.0
    for j in range(10):
        edges[11 + j] = min(max(at * (1.0 + widths[j]), lo), top)
    count = 21
    for i in range(i0, i1):
        limit = m[5, i] * (1.0 + 2e-9)
        if lo < limit < top and count < edges.size:
            edges[count] = limit
            count += 1
    found = edges[:count].copy()
    found.sort()
    return found


@compiled
def string_bound(  # noqa: C901, PLR0912 - one loop over brackets; its state is eight arrays
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, lam: float, th: float, lo: float, top: float,
    at: float, target: float, tolerance: float,
) -> tuple[float, float, float]:  # fmt: skip
    """True lower bound of the priced cost of one string over currents lo..top.

    Brackets that already reach `target` need no better prices; the lowest of the others is split until it
    reaches the target less `tolerance`, until its width is worth less than `tolerance`, or the brackets are
    used up.

    Returns:
        The bound, the load less what switches and converter burn on the bracket that holds it (the slope of
        the bound in -lam), and a current of that bracket at which all it counts in take part.
    """
    left, right, value = np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS)
    near_nu, near_th = np.empty(MAX_BRACKETS), np.empty(MAX_BRACKETS)
    trims = False
    for i in range(i0, i1):
        trims = trims or m[8, i] + m[9, i] > 0.0
    edges = _edges(m, i0, i1, lo, top, at)
    priced, needs, room = np.zeros(MAX_BRACKETS), np.empty(MAX_BRACKETS), np.empty(i1 - i0)
    enough, count = 0.1 * tolerance, 0
    for j in range(edges.size - 1):
        if edges[j + 1] <= edges[j] and not (top <= lo and j == 0):
            continue
        left[count], right[count], near_nu[count], near_th[count] = edges[j], edges[j + 1], 0.0, th
        needs[count] = needed(m, i0, i1, s, sign, edges[j], edges[j + 1], room)
        value[count], _, _, _ = dual(m, i0, i1, s, sign, edges[j], edges[j + 1], needs[count], lam, 0.0, th)
        count += 1
    worst = 0
    while True:
        worst = 0
        for j in range(count):
            if value[j] < value[worst]:
                worst = j
        a, b, known, nu, t0 = left[worst], right[worst], value[worst], near_nu[worst], near_th[worst]
        need = needs[worst]
        if known >= target - tolerance:
            break
        if priced[worst] < 0.5:
            found, near_nu[worst], near_th[worst] = ascend(
                m, i0, i1, s, sign, a, b, need, lam, nu, t0, target, enough, trims
            )
            value[worst], priced[worst] = max(found, known), 1.0
            continue
        middle = 0.5 * (a + b)
        at_point, _, _, _ = dual(m, i0, i1, s, sign, middle, middle, need, lam, nu, t0)
        narrow = b - a <= 1e-6 * max(b, 1e-6) or at_point - known <= tolerance
        if narrow or count + SPLIT > MAX_BRACKETS:
            break
        for k in range(SPLIT):
            j = worst if k == 0 else count
            left[j], right[j] = a + (b - a) * k / SPLIT, a + (b - a) * (k + 1) / SPLIT
            near_nu[j], near_th[j], priced[j] = nu, t0, 0.0
            needs[j] = needed(m, i0, i1, s, sign, left[j], right[j], room)
            found, _, _, _ = dual(m, i0, i1, s, sign, left[j], right[j], needs[j], lam, nu, t0)
            # a part is never worse than the whole
            value[j] = max(found, known)
            if k > 0:
                count += 1
    a, b = left[worst], right[worst]
    middle = 0.5 * (a + b)
    for i in range(i0, i1):
        # the bracket counts a module in up to its limit: the plan must stay at it
        if a <= m[5, i] * (1.0 + 1e-9) and m[5, i] > 0.0:
            middle = min(middle, max(m[5, i], a))
    _, _, _, load = dual(m, i0, i1, s, sign, a, b, needs[worst], lam, near_nu[worst], near_th[worst])
    return value[worst], load - sign * (s[3] * middle * middle + s[4]), middle


@compiled
def _trim_at(
    m: FloatArray, i0: int, i1: int, sign: float, current: float, p: float, k: float, th: float,
    trim: FloatArray,
) -> float:  # fmt: skip
    """Write the modules' trim at prices (p, th); the power that reaches the trim bus."""
    total = 0.0
    for i in range(i0, i1):
        _, _, _, bus, trim[i - i0] = module_least(m, i, sign, current, current, p, k, th)
        total += bus
    return total


# compiled at import: the question that warms the worker up does not need it, and a worker that begins to
# compile in the middle of service is taken for hung and killed before the cache is written, again and again
@compiled_for("f8[:,::1]", "i8", "i8", "f8[::1]", "f8", "f8", "f8", "f8", "f8")
def string_trim(
    m: FloatArray, i0: int, i1: int, s: FloatArray, sign: float, lam: float, th: float, current: float,
    enough: float,
) -> FloatArray:  # fmt: skip
    """Trim currents (N,) of one string at `current` that are best together with its through-charge currents.

    At the dual's best prices a module may be indifferent and jump; the answers on both sides of the price
    that balances the trim bus are mixed so that it does.
    """
    count = i1 - i0
    need = needed(m, i0, i1, s, sign, current, current, np.empty(count))
    _, nu, t0 = ascend(m, i0, i1, s, sign, current, current, need, lam, 0.0, th, np.inf, enough, True)
    p, k = (lam, nu * s[5]) if need > 0.0 and nu > 0.0 else (lam + nu, 0.0)
    below, above = np.zeros(count), np.zeros(count)
    low, high, step = t0, t0, 1e-3
    gave_below = _trim_at(m, i0, i1, sign, current, p, k, low, below)
    while gave_below > 0.0 and step < PRICE_MAX:
        low -= step
        step *= 4.0
        gave_below = _trim_at(m, i0, i1, sign, current, p, k, low, below)
    step = 1e-3
    gave_above = _trim_at(m, i0, i1, sign, current, p, k, high, above)
    while gave_above < 0.0 and step < PRICE_MAX:
        high += step
        step *= 4.0
        gave_above = _trim_at(m, i0, i1, sign, current, p, k, high, above)
    middle = np.zeros(count)
    for _ in range(50):
        theta = 0.5 * (low + high)
        if theta in (low, high):
            break
        gave = _trim_at(m, i0, i1, sign, current, p, k, theta, middle)
        if gave < 0.0:
            low, gave_below = theta, gave
            below[:] = middle
        else:
            high, gave_above = theta, gave
            above[:] = middle
    span = gave_above - gave_below
    part = -gave_below / span if span > 0.0 else 0.0
    mixed: FloatArray = below + part * (above - below)
    return mixed
