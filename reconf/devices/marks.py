"""How fresh a node's stored block is, and the channels made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from reconf.arrays import BoolArray, ByteArray, FloatArray, IntArray
from reconf.readings import Channel, Quality

_IMPLAUSIBLE = np.uint8(Quality.IMPLAUSIBLE)
_UNAVAILABLE = np.uint8(Quality.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class NodeMarks:
    """How fresh the stored block of each node is; all arrays (N,)."""

    answered: BoolArray
    """A whole, fresh block came this tick."""
    age_s: FloatArray
    """inf before the first block."""
    quality: ByteArray
    """`Quality` every value of the node has at best."""


@dataclass(frozen=True, slots=True)
class MarkedTable:
    """All values of N nodes with their quality and age, (N, V) each."""

    values: FloatArray
    quality: ByteArray
    age_s: FloatArray

    @classmethod
    def of(cls, values: FloatArray, marks: NodeMarks, low: FloatArray, high: FloatArray) -> Self:
        """Mark NaN as UNAVAILABLE and what lies beyond `low`..`high` (V,) or (N, V) as IMPLAUSIBLE.

        Values of nodes that never answered become NaN and keep the node's own mark.
        """
        values[np.isinf(marks.age_s)] = np.nan
        quality = np.repeat(marks.quality[:, None], values.shape[1], axis=1)
        wrong = (values < low) | (values > high)
        quality[wrong & (quality < _IMPLAUSIBLE)] = _IMPLAUSIBLE
        quality[np.isnan(values) & (quality < _UNAVAILABLE)] = _UNAVAILABLE
        return cls(values, quality, np.repeat(marks.age_s[:, None], values.shape[1], axis=1))

    def channel(self, column: int | slice) -> Channel:
        """One quantity: (N,) of one column, (N, K) of a slice."""
        return Channel(self.values[:, column], self.quality[:, column], self.age_s[:, column])

    def integers(self, column: int) -> IntArray:
        """(N,) a counter or bit field; 0 where there is none."""
        part = self.values[:, column]
        whole: IntArray = np.where(np.isnan(part), 0.0, part).astype(np.int64)
        return whole
