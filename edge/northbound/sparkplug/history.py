"""Where data wait that nobody could hear: a file beside the other stores, or memory where there is none."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from edge.northbound.sparkplug.node import Kept
from edge.store import history
from edge.store.database import Database
from edge.store.history import History
from reconf.errors import StoreError

FILE = "sparkplug.sqlite3"
MEMORY_MAX = 10_000
"""Messages kept where there is no file."""


class HistoryFile:
    """Kept messages in order. A failing disk loses and counts them; nothing is raised."""

    def __init__(
        self,
        folder: Path | None,
        blocking: Callable[[Callable[[], Any]], Awaitable[Any]],
        *,
        rows_max: int = 100_000,
    ) -> None:
        """Nothing is opened here.

        Args:
            folder: state directory; None: memory only.
            blocking: runs what waits for the disk.
            rows_max: most messages that are kept; the oldest go first.
        """
        self.dropped = 0
        """Messages lost since start."""
        self._folder, self._blocking, self._rows_max = folder, blocking, rows_max
        self._database: Database | None = None
        self._outbox: History | None = None
        self._memory: deque[tuple[int, Kept]] = deque()
        self._number = 0
        self._log = structlog.get_logger("sparkplug")

    async def open(self) -> None:
        """Open the file; without it memory has to do, and that is told."""
        if self._folder is None:
            return
        path = self._folder / FILE
        try:
            self._database = await self._blocking(
                lambda: Database.open(path, history.STATEMENTS, version=history.VERSION, synchronous="NORMAL")
            )
        except StoreError as error:
            self._log.error("history_not_opened", error=str(error))
            return
        self._outbox = History(self._database, journal_rows=1, outbox_rows=self._rows_max)

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
        self._database = self._outbox = None

    async def put(self, kept: Sequence[Kept], utc: datetime) -> bool:
        """Keep messages; whether some were lost."""
        before = self.dropped
        outbox = self._outbox
        if outbox is None:
            for one in kept:
                self._number += 1
                self._memory.append((self._number, one))
            while len(self._memory) > min(MEMORY_MAX, self._rows_max):
                self._memory.popleft()
                self.dropped += 1
            return self.dropped > before
        rows = [(one.topic, one.payload, utc) for one in kept]
        try:
            self.dropped += await self._blocking(lambda: outbox.outbox_put(rows))
        except StoreError as error:
            self.dropped += len(rows)
            self._log.error("history_not_written", error=str(error), dropped=self.dropped)
        return self.dropped > before

    async def take(self, limit: int) -> tuple[list[int], list[Kept]]:
        """The oldest messages and their numbers; they stay until `done`."""
        outbox = self._outbox
        if outbox is None:
            found = list(self._memory)[:limit]
            return [n for n, _ in found], [one for _, one in found]
        try:
            _, unsent = await self._blocking(lambda: outbox.outbox_take(limit))
        except StoreError as error:
            self._log.error("history_not_read", error=str(error))
            return [], []
        return [u.number for u in unsent], [Kept(u.topic, u.payload) for u in unsent]

    async def done(self, numbers: Sequence[int]) -> None:
        """These have been heard."""
        outbox = self._outbox
        if outbox is None:
            heard = set(numbers)
            self._memory = deque(item for item in self._memory if item[0] not in heard)
            return
        try:
            await self._blocking(lambda: outbox.outbox_done(list(numbers)))
        except StoreError as error:
            self._log.error("history_not_written", error=str(error))
