"""What systemd hears on a real NOTIFY_SOCKET, and that SIGTERM ends within TimeoutStopSec."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from daemon_rig import Field, field_of, quick_site
from test_daemon_kill import SITE, closed_within, start

from edge.clock import ScaledClock
from edge.core_state import SavedCore
from edge.core_values import SetMode
from edge.keeper import Keeper
from edge.lasting import Moment
from edge.modbus.southbound import Southbound
from edge.notify import Notifier
from edge.parts import Parts
from edge.supervisor import FAILED_TICKS_MAX, Daemon
from edge.worker import OptimizerWorker
from reconf.config import load_site
from reconf.readings import SiteImage
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(180)

UNIT = Path(__file__).resolve().parents[3] / "deploy" / "systemd" / "reconf.service"


def of_unit(key: str) -> float:
    """A time of the shipped unit [s]."""
    found = re.search(rf"^{key}=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return float(found.group(1))


@dataclass
class Manager:
    """The other end of NOTIFY_SOCKET."""

    path: Path
    heard: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        self.heard.append((time.monotonic(), dict(line.split("=", 1) for line in data.decode().splitlines())))

    def times(self, key: str) -> list[float]:
        return [at for at, message in self.heard if key in message]

    async def says(self, status: str, limit_s: float) -> None:
        """Until the last message tells a status that begins so."""
        end = time.monotonic() + limit_s
        while not self.heard[-1][1].get("STATUS", "").startswith(status):
            assert time.monotonic() < end, f"not {status!r} within {limit_s} s: {self.heard[-5:]}"
            await asyncio.sleep(0.05)

    async def until(self, key: str, count: int, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while len(self.times(key)) < count:
            assert time.monotonic() < end, f"{count} x {key} not within {limit_s} s: {self.heard[-5:]}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def manager(folder: Path) -> AsyncIterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(folder / "notify"))
        end.setblocking(False)
        made = Manager(folder / "notify")
        loop = asyncio.get_running_loop()
        loop.add_reader(end.fileno(), lambda: made.take(end.recv(4096)))
        try:
            yield made
        finally:
            loop.remove_reader(end.fileno())


async def test_ready_once_then_fed_by_ticks_and_sigterm_under_load_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file, log = tmp_path / "site.yaml", tmp_path / "daemon.log"
    site_file.write_text(SITE, encoding="utf-8")
    async with manager(tmp_path) as systemd, field_of(load_site(site_file), powered_for_long=True) as twin:
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        endpoint = twin.server.endpoints["line-0"]
        process = await start(site_file, endpoint, tmp_path / "state", log, "--start")
        await systemd.until("READY", 1, of_unit("TimeoutStartSec"))
        assert await closed_within(twin, 60.0), log.read_text()[-3000:]
        await systemd.until("WATCHDOG", 10, 60.0)
        assert len(systemd.times("READY")) == 1
        assert "READY" in systemd.heard[0][1]
        fed = systemd.times("WATCHDOG")
        assert max(b - a for a, b in pairwise(fed)) < of_unit("WatchdogSec")
        await systemd.says("run, ", 60.0)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), of_unit("TimeoutStopSec")) == 0
        assert len(systemd.times("STOPPING")) == 1
        assert not twin.closed[0]


async def test_sigterm_ends_in_time_with_nobody_left_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file, log = tmp_path / "site.yaml", tmp_path / "daemon.log"
    site_file.write_text(SITE, encoding="utf-8")
    async with manager(tmp_path) as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        async with field_of(load_site(site_file), powered_for_long=True) as twin:
            endpoint = twin.server.endpoints["line-0"]
            process = await start(site_file, endpoint, tmp_path / "state", log, "--start")
            assert await closed_within(twin, 60.0), log.read_text()[-3000:]
        # the gateway is gone for good: the nodes' own watchdogs have opened the string
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), of_unit("TimeoutStopSec"))
        assert len(systemd.times("STOPPING")) == 1


class Failing(Southbound):
    """Reads well for a while, then as it is told: hangs for ever, or raises what nobody expects."""

    good = 6
    hangs = False

    async def read(self, now_s: float, tick: int, budget_s: float | None = None) -> SiteImage:
        if tick < self.good:
            return await super().read(now_s, tick, budget_s)
        if self.hangs:
            await asyncio.Event().wait()
        raise ZeroDivisionError("not foreseen")


@asynccontextmanager
async def put_together(twin: Field, south: Failing) -> AsyncIterator[Daemon]:
    clock = ScaledClock()
    with ThreadPoolExecutor(max_workers=1) as executor:
        async with OptimizerWorker(twin.site, clock) as worker, south:

            def now() -> Moment:
                return Moment(clock.utc(), clock.wall_s(), clock.control_s())

            yield Daemon(
                Parts(
                    site=twin.site,
                    clock=clock,
                    south=south,
                    worker=worker,
                    link=None,
                    keeper=Keeper(twin.site, None, executor, now=now),
                    executor=executor,
                    saved=SavedCore(),
                    notifier=Notifier(),
                )
            )


async def opened(twin: Field) -> None:
    """Heartbeats were not earned either: the converters open by themselves."""
    for _ in range(400):
        if not any(twin.closed):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("still closed 20 s after the last completed tick")


@pytest.mark.parametrize("hangs", [True, False])
async def test_watchdog_starves_when_ticks_do_not_complete_and_so_do_the_nodes(
    hangs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with manager(tmp_path) as systemd, field_of(quick_site()) as twin:
        monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
        south = Failing(twin.site)
        south.hangs, south.good = hangs, 20
        async with put_together(twin, south) as made:
            made.order(SetMode(SiteMode.RUN))
            task = asyncio.create_task(made.run())
            await systemd.until("WATCHDOG", south.good, 60.0)
            assert all(twin.closed), "it served before"
            if hangs:
                await asyncio.sleep(2.0)
                assert not task.done()
                await opened(twin)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                with pytest.raises(ExceptionGroup) as raised:
                    await asyncio.wait_for(task, 20.0)
                assert raised.value.subgroup(ZeroDivisionError) is not None
                assert made.figures.failed_ticks == FAILED_TICKS_MAX, "then systemd starts it anew"
                await opened(twin)
            assert len(systemd.times("WATCHDOG")) == south.good, "fed by completed ticks only"
            assert twin.bank.link_shorts == 0
