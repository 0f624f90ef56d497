"""A whole site in processes of its own for the benchmarks: mosquitto, twin and daemon over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from reconf.config import load_site
from reconf.errors import ReconfError
from reconf.shipped import find_site_file
from reconf.site import Site

UP_S = 90.0
STOP_S = 40.0
ASK_AGAIN_TURNS = 60
"""A daemon that is starting may not have heard: it is asked again every three seconds."""
BROKER_NICENESS = 5
"""The broker serves many sites and gives way to the control of this one (systemd: CPUWeight)."""

RC1_MODE, RC1_POWER = 2, 3
MODULE_UNITS_MAX = 200
"""Unit ids of converters in the demo site are above."""


class RigError(ReconfError):
    """A process of the benchmark did not start, or ended by itself."""


@dataclass(frozen=True, slots=True)
class Write:
    """One register write as the twin saw it."""

    t_s: float
    """Monotonic, the machine's."""
    unit: int
    address: int
    words: tuple[int, ...]

    def value(self, register: int) -> int | None:
        """What was written into a register, None when it was not touched."""
        at = register - self.address
        return self.words[at] if 0 <= at < len(self.words) else None

    @property
    def power_w(self) -> int | None:
        """Set point of a converter that this write gives, None for another write."""
        high, low = self.value(RC1_POWER), self.value(RC1_POWER + 1)
        if self.unit <= MODULE_UNITS_MAX or high is None or low is None:
            return None
        return int.from_bytes(struct.pack(">HH", high, low), "big", signed=True)

    @property
    def makes_safe(self) -> bool:
        """A converter is told to give no power, or to stop."""
        return self.unit > MODULE_UNITS_MAX and (self.value(RC1_MODE) == 0 or self.power_w == 0)


@dataclass
class Rig:
    """What runs."""

    folder: Path
    site: Site
    """With the broker's address."""
    port: int
    daemon: asyncio.subprocess.Process
    broker: asyncio.subprocess.Process
    writes: list[Write] = field(default_factory=list)
    """Register writes, heartbeats left out, as they come."""

    @property
    def state_dir(self) -> Path:
        """The daemon's."""
        return self.folder / "state"

    async def figures(self) -> dict[str, Any]:
        """What the daemon has measured of itself up to now.

        Raises:
            RigError: it does not say.
        """
        file = self.folder / "figures.json"
        before = _text(file)
        for turn in range(int(UP_S / 0.05)):
            if turn % ASK_AGAIN_TURNS == 0:
                self.daemon.send_signal(signal.SIGUSR1)
            await asyncio.sleep(0.05)
            now = _text(file)
            if now and now != before:
                found: dict[str, Any] = json.loads(now)
                return found
        raise RigError("the daemon gave no figures")

    async def first_write(self, since: int, wanted: Any, limit_s: float) -> Write | None:
        """The first write after position `since` for which `wanted` holds, None when none comes in time."""
        end_s = time.monotonic() + limit_s
        seen = since
        while time.monotonic() < end_s:
            for write in self.writes[seen:]:
                if wanted(write):
                    return write
            seen = len(self.writes)
            await asyncio.sleep(0.005)
        return None

    def cpu_s(self) -> dict[str, float]:
        """Processor time used so far [s]: by the daemon itself, its children (worker, ears), the broker."""
        try:
            daemon = psutil.Process(self.daemon.pid)
            return {
                "daemon": _used_s(daemon),
                "children": sum(_used_s(child) for child in daemon.children(recursive=True)),
                "broker": _used_s(psutil.Process(self.broker.pid)),
            }
        except psutil.Error:
            return {}

    def rss_mib(self) -> float:
        """Resident memory of the daemon and its children [MiB]."""
        try:
            process = psutil.Process(self.daemon.pid)
            return sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20
        except psutil.Error:
            return 0.0


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def site_rig(
    folder: Path, *, time_scale: float, changes: tuple[tuple[str, str], ...] = (), run: bool = True
) -> AsyncIterator[Rig]:
    """The demo site from start to stop.

    Args:
        folder: for files and logs.
        time_scale: control seconds per second.
        changes: (text, other text) put into the site file.
        run: go to mode run at once.

    Raises:
        RigError: something did not start.
    """
    async with AsyncExitStack() as stack:
        site_file = folder / "site.yaml"
        text = find_site_file("demo").read_text(encoding="utf-8").replace('"3.1.1"', '"5"')
        for old, new in changes:
            text = text.replace(old, new)
        site_file.write_text(text, encoding="utf-8")
        broker, port = await mosquitto(stack, folder)
        twin = await _spawn(
            stack, folder, "twin", ["-m", "edge.bench.tapped_twin", str(site_file), f"{time_scale:g}"]
        )
        endpoints = json.loads(await _first_line(twin, folder / "twin.log"))["endpoints"]
        gateways = [part for name, at in endpoints.items() for part in ("--gateway", f"{name}={at}")]
        daemon = await _spawn(
            stack, folder, "daemon",
            [
                "-m", "edge.cli", "run", "--site", str(site_file), *gateways,
                "--broker", f"127.0.0.1:{port}", "--state-dir", str(folder / "state"),
                "--figures", str(folder / "figures.json"), "--time-scale", f"{time_scale:g}",
                *(("--start",) if run else ()),
            ],
        )  # fmt: skip
        site = load_site(site_file)
        site = replace(site, mqtt=replace(site.mqtt, host="127.0.0.1", port=port))
        rig = Rig(folder, site, port, daemon, broker)
        listening = asyncio.create_task(_listen(twin, rig.writes))
        stack.callback(listening.cancel)
        await _ticking(rig)
        yield rig
        daemon.send_signal(signal.SIGTERM)
        await asyncio.wait_for(daemon.wait(), STOP_S)


