"""The state directory: one process owns it, two SQLite files in it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.store import history, ledger
from edge.store.database import Database
from edge.store.history import History
from edge.store.ledger import Ledger
from reconf.errors import StoreError

LEDGER_FILE = "ledger.sqlite3"
HISTORY_FILE = "history.sqlite3"
LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class StoreBounds:
    """How much is kept."""

    journal_rows: int = 20_000
    outbox_rows: int = 100_000
    replies: int = 10_000
    events: int = 200_000


class Store:
    """Everything that outlives the process.

    Calls block on the disk (the ledger's until the disk has it): the daemon makes them from one worker
    thread, never from its event loop. They are safe from any thread.

    Every method may raise `StoreError` (disk full, read-only, damaged). Then nothing of that call was
    stored, the files are as before, and the next call may succeed: control goes on and says so.
    """

    def __init__(self, folder: Path, ledger_: Ledger, history_: History, handles: Handles) -> None:
        self.folder = folder
        self.ledger = ledger_
        self.history = history_
        self._handles = handles

    @classmethod
    def open(cls, folder: Path, bounds: StoreBounds | None = None, *, read_only: bool = False) -> Store:
        """Open the state directory, making it when it is not there.

        Args:
            folder: the directory; it gets mode 0700.
            bounds: how much is kept.
            read_only: look beside a running daemon; nothing is made, locked or changed.

        Raises:
            StoreError: it cannot be made or read, or another process owns it.
        """
        bounds = bounds or StoreBounds()
        handles = Handles()
        try:
            if not read_only:
                handles.lock = take(folder)
            handles.ledger = Database.open(
                folder / LEDGER_FILE,
                ledger.STATEMENTS,
                version=ledger.VERSION,
                synchronous="FULL",
                read_only=read_only,
            )
            handles.history = Database.open(
                folder / HISTORY_FILE,
                history.STATEMENTS,
                version=history.VERSION,
                synchronous="NORMAL",
                read_only=read_only,
            )
        except StoreError:
            handles.close()
            raise
        return cls(
            folder,
            Ledger(handles.ledger, replies_kept=bounds.replies, events_kept=bounds.events),
            History(handles.history, journal_rows=bounds.journal_rows, outbox_rows=bounds.outbox_rows),
            handles,
        )

    def close(self) -> None:
        """Close the files and give up ownership; safe to call twice."""
        self._handles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Handles:
    """What is open."""

    lock: int | None = None
    ledger: Database | None = None
    history: Database | None = None

    def close(self) -> None:
        """Close what is open."""
        for database in (self.ledger, self.history):
            if database is not None:
                database.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def take(folder: Path) -> int:
    """Make the folder and lock it for this process; the lock ends with the process, however it ends.

    Whoever works on the site's wires beside the daemon takes it too, so that only one of them does.

    Returns:
        A file descriptor: closing it gives the lock up.

    Raises:
        StoreError: the folder cannot be used, or another process owns it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be used as state directory: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreError(f"{folder}: another process owns this state directory") from error
    return handle
