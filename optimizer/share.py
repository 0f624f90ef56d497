"""Sharing the site's power between strings: each answers with its limits and its share of the energy."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray


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
