"""What the tests of the sensors look at and remember."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation.constants import Constants
from reconf.estimation.integrity_budget import thresholds_of
from reconf.estimation.integrity_tests import TESTS
from reconf.estimation.state import Finding
from reconf.estimation.zone import Zones

RATIO_PRIOR_STD_FRAC: Final = 0.8
"""Of a salvaged module nobody has measured: twice the resistance believed is an old module, not a lie."""
PAIR_BLOCKS: Final = 20.0
"""Memory of the difference of a module's two temperatures, in blocks of 30 s: far longer than noise lasts."""
PAIR_FADE_K_PER_BLOCK: Final = 0.1 / 2880.0
"""How fast an end of its range is forgotten, 0.1 K a day: a lie of hours is not learned as the rule."""
RATIO_DEAF: Final = -0.7
"""Voltages that answer with less than the rest of this do not answer: nothing to learn a resistance from."""


class Untrue(IntFlag):
    """Sensors of one module that are replaced by their model."""

    TEMPERATURE_1 = 1
    TEMPERATURE_2 = 2
    CURRENT = 4
    MODULE_VOLTAGE = 8
    CELL_VOLTAGES = 16
    COUNTER = 32
    CONVERTER_CURRENT = 64
    """Of the module's string: marked at each of its modules."""


BOTH_TEMPERATURES: Final = int(Untrue.TEMPERATURE_1 | Untrue.TEMPERATURE_2)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the filter knows of this tick that the tests need. (M,) unless said otherwise."""

    temperature_degc: FloatArray
    """(M, 2) as read, NaN where unusable."""
    model_degc: FloatArray
    """Surface of the free-running observer."""
    cell_sum_v: FloatArray
    """Sum of the cells less the module voltage, NaN where either is missing or the current just moved."""
    cell_voltage_v: FloatArray
    """(M, C) as read, NaN where there is none."""
    module_voltage_v: FloatArray
    """As read, NaN where there is none."""
    string_current_a: FloatArray
    """Module current less trim less the string's consensus, NaN where it does not apply."""
    converter_current_a: FloatArray
    """Module current less trim less the current that the string's converter measures, NaN where none."""
    quiet_current_a: FloatArray
    """Module current less its learned offset where none can flow, else NaN."""
    current_a: FloatArray
    counter_ah: FloatArray
    """Movement of the charge counter, magnitude, NaN where it is missing."""
    current_ah: FloatArray
    """Magnitude of the charge by the currents."""
    step_xy: FloatArray
    """Sum over groups of weight * drop * change, 0 without a step."""
    step_xx: FloatArray
    """Sum over groups of weight * drop^2."""
    ambient_degc: float
    """Measured, or from the site file."""
    ambient_known: bool
    cooling_gain: float = 1.0
    """Conductance to the surroundings as the site's cooling has it now over that without."""


@dataclass(frozen=True, slots=True)
class Pair:
    """By how much the first temperature of each module reads above the second [K]. All (M,).

    The lowest and the highest that it has settled at tell what one sensor would show by the other: where one
    begins to lie, what it told before it did is not lost.
    """

    blocks: FloatArray
    """Blocks seen, `PAIR_BLOCKS` at most."""
    mean_k: FloatArray
    low_k: FloatArray
    high_k: FloatArray

    @classmethod
    def start(cls, modules: int) -> Pair:
        """Nothing seen."""
        return cls(*np.zeros((4, modules)))

    def forgotten(self, row: int) -> Pair:
        """With nothing seen of module `row`."""
        kept = np.arange(self.blocks.size) != row
        return Pair(*(kept * np.stack([self.blocks, self.mean_k, self.low_k, self.high_k])))

    def of(self, i: int) -> tuple[float, ...]:
        """Plain numbers of module `i`, for the store."""
        return float(self.blocks[i]), float(self.mean_k[i]), float(self.low_k[i]), float(self.high_k[i])

    def learned(self, difference_k: FloatArray) -> Pair:
        """With another block, NaN where one of the sensors is missing or untrue."""
        seen = np.isfinite(difference_k)
        blocks = np.where(seen, np.minimum(self.blocks + 1.0, PAIR_BLOCKS), self.blocks)
        step = np.where(seen, difference_k - self.mean_k, 0.0) / np.maximum(blocks, 1.0)
        mean = self.mean_k + step
        # while little was seen a mean is noise
        young = blocks < 0.5 * PAIR_BLOCKS
        fade = np.where(seen, PAIR_FADE_K_PER_BLOCK, 0.0)
        low = np.where(young, mean, np.minimum(self.low_k + fade, mean))
        high = np.where(young, mean, np.maximum(self.high_k - fade, mean))
        return Pair(blocks, mean, low, high)


