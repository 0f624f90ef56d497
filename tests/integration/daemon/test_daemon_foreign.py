"""`reconf run` as a process against a plant that is not our twin, over pyModbusTCP and over RTU on a pty."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from foreign_nodes import Written
from foreign_physics import Design
from foreign_plant import RC1_UNIT, Plant
from ports import free_port

from edge.demo import Commander
from edge.northbound.topics import Topics
from edge.northbound.watcher import watch
from edge.wiring import RunOptions, override
from reconf.config import load_site
from reconf.site import Site

pytestmark = [pytest.mark.timeout(240), pytest.mark.needs_mosquitto]

MODE, POWER, CONTACTOR, INSERT = 2, 3, 7, 3
CELLS, MODULES = 6, 10
DESIGN = Design(
    modules=MODULES,
    cells=CELLS,
    soc=0.1,
    soc_std=0.01,
    ocv_std_v=0.004,
    window_v=(2.9 * CELLS * (MODULES - 2), 4.28 * CELLS * MODULES),
    power_w=8000.0,
)
POWER_W = 60.0 / 3.0 * 3.65 * CELLS * MODULES
"""C/3 of the rated capacity."""
TIMING = "{tick_s: 5.0, slot_s: 10.0, interval_s: 60.0}"


@dataclass
class Seen:
    """What the site tells of itself, and how to command it."""

    plant: Plant
    process: asyncio.subprocess.Process
    commander: Commander
    log: Path
    status: dict = field(default_factory=dict)

    async def until(self, condition: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert self.process.returncode is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, f"not within {limit_s} s: {self.status}\n{self.plant.report()}"
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        await self.until(lambda: bool(self.status.get("health", {}).get("optimizer_ready")), 90.0)
        await self.commander.send("set_mode", {"mode": "run"})
        await self.until(lambda: self.status["mode"] == "run", 60.0)


async def _listen(site: Site, told: dict) -> None:
    async for _, data in watch(site, [Topics.of(site).status], "test"):
        told.update(data)


async def listening_at(port: int) -> None:
    """Somebody takes connections there."""
    async with asyncio.timeout(40.0):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def attached(plant: Plant, folder: Path, *more: str) -> AsyncIterator[Seen]:
    """Broker, plant and daemon; the plant's time passes."""
    port = free_port()
    quiet = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    broker = await asyncio.create_subprocess_exec("mosquitto", "-p", str(port), **quiet)
    await listening_at(port)
    file, log = folder / "site.yaml", folder / "daemon.log"
    with plant:
        file.write_text(plant.site_yaml(timing=TIMING), encoding="utf-8")
        ends = {g.name: g.endpoint for g in plant.gateways}
        site = override(load_site(file), RunOptions(gateways=ends, broker=f"127.0.0.1:{port}"))
        arguments = [part for n, e in ends.items() for part in ("--gateway", f"{n}={e}")]
        arguments += ["--broker", f"127.0.0.1:{port}", "--state-dir", str(folder / "state")]
        arguments += ["--time-scale", f"{plant.time_scale:g}", *more]
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge.cli", "run", "--site", str(file), *arguments,
            stderr=log.open("ab"), env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        seen = Seen(plant, daemon, Commander(site, plant.time_scale), log)
        listening = asyncio.create_task(_listen(site, seen.status))
        try:
            yield seen
        finally:
            listening.cancel()
            for process in (daemon, broker):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def stop(seen: Seen) -> list[Written]:
    """SIGTERM; what was written from then on."""
    before = len(seen.plant.writes)
    seen.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(seen.process.wait(), 40.0) == 0, seen.log.read_text()[-3000:]
    return seen.plant.writes[before:]


def touching(writes: list[Written], address: int, *, rc1: bool) -> list[tuple[int, Written, int]]:
    """(position, write, value) of writes of one register."""
    return [
        (k, w, w.words[address - w.address])
        for k, w in enumerate(writes)
        if (w.unit == RC1_UNIT) == rc1 and w.address <= address < w.address + len(w.words)
    ]


