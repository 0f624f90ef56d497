"""The inventory file: one hash-chained, append-only history per module in SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import rfc8785

from edge.store.database import Database
from edge.store.ledger import GENESIS, chain_hash, utc_text
from reconf.errors import DataFileError

VERSION = 1
STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS history (
        number INTEGER PRIMARY KEY AUTOINCREMENT, serial TEXT NOT NULL, step INTEGER NOT NULL,
        entry TEXT NOT NULL, hash TEXT NOT NULL, UNIQUE (serial, step))""",
    """CREATE TRIGGER IF NOT EXISTS history_no_update BEFORE UPDATE ON history
        BEGIN SELECT RAISE(ABORT, 'a passport is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS history_no_delete BEFORE DELETE ON history
        BEGIN SELECT RAISE(ABORT, 'a passport is append-only'); END""",
)
KINDS = ("received", "test", "graded", "refused", "accepted", "placed", "estimated", "event")
"""What an entry can be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a passport."""

    step: int
    utc: str
    kind: str
    data: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Where a history does not fit its hashes."""

    serial: str
    step: int
    text: str


class Inventory:
    """Histories by serial. Every method may raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Inventory:
        """Open the file at `path`.

        Raises:
            DataFileError: it does not exist and is not to be created, or is no inventory.
        """
        if not create and not path.is_file():
            raise DataFileError(
                f"{path}: no such inventory; 'reconf intake FOLDER --inventory {path}' makes one"
            )
        if path.is_file() and path.stat().st_size and path.read_bytes()[:6] != b"SQLite":
            raise DataFileError(f"{path}: not an inventory (no SQLite file)")
        if not path.parent.is_dir():
            raise DataFileError(f"{path}: the folder {path.parent} does not exist")
        return cls(Database.open(path, STATEMENTS, version=VERSION, synchronous="FULL"))

    def append(self, entries: Iterable[tuple[str, str, Mapping[str, Any]]], utc: datetime) -> int:
        """Append (serial, kind, data) entries in one transaction; returns how many."""
        count = 0
        heads = {
            str(serial): (int(step), str(digest))
            for serial, step, digest in self._database.rows(
                "SELECT serial, step, hash FROM history h WHERE step ="
                " (SELECT MAX(step) FROM history WHERE serial = h.serial)"
            )
        }
        with self._database.transaction() as cursor:
            for serial, kind, data in entries:
                step, previous = heads.get(serial, (0, GENESIS))
                text = rfc8785.dumps(
                    {
                        "serial": serial,
                        "step": step + 1,
                        "utc": utc_text(utc),
                        "kind": kind,
                        "data": dict(data),
                    }
                ).decode()
                digest = chain_hash(previous, text)
                cursor.execute(
                    "INSERT INTO history (serial, step, entry, hash) VALUES (?, ?, ?, ?)",
                    (serial, step + 1, text, digest),
                )
                heads[serial] = (step + 1, digest)
                count += 1
        return count

    def histories(self) -> dict[str, tuple[Entry, ...]]:
        """All histories, serials in the order of arrival."""
        found: dict[str, list[Entry]] = {}
        for serial, text, digest in self._database.rows(
            "SELECT serial, entry, hash FROM history ORDER BY number"
        ):
            entry = json.loads(text)
            found.setdefault(serial, []).append(
                Entry(entry["step"], entry["utc"], entry["kind"], entry["data"], digest)
            )
        return {serial: tuple(entries) for serial, entries in found.items()}

    def history(self, serial: str) -> tuple[Entry, ...]:
        """History of one module.

        Raises:
            DataFileError: no such module.
        """
        found = self.histories()
        if serial not in found:
            import difflib

            near = difflib.get_close_matches(serial, found, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise DataFileError(f"{self._database.path}: no module {serial!r} in it{hint}")
        return found[serial]

    def check(self) -> tuple[ChainFault, ...]:
        """Walk every chain."""
        faults: list[ChainFault] = []
        previous: dict[str, tuple[int, str]] = {}
        for serial, step, text, digest in self._database.rows(
            "SELECT serial, step, entry, hash FROM history ORDER BY serial, step"
        ):
            last, head = previous.get(serial, (0, GENESIS))
            if step != last + 1:
                faults.append(ChainFault(serial, last + 1, f"entry {last + 1} is missing"))
            elif chain_hash(head, text) != digest:
                faults.append(ChainFault(serial, step, f"entry {step} was changed"))
            previous[serial] = (step, digest)
        return tuple(faults)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