async def _listen(twin: asyncio.subprocess.Process, writes: list[Write]) -> None:
    """Collect what the twin tells."""
    if twin.stdout is None:
        return
    async for line in twin.stdout:
        told = json.loads(line)
        writes.append(Write(told["t"], told["unit"], told["address"], tuple(told["words"])))


async def mosquitto(
    stack: AsyncExitStack, folder: Path, port: int = 0
) -> tuple[asyncio.subprocess.Process, int]:
    """A broker and its port, a free one when 0 is given.

    Raises:
        RigError: it does not start.
    """
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n", encoding="utf-8"
    )
    process = await asyncio.create_subprocess_exec(
        "nice", "-n", str(BROKER_NICENESS), "mosquitto", "-c", str(config),  # nice becomes mosquitto
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    stack.push_async_callback(end, process)
    for _ in range(1_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        await asyncio.sleep(0.01)
    raise RigError("mosquitto did not start")


async def _spawn(
    stack: AsyncExitStack, folder: Path, name: str, arguments: list[str]
) -> asyncio.subprocess.Process:
    """One of our own modules; its log goes to a file."""
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=log,
        stdin=asyncio.subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, limit=1 << 24,
    )  # fmt: skip
    stack.push_async_callback(end, process)
    return process


async def _first_line(process: asyncio.subprocess.Process, log: Path) -> str:
    """What a process says first."""
    if process.stdout is None:
        raise RigError("no output")
    line = await asyncio.wait_for(process.stdout.readline(), UP_S)
    if not line:
        raise RigError(f"the twin ended by itself: {_text(log)[-500:]}")
    return line.decode()


async def _ticking(rig: Rig) -> None:
    """Wait until the daemon ticks."""
    for _ in range(int(UP_S / 0.5)):
        await asyncio.sleep(0.5)
        if rig.daemon.returncode is not None:
            raise RigError(f"the daemon ended by itself: {_text(rig.folder / 'daemon.log')[-500:]}")
        if _has_handler(rig.daemon.pid) and (await rig.figures())["ticks"] > 3:
            return
    raise RigError("the daemon does not tick")


def _text(path: Path) -> str:
    """A file's text, empty when it is not there yet."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _has_handler(pid: int) -> bool:
    """Whether a process catches SIGUSR1 by now; before, it would end by it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, patience, SIGKILL."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
