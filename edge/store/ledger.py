"""What must be on the disk before it is acknowledged: faults, mode, command sequences, audit, events.

The file is opened with synchronous=FULL: when a method returns, its effect survives a power cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785

from edge.store.database import Database

VERSION = 1
GENESIS = "0" * 64
"""What the first audit entry is chained to."""
BDSEQ_CYCLE = 256
"""Sparkplug's bdSeq counts 0..255 (Sparkplug 3.0, section 6.4.6)."""

STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS document (key TEXT PRIMARY KEY, value TEXT NOT NULL, utc TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sequence (issuer TEXT PRIMARY KEY, sequence INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS reply (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL, reply TEXT NOT NULL, utc TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL)",
    """CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TABLE IF NOT EXISTS event (
        number INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL,
        kind TEXT NOT NULL, subject TEXT NOT NULL, data TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS event_subject ON event (subject, number)",
)


def utc_text(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, sortable as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class StoredReply:
    """The reply given to a command id."""

    digest: str
    """SHA-256 of the command as received; the same id with another digest is another command."""
    reply: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Result of walking the chain."""

    entries: int
    head: str
    """Hash of the last entry; compare it with one noted elsewhere to notice a shortened log."""
    first_bad: int | None
    """Number of the first entry that does not fit, None when all do."""
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a site's or a module's history."""

    number: int
    utc: str
    kind: str
    subject: str
    """Module serial, string name or `site`."""
    data: dict[str, Any]


def chain_hash(previous: str, entry: str) -> str:
    """SHA-256 over the previous hash and the entry's canonical JSON."""
    return hashlib.sha256(previous.encode() + entry.encode()).hexdigest()


class Ledger:
    """Faults, mode, commands, audit and events. Every method may raise StoreError."""

    def __init__(self, database: Database, *, replies_kept: int = 10_000, events_kept: int = 200_000) -> None:
        self._database = database
        self._replies_kept = replies_kept
        self._events_kept = events_kept

    # documents ------------------------------------------------------------------------------------

    def put(self, key: str, value: Any, utc: datetime) -> None:
        """Store a JSON value under `key` (`faults`, `mode`, `command_in_force` ...)."""
        self.put_all({key: value}, utc)

    def put_all(self, values: Mapping[str, Any], utc: datetime) -> None:
        """Store several JSON values in one transaction."""
        with self._database.transaction() as cursor:
            _put_documents(cursor, values, utc_text(utc))

    def get(self, key: str) -> Any:
        """The value under `key`, None when there is none."""
        rows = self._database.rows("SELECT value FROM document WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else None

    # commands -------------------------------------------------------------------------------------

    def sequences(self) -> dict[str, int]:
        """Last accepted sequence of every issuer."""
        return {str(i): int(s) for i, s in self._database.rows("SELECT issuer, sequence FROM sequence")}

    def reply(self, command_id: str) -> StoredReply | None:
        """The reply once given to `command_id`."""
        rows = self._database.rows("SELECT digest, reply FROM reply WHERE id = ?", (command_id,))
        return StoredReply(rows[0][0], json.loads(rows[0][1])) if rows else None

    def replies(self) -> dict[str, StoredReply]:
        """All replies kept, by command id."""
        rows = self._database.rows("SELECT id, digest, reply FROM reply ORDER BY number")
        return {row[0]: StoredReply(row[1], json.loads(row[2])) for row in rows}

    def settle(
        self,
        *,
        utc: datetime,
        command_id: str | None,
        digest: str,
        reply: Mapping[str, Any],
        sequence: tuple[str, int] | None,
        audit: Mapping[str, Any],
        documents: Mapping[str, Any] | None = None,
    ) -> None:
        """Before a command is acknowledged: sequence, reply, effect and audit entry in one transaction.

        Args:
            utc: now.
            command_id: None when the message had no readable id; then no reply is kept.
            digest: SHA-256 of the message.
            reply: what is answered.
            sequence: (issuer, sequence) to be noted as used, None when it was not used up.
            audit: what goes into the audit log.
            documents: JSON values to store with it, by key: what the command leaves behind.
        """
        stamp = utc_text(utc)
        with self._database.transaction() as cursor:
            if sequence is not None:
                cursor.execute(
                    "INSERT INTO sequence VALUES (?, ?) ON CONFLICT (issuer) DO UPDATE"
                    " SET sequence = MAX(sequence, excluded.sequence)",
                    sequence,
                )
            if command_id is not None:
                values = (command_id, digest, json.dumps(dict(reply), allow_nan=False), stamp)
                cursor.execute(
                    "INSERT OR REPLACE INTO reply (id, digest, reply, utc) VALUES (?, ?, ?, ?)", values
                )
                cursor.execute(
                    "DELETE FROM reply WHERE number <= (SELECT MAX(number) FROM reply) - ?",
                    (self._replies_kept,),
                )
            _put_documents(cursor, documents or {}, stamp)
            _append_audit(cursor, {"utc": stamp, **audit})

    # audit ----------------------------------------------------------------------------------------

    def audit(self, entries: Sequence[Mapping[str, Any]], utc: datetime) -> str:
        """Append entries to the audit log; return the hash of the last."""
        head = GENESIS
        with self._database.transaction() as cursor:
            for entry in entries:
                head = _append_audit(cursor, {"utc": utc_text(utc), **entry})
        return head

    def audit_head(self) -> str:
        """Hash of the last entry."""
        rows = self._database.rows("SELECT hash FROM audit ORDER BY number DESC LIMIT 1")
        return str(rows[0][0]) if rows else GENESIS

    def audit_has(self, digest: str) -> bool:
        """Whether an entry with this hash is in the log."""
        return bool(self._database.rows("SELECT 1 FROM audit WHERE hash = ?", (digest,)))

    def audit_entries(self, last: int = 100) -> list[dict[str, Any]]:
        """The last entries, oldest first."""
        rows = self._database.rows("SELECT entry FROM audit ORDER BY number DESC LIMIT ?", (last,))
        return [json.loads(row[0]) for row in reversed(rows)]

    def verify_audit(self) -> AuditCheck:
        """Walk the whole chain."""
        previous, count = GENESIS, 0
        for number, entry, digest in self._database.rows(
            "SELECT number, entry, hash FROM audit ORDER BY number"
        ):
            count += 1
            if number != count:
                return AuditCheck(count, previous, count, f"entry {count} is missing, {number} follows")
            if chain_hash(previous, entry) != digest:
                return AuditCheck(count, previous, number, f"entry {number} was changed, or one before it")
            previous = digest
        return AuditCheck(count, previous, None, f"{count} entries, every hash fits")

    # events and counters --------------------------------------------------------------------------

    def append_events(self, events: Sequence[tuple[str, str, Mapping[str, Any]]], utc: datetime) -> None:
        """Append (kind, subject, data) lines to the history; the oldest go when there are too many."""
        rows = [(utc_text(utc), kind, subject, json.dumps(dict(data))) for kind, subject, data in events]
        with self._database.transaction() as cursor:
            cursor.executemany("INSERT INTO event (utc, kind, subject, data) VALUES (?, ?, ?, ?)", rows)
            cursor.execute(
                "DELETE FROM event WHERE number <= (SELECT MAX(number) FROM event) - ?", (self._events_kept,)
            )

    def events(self, subject: str | None = None, last: int = 1000) -> list[Event]:
        """The last events of one subject or of all, oldest first."""
        where, arguments = ("WHERE subject = ?", [subject]) if subject is not None else ("", [])
        sql = f"SELECT number, utc, kind, subject, data FROM event {where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - `where` is one of two constants
        rows = self._database.rows(sql, [*arguments, last])
        return [Event(r[0], r[1], r[2], r[3], json.loads(r[4])) for r in reversed(rows)]

    def next_bdseq(self, utc: datetime) -> int:
        """Count the next MQTT session of the Sparkplug node (0..255, then 0 again)."""
        last = self.get("bdseq")
        number = 0 if last is None else (int(last) + 1) % BDSEQ_CYCLE
        self.put("bdseq", number, utc)
        return number


def _put_documents(cursor: Any, values: Mapping[str, Any], stamp: str) -> None:
    """Store JSON values; they are looked up now, inside the transaction, so that threads cannot overtake."""
    rows = [(key, json.dumps(value, allow_nan=False), stamp) for key, value in values.items()]
    cursor.executemany("INSERT OR REPLACE INTO document VALUES (?, ?, ?)", rows)


def _append_audit(cursor: Any, entry: Mapping[str, Any]) -> str:
    """Chain one entry to the last inside a transaction."""
    last = cursor.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    number, previous = last or (0, GENESIS)
    text = rfc8785.dumps(dict(entry)).decode()
    digest = chain_hash(previous, text)
    cursor.execute("INSERT INTO audit VALUES (?, ?, ?)", (number + 1, text, digest))
    return digest
