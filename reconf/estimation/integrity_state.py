"""What the tests of the sensors look at and remember."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation import cusum
from reconf.estimation.constants import Constants
from reconf.estimation.state import Finding

BLOCK_S: Final = 30.0
FALSE_ALARMS_PER_YEAR: Final = 0.1
"""Of all tests of a site together."""
DRIFT: Final = 0.5
"""CUSUM reference value: quickest for shifts of one sigma (Siegmund 1985)."""
TESTS: Final = (
    "sensor_pair",
    "observer",
    "neighbours",
    "resistance",
    "cell_sum",
    "string_current",
    "quiet_current",
    "counter",
)
PAIR, OBSERVER, NEIGHBOURS, RESISTANCE, CELL_SUM, STRING_CURRENT, QUIET_CURRENT, COUNTER = range(8)
RATIO_PRIOR_STD_FRAC: Final = 0.8
"""Of a salvaged module nobody has measured: twice the resistance believed is an old module, not a lie."""
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
    string_current_a: FloatArray
    """Module current less trim less the string's consensus, NaN where it does not apply."""
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
    ambient_known: bool


@dataclass(frozen=True, slots=True)
class IntegrityState:
    """Sums of the running block, scores, and what is latched."""

    threshold: float
    core_degc: FloatArray
    """(M,) free-running observer."""
    surface_degc: FloatArray
    last_degc: FloatArray
    """(M, 2) temperatures of the last tick, NaN where there were none: after a gap nothing is a jump."""
    elapsed_s: float
    sums: FloatArray
    """(7, M): T1 - model, T2 - model, cell sum, string current, quiet current, counter, |charge|."""
    counts: FloatArray
    """(7, M)"""
    step_xy: FloatArray
    step_xx: FloatArray
    ratio_scale: FloatArray
    """(M,) long-term resistance scale of the module."""
    ratio_var: FloatArray
    scores: FloatArray
    """(tests, 2, M)"""
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
            threshold=threshold_of(m),
            core_degc=temperature_degc.copy(),
            surface_degc=temperature_degc.copy(),
            last_degc=np.full((m, 2), np.nan),
            elapsed_s=0.0,
            sums=np.zeros((7, m)),
            counts=np.zeros((7, m)),
            step_xy=np.zeros(m),
            step_xx=np.zeros(m),
            ratio_scale=scale.copy(),
            ratio_var=(RATIO_PRIOR_STD_FRAC * scale) ** 2,
            scores=np.zeros((len(TESTS), 2, m)),
            untrue=np.zeros(m, dtype=np.int64),
            untrue_cells=np.zeros((m, c), dtype=np.bool_),
            findings=(),
        )

    def is_untrue(self, sensor: Untrue) -> BoolArray:
        """(M,) where `sensor` is replaced."""
        marks: BoolArray = (self.untrue & int(sensor)) != 0
        return marks


def threshold_of(modules: int) -> float:
    """Score at which a test of a site of so many modules alarms."""
    runs = cusum.run_length_for(FALSE_ALARMS_PER_YEAR, 2 * len(TESTS) * modules, BLOCK_S)
    return cusum.threshold_for(DRIFT, runs)
