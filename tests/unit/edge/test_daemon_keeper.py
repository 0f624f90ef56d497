"""What waits for the disk never puts something older over what was acknowledged meanwhile."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge.bench.closed_loop import Loop
from edge.core import ControlCore
from edge.core_values import EmergencyStop
from edge.keeper import Keeper
from edge.lasting import Moment
from edge.setpoint import PowerCommand
from edge.store import Store
from reconf.config import load_site
from reconf.twin.truth import draw_truth


async def taken_up(keeper: Keeper) -> None:
    """What was queued has been handed to the disk's thread."""
    async with asyncio.timeout(40.0):
        while not keeper._jobs.empty():  # noqa: ASYNC110 - a queue tells nobody that it is empty
            await asyncio.sleep(0)


async def test_a_late_job_writes_what_is_true_then(tmp_path: Path) -> None:
    site = load_site("demo")
    loop = Loop(site, draw_truth(site, np.random.default_rng(1)), lambda _: 0.0)
    outcome = loop.step()
    disk_is_slow = threading.Event()
    with Store.open(tmp_path) as store, ThreadPoolExecutor(1) as executor:
        now = Moment(datetime(2026, 1, 31, tzinfo=UTC), 0.0, 0.0)
        keeper = Keeper(site, store, executor, now=lambda: now)
        writing = asyncio.create_task(keeper.run())
        executor.submit(disk_is_slow.wait)
        keeper.tick(loop.core.state, outcome.view, None)  # the mode of this tick waits for the disk
        await taken_up(keeper)
        loop.core.order(EmergencyStop(), 0.0, 0.0)
        effect = keeper.effect(loop.core.state, outcome.view)
        assert effect["mode"] == "emergency_stop"
        disk_is_slow.set()
        await keeper.flush()
        assert store.ledger.get("mode") == "emergency_stop"
        writing.cancel()


async def test_what_waits_for_the_disk_when_the_daemon_ends_is_written(tmp_path: Path) -> None:
    """The disk's thread is busy with telemetry; the keeper's task ends before its job has begun."""
    site = load_site("demo")
    loop = Loop(site, draw_truth(site, np.random.default_rng(1)), lambda _: 0.0)
    outcome = loop.step()
    disk_is_slow = threading.Event()
    with Store.open(tmp_path) as store, ThreadPoolExecutor(1) as executor:
        now = Moment(datetime(2026, 1, 31, tzinfo=UTC), 0.0, 0.0)
        keeper = Keeper(site, store, executor, now=lambda: now)
        writing = asyncio.create_task(keeper.run())
        executor.submit(disk_is_slow.wait, 40.0)
        keeper.tick(loop.core.state, outcome.view, None)
        await taken_up(keeper)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        disk_is_slow.set()
        await keeper.flush()
        assert store.ledger.get("mode") == "off"


async def test_an_order_that_comes_while_documents_are_written_leaves_no_half(tmp_path: Path) -> None:
    """Before the first tick no mode is known: the first order says none, the stop that follows does."""
    site = load_site("demo")
    core = ControlCore(site)
    now = Moment(datetime(2026, 1, 31, tzinfo=UTC), 0.0, 0.0)
    with Store.open(tmp_path) as store, ThreadPoolExecutor(1) as executor:
        keeper = Keeper(site, store, executor, now=lambda: now)
        assert core.order(PowerCommand(500.0, command_id="one"), 0.0, 0.0).accepted
        effect = keeper.effect(core.state, None)
        before, written = dict(effect), {}
        for name, value in effect.items():
            written[name] = value
            if len(written) == 1:  # the disk's thread has looked at one when the loop's thread goes on
                assert core.order(EmergencyStop(), 0.0, 0.0).accepted
                keeper.effect(core.state, None)
        assert written == before
        # what is written from now on has the whole of the stop, although the order before it knew no mode
        assert effect["setpoint"] is None
        assert dict(effect.items())["mode"] == "emergency_stop"
