"""Pulse tables as text: strict reading, with line and column in every complaint."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import DataFileError
from reconf.grading.features import N_VOLTAGES

VOLTAGE_COLUMNS = tuple(f"U{i}" for i in range(1, N_VOLTAGES + 1))
CELL_VOLTAGE_V = (0.5, 5.0)
"""A cell outside this was not measured, or is not a cell."""
IGNORED = frozenset({"SOC", "SOH"})
"""Columns that training reads and grading does not: nothing in them stops a table."""
MAX_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class PulseTable:
    """Rows of a pulse test."""

    ids: tuple[str, ...]
    voltage_v: FloatArray
    """(n, 21)"""
    soc_points: FloatArray
    """(n,) NaN where not given. Never used for grading."""
    soh_frac: FloatArray
    """(n,) NaN where not given. Used for training only."""
    temperature_degc: FloatArray | None
    ah_since_first: FloatArray | None
    lines: tuple[int, ...]
    """Line of each row in its file."""


def _number(text: str, where: str, complaints: list[str]) -> float:
    value = _or_nan(text)
    if not np.isfinite(value):
        hint = " (decimal comma? use a point)" if "," in text else ""
        complaints.append(f"{where}: {text!r} is not a number{hint}")
        return float("nan")
    return value


def _or_nan(text: str) -> float:
    """A number, or NaN: for columns that grading ignores."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _header(name: str, header: list[str]) -> dict[str, int]:
    columns = {title.strip().lstrip("\ufeff"): i for i, title in enumerate(header)}
    missing = [c for c in VOLTAGE_COLUMNS if c not in columns]
    if missing:
        found = ", ".join(list(columns)[:12]) or "nothing"
        hint = " (semicolon separated? export with commas)" if len(header) == 1 and ";" in header[0] else ""
        raise DataFileError(
            f"{name}:1: columns {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} are missing; "
            f"found: {found}. A pulse table has U1..U21 [V]{hint}"
        )
    return columns


def read_pulse_table(name: str, lines: Iterable[str]) -> PulseTable:
    """Read a pulse table; `name` is used in messages.

    Raises:
        DataFileError: with `name:line` and column for everything that is wrong (the first twenty).
    """
    reader = csv.reader(lines)
    header = next(reader, None)
    if not header:
        raise DataFileError(f"{name}:1: the file is empty; a pulse table has a header with U1..U21")
    columns = _header(name, header)
    complaints: list[str] = []
    rows: list[list[float]] = []
    ids: list[str] = []
    numbers: list[int] = []
    optional = {k: columns[k] for k in ("SOC", "SOH", "temperature_degc", "ah_since_first") if k in columns}
    extra: dict[str, list[float]] = {k: [] for k in optional}
    for row in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            complaints.append(f"{name}:{line}: {len(row)} fields where the header has {len(header)}")
            continue
        values = [_number(row[columns[c]], f"{name}:{line}: column {c}", complaints) for c in VOLTAGE_COLUMNS]
        for c, v in zip(VOLTAGE_COLUMNS, values, strict=True):
            if not np.isnan(v) and not CELL_VOLTAGE_V[0] <= v <= CELL_VOLTAGE_V[1]:
                complaints.append(f"{name}:{line}: column {c}: {v:g} V is no cell voltage (0.5..5 V)")
        rows.append(values)
        for key, position in optional.items():
            where = f"{name}:{line}: column {key}"
            ignored = key in IGNORED
            extra[key].append(
                _or_nan(row[position]) if ignored else _number(row[position], where, complaints)
            )
        ids.append(row[columns["ID"]].strip() if "ID" in columns else str(len(rows)))
        numbers.append(line)
    if not rows and not complaints:
        complaints.append(f"{name}:1: there is a header but no row")
    if complaints:
        more = len(complaints) - MAX_COMPLAINTS
        tail = [f"... and {more} more"] if more > 0 else []
        raise DataFileError("\n".join(complaints[:MAX_COMPLAINTS] + tail))
    n = len(rows)
    nan = np.full(n, np.nan)
    return PulseTable(
        ids=tuple(ids),
        voltage_v=np.array(rows),
        soc_points=np.array(extra.get("SOC", nan)),
        soh_frac=np.array(extra.get("SOH", nan)),
        temperature_degc=np.array(extra["temperature_degc"]) if "temperature_degc" in extra else None,
        ah_since_first=np.array(extra["ah_since_first"]) if "ah_since_first" in extra else None,
        lines=tuple(numbers),
    )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two pulses of one cell each, the one at the lower rest voltage first."""

    ids: tuple[str, ...]
    first_v: FloatArray
    second_v: FloatArray
    moved_ah: FloatArray
    temperature_degc: FloatArray | None


def pair_rows(name: str, table: PulseTable) -> Pairs:
    """Pair the rows of one ID by their `ah_since_first`: the first row (0) with the one furthest from it.

    Raises:
        DataFileError: no such column, or an ID with a single row.
    """
    if table.ah_since_first is None:
        raise DataFileError(
            f"{name}:1: two pulses need a column ah_since_first (Ah moved since the first pulse)"
        )
    by_id: dict[str, list[int]] = {}
    for row, cell in enumerate(table.ids):
        by_id.setdefault(cell, []).append(row)
    single = [
        f"{name}:{table.lines[r[0]]}: ID {c} has one row; two pulses need two"
        for c, r in by_id.items()
        if len(r) < 2
    ]
    if single:
        raise DataFileError("\n".join(single[:MAX_COMPLAINTS]))
    low, high, moved = [], [], []
    for rows in by_id.values():
        charge = np.abs(table.ah_since_first[rows])
        a, b = rows[int(charge.argmin())], rows[int(charge.argmax())]
        moved.append(float(charge.max() - charge.min()))
        if table.voltage_v[a, 0] > table.voltage_v[b, 0]:
            a, b = b, a
        low.append(a)
        high.append(b)
    heat = table.temperature_degc
    return Pairs(
        ids=tuple(by_id),
        first_v=table.voltage_v[low],
        second_v=table.voltage_v[high],
        moved_ah=np.array(moved),
        temperature_degc=None
        if heat is None
        else np.where(np.abs(heat[low] - 25) > np.abs(heat[high] - 25), heat[low], heat[high]),
    )
