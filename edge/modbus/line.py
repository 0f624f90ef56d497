"""One gateway: its connections, the nodes behind it, and who may use the line when.

Requests of a tick are shared out over the connections as these become free. A node that failed is taken
out of the tick at once and probed in the background at growing intervals, over a connection of its own
where there is more than one, else in the idle time of the line and for a bounded share of it: a silent
node costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from edge.modbus.transport import QUIET_S, Link
from reconf.site import GatewaySpec

BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 8.0
PROBE_SHARE = 0.1
"""Largest share of a shared line's time that probing silent nodes may take."""
IDLE_S = 0.05
"""A shared line counts as idle after this time without a request."""
IDLE_WAIT_MAX_S = 1.0
"""A probe of a line that is never idle goes ahead after this time."""

Work = Callable[[Link], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Node:
    """One unit on the wire and what is remembered of its behaviour."""

    index: int
    """Modules in site order, then converters."""
    kind: Literal["rm1", "rc1"]
    row: int
    """Index among the nodes of its kind."""
    unit: int
    label: str
    read_count: int
    prefix: bytes
    """First bytes of every genuine input block."""
    status_at: int
    """Byte of STATUS in that block."""
    no_status: bytes
    """What stands there where the node does not know its status; empty where the profile has no pattern."""
    busy: bool = False
    """It is being read, or waits to be."""
    failures: int = 0
    """Failures in a row."""
    next_try_s: float = 0.0
    """Wall time of the next probe while `failures` > 0."""
    registers: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its holding registers are read or written, so that what is known of them is true."""

    @property
    def suspect(self) -> bool:
        """The last exchange failed: probed in the background only."""
        return self.failures > 0

    def failed(self, now_s: float) -> None:
        """Count a failure: probe at once after the first, then at doubled intervals."""
        delay = 0.0 if self.failures == 0 else BACKOFF_FIRST_S * 2.0 ** min(self.failures - 1, 10)
        self.failures += 1
        self.next_try_s = now_s + min(delay, BACKOFF_MAX_S)


class Batch:
    """Requests that are waited for together."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._done = asyncio.Event()
        if count == 0:
            self._done.set()

    def finish(self) -> None:
        """One of them is over, well or badly."""
        self._left -= 1
        if self._left == 0:
            self._done.set()

    async def wait(self) -> None:
        """Until all are over."""
        await self._done.wait()


@dataclass(slots=True)
class Line:
    """A gateway with its open connections and its nodes."""

    gateway: GatewaySpec
    nodes: tuple[Node, ...]
    wall: Callable[[], float]
    read_only: bool = False
    links: list[Link] = field(default_factory=list)
    """Connections for the tick's requests."""
    spare: Link | None = None
    """Connection for probes, where there is more than one."""
    probe_after_s: float = 0.0
    """Wall time before which a shared line is not probed again."""
    _normal: deque[tuple[Work, Batch]] = field(default_factory=deque)
    _background: deque[Work] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _wake_background: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _probing: int = 0
    _closing: bool = False

    async def __aenter__(self) -> Self:
        """Open the connections together; those that cannot be made are tried again in the background."""
        tcp = self.gateway.kind == "tcp"
        count = max(self.gateway.connections, 1) if tcp else 1
        made = [Link(self.gateway, wall=self.wall, read_only=self.read_only) for _ in range(count)]
        await asyncio.gather(*(self._stack.enter_async_context(link) for link in made))
        self.spare = made.pop() if len(made) > 1 else None
        self.links = made
        self._tasks = [asyncio.create_task(self._serve(link)) for link in made]
        self._tasks.append(asyncio.create_task(self._serve_background(self.spare or made[0])))
        for task in self._tasks:
            task.add_done_callback(self._worker_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # asyncio.wait_for of Python 3.11 swallows a cancellation that meets an arriving answer: say it twice
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    @property
    def connected(self) -> int:
        """Connections that stand."""
        return sum(link.connected for link in self.all_links)

    @property
    def all_links(self) -> tuple[Link, ...]:
        """Every connection."""
        return (*self.links, self.spare) if self.spare else tuple(self.links)

    @property
    def wire_s(self) -> float:
        """Computed wire time used so far (serial lines only) [s]."""
        return sum(link.wire_s for link in self.all_links)

    def submit(self, works: Sequence[Work], *, urgent: bool = False) -> Batch:
        """Have `works` done by whichever connection is free first; urgent ones before what waits already."""
        self._raise_if_broken()
        batch = Batch(len(works))
        if urgent:
            self._normal.extendleft((work, batch) for work in reversed(works))
        else:
            self._normal.extend((work, batch) for work in works)
        if works:
            self._wake.set()
        return batch

    def probe(self, work: Work) -> None:
        """Have `work` done in the background."""
        self._raise_if_broken()
        self._probing += 1
        self._background.append(work)
        self._wake_background.set()

    @property
    def probing(self) -> int:
        """Probes under way or waiting."""
        return self._probing

    def probe_cost(self, took_s: float) -> None:
        """Account for a probe that was not answered, so that probing stays within its share."""
        if self.spare is None:
            self.probe_after_s = self.wall() + (took_s + QUIET_S) * (1.0 / PROBE_SHARE - 1.0)

    async def _serve(self, link: Link) -> None:
        while not self._closing:
            while not self._normal:
                self._wake.clear()
                await self._wake.wait()
            work, batch = self._normal.popleft()
            try:
                await work(link)
            finally:
                batch.finish()

    async def _serve_background(self, link: Link) -> None:
        while not self._closing:
            while not self._background:
                self._wake_background.clear()
                await self._wake_background.wait()
            work = self._background.popleft()
            try:
                if self.spare is None:
                    await self._until_idle(link)
                await work(link)
            finally:
                self._probing -= 1

    async def _until_idle(self, link: Link) -> None:
        """Wait until nobody has used the shared line for a while."""
        give_up = self.wall() + IDLE_WAIT_MAX_S
        while (now := self.wall()) < give_up:
            idle_from = now + IDLE_S if link.busy or self._normal else link.last_used + IDLE_S
            if idle_from <= now:
                return
            await asyncio.sleep(idle_from - now)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        """Nobody may wait for ever for work that a dead worker leaves behind."""
        if not task.cancelled() and task.exception() is not None:
            while self._normal:
                self._normal.popleft()[1].finish()

    def _raise_if_broken(self) -> None:
        """A worker that died of a programming error must not be waited for: raise what killed it."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
