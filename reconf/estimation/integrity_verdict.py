"""From an alarm to the sensor that it condemns, with what was measured in a plain sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation.integrity_state import RATIO_DEAF, IntegrityState, Untrue
from reconf.estimation.integrity_tests import (
    CELL_SUM,
    CONVERTER_CURRENT,
    FROZEN_1,
    FROZEN_2,
    FROZEN_VOLTAGE,
    NEIGHBOURS,
    OBSERVER,
    PAIR,
    QUIET_CURRENT,
    RESISTANCE,
    STRING_CURRENT,
    TESTS,
)
from reconf.estimation.state import Finding
from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class Evidence:
    """Block means, each (M,)."""

    first_k: FloatArray
    """Against the observer of the zone, as the next two."""
    second_k: FloatArray
    median_k: FloatArray
    ratio: FloatArray
    cell_sum_v: FloatArray
    string_a: FloatArray
    converter_a: FloatArray
    quiet_a: FloatArray
    frozen_k: FloatArray
    """(M, 2)"""
    still: IntArray
    """(M,) voltage that stands still, C for the module's, -1 for none."""
    cell_voltage_v: FloatArray
    """(M, C)"""

    def deviation_v(self) -> FloatArray:
        """(M, C) cell voltage less the mean of its module."""
        deviation: FloatArray = self.cell_voltage_v - np.nanmean(self.cell_voltage_v, axis=1, keepdims=True)
        return deviation


def latch(
    state: IntegrityState,
    alarms: BoolArray,
    seen: Evidence,
    string_of: IntArray,
    serials: tuple[str, ...],
    time_s: float,
) -> IntegrityState:
    """Turn alarms (tests, M) into untrue sensors with their evidence; the scores start again."""
    untrue = state.untrue.copy()
    cells = state.untrue_cells.copy()
    found: list[Finding] = []
    for test, m in zip(*np.nonzero(alarms), strict=True):
        # only modules with an alarm come here
        for subject, bit, cell, text in _judgement(int(test), int(m), seen):
            if cell >= 0 and cells[m, cell]:
                continue
            # the converter is the string's: one of its modules bears the mark
            rows = string_of == string_of[m] if bit is Untrue.CONVERTER_CURRENT else m
            if cell < 0 and np.any(untrue[rows] & int(bit)):
                continue
            if cell >= 0:
                cells[m, cell] = True
            else:
                untrue[m] |= int(bit)
            found.append(Finding(serials[m], subject, TESTS[test], time_s, text))
    scores = np.where(alarms[:, None, :], 0.0, state.scores)
    return replace(
        state, untrue=untrue, untrue_cells=cells, scores=scores, findings=state.findings + tuple(found)
    )


def _judgement(test: int, m: int, seen: Evidence) -> Iterator[tuple[str, Untrue, int, str]]:
    """Which sensors of module `m` the alarm of `test` condemns: (subject, bit, cell or -1, evidence)."""
    t1 = ("temperature_1", Untrue.TEMPERATURE_1, -1)
    t2 = ("temperature_2", Untrue.TEMPERATURE_2, -1)
    if test in {PAIR, OBSERVER, NEIGHBOURS}:
        yield from _temperatures(test, m, seen, t1, t2)
    elif test == RESISTANCE:
        if seen.ratio[m] < RATIO_DEAF:
            text = f"voltages answer to current steps with {1 + seen.ratio[m]:.0%} of the known resistance"
            yield ("cell_voltages", Untrue.CELL_VOLTAGES, -1, text)
            return
        text = f"resistance in current steps is {seen.ratio[m]:+.0%} off what the temperature claims"
        for subject, bit, cell in (t1, t2):
            yield (subject, bit, cell, text)
    elif test == CELL_SUM:
        deviation = np.abs(np.nan_to_num(seen.deviation_v()[m]))
        worst = int(np.argmax(deviation))
        text = f"cells add up to {seen.cell_sum_v[m]:+.3f} V against the module voltage"
        alone = deviation[worst] > 0.5 * abs(seen.cell_sum_v[m])
        if alone:
            yield (f"cell_voltage_{worst + 1}", Untrue.CELL_VOLTAGES, worst, text)
        else:
            yield ("module_voltage", Untrue.MODULE_VOLTAGE, -1, text)
    elif test == STRING_CURRENT:
        text = f"{seen.string_a[m]:+.2f} A against the other modules of the string"
        yield ("current", Untrue.CURRENT, -1, text)
    elif test == CONVERTER_CURRENT:
        yield _converter(m, seen)
    elif test in {FROZEN_1, FROZEN_2, FROZEN_VOLTAGE}:
        yield from _still(test, m, seen, (t1, t2))
    elif test == QUIET_CURRENT:
        yield ("current", Untrue.CURRENT, -1, f"{seen.quiet_a[m]:+.2f} A while bypassed without trim")
    else:
        yield ("charge_counter", Untrue.COUNTER, -1, "the counter stands still under current")


def _still(
    test: int, m: int, seen: Evidence, sensors: tuple[tuple[str, Untrue, int], tuple[str, Untrue, int]]
) -> Iterator[tuple[str, Untrue, int, str]]:
    """The temperature or the voltage (of a cell, or the module's own) that stands still."""
    if test != FROZEN_VOLTAGE:
        moved_k = seen.frozen_k[m, test - FROZEN_1]
        yield (
            *sensors[test - FROZEN_1],
            f"the reading stands still while the module moved by {moved_k:+.1f} K",
        )
        return
    k, text = int(seen.still[m]), "the reading stands still while the cells of the module move"
    if k == seen.cell_voltage_v.shape[1]:
        yield ("module_voltage", Untrue.MODULE_VOLTAGE, -1, text)
    elif k >= 0:
        yield (f"cell_voltage_{k + 1}", Untrue.CELL_VOLTAGES, k, text)


def _converter(m: int, seen: Evidence) -> tuple[str, Untrue, int, str]:
    """The module's sensor, unless it agrees with the others of its string: then the converter's."""
    off = float(seen.converter_a[m])
    text = f"{off:+.2f} A against the converter of the string"
    if np.abs(seen.string_a[m]) < 0.5 * abs(off):
        return ("converter_current", Untrue.CONVERTER_CURRENT, -1, f"modules of the string agree, {text}")
    return ("current", Untrue.CURRENT, -1, text)


def _temperatures(
    test: int,
    m: int,
    seen: Evidence,
    t1: tuple[str, Untrue, int],
    t2: tuple[str, Untrue, int],
) -> Iterator[tuple[str, Untrue, int, str]]:
    """The sensor further from the observer; both where they agree with each other."""
    centre = 0.0 if np.isnan(seen.median_k[m]) else float(seen.median_k[m])
    off1, off2 = float(seen.first_k[m]) - centre, float(seen.second_k[m]) - centre
    text = f"sensors {off1:+.1f} K and {off2:+.1f} K off the thermal model of this string"
    if np.isnan(off1) or np.isnan(off2):
        yield (*(t2 if np.isnan(off1) else t1), text)
    elif test == PAIR:
        yield (*(t1 if abs(off1) > abs(off2) else t2), text)
    else:
        near = 0.5 * max(abs(off1), abs(off2))
        for off, (subject, bit, cell) in ((off1, t1), (off2, t2)):
            if abs(off) >= near:
                yield (subject, bit, cell, text)
