"""Intake of a folder: what would be entered, before anything is written."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from edge.files import read_bytes, read_table_lines
from edge.inventory.cycler import discharge_capacity_ah, find_header, read_cycler, step_resistance_ohm
from edge.inventory.passport import Passport, passport
from edge.inventory.sheet import read_sheet
from edge.inventory.store import Entry
from reconf.errors import DataFileError
from reconf.grading.acceptance import refusals
from reconf.grading.table import VOLTAGE_COLUMNS, read_pulse_table

SHEETS = ("modules.csv", "modules.xlsx")
ENDINGS = (".csv", ".xlsx", ".txt", ".gz")
CELL_COLUMN = re.compile(r"^cell_?\d+_v$|^cell_voltage_min_v$", re.IGNORECASE)

Draft = tuple[str, str, dict[str, Any]]
"""(serial, kind, data) of an entry to be written."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a folder would add."""

    entries: tuple[Draft, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    refused: Mapping[str, tuple[dict[str, str], ...]]
    """Reasons by serial, of the modules this intake judges."""
    tests: int
    skipped: tuple[str, ...]
    """Files without use, each with the reason."""


def read_folder(
    folder: Path,
    known: Mapping[str, Sequence[Entry]],
    columns: Sequence[Mapping[str, Any]],
    today: date,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Intake:
    """Read the sheet and every test file of `folder`.

    Args:
        folder: holds modules.csv (or .xlsx); pulse tables (ID, U1..U21); logs named after a serial.
        known: histories already in the inventory.
        columns: cyclers' column table.
        today: for the age of modules.
        progress: called with (files done, files).

    Raises:
        DataFileError: with file, line and column.
    """
    sheet = next((folder / name for name in SHEETS if (folder / name).is_file()), None)
    if sheet is None:
        raise DataFileError(
            f"{folder}: no {SHEETS[0]} in it: one row per module, columns serial, chemistry ..."
        )
    rows = read_sheet(sheet)
    drafts: list[Draft] = []
    new = tuple(s for s in rows if s not in known)
    changed = []
    for serial, fields in rows.items():
        held = passport(serial, known.get(serial, ())).master if serial in known else {}
        difference = {k: v for k, v in fields.items() if held.get(k) != v}
        if difference or serial not in known:
            drafts.append((serial, "received", difference))
            if serial in known:
                changed.append(serial)
    digests = {e.data.get("sha256") for entries in known.values() for e in entries if e.kind == "test"}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != sheet and p.suffix.lower() in ENDINGS)
    skipped: list[str] = []
    serials = {*rows, *known}
    cells = {s: int(rows.get(s, {}).get("n_cells") or 1) for s in serials}
    for number, path in enumerate(files):
        tests, reason = _read_file(path, serials, cells, columns, digests)
        drafts += [(serial, "test", {**data, "file": path.name}) for serial, data in tests]
        if reason:
            skipped.append(f"{path.relative_to(folder)}: {reason}")
        progress(number + 1, len(files))
    count = sum(kind == "test" for _, kind, _ in drafts)
    verdicts, refused = _judge(drafts, known, today)
    return Intake(tuple(drafts + verdicts), new, tuple(changed), refused, count, tuple(skipped))


def _read_file(
    path: Path,
    serials: set[str],
    cells: Mapping[str, int],
    columns: Sequence[Mapping[str, Any]],
    digests: set[Any],
) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Tests of one file by serial, or why it is of no use."""
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    if digest in digests:
        return [], "already entered (same content)"
    lines = read_table_lines(path)
    titles = [t.strip() for t in next(csv.reader(lines[:1]), [])]
    if set(VOLTAGE_COLUMNS) <= set(titles):
        return _pulses(path, lines, serials, digest)
    serial = serial_of(path, serials)
    if serial is None:
        return [], "its name begins with no serial of the sheet"
    if any(CELL_COLUMN.match(t) for t in titles):
        lowest = _lowest_cell_v(path, lines)
        return [(serial, {"type": "bms_log", "lowest_cell_v": lowest, "sha256": digest})], ""
    if find_header(lines, columns) is None and not any(c.isalpha() for c in "".join(lines[:3])):
        return [], "no table with a header"
    log = read_cycler(path, columns)
    data: dict[str, Any] = {
        "type": "cycler",
        "vendor": log.vendor,
        "capacity_ah": discharge_capacity_ah(log),
        "lowest_mean_cell_v": float(log.voltage_v.min()) / cells[serial],
        "hours": float(log.time_s[-1] - log.time_s[0]) / 3600.0,
        "sha256": digest,
    }
    resistance = step_resistance_ohm(log)
    return [(serial, data | ({"resistance_ohm": resistance} if resistance else {}))], ""


def serial_of(path: Path, serials: set[str]) -> str | None:
    """The longest serial the file's name begins with (`LEAF-A7_capacity.csv`)."""
    name = path.name
    found = [s for s in serials if name.startswith(s) and not name[len(s) : len(s) + 1].isalnum()]
    return max(found, key=len, default=None)


def _pulses(
    path: Path, lines: list[str], serials: set[str], digest: str
) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    table = read_pulse_table(str(path), lines)
    strangers = [
        f"{path}:{line}: column ID: {i!r} is in no sheet"
        for i, line in zip(table.ids, table.lines, strict=True)
        if i not in serials
    ]
    if strangers:
        raise DataFileError("\n".join(strangers[:20]))
    found = []
    for i, serial in enumerate(table.ids):
        data: dict[str, Any] = {"type": "pulse", "voltage_v": table.voltage_v[i].tolist(), "sha256": digest}
        if table.temperature_degc is not None:
            data["temperature_degc"] = float(table.temperature_degc[i])
        found.append((serial, data))
    return found, ""


def _lowest_cell_v(path: Path, lines: list[str]) -> float:
    """Lowest cell voltage of a BMS log."""
    reader = csv.reader(lines)
    titles = [t.strip() for t in next(reader)]
    at = [i for i, t in enumerate(titles) if CELL_COLUMN.match(t)]
    lowest = float("inf")
    for row in reader:
        for i in at:
            text = row[i].strip() if i < len(row) else ""
            try:
                lowest = min(lowest, float(text)) if text else lowest
            except ValueError as error:
                raise DataFileError(
                    f"{path}:{reader.line_num}: column {titles[i]}: {text!r} is not a number"
                ) from error
    if lowest == float("inf"):
        raise DataFileError(f"{path}: no cell voltage in it")
    return lowest


def _judge(
    drafts: Sequence[Draft], known: Mapping[str, Sequence[Entry]], today: date
) -> tuple[list[Draft], dict[str, tuple[dict[str, str], ...]]]:
    """A verdict for every module something is entered of, where it differs from the last."""
    touched: dict[str, list[Entry]] = {}
    for serial, kind, data in drafts:
        touched.setdefault(serial, list(known.get(serial, ()))).append(Entry(0, "", kind, data, ""))
    verdicts: list[Draft] = []
    refused: dict[str, tuple[dict[str, str], ...]] = {}
    for serial, entries in touched.items():
        card: Passport = passport(serial, entries)
        reasons = refusals({**card.master, "lowest_cell_v": card.lowest_cell_v}, today)
        if reasons:
            refused[serial] = reasons
        if reasons and card.refusals != reasons:
            verdicts.append((serial, "refused", {"reasons": list(reasons)}))
        elif not reasons and card.status != "accepted" and not card.locked_out:
            verdicts.append((serial, "accepted", {}))
    return verdicts, refused
