"""The optimizer in a process of its own, with a hard deadline.

A solver may think for ever, leak or crash; the control line must not notice. One question is asked at
a time over a pipe. When the deadline passes the question is given up: the answer, should it still come,
is thrown away, and a process that has not answered within `KILL_AFTER` deadlines is killed and started
anew (a segfault is the same to us). The caller gets an outcome, never an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing as mp
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self, TypeAlias

import structlog

from edge.clock import Clock
from optimizer.result import AllocationInput, AllocationResult, Infeasible, Late
from reconf.site import Site

KILL_AFTER = 4.0
"""Deadlines after which a silent worker is killed."""
START_TIMEOUT_S = 60.0
"""Imports and compiled kernels of the worker may take this long before its first answer (wall time)."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the worker is killed with its parent, also by `kill -9`."""

Allocate: TypeAlias = Callable[[Site, AllocationInput], AllocationResult]

log = structlog.get_logger("worker")


def default_allocate(site: Site, question: AllocationInput) -> AllocationResult:
    """The allocator of the site file; imported here so that only the worker pays for the solver."""
    from optimizer.allocate import allocate

    return allocate(site, question)


def serve(pipe: Connection, site: Site, allocate: Allocate) -> None:
    """Body of the worker process: answer questions until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon decides when to end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        pipe.send(None)  # awake
        while True:
            number, question = pipe.recv()
            pipe.send((number, _answer(site, question, allocate)))


def _answer(site: Site, question: AllocationInput, allocate: Allocate) -> AllocationResult:
    try:
        return allocate(site, question)
    except Exception as error:  # noqa: BLE001 - a broken solver is an outcome (rung 1), not a dead worker
        return Infeasible(interval=question.interval, reason=f"solver broke: {type(error).__name__}: {error}")


class OptimizerWorker:
    """Async context manager around one worker process."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        *,
        deadline_s: float | None = None,
        allocate: Allocate = default_allocate,
    ) -> None:
        self._site = site
        self._clock = clock
        self._allocate = allocate
        self._deadline_s = site.allocator.deadline_s if deadline_s is None else deadline_s
        self._context = mp.get_context("spawn")
        self._process: mp.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._answers: asyncio.Queue[tuple[int, AllocationResult] | None] = asyncio.Queue()
        self._awake = asyncio.Event()
        self._number = 0
        self._unanswered_since_s: float | None = None
        self._ended = False
        """The pipe has ended: the process is going, even where it can still be seen."""
        self._patience_s = self._deadline_s
        self.warm = False
        """Has answered: everything is compiled and loaded."""
        self.restarts = 0
        self.thrown_away = 0

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._let_go()
        if process is not None:
            await asyncio.to_thread(process.join, 2.0)

    @property
    def pid(self) -> int | None:
        """Process id of the worker, for memory figures."""
        return self._process.pid if self._process else None

    @property
    def ready(self) -> bool:
        """Whether the process has said that it is awake."""
        return self._awake.is_set()

    async def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> bool:
        """Wait until the worker is awake; False when it takes longer than `timeout_s` (wall)."""
        try:
            await asyncio.wait_for(self._awake.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def warm_up(self, question: AllocationInput) -> None:
        """Let the worker compile and load what it needs, on a question whose answer nobody waits for."""
        if not await self.wait_ready() or self._pipe is None:
            return
        answer = await self._put(question, START_TIMEOUT_S)
        self.warm = not isinstance(answer, Late)

    async def ask(self, question: AllocationInput) -> AllocationResult:
        """The answer to `question`, or `Late` at the deadline (wall time)."""
        started_s = self._clock.wall_s()
        await self._revive(started_s)
        if not self.ready:  # still importing: that is nobody's fault, but there is no answer
            await self._sleep_until_ready()
        await self._finish_old(started_s)
        if not self.ready or self._unanswered_since_s is not None:
            return Late(interval=question.interval, waited_s=self._clock.wall_s() - started_s)
        answer = await self._put(question, self._deadline_s - (self._clock.wall_s() - started_s))
        self.warm = self.warm or not isinstance(answer, Late)
        return answer

    async def _put(self, question: AllocationInput, patience_s: float) -> AllocationResult:
        """Send a question and wait for its answer."""
        started_s = self._clock.wall_s()
        if self._pipe is None:
            return Late(interval=question.interval, waited_s=0.0)
        self._number += 1
        self._patience_s = patience_s
        self._unanswered_since_s = started_s
        try:
            self._pipe.send((self._number, question))
        except (BrokenPipeError, OSError):
            await self._restart("pipe broken")
            return Late(interval=question.interval, waited_s=self._clock.wall_s() - started_s)
        return await self._wait_answer(question, started_s, patience_s)

    async def _sleep_until_ready(self) -> None:
        await self.wait_ready(self._deadline_s)

    async def _finish_old(self, started_s: float) -> None:
        """A question that was given up may still be in work: its answer is awaited and thrown away."""
        while self._unanswered_since_s is not None:
            left_s = started_s + self._deadline_s - self._clock.wall_s()
            if left_s <= 0.0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answers.get(), left_s)
                self.thrown_away += 1

    async def _wait_answer(
        self, question: AllocationInput, started_s: float, patience_s: float
    ) -> AllocationResult:
        while (left_s := started_s + patience_s - self._clock.wall_s()) > 0.0:
            try:
                answer = await asyncio.wait_for(self._answers.get(), left_s)
            except TimeoutError:
                break
            if answer is None:  # the process died
                return Late(interval=question.interval, waited_s=self._clock.wall_s() - started_s)
            if answer[0] == self._number:
                return answer[1]
            self.thrown_away += 1
        return Late(interval=question.interval, waited_s=self._clock.wall_s() - started_s)

    async def _revive(self, now_s: float) -> None:
        """Kill a worker that owes an answer for too long; throw away answers nobody waits for."""
        while not self._answers.empty():
            if self._answers.get_nowait() is not None:
                self.thrown_away += 1
        hung = self._unanswered_since_s is not None and now_s - self._unanswered_since_s > KILL_AFTER * max(
            self._deadline_s, self._patience_s
        )
        if hung:
            await self._restart("no answer")
        elif self._ended or self._process is None or not self._process.is_alive():
            await self._restart("process gone")

    async def _restart(self, why: str) -> None:
        """A new process for the old one; the loop (and with it every heartbeat) does not wait for either."""
        log.warning("worker_restart", why=why, restarts=self.restarts + 1)
        self.restarts += 1
        process = self._let_go()
        if process is not None:
            await asyncio.to_thread(process.join, 2.0)
        await self._start()

    async def _start(self) -> None:
        self._awake.clear()
        self.warm = self._ended = False
        self._unanswered_since_s = None
        ours, theirs = self._context.Pipe(duplex=True)
        process = self._context.Process(
            target=serve, args=(theirs, self._site, self._allocate), name="reconf-optimizer", daemon=True
        )
        await asyncio.to_thread(process.start)
        theirs.close()
        self._process, self._pipe = process, ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive, ours)

    def _receive(self, pipe: Connection) -> None:
        """The pipe has something: an answer, the sign of life, or the end of the process."""
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            self._ended = True
            self._answers.put_nowait(None)
            return
        if message is None:
            self._awake.set()
            return
        self._unanswered_since_s = None
        self._answers.put_nowait(message)

    def _let_go(self) -> mp.process.BaseProcess | None:
        """Kill the process (it holds nothing that could be lost), close the pipe; who is to be joined."""
        if self._pipe is not None:
            with contextlib.suppress(ValueError, OSError):
                asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
            self._pipe = None
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        return process
