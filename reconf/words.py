"""Numbers as an operator reads them: never `inf`, never `nan`."""

from __future__ import annotations

from math import isinf, isnan


def quantity(
    value: float, unit: str = "", *, endless: str = "without bound", unknown: str = "not known"
) -> str:
    """`4.262 V`; `endless` for an infinite number, `unknown` for NaN.

    Args:
        value: in `unit`.
        unit: may be empty.
        endless: what an infinite number means here.
        unknown: what NaN means here.
    """
    if isnan(value):
        return unknown
    if isinf(value):
        return endless
    return f"{value:.4g} {unit}".strip()
