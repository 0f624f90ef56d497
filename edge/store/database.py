"""One SQLite file in WAL mode: opening, versions, transactions, and errors as `StoreError`."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from reconf.errors import StoreError

BUSY_TIMEOUT_S = 2.0
"""How long to wait for another process that reads."""
WAL_KEPT_BYTES = 4_000_000


class Database:
    """A SQLite file. Safe to call from any thread, one call at a time; never call it from the event loop."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: Path,
        statements: Sequence[str],
        *,
        version: int,
        synchronous: Literal["FULL", "NORMAL"],
        read_only: bool = False,
    ) -> Database:
        """Open or create the file.

        Args:
            path: the file; its folder exists.
            statements: what creates the tables, each idempotent.
            version: schema version; a file with a newer one is refused.
            synchronous: FULL puts every commit onto the disk before it returns.
            read_only: look only; the file must exist.

        Raises:
            StoreError: the file cannot be opened, is damaged, or is of a newer version.
        """
        mode = "ro" if read_only else "rwc"
        try:
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            if read_only and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises on closed folders
                text = "is not there or may not be read; is this the daemon's state directory (--state-dir)?"
                raise StoreError(f"{path}: {text}") from error
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        database = cls(path, connection)
        try:
            database._prepare(statements, version, synchronous, read_only=read_only)
        except StoreError:
            connection.close()
            raise
        return database

    def _prepare(self, statements: Sequence[str], version: int, synchronous: str, *, read_only: bool) -> None:
        found = int(self.rows("PRAGMA user_version")[0][0])
        if found > version:
            raise StoreError(f"{self.path}: has version {found}, this software knows {version} at most")
        if read_only:
            return
        self.rows("PRAGMA journal_mode=WAL")
        self.rows(f"PRAGMA synchronous={synchronous}")
        self.rows(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
        self.rows("PRAGMA foreign_keys=ON")
        with self.transaction() as cursor:
            for statement in statements:
                cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version={version}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """All of the block or nothing; committed when the block ends.

        Raises:
            StoreError: disk full, read-only, damaged or busy. Nothing of the block was stored.
        """
        with self._lock:
            cursor = self._connection.cursor()
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            except BaseException as error:
                self._roll_back(cursor)
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"{self.path}: {error}") from error
                raise
            finally:
                cursor.close()

    @staticmethod
    def _roll_back(cursor: sqlite3.Cursor) -> None:
        """Give up a transaction; SQLite may already have done so itself."""
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Result of one statement outside a transaction.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._connection.execute(sql, arguments).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._connection.close()
