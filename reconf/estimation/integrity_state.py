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
    ambient_known: bool


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
    last_v: FloatArray
    """(M, C + 1) voltages of the last tick, the module's last."""
    changed_v: BoolArray
    """(M, C + 1) voltages whose reading has moved at all within the running block."""
    level_v: FloatArray
    """(2, M) lowest and highest mean voltage of a module's cells within it."""
    elapsed_s: float
    sums: FloatArray
    """(8, M): T1 - model, T2 - model, cell sum, string, converter, quiet current, counter, |charge|."""
    counts: FloatArray
    """(8, M)"""
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
            threshold=thresholds_of(m),
            core_degc=temperature_degc.copy(),
            surface_degc=temperature_degc.copy(),
            last_degc=np.full((m, 2), np.nan),
            changed=np.zeros((m, 2), dtype=np.bool_),
            alive_degc=np.full((m, 2), np.nan),
            alive_model_degc=np.full((m, 2), np.nan),
            last_v=np.full((m, c + 1), np.nan),
            changed_v=np.zeros((m, c + 1), dtype=np.bool_),
            level_v=np.stack([np.full(m, np.inf), np.full(m, -np.inf)]),
            elapsed_s=0.0,
            sums=np.zeros((8, m)),
            counts=np.zeros((8, m)),
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
