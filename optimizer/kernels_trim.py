"""Compiled bisection of the trim price: the steps of `optimizer/trim.py`, one string at a time.

Sums run in the order of numpy's own, so that both give the same trim to the last bit.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray
from reconf.compiled import compiled

LANES = 8
"""Partial sums that numpy keeps side by side."""
BLOCK = 128
"""Values above which numpy halves a sum; longer strings only lose the last bit's agreement."""


@compiled
def _sum(x: FloatArray) -> float:
    """Sum of (N,) as numpy adds up a row of at most `BLOCK` values."""
    n = x.size
    if n < LANES:
        total = 0.0
        for i in range(n):
            total += x[i]
        return total
    lane = x[:LANES].copy()
    full = n - n % LANES
    for i in range(LANES, full):
        lane[i % LANES] += x[i]
    pairs = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
    total = float(pairs)
    for i in range(full, n):
        total += x[i]
    return total


@compiled
def bisected(
    h: FloatArray, k: FloatArray, u: FloatArray, e: FloatArray, g: FloatArray, d: FloatArray,
    low: FloatArray, high: FloatArray, steps: int,
) -> FloatArray:  # fmt: skip
    """Trim (S, N) at the price between `low` and `high` (S,) at which the bus of each string balances.

    The other arrays (S, N) as in `optimizer.trim`: pull, stiffness, voltage, efficiency, give and take.
    """
    trim = np.zeros(h.shape)
    width = h.shape[1]
    power = np.empty(width)
    for s in range(h.shape[0]):
        bottom, top = low[s], high[s]
        for step in range(steps + 1):
            price = 0.5 * (bottom + top)
            for i in range(width):
                alone = price * e[s, i] * u[s, i] - (1.0 - e[s, i]) * u[s, i] - h[s, i]
                out = min(max(alone / k[s, i], 0.0), g[s, i])
                into = min(max((price * u[s, i] - h[s, i]) / k[s, i], -d[s, i]), 0.0)
                trim[s, i] = out + into
                power[i] = u[s, i] * (e[s, i] * out + into)
            if step == steps or price <= bottom or price >= top:
                break
            if _sum(power) < 0.0:
                bottom = price
            else:
                top = price
    return trim
