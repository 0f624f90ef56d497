"""The optimizer's process: hangs, crashes, late answers. Real processes, short deadlines."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import numpy as np

from edge.clock import ScaledClock
from edge.worker import OptimizerWorker
from optimizer.result import AllocationInput, AllocationResult, Infeasible, Late, Request


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
    """An allocator whose behaviour is the interval's number."""
    match asked.interval // 100:
        case 1:
            time.sleep(0.6)  # late by a little
        case 2:
            time.sleep(3600.0)  # hangs
        case 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 4:
            raise ZeroDivisionError
        case _:
            pass
    return Infeasible(asked.interval, "answered")


def worker(deadline_s: float = 0.3) -> OptimizerWorker:
    nothing: Any = None
    return OptimizerWorker(nothing, ScaledClock(), deadline_s=deadline_s, allocate=behave)


async def test_answers_come_back_and_a_broken_solver_is_an_outcome() -> None:
    async with worker() as w:
        assert await w.wait_ready()
        assert await w.ask(question(1)) == Infeasible(1, "answered")
        broken = await w.ask(question(400))
        assert isinstance(broken, Infeasible)
        assert "ZeroDivisionError" in broken.reason
        assert await w.ask(question(2)) == Infeasible(2, "answered")
        assert w.restarts == 0
    assert w.pid is None


async def test_a_late_answer_is_thrown_away_and_never_taken_for_the_next() -> None:
    async with worker() as w:
        assert await w.wait_ready()
        late = await w.ask(question(100))
        assert isinstance(late, Late)
        assert 0.25 < late.waited_s < 2.0
        then = await w.ask(question(3))  # the worker is still at the old question
        assert isinstance(then, Late) or then.interval == 3
        await asyncio.sleep(0.6)
        assert await w.ask(question(4)) == Infeasible(4, "answered")
        # the second question may itself have come too late, behind the first
        assert w.thrown_away == 1 + isinstance(then, Late)
        assert w.restarts == 0


async def test_a_hung_worker_is_killed_and_started_anew() -> None:
    async with worker(deadline_s=0.2) as w:
        assert await w.wait_ready()
        first = w.pid
        assert isinstance(await w.ask(question(200)), Late)
        await asyncio.sleep(0.9)
        assert isinstance(
            await w.ask(question(5)), Late | Infeasible
        )  # killed here; the new one is waking up
        assert w.restarts == 1
        assert await w.wait_ready()
        assert w.pid != first
        assert await w.ask(question(6)) == Infeasible(6, "answered")


async def test_a_crashed_worker_is_a_late_answer_at_once() -> None:
    async with worker(deadline_s=5.0) as w:
        assert await w.wait_ready()
        answer = await w.ask(question(300))
        assert isinstance(answer, Late)
        assert answer.waited_s < 2.0
        await w.ask(question(7))
        assert await w.wait_ready()
        assert await w.ask(question(8)) == Infeasible(8, "answered")
        assert w.restarts == 1


async def test_asking_never_blocks_the_loop() -> None:
    async with worker(deadline_s=0.4) as w:
        assert await w.wait_ready()
        task = asyncio.create_task(w.ask(question(200)))
        worst, last = 0.0, time.perf_counter()
        while not task.done():
            await asyncio.sleep(0.005)
            worst, last = max(worst, time.perf_counter() - last), time.perf_counter()
        assert worst < 0.2
