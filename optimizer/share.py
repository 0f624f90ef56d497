"""Sharing power between strings (or sites): each answers with its convex cost curve and its limits.

At fixed string currents the marginal cost of a string's power is piecewise linear, with a breakpoint wherever
a module enters or leaves its bounds; that curve is all that a coordinator needs. The shares at which all
marginal costs meet are exactly those of the joint problem, whoever computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.fixed import Fixed
from reconf.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Marginal cost against power of one string; power never falls with price, linear in between."""

    price: FloatArray
    """(K,) ascending [W of cost per W at the bus]."""
    power_w: FloatArray
    """(K,) at the bus; the first and the last are the string's limits."""

    def power_at(self, price: float) -> float:
        """Power offered at `price`."""
        return float(np.interp(price, self.price, self.power_w))


def string_curve(fixed: Fixed, string: int) -> CostCurve:
    """The curve of one string of a fixed-current problem, exact."""
    where = slice(int(fixed.start[string]), int(fixed.start[string + 1]))
    v, a, mu, c = fixed.v[where], fixed.a[where], fixed.mu[where], fixed.c[where]
    lo, hi, g = fixed.lo[where], fixed.hi[where], float(fixed.g[string])
    if g <= 0.0 or v.size == 0:
        return CostCurve(np.zeros(1), np.full(1, -float(fixed.k[string])))
    breaks = np.concatenate(((a + mu * (lo - c)) / v, (a + mu * (hi - c)) / v))
    prices = np.unique(breaks)
    q = np.clip(c + (prices[:, None] * v - a) / mu, lo, hi)
    load = q @ v
    for edge in (float(fixed.zlo[string]), float(fixed.zhi[string])):
        # the window's edges are breakpoints of their own
        if load[0] < edge < load[-1]:
            prices = np.append(prices, np.interp(edge, load, prices))
            order = np.argsort(prices)
            load = np.append(load, edge)[order]
            prices = prices[order]
    held = np.clip(load, fixed.zlo[string], fixed.zhi[string])
    return CostCurve(prices / g, g * held - float(fixed.k[string]))


def share_by_curves(curves: Sequence[CostCurve], total_w: float) -> tuple[FloatArray, float]:
    """Powers (one per curve) at the common price that gives `total_w`, or all at their nearest limits.

    Returns:
        The powers and the price.
    """
    prices = np.unique(np.concatenate([c.price for c in curves]))
    offered = np.array([[c.power_at(float(p)) for c in curves] for p in prices])
    sums = offered.sum(axis=1)
    if total_w <= sums[0]:
        return offered[0], float(prices[0])
    if total_w >= sums[-1]:
        return offered[-1], float(prices[-1])
    k = int(np.searchsorted(sums, total_w, side="left"))
    part = (total_w - sums[k - 1]) / (sums[k] - sums[k - 1])
    shares: FloatArray = offered[k - 1] + part * (offered[k] - offered[k - 1])
    return shares, float(prices[k - 1] + part * (prices[k] - prices[k - 1]))


def share_by_weight(weight: FloatArray, limit_w: FloatArray, total_w: float) -> FloatArray:
    """Powers (S,) proportional to `weight` with each at most `limit_w`; sum is `total_w` or all limits.

    Water-filling: P_s = min(alpha*weight_s, limit_s), exact by sorting limit_s/weight_s.
    """
    if total_w >= float(limit_w.sum()):
        return limit_w.copy()
    weight = np.where(limit_w > 0.0, np.maximum(weight, 0.0), 0.0)
    if not weight.any():
        weight = np.where(limit_w > 0.0, 1.0, 0.0)
    ratio = np.where(weight > 0.0, limit_w / np.where(weight > 0.0, weight, 1.0), 0.0)
    order = np.argsort(ratio)
    filled = np.concatenate(([0.0], np.cumsum(limit_w[order])))
    rest = weight[order][::-1].cumsum()[::-1]
    with_level = filled[:-1] + rest * ratio[order]
    k = int(np.searchsorted(with_level, total_w))
    k = min(k, order.size - 1)
    level = (total_w - filled[k]) / rest[k] if rest[k] > 0.0 else ratio[order[-1]]
    shares: FloatArray = np.minimum(level * weight, limit_w)
    short = total_w - float(shares.sum())
    if short > 1e-9 * max(total_w, 1.0):
        # strings without weight (nothing left, but able) take what the others cannot
        spare = limit_w - shares
        shares = shares + spare * min(short / max(float(spare.sum()), 1e-12), 1.0)
    return shares