def left_in_order(writes: list[Written], plant: Plant) -> None:
    """Power to 0 and MODE 0, then the contactor, and modules bypassed only behind an open one."""
    off = [k for k, _, value in touching(writes, MODE, rc1=True) if value == 0]
    opened = [k for k, _, value in touching(writes, CONTACTOR, rc1=True) if value == 0]
    bypassed = [(k, w) for k, w, value in touching(writes, INSERT, rc1=False) if value == 0]
    assert off
    assert opened
    # a slot may have changed at the very moment of the signal; from MODE 0 on only an open string is bypassed
    last = [(k, w) for k, w in bypassed if k > off[0]]
    assert last
    assert off[0] < opened[0] < last[0][0]
    assert not any(w.closed for _, w in last)
    assert not any(c.closed for c in plant.physics.converters)
    assert not any(node.was_in for node in plant.nodes.rm1)


def nothing_harmed(plant: Plant) -> None:
    """What an honest judge looks for."""
    account = plant.physics.account
    assert account.trips == []
    assert account.shorts == 0
    assert account.outside == 0
    assert account.opened_under_load == 0
    assert account.cell_v[0] >= 2.95, "below the cut-off of 3.0 V by more than the resolution of a tick"
    assert account.cell_v[1] <= 4.22
    assert account.rate_c <= 2.0


async def test_foreign_modules_are_emptied_together_and_status_tells_the_truth(tmp_path: Path) -> None:
    plant = Plant(DESIGN, seed=7)
    plant.time_scale = 50.0
    async with attached(plant, tmp_path) as seen:
        await seen.run()
        reply = await seen.commander.send("set_power", {"power_w": POWER_W})
        assert reply["reason"] in {"accepted", "curtailed"}
        converter = plant.physics.converters[0]
        await seen.until(lambda: converter.power_w > 0.95 * POWER_W, 60.0)
        await seen.until(
            lambda: abs((seen.status.get("power_delivered_w") or 0.0) - POWER_W) < 0.05 * POWER_W, 20.0
        )
        assert seen.status["rung"] == 0, seen.status["rung_reason"]
        assert seen.status["power_asked_w"] == pytest.approx(POWER_W)
        modules = seen.status["modules"]
        assert modules["inserted"] + modules["bypassed"] + modules["out_of_service"] == MODULES
        held = plant.physics.held_kwh()
        assert seen.status["energy_available_kwh"] == pytest.approx(held, rel=0.5)
        # for two ticks: below its window the converter stops for as long as it takes to switch modules in
        low = deque([False], maxlen=5)

        def is_low() -> bool:
            low.append(converter.power_w < 0.5 * POWER_W)
            return len(low) == low.maxlen and all(low)

        await seen.until(is_low, 120.0)
        with plant.lock:
            report = plant.report()
        await seen.until(lambda: (seen.status.get("power_delivered_w") or 0.0) < 0.5 * POWER_W, 60.0)
        assert seen.status["energy_available_kwh"] < 0.1 * held
        assert seen.status["modules"]["out_of_service"] == 0, seen.status["alarms"]
        assert report["string_kwh"] / report["held_kwh"] > 0.93
        assert "tick_failed" not in seen.log.read_text()
        left_in_order(await stop(seen), plant)
    nothing_harmed(plant)


async def test_foreign_plant_on_a_serial_line_is_served_and_left_in_order(tmp_path: Path) -> None:
    plant = Plant(DESIGN, seed=8, kind="rtu")
    plant.time_scale = 5.0
    async with attached(plant, tmp_path) as seen:
        await seen.run()
        await seen.commander.send("set_power", {"power_w": -0.5 * POWER_W})
        converter = plant.physics.converters[0]
        await seen.until(lambda: abs(converter.power_w + 0.5 * POWER_W) < 0.05 * POWER_W, 60.0)
        left_in_order(await stop(seen), plant)
    nothing_harmed(plant)


async def test_read_only_daemon_writes_nothing_to_a_foreign_plant(tmp_path: Path) -> None:
    plant = Plant(DESIGN, seed=9)
    plant.time_scale = 10.0
    async with attached(plant, tmp_path, "--read-only") as seen:
        await seen.until(lambda: seen.status.get("mode") == "off", 60.0)
        first = seen.status["utc"]
        await seen.until(lambda: seen.status["utc"] != first, 60.0)
        assert seen.status["modules"]["bypassed"] + seen.status["modules"]["out_of_service"] == MODULES
        assert await stop(seen) == []
    assert plant.writes == []
