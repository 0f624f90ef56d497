"""Test logs of cyclers: CSV with or without header, irregular sampling, counters that restart per step."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.errors import DataFileError

# Column of each quantity in Bitrode exports that carry no header line.
HEADERLESS = {"time": 1, "step": 6, "current": 8, "voltage": 9, "charge": 11}

PATTERNS = {
    "time": r"^(total )?time(\(s\)| \[s\]|_s)?$",
    "step": r"^step$",
    "current": r"^current(\(a\)| \[a\]|_a)?$",
    "voltage": r"^voltage(\(v\)| \[v\]|_v)?$",
    "charge": r"^(amp-hours|capacity\(ah\)|ah|charge_ah|capacity_ah)$",
    "ambient": r"^(ambient(_degc)?|temperature_ambient)$",
}
CELL_PATTERN = r"^(cell voltage|cell_voltage)[ _a-z]*\d+(_v)?$"
TEMPERATURE_PATTERN = r"^(temperature|temp)[ _a-z]*\d*(_degc)?$"


@dataclass(frozen=True, slots=True)
class TestLog:
    """One test. N samples in rising time; discharge positive whatever the file's own sign was."""

    __test__ = False  # not a test case, whatever its name says to pytest

    name: str
    time_s: FloatArray
    """(N,)"""
    current_a: FloatArray
    """(N,)"""
    voltage_v: FloatArray
    """(N,) of the cell, or of the whole string of cells."""
    discharged_ah: FloatArray
    """(N,) since the start, from the cycler's own counter where the file has one."""
    cell_voltage_v: FloatArray
    """(N, K) single cells; (N, 0) without."""
    temperature_degc: FloatArray
    """(N, L) sensors; (N, 0) without."""

    def window(self, start: int, stop: int) -> TestLog:
        """Samples start:stop, charge counted from the first of them."""
        part = slice(start, stop)
        return TestLog(
            self.name,
            self.time_s[part] - self.time_s[start],
            self.current_a[part],
            self.voltage_v[part],
            self.discharged_ah[part] - self.discharged_ah[start],
            self.cell_voltage_v[part],
            self.temperature_degc[part],
        )


def read_log(path: Path, *, discharge_is_negative: bool | None = None) -> TestLog:
    """Read one log; raises `DataFileError` naming file and line where it cannot be understood.

    `discharge_is_negative` None: decided by whether the voltage falls while current flows with that sign.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from error
    header, columns = _columns(rows, path)
    values = _numbers(rows[header + 1 :], columns, path, header + 2)
    keep = np.concatenate(([True], np.diff(values[:, 0]) > 0.0))
    values = values[keep]
    if len(values) < 3:
        raise DataFileError(f"{path}: fewer than three samples")
    names = list(columns)
    by_name = {name: values[:, k] for k, name in enumerate(names)}
    charge = _charge_ah(by_name)
    sign = _sign(by_name) if discharge_is_negative is None else (-1.0 if discharge_is_negative else 1.0)
    cells = [k for k, name in enumerate(names) if name.startswith("cell:")]
    warm = [k for k, name in enumerate(names) if name.startswith("temperature:")]
    return TestLog(
        path.name,
        by_name["time"] - by_name["time"][0],
        sign * by_name["current"],
        by_name["voltage"],
        sign * (charge - charge[0]),
        values[:, cells],
        values[:, warm],
    )


def _columns(rows: Sequence[Sequence[str]], path: Path) -> tuple[int, dict[str, int]]:
    """Line of the header (-1 for none) and the column of every quantity."""
    for line, row in enumerate(rows[:100]):
        names = [cell.strip().lower() for cell in row]
        found: dict[str, int] = {}
        for quantity, pattern in PATTERNS.items():
            hits = [k for k, name in enumerate(names) if re.match(pattern, name)]
            if hits:
                found[quantity] = hits[0]
        if {"time", "current", "voltage"} <= found.keys():
            cells = [k for k, name in enumerate(names) if re.match(CELL_PATTERN, name)]
            warm = [k for k, name in enumerate(names) if re.match(TEMPERATURE_PATTERN, name)]
            found |= {f"cell:{n}": k for n, k in enumerate(cells)}
            found |= {f"temperature:{n}": k for n, k in enumerate(warm)}
            return line, found
    if rows and len(rows[0]) >= 14 and rows[0][0].strip().lower() in {"no", "yes"}:
        return -1, dict(HEADERLESS)
    raise DataFileError(
        f"{path}: no header line names time, current and voltage, and it is no Bitrode export"
    )


def _numbers(
    rows: Sequence[Sequence[str]], columns: dict[str, int], path: Path, first_line: int
) -> FloatArray:
    picked = list(columns.values())
    last = max(picked)
    table = []
    for number, row in enumerate(rows, first_line):
        if len(row) <= last or not row[picked[0]].strip():
            continue
        try:
            table.append([float(row[k]) if row[k].strip() else np.nan for k in picked])
        except ValueError as error:
            raise DataFileError(f"{path}:{number}: {error}") from error
    return np.array(table, dtype=np.float64).reshape(len(table), len(picked))


def _charge_ah(by_name: dict[str, FloatArray]) -> FloatArray:
    """Running charge in the file's sign.

    Cyclers restart their counter with every step and round it; where it stands still the integral of the
    current says how far it is, and the counter says where the integral drifts.
    """
    time_s, current = by_name["time"], by_name["current"]
    steps = np.diff(time_s)
    integral = np.concatenate(([0.0], np.cumsum(0.5 * (current[1:] + current[:-1]) * steps))) / 3600.0
    counter = by_name.get("charge")
    if counter is None:
        return integral
    # a restart shows as a jump back towards zero; what was counted before it is carried over
    moved = np.diff(counter)
    restart = (np.abs(counter[1:]) < np.abs(counter[:-1]) - 0.005) & (
        np.abs(moved - np.diff(integral)) > 0.02
    )
    carried = np.concatenate(([0.0], np.cumsum(np.where(restart, counter[:-1], 0.0))))
    total: FloatArray = counter + carried
    return total


def _sign(by_name: dict[str, FloatArray]) -> float:
    """-1 where the file counts discharge negative: voltage and current then step the same way."""
    jump = np.diff(by_name["current"])
    answer = np.diff(by_name["voltage"])
    strong = np.abs(jump) > 0.2 * np.abs(by_name["current"]).max()
    return -1.0 if float((jump[strong] * answer[strong]).sum()) > 0.0 else 1.0


def steps_of(log: TestLog, threshold_a: float) -> IntArray:
    """(K+1,) borders of the stretches of like current: discharge, rest, charge."""
    kind = np.sign(np.where(np.abs(log.current_a) < threshold_a, 0.0, log.current_a))
    change = np.flatnonzero(np.diff(kind)) + 1
    borders: IntArray = np.concatenate(([0], change, [len(kind)])).astype(np.int64)
    return borders
