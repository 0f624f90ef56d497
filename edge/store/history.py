"""What may lose its last seconds: estimates, the journal of records, the outbox of unsent telemetry.

The file is opened with synchronous=NORMAL: a power cut never damages it, but the last commits may be gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.store.database import Database
from edge.store.ledger import utc_text

VERSION = 1
STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS estimate (serial TEXT PRIMARY KEY, row TEXT NOT NULL, utc TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS journal (
        number INTEGER PRIMARY KEY AUTOINCREMENT, interval INTEGER NOT NULL,
        kind TEXT NOT NULL, utc TEXT NOT NULL, payload BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS journal_interval ON journal (interval)",
    """CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
        payload BLOB NOT NULL, utc TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS gap (
        one INTEGER PRIMARY KEY CHECK (one = 1), dropped INTEGER NOT NULL,
        first_utc TEXT NOT NULL, last_utc TEXT NOT NULL)""",
)

WAITING = "SELECT COALESCE(MAX(number) - MIN(number) + 1, 0) FROM outbox"
"""Messages go in at one end and out at the other, so their numbers count them; COUNT would read every row."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One record as kept."""

    number: int
    interval: int
    kind: str
    utc: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that waits for the broker."""

    number: int
    topic: str
    payload: bytes
    utc: str
    """When it was made."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that were dropped because the outbox was full."""

    dropped: int
    first_utc: str
    last_utc: str


class History:
    """Estimates, journal, outbox. Every method may raise StoreError; then nothing of the call was stored."""

    def __init__(self, database: Database, *, journal_rows: int, outbox_rows: int) -> None:
        self._database = database
        self._journal_rows = journal_rows
        self._outbox_rows = outbox_rows

    # estimates ------------------------------------------------------------------------------------

    def save_estimates(self, rows: Mapping[str, Mapping[str, Any]], utc: datetime) -> None:
        """Replace the estimates of these modules, by serial (call it once a minute, not every tick)."""
        stamp = utc_text(utc)
        values = [(serial, json.dumps(dict(row)), stamp) for serial, row in rows.items()]
        with self._database.transaction() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO estimate VALUES (?, ?, ?)", values)

    def estimates(self) -> dict[str, tuple[dict[str, Any], datetime]]:
        """Last estimate of every module ever seen, by serial, with the time it was saved."""
        rows = self._database.rows("SELECT serial, row, utc FROM estimate")
        return {r[0]: (json.loads(r[1]), datetime.fromisoformat(r[2])) for r in rows}

    # journal --------------------------------------------------------------------------------------

    def append_records(self, records: Sequence[tuple[int, str, bytes]], utc: datetime) -> None:
        """Append (interval, kind, compressed payload); the oldest go when the ring is full."""
        stamp = utc_text(utc)
        values = [(interval, kind, stamp, payload) for interval, kind, payload in records]
        with self._database.transaction() as cursor:
            cursor.executemany(
                "INSERT INTO journal (interval, kind, utc, payload) VALUES (?, ?, ?, ?)", values
            )
            cursor.execute(
                "DELETE FROM journal WHERE number <= (SELECT MAX(number) FROM journal) - ?",
                (self._journal_rows,),
            )

    def records(self, first_interval: int, last_interval: int) -> list[JournalEntry]:
        """Records of a range of intervals, both ends included, oldest first."""
        sql = (
            "SELECT number, interval, kind, utc, payload FROM journal"
            " WHERE interval BETWEEN ? AND ? ORDER BY number"
        )
        rows = self._database.rows(sql, (first_interval, last_interval))
        return [JournalEntry(*r) for r in rows]

    def last_records(self, count: int = 1) -> list[JournalEntry]:
        """The newest records, oldest first."""
        sql = "SELECT number, interval, kind, utc, payload FROM journal ORDER BY number DESC LIMIT ?"
        rows = self._database.rows(sql, (count,))
        return [JournalEntry(*r) for r in reversed(rows)]

    def bound_outbox(self, rows: int) -> None:
        """Keep this many unsent messages from now on."""
        self._outbox_rows = rows

    # outbox ---------------------------------------------------------------------------------------

    def outbox_put(self, messages: Sequence[tuple[str, bytes, datetime]]) -> int:
        """Keep (topic, payload, made at) until the broker is back; return how many old ones had to go."""
        values = [(topic, payload, utc_text(utc)) for topic, payload, utc in messages]
        with self._database.transaction() as cursor:
            cursor.executemany("INSERT INTO outbox (topic, payload, utc) VALUES (?, ?, ?)", values)
            waiting = int(cursor.execute(WAITING).fetchone()[0])
            surplus = max(0, waiting - self._outbox_rows)
            if surplus:
                _drop_oldest(cursor, surplus)
        return surplus

    def outbox_take(self, limit: int = 200) -> tuple[Gap | None, list[Unsent]]:
        """The oldest waiting messages, and the gap before them if there is one. Nothing is removed yet."""
        gap = self._database.rows("SELECT dropped, first_utc, last_utc FROM gap")
        sql = "SELECT number, topic, payload, utc FROM outbox ORDER BY number LIMIT ?"
        rows = self._database.rows(sql, (limit,))
        return (Gap(*gap[0]) if gap else None), [Unsent(*row) for row in rows]

    def outbox_done(self, numbers: Sequence[int], gap: Gap | None = None) -> None:
        """These messages, and this gap, have reached the broker."""
        with self._database.transaction() as cursor:
            cursor.executemany("DELETE FROM outbox WHERE number = ?", [(n,) for n in numbers])
            if gap is not None:
                cursor.execute(
                    "UPDATE gap SET dropped = dropped - ?, first_utc = ?", (gap.dropped, gap.last_utc)
                )
                cursor.execute("DELETE FROM gap WHERE dropped <= 0")

    def outbox_count(self) -> int:
        """Messages waiting."""
        return int(self._database.rows(WAITING)[0][0])


def _drop_oldest(cursor: Any, surplus: int) -> None:
    """Drop the oldest messages and note honestly that they are missing."""
    rows = cursor.execute("SELECT number, utc FROM outbox ORDER BY number LIMIT ?", (surplus,)).fetchall()
    first, last = rows[0], rows[-1]
    cursor.execute("DELETE FROM outbox WHERE number <= ?", (last[0],))
    cursor.execute(
        "INSERT INTO gap VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE"
        " SET dropped = dropped + excluded.dropped, last_utc = excluded.last_utc",
        (surplus, first[1], last[1]),
    )
