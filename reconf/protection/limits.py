"""Limits as data: one row per quantity and side, three tiers each, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Tier(IntEnum):
    """How far a limit is from harm."""

    OPERATING = 0
    """Where the allocator plans."""
    RECOMMENDED = 1
    """Where derating ends and an alarm begins."""
    SAFETY = 2
    """Never to be passed; passing it latches a fault."""


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limited quantity on one side."""

    quantity: str
    """Name with its unit, e.g. `cell_voltage_v`, `temperature_degc`, `charge_current_c`."""
    side: Literal["max", "min"]
    operating: float
    recommended: float
    safety: float
    hysteresis: float
    """In the quantity's unit; how far back inside before it counts as gone."""
    debounce_s: float
    consequence: str
    """What follows when the safety tier is passed, in words."""

    def tier(self, tier: Tier) -> float:
        """Value of `tier`."""
        return (self.operating, self.recommended, self.safety)[tier]


LimitTable = Mapping[tuple[str, str], LimitRow]
"""Rows by (quantity, side)."""
