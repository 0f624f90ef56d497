"""Cycler CSVs of several makers as one kind of record, and what a record says of a module."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.files import read_bytes, read_table_lines
from reconf.arrays import FloatArray
from reconf.errors import DataFileError

HEADER_LINES = 80
"""Cyclers put up to this many lines of notes before the header."""
DELIMITERS = ",;\t"
REST_FRAC = 0.01
"""Below this share of the largest current a module rests."""


@dataclass(frozen=True, slots=True)
class CyclerLog:
    """A test of one module."""

    vendor: str
    time_s: FloatArray
    """(T,)"""
    current_a: FloatArray
    """(T,) discharge positive."""
    voltage_v: FloatArray
    """(T,) of the module."""


def cycler_columns(path: Path | None = None) -> tuple[Mapping[str, Any], ...]:
    """The shipped column table, with the mapping of a YAML file before it.

    Raises:
        DataFileError: the YAML is not such a mapping.
    """
    shipped = (resources.files("edge.inventory") / "cyclers.yaml").read_text(encoding="utf-8")
    entries: list[Any] = list(YAML(typ="safe").load(shipped))
    if path is not None:
        try:
            own = YAML(typ="safe").load(read_bytes(path).decode())
        except (YAMLError, UnicodeDecodeError) as error:
            raise DataFileError(f"{path}: no YAML: {error}") from error
        own = own if isinstance(own, list) else [own]
        for entry in own:
            _check_mapping(path, entry)
        entries = own + entries
    return tuple(entries)


def _check_mapping(path: Path, entry: Any) -> None:
    scales = {"time": "scale_to_s", "current": "scale_to_a", "voltage": "scale_to_v"}
    for part, scale in scales.items():
        found = entry.get(part) if isinstance(entry, dict) else None
        if not isinstance(found, dict) or not found.get("names") or scale not in found:
            raise DataFileError(
                f"{path}: needs {part}: {{names: [...], {scale}: ...}}"
                + (", positive: charge or discharge" if part == "current" else "")
            )


def _plain(title: str) -> str:
    return "".join(title.lower().split()).strip('"')


def _match(titles: Sequence[str], entry: Mapping[str, Any]) -> dict[str, int] | None:
    """Column numbers of `entry` in a header, None where one is missing."""
    found: dict[str, int] = {}
    for part in ("time", "current", "voltage"):
        names = [_plain(n) for n in entry[part]["names"]]
        at = [i for i, t in enumerate(titles) if t in names]
        if not at:
            return None
        found[part] = at[0]
    states = [_plain(n) for n in entry["current"].get("state", ())]
    at = [i for i, t in enumerate(titles) if t in states]
    if states and not at:
        return None
    if at:
        found["state"] = at[0]
    return found


def find_header(
    lines: Sequence[str], columns: Sequence[Mapping[str, Any]]
) -> tuple[int, str, Mapping[str, Any], dict[str, int]] | None:
    """(line index, delimiter, entry, columns) of the first header any maker would write."""
    for number, line in enumerate(lines[:HEADER_LINES]):
        for delimiter in DELIMITERS:
            if delimiter not in line:
                continue
            titles = [_plain(t) for t in next(csv.reader([line], delimiter=delimiter))]
            for entry in columns:
                got = _match(titles, entry)
                if got is not None:
                    return number, delimiter, entry, got
    return None


def read_cycler(path: Path, columns: Sequence[Mapping[str, Any]]) -> CyclerLog:
    """Read one log.

    Raises:
        DataFileError: with line and column.
    """
    lines = read_table_lines(path)
    header = find_header(lines, columns)
    if header is None:
        known = ", ".join(str(e.get("vendor", "own mapping")) for e in columns)
        raise DataFileError(
            f"{path}:1: no header with time, current and voltage as {known} write it; "
            "give --columns FILE.yaml with the names"
        )
    start, delimiter, entry, at = header
    rows: list[tuple[float, float, float]] = []
    for offset, row in enumerate(csv.reader(lines[start + 1 :], delimiter=delimiter)):
        where = f"{path}:{start + 2 + offset}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(at.values()):
            raise DataFileError(f"{where}: {len(row)} fields, the header has more: half a file?")
        rows.append(_row(where, row, entry, at))
    if len(rows) < 3:
        raise DataFileError(f"{path}: {len(rows)} rows after the header; a test has more")
    table = np.array(rows)
    if entry["time"].get("restarts"):
        table[:, 0] = _run_on(table[:, 0])
    back = np.flatnonzero(np.diff(table[:, 0]) < 0)
    if len(back):
        raise DataFileError(f"{path}:{start + 3 + int(back[0])}: time runs backwards")
    return CyclerLog(str(entry.get("vendor", "own mapping")), table[:, 0], table[:, 1], table[:, 2])


def _run_on(step_s: FloatArray) -> FloatArray:
    """Time of the whole test from a time that begins anew with every step."""
    fresh = np.flatnonzero(np.diff(step_s) < 0.0)
    before = np.zeros_like(step_s)
    before[fresh + 1] = step_s[fresh]
    whole: FloatArray = step_s + np.cumsum(before)
    return whole


def _row(
    where: str, row: Sequence[str], entry: Mapping[str, Any], at: Mapping[str, int]
) -> tuple[float, float, float]:
    time = _seconds(where, row[at["time"]]) * float(entry["time"]["scale_to_s"])
    current = _number(where, "current", row[at["current"]]) * float(entry["current"]["scale_to_a"])
    if "state" in at:
        out = row[at["state"]].strip().upper().startswith(str(entry["current"]["discharge_state"]))
        current = abs(current) if out else -abs(current)
    elif entry["current"].get("positive", "charge") == "charge":
        current = -current
    return (
        time,
        current,
        _number(where, "voltage", row[at["voltage"]]) * float(entry["voltage"]["scale_to_v"]),
    )


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        hint = " (decimal comma? use a point)" if "," in text else ""
        raise DataFileError(f"{where}: column {column}: {text!r} is not a number{hint}") from error
    if not np.isfinite(value):
        raise DataFileError(f"{where}: column {column}: {text!r} is not finite")
    return value


def _seconds(where: str, text: str) -> float:
    """Seconds, or h:m:s."""
    parts = text.strip().split(":")
    if len(parts) == 1:
        return _number(where, "time", text)
    seconds = 0.0
    for part in parts:
        seconds = 60.0 * seconds + _number(where, "time", part)
    return seconds


def discharge_capacity_ah(log: CyclerLog) -> float:
    """Charge of the longest discharge without a charge in between [Ah], trapezoidal; 0 without any."""
    step = 0.5 * (log.current_a[1:] + log.current_a[:-1]) * np.diff(log.time_s) / 3600.0
    threshold = REST_FRAC * float(np.abs(log.current_a).max())
    charging = log.current_a[1:] < -threshold
    run = np.cumsum(charging)
    sums = np.bincount(run, weights=np.where(charging, 0.0, np.maximum(step, 0.0)))
    return float(sums.max())


def step_resistance_ohm(log: CyclerLog, after_s: float = 10.0) -> float | None:
    """Median of (V before - V after) / (I after - I before) at steps from rest to discharge [ohm].

    V after is taken `after_s` into the load. None where no such step is in the log.
    """
    largest = float(np.abs(log.current_a).max())
    rest = np.abs(log.current_a) < REST_FRAC * largest
    starts = np.flatnonzero(rest[:-1] & (log.current_a[1:] > 0.1 * largest))
    found = []
    for start in starts:
        last = int(np.searchsorted(log.time_s, log.time_s[start + 1] + 0.99 * after_s))
        last = min(last, len(log.time_s) - 1)
        if log.current_a[last] > 0.1 * largest and log.time_s[last] - log.time_s[start] < 6.0 * after_s:
            found.append(
                (log.voltage_v[start] - log.voltage_v[last]) / (log.current_a[last] - log.current_a[start])
            )
    return float(np.median(found)) if found else None
