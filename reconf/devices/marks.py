"""How fresh a node's stored block is, and the channels made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, ByteArray, FloatArray
from reconf.readings import Channel, Quality


@dataclass(frozen=True, slots=True)
class NodeMarks:
    """How fresh the stored block of each node is; all arrays (N,)."""

    answered: BoolArray
    """A whole, fresh block came this tick."""
    age_s: FloatArray
    """inf before the first block."""
    quality: ByteArray
    """`Quality` every value of the node has at best."""


def marked(
    value: FloatArray, quality: ByteArray, age_s: FloatArray, implausible: BoolArray | None = None
) -> Channel:
    """A channel of nodes' values: NaN becomes UNAVAILABLE, what physics forbids IMPLAUSIBLE.

    Shapes (N,) or (N, K) with `quality` and `age_s` (N,).
    """
    if value.ndim == 2:
        quality, age_s = quality[:, None], age_s[:, None]
    marks = np.broadcast_to(quality, value.shape).copy()
    if implausible is not None:
        marks[implausible & (marks < Quality.IMPLAUSIBLE)] = Quality.IMPLAUSIBLE
    missing = np.isnan(value) & (marks < Quality.UNAVAILABLE)
    marks[missing] = Quality.UNAVAILABLE
    return Channel(value, marks, np.broadcast_to(age_s, value.shape).copy())
