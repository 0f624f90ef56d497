"""Compiled look at one rule: the steps of `reconf/verify/findings.py` while nothing is broken.

Some fifty rules are held against arrays of a few values at every step of every tick.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.compiled import compiled_for

# any layout, read-only or not: what a rule is held against comes from everywhere
_VALUES = "Array(f8, 1, 'A', True)"
_MASK = "Array(b1, 1, 'A', True)"


@compiled_for(_VALUES, _VALUES, _MASK, "f8", "f8")
def held(
    found: FloatArray, allowed: FloatArray, where: BoolArray, side: float, tolerance_frac: float
) -> tuple[bool, float]:
    """Whether `found` (N,) keeps to `allowed` wherever `where`, and the smallest relative distance to it.

    `side` 1.0: at most, -1.0: at least. A NaN on either side breaks the rule; a distance counts where it and
    the limit are numbers, the limit not 0 (inf where none counts).
    """
    nearest = np.inf
    for i in range(found.size):
        if not where[i]:
            continue
        size = abs(allowed[i])
        slack = tolerance_frac * size + 1e-9
        keeps = found[i] <= allowed[i] + slack if side > 0.0 else found[i] >= allowed[i] - slack
        if not keeps:
            return False, nearest
        distance = allowed[i] - found[i] if side > 0.0 else found[i] - allowed[i]
        if np.isfinite(distance) and size > 0.0:
            nearest = min(nearest, distance / size)
    return True, nearest
