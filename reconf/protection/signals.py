"""One condition over many subjects, and the conditions of a whole table put together.

Rows with a limit are held against it, with its hysteresis, by one loop over the table's rows; the others come
as signals by fault id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.protection.bounds import TIER_OF, Bounds
from reconf.protection.faults import Conditions, Scope, fault_rows


@dataclass(frozen=True, slots=True)
class Signal:
    """One condition in code over N subjects."""

    raised: BoolArray
    released: BoolArray
    value: FloatArray | float = float("nan")
    bound: FloatArray | float = float("nan")


def bit(set_: BoolArray, known: BoolArray | bool = True) -> Signal:
    """A condition that is simply there or not, while `known`."""
    return Signal(raised=set_ & known, released=~set_ & known)


def assemble(
    scope: Scope,
    bounds: Bounds,
    values: Mapping[tuple[str, str], FloatArray],
    signals: Mapping[str, Signal],
    n: int,
) -> Conditions:
    """Conditions of every row of `scope`, from limited values and from signals by fault id."""
    rows = fault_rows(scope)
    shape = (len(rows), n)
    raised, released = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    value, bound = np.full(shape, np.nan), np.full(shape, np.nan)
    for i, row in enumerate(rows):
        if row.limit is None:
            signal = signals[row.fault]
            raised[i], released[i], value[i], bound[i] = (
                signal.raised,
                signal.released,
                signal.value,
                signal.bound,
            )
            continue
        quantity, side, tier = row.limit
        limit = bounds[quantity, side]
        sign = 1.0 if side == "max" else -1.0
        bound[i] = limit.tiers[TIER_OF[tier]]
        value[i] = values[quantity, side]
        # NaN compares False both ways: a missing value neither raises nor releases
        over = sign * (value[i] - bound[i])
        raised[i] = over > 0.0
        released[i] = over < -limit.hysteresis
    return Conditions(raised=raised, released=released, value=value, bound=bound)
