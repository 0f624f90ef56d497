"""The optimizer's process: hangs, crashes, late answers. Real processes; their speed does not matter."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing as mp
import os
import signal
import time
from typing import Any

import numpy as np
import pytest

import edge.worker
from edge.clock import ScaledClock
from edge.worker import OptimizerWorker
from optimizer.result import AllocationInput, AllocationResult, Infeasible, Late, Request

PATIENT_S = 60.0
"""A deadline that only a worker which never answers misses."""


def question(interval: int) -> AllocationInput:
    nothing: Any = None  # these allocators look at the number only
    request = Request(power_w=0.0, connected=np.ones(1, dtype=np.bool_))
    return AllocationInput(
        interval=interval,
        estimate=nothing,
        envelope=nothing,
        request=request,
        inserted=np.ones(1, dtype=np.bool_),
    )


def behave(site: Any, asked: AllocationInput) -> AllocationResult:
    """An allocator whose behaviour is the interval's number; the site is an event that lets it go on."""
    match asked.interval // 100:
        case 1:
            site.wait()  # late, until it is let go
        case 2:
            time.sleep(3600.0)  # hangs
        case 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 4:
            raise ZeroDivisionError
        case _:
            pass
    return Infeasible(asked.interval, "answered")


def worker(deadline_s: float, site: Any = None) -> OptimizerWorker:
    return OptimizerWorker(site, ScaledClock(), deadline_s=deadline_s, allocate=behave)


async def answered(w: OptimizerWorker, first: int) -> list[AllocationResult]:
    """Ask with rising numbers until an answer comes in time; all that was heard."""
    heard: list[AllocationResult] = []
    async with asyncio.timeout(PATIENT_S):
        for number in itertools.count(first):
            heard.append(await w.ask(question(number)))
            if not isinstance(heard[-1], Late):
                # an answer that came late must not be taken for this one
                assert heard[-1] == Infeasible(number, "answered")
                break
    return heard


async def test_answers_come_back_and_a_broken_solver_is_an_outcome() -> None:
    async with worker(PATIENT_S) as w:
        assert await w.wait_ready()
        assert await w.ask(question(1)) == Infeasible(1, "answered")
        broken = await w.ask(question(400))
        assert isinstance(broken, Infeasible)
        assert "ZeroDivisionError" in broken.reason
        assert await w.ask(question(2)) == Infeasible(2, "answered")
        assert w.restarts == 0
    assert w.pid is None


async def test_a_late_answer_is_thrown_away_and_never_taken_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge.worker, "KILL_AFTER", 1e6)  # killing is another test's matter
    go_on = mp.get_context("spawn").Event()
    async with worker(0.3, go_on) as w:
        assert await w.wait_ready()
        late = await w.ask(question(100))
        assert isinstance(late, Late)
        assert late.waited_s >= 0.3
        assert isinstance(await w.ask(question(3)), Late), "the worker is still at the old question"
        assert w.thrown_away == 0
        go_on.set()
        heard = await answered(w, 4)
        # the old answer, and those of questions that a busy machine made late in their turn
        assert 1 <= w.thrown_away <= len(heard)
        assert w.restarts == 0


async def test_a_hung_worker_is_killed_and_started_anew() -> None:
    async with worker(0.2) as w:
        assert await w.wait_ready()
        first = w.pid
        assert isinstance(await w.ask(question(200)), Late)
        await asyncio.sleep(0.9)  # longer than the four deadlines it is given
        # killed here; the new one is waking up
        assert isinstance(await w.ask(question(5)), Late | Infeasible)
        assert w.restarts == 1
        assert await w.wait_ready()
        assert w.pid != first
        await answered(w, 6)


async def test_a_crashed_worker_is_a_late_answer_before_the_deadline() -> None:
    async with worker(PATIENT_S) as w:
        assert await w.wait_ready()
        answer = await w.ask(question(300))
        assert isinstance(answer, Late)
        assert answer.waited_s < PATIENT_S
        # the next question finds a new process, although the old one may not have been reaped yet
        assert await w.ask(question(7)) == Infeasible(7, "answered")
        assert w.restarts == 1


async def test_asking_never_blocks_the_loop() -> None:
    async with worker(0.4) as w:
        assert await w.wait_ready()
        task = asyncio.create_task(w.ask(question(200)))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert isinstance(task.result(), Late)
        assert turns > 3, "the loop went on while the question was open"
