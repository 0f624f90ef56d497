"""The residual tests of the sensors by name and row."""

from __future__ import annotations

from typing import Final

BLOCK_S: Final = 30.0
DRIFT: Final = 0.5
"""CUSUM reference value: quickest for shifts of one sigma (Siegmund 1985)."""
TESTS: Final = (
    "sensor_pair",
    "observer",
    "neighbours",
    "resistance",
    "cell_sum",
    "string_current",
    "converter_current",
    "quiet_current",
    "counter",
    "frozen",
    "frozen",
    "frozen",
)
"""By row of the scores; `frozen` has one row for each temperature sensor and one for the voltages."""
(
    PAIR,
    OBSERVER,
    NEIGHBOURS,
    RESISTANCE,
    CELL_SUM,
    STRING_CURRENT,
    CONVERTER_CURRENT,
    QUIET_CURRENT,
    COUNTER,
    FROZEN_1,
    FROZEN_2,
    FROZEN_VOLTAGE,
) = range(12)