@dataclass(frozen=True, slots=True)
class IntegrityState:
    """Sums of the running block, scores, and what is latched."""

    threshold: FloatArray
    """(tests,) score at which each test alarms."""
    core_degc: FloatArray
    """(M,) free-running observer."""
    surface_degc: FloatArray
    last_degc: FloatArray
    """(M, 2) temperatures of the last tick, NaN where there were none: after a gap nothing is a jump."""
    changed: BoolArray
    """(M, 2) sensors whose reading has moved at all within the running block."""
    alive_degc: FloatArray
    """(M, 2) what the module's other sensor showed when this one last moved, NaN: never known."""
    alive_model_degc: FloatArray
    """(M, 2) the same of the free-running observer."""
    alive_zone_degc: FloatArray
    """(M, 2) the same of the one that follows its zone."""
    last_v: FloatArray
    """(M, C + 1) voltages of the last tick, the module's last."""
    changed_v: BoolArray
    """(M, C + 1) voltages whose reading has moved at all within the running block."""
    level_v: FloatArray
    """(2, M) lowest and highest mean voltage of a module's cells within it."""
    elapsed_s: float
    sums: FloatArray
    """(9, M): T1 - model, T2 - model, cell sum, string, converter, quiet current, counter, |charge|, the
    observer of the zone - model."""
    counts: FloatArray
    """(9, M)"""
    step_xy: FloatArray
    step_xx: FloatArray
    ratio_scale: FloatArray
    """(M,) long-term resistance scale of the module."""
    ratio_var: FloatArray
    scores: FloatArray
    """(tests, 2, M)"""
    pair: Pair
    zones: Zones
    untrue: IntArray
    """(M,) `Untrue` bits."""
    untrue_cells: BoolArray
    """(M, C) cell voltages judged untrue one by one."""
    findings: tuple[Finding, ...]

    @classmethod
    def start(cls, constants: Constants, temperature_degc: FloatArray, scale: FloatArray) -> IntegrityState:
        """Nothing found, the observer at `temperature_degc` (M,), resistance `scale` (M,) as believed."""
        m, c = constants.mask.shape
        return cls(
            threshold=thresholds_of(m),
            core_degc=temperature_degc.copy(),
            surface_degc=temperature_degc.copy(),
            last_degc=np.full((m, 2), np.nan),
            changed=np.zeros((m, 2), dtype=np.bool_),
            alive_degc=np.full((m, 2), np.nan),
            alive_model_degc=np.full((m, 2), np.nan),
            alive_zone_degc=np.full((m, 2), np.nan),
            last_v=np.full((m, c + 1), np.nan),
            changed_v=np.zeros((m, c + 1), dtype=np.bool_),
            level_v=np.stack([np.full(m, np.inf), np.full(m, -np.inf)]),
            elapsed_s=0.0,
            sums=np.zeros((9, m)),
            counts=np.zeros((9, m)),
            step_xy=np.zeros(m),
            step_xx=np.zeros(m),
            ratio_scale=scale.copy(),
            ratio_var=(RATIO_PRIOR_STD_FRAC * scale) ** 2,
            scores=np.zeros((len(TESTS), 2, m)),
            pair=Pair.start(m),
            zones=Zones.start(constants.zone_of, temperature_degc),
            untrue=np.zeros(m, dtype=np.int64),
            untrue_cells=np.zeros((m, c), dtype=np.bool_),
            findings=(),
        )

    def is_untrue(self, sensor: Untrue) -> BoolArray:
        """(M,) where `sensor` is replaced."""
        marks: BoolArray = (self.untrue & int(sensor)) != 0
        return marks
