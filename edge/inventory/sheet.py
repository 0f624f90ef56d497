"""The intake sheet: one row per module, checked field by field."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from edge.files import read_table_lines
from reconf.errors import DataFileError
from reconf.site import Chemistry

NUMBERS: Mapping[str, tuple[float, float]] = {
    "n_cells": (1, 15),
    "n_parallel": (1, 1000),
    "rated_capacity_ah": (0.1, 2000),
    "isolation_mohm": (0, 1e6),
    "system_v": (10, 1500),
    "calendar_expiry_years": (1, 50),
    "lowest_cell_v": (-5, 5),
    "reported_soh_frac": (0.05, 1.2),
    "resistance_ohm": (1e-6, 10),
    "ocv_v": (0, 80),
    "ocv_later_v": (0, 80),
    "ocv_days": (0.1, 1000),
    "mass_kg": (0.01, 2000),
    "volume_l": (0.01, 5000),
    "cost": (0, 1e6),
}
"""Numeric columns and what they may be."""
DATES = ("manufactured", "received")
TEXTS = ("chemistry", "cell_model", "origin", "vehicle", "manufacturer", "damage", "notes")
NEEDED = ("serial", "chemistry", "n_cells", "rated_capacity_ah")
WHOLE = ("n_cells", "n_parallel")
SERIAL_LONGEST = 16
"""RM1 nodes keep serials in 8 registers."""
MAX_COMPLAINTS = 20


def read_sheet(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by serial.

    Raises:
        DataFileError: with line and column of everything that is wrong.
    """
    reader = csv.DictReader(read_table_lines(path))
    titles = [t.strip() for t in reader.fieldnames or ()]
    reader.fieldnames = titles
    missing = [c for c in NEEDED if c not in titles]
    unknown = [c for c in titles if c not in {"serial", *NUMBERS, *DATES, *TEXTS}]
    if missing or unknown:
        semicolon = (
            " (semicolon separated? export with commas)" if len(titles) == 1 and ";" in titles[0] else ""
        )
        parts = [f"missing columns: {', '.join(missing)}{semicolon}"] if missing else []
        if unknown and not semicolon:
            parts.append(
                f"unknown columns: {', '.join(unknown)}; known: {', '.join((*NUMBERS, *DATES, *TEXTS))}"
            )
        raise DataFileError("\n".join(f"{path}:1: {p}" for p in parts))
    complaints: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            complaints.append(f"{where}: not as many fields as the header has")
            continue
        serial = row["serial"].strip()
        if serial in first:
            complaints.append(
                f"{where}: column serial: {serial!r} a second time, first in line {first[serial]}"
            )
            continue
        first[serial] = reader.line_num
        rows[serial] = _fields(where, row, complaints)
        if not 1 <= len(serial) <= SERIAL_LONGEST or not serial.isprintable():
            why = f"{len(serial)} characters" if serial.isprintable() else "characters that cannot be printed"
            complaints.append(
                f"{where}: column serial: {serial!r} has {why}; a node keeps 1..{SERIAL_LONGEST} "
                "(write a short one here, the maker's into notes)"
            )
    if not rows and not complaints:
        complaints.append(f"{path}:1: there is a header but no row")
    if complaints:
        more = len(complaints) - MAX_COMPLAINTS
        raise DataFileError(
            "\n".join(complaints[:MAX_COMPLAINTS] + ([f"... and {more} more"] if more > 0 else []))
        )
    return rows


def _fields(where: str, row: Mapping[str, str], complaints: list[str]) -> dict[str, Any]:
    """The row's fields as numbers, ISO dates and texts; empty ones are left out."""
    out: dict[str, Any] = {}
    for column, raw in row.items():
        text = raw.strip()
        if column == "serial":
            continue
        if not text:
            if column in NEEDED:
                complaints.append(f"{where}: column {column}: nothing there")
            continue
        if column in NUMBERS:
            out[column] = _number(where, column, text, complaints)
        elif column in DATES:
            try:
                out[column] = date.fromisoformat(text[:10]).isoformat()  # spreadsheets add 00:00:00
            except ValueError:
                complaints.append(f"{where}: column {column}: {text!r} is no date; write 2014-05-31")
        elif column == "chemistry":
            out[column] = text.upper()
            if text.upper() not in Chemistry.__members__:
                known = ", ".join(Chemistry.__members__)
                complaints.append(f"{where}: column chemistry: {text!r} is none of {known}")
        else:
            out[column] = text
    return out


def _number(where: str, column: str, text: str, complaints: list[str]) -> float | int | None:
    low, high = NUMBERS[column]
    try:
        value = float(text)
    except ValueError:
        hint = " (decimal comma? use a point)" if "," in text else ""
        complaints.append(f"{where}: column {column}: {text!r} is not a number{hint}")
        return None
    if not low <= value <= high or (column in WHOLE and value != int(value)):
        whole = "a whole number " if column in WHOLE else ""
        complaints.append(f"{where}: column {column}: {text} is not {whole}{low:g}..{high:g}")
        return None
    return int(value) if column in WHOLE else value
