"""Tables on uniform grids and one band solver, for many states at once."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray


def uniform_interp(grid: FloatArray, table: FloatArray, at: FloatArray) -> FloatArray:
    """Linear on a uniform grid, extended linearly beyond its ends."""
    position = (at - grid[0]) / (grid[1] - grid[0])
    low = np.clip(np.nan_to_num(position), 0, len(grid) - 2).astype(np.int64)
    share = position - low
    value: FloatArray = table[low] + share * (table[low + 1] - table[low])
    return value


def with_slope(grid: FloatArray, table: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `uniform_interp`, and the slope of the piece."""
    width = grid[1] - grid[0]
    position = (at - grid[0]) / width
    low = np.clip(np.nan_to_num(position), 0, len(grid) - 2).astype(np.int64)
    rise = table[low + 1] - table[low]
    return table[low] + (position - low) * rise, rise / width


def bilinear(
    rows: FloatArray, columns: FloatArray, table: FloatArray, row: FloatArray, column: FloatArray
) -> FloatArray:
    """Bilinear on uniform grids, held at the ends."""
    r = np.clip((row - rows[0]) / (rows[1] - rows[0]), 0.0, len(rows) - 1.0)
    c = np.clip((column - columns[0]) / (columns[1] - columns[0]), 0.0, len(columns) - 1.0)
    r0 = np.minimum(r.astype(np.int64), len(rows) - 2)
    c0 = np.minimum(c.astype(np.int64), len(columns) - 2)
    fr, fc = r - r0, c - c0
    r0, c0 = np.broadcast_arrays(r0, c0)
    low = table[r0, c0] * (1 - fc) + table[r0, c0 + 1] * fc
    high = table[r0 + 1, c0] * (1 - fc) + table[r0 + 1, c0 + 1] * fc
    value: FloatArray = low * (1 - fr) + high * fr
    return value


def tridiagonal(coupling: FloatArray, capacity: FloatArray, source: FloatArray) -> FloatArray:
    """Solve capacity y_i + sum_j coupling (y_i - y_j) = source_i along the last axis (Thomas)."""
    n = source.shape[-1]
    diagonal = np.broadcast_to(capacity, source.shape).copy()
    diagonal[..., :-1] += coupling
    diagonal[..., 1:] += coupling
    y = source.copy()
    for i in range(1, n):
        w = coupling[..., i - 1] / diagonal[..., i - 1]
        diagonal[..., i] -= w * coupling[..., i - 1]
        y[..., i] += w * y[..., i - 1]
    y[..., -1] /= diagonal[..., -1]
    for i in range(n - 2, -1, -1):
        y[..., i] = (y[..., i] + coupling[..., i] * y[..., i + 1]) / diagonal[..., i]
    return y
