"""Compiled loops of the filter over modules and groups: curves, sums, and what decides the reach.

Same steps as their namesakes in numpy, named in each docstring; a test holds the two against each other. The
module compiles when it is imported (`reconf.estimation.constants.constants_of`), never within a tick.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.cells.model import CURVES, SOC_MIN, SOC_NODES, SOC_STEP
from reconf.compiled import compiled, compiled_for

_N = len(CURVES)
_PER_SOC = 1.0 / SOC_STEP
_LAST = SOC_NODES - 2.0
TABLE = "Array(f8, 2, 'C', readonly=True)"
"""Type of the bank's table."""


@compiled
def soc_node(soc: float) -> tuple[int, float]:
    """Node below `soc` and the fraction towards the next, as `CellBank.rows`."""
    position = (soc - SOC_MIN) * _PER_SOC
    # a NaN takes the first node: an index lies inside the table whatever comes
    node = int(min(position, _LAST)) if position > 0.0 else 0
    return node, position - node


@compiled
def ocv_at(table: FloatArray, row: int, soc: float) -> float:
    """OCV at 25 degC, new, of the cell model that begins at `row`, as `far.ocv_of_rows`."""
    node, fraction = soc_node(soc)
    below = table[row + node, 0]
    value: float = below + fraction * table[row + node, _N]
    return value


@compiled_for("f8[:,::1]", "i8[::1]", TABLE, "f8[::1]")
def curves_at(soc: FloatArray, row: IntArray, table: FloatArray, rated_ah: FloatArray) -> FloatArray:
    """(8, M, C): the fields of `BankPoint` in their order, as `CellBank.at`."""
    modules, groups = soc.shape
    out = np.empty((8, modules, groups))
    for m in range(modules):
        per_ah = 1.0 / rated_ah[m]
        for c in range(groups):
            node, fraction = soc_node(soc[m, c])
            at = table[row[m] + node]
            out[0, m, c] = at[0] + fraction * at[_N]
            out[1, m, c] = at[_N] * _PER_SOC
            out[2, m, c] = at[1] + fraction * at[_N + 1]
            out[3, m, c] = at[2] + fraction * at[_N + 2]
            for k in range(3):
                out[4 + k, m, c] = (at[3 + k] + fraction * at[_N + 3 + k]) * per_ah
            out[7, m, c] = at[6] + fraction * at[_N + 6]
    return out
