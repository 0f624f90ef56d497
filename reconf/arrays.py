"""Array aliases. Letters in shapes: M modules, S strings, C cell groups of the largest module.

Modules are in *site order*: string by string, position by position, so that the modules of one
string are one contiguous slice (see `reconf.site.Topology`).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]


def frozen(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return `array` marked read-only; what is shared between layers is never written again."""
    array.setflags(write=False)
    return array


def row_median(values: FloatArray) -> FloatArray:
    """(M, 1) median of the known values of each row of (M, C), NaN where a row has none.

    As `np.nanmedian`, which takes a hundred times as long over the few columns that a module has.
    """
    ordered = np.sort(values, axis=1)  # NaN last
    count = (ordered == ordered).sum(axis=1)  # noqa: PLR0124  # a NaN is not itself
    rows = np.arange(count.size)
    below, above = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    middle: FloatArray = (0.5 * (ordered[rows, below] + ordered[rows, above]))[:, None]
    return middle


def middle(values: FloatArray) -> float:
    """Median of (N,), NaN where one of them is NaN or there is none.

    As `np.median`, which takes ten times as long over the few values of a string.
    """
    n = values.size
    if not n:
        return float("nan")
    ordered = np.sort(values)  # NaN last
    if np.isnan(ordered[-1]):
        return float("nan")
    return float(ordered[n // 2]) if n % 2 else float((ordered[n // 2 - 1] + ordered[n // 2]) / 2.0)


def no_nan(values: FloatArray, instead: float = 0.0) -> FloatArray:
    """`values` with a number in place of NaN; infinities stay."""
    filled: FloatArray = np.where(np.isnan(values), instead, values)
    return filled
