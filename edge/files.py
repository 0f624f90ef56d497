"""Reading the files people hand in: encodings, compression, spreadsheets."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

from reconf.errors import DataFileError


def read_bytes(path: Path) -> bytes:
    """Content of `path`, unpacked where it is gzip.

    Raises:
        DataFileError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise DataFileError(f"{path}: cannot be read: {error}") from error


def read_document(path: Path, form: str, refusal: str) -> dict[str, Any]:
    """The JSON object that another command has written into `path`, version 1 of the format `form`.

    Raises:
        DataFileError: not JSON, or, with the words of `refusal`, not of that format.
    """
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataFileError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != form or found.get("version") != 1:
        raise DataFileError(f"{path}: {refusal}")
    return found


def read_table_lines(path: Path) -> list[str]:
    """Lines of a CSV file, or of the first sheet of an .xlsx file as CSV.

    Raises:
        DataFileError: not text, or an old binary spreadsheet.
    """
    data = read_bytes(path)
    if data[:4] == b"PK\x03\x04":
        return _sheet_lines(path, data)
    if data[:4] == b"\xd0\xcf\x11\xe0":
        raise DataFileError(f"{path}: an old binary .xls file; save it as .xlsx or CSV")
    for encoding in ("utf-8-sig", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"):
        try:
            return data.decode(encoding).splitlines(keepends=True)
        except UnicodeDecodeError as error:
            last = error
    line = data[: last.start].count(b"\n") + 1
    raise DataFileError(f"{path}:{line}: byte 0x{data[last.start]:02x} is not UTF-8; save the file as UTF-8")


def _sheet_lines(path: Path, data: bytes) -> list[str]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except (InvalidFileException, KeyError, ValueError, OSError) as error:
        raise DataFileError(f"{path}: a zip archive, but no .xlsx workbook: {error}") from error
    out = io.StringIO()
    writer = csv.writer(out)
    for row in book.worksheets[0].iter_rows(values_only=True):
        writer.writerow(["" if v is None else v for v in row])
    return out.getvalue().splitlines(keepends=True)
