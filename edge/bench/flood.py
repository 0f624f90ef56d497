"""Hostile traffic on the command topic of a running daemon: what control feels of it, and what of it acts.

Twin, mosquitto and daemon run as processes of their own over real sockets, once
quiet and once under the flood.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edge.store import Store
from reconf.errors import ReconfError
from reconf.shipped import find_site_file

UP_S = 60.0
STOP_S = 40.0
SETTLE_S = 5.0
"""Start-up (compiling, first closing of contactors) is not measured with the flood."""


class BenchError(ReconfError):
    """A process of the benchmark did not start, or ended by itself."""


def run(seconds: float = 60.0, rate_hz: float = 10_000.0, time_scale: float = 5.0) -> dict[str, Any]:
    """Both runs.

    Args:
        seconds: how long each is measured.
        rate_hz: hostile messages a second.
        time_scale: control seconds per second; 5 makes the demo site's tick one second long.
    """
    quiet = asyncio.run(_daemon_run(seconds, 0.0, time_scale))
    flooded = asyncio.run(_daemon_run(seconds, rate_hz, time_scale))
    tick_ms = 5_000.0 / time_scale
    return {
        "tick_ms_p99_quiet": round(quiet["p99"], 2),
        "tick_ms_p99_flood": round(flooded["p99"], 2),
        "accepted_hostile": flooded["accepted"],
        "rss_mib": round(flooded["rss_mib"], 1),
        "rss_mib_quiet": round(quiet["rss_mib"], 1),
        "tick_ms": tick_ms,
        "sent": flooded["sent"],
        "rate_hz": rate_hz,
        "seconds": seconds,
        "ticks": flooded["ticks"],
        "overruns": flooded["overruns"],
    }


async def _daemon_run(seconds: float, rate_hz: float, time_scale: float) -> dict[str, Any]:
    """One daemon from start to stop; what it measured of itself."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = folder / "site.yaml"
        site.write_text(
            find_site_file("demo").read_text(encoding="utf-8").replace('"3.1.1"', '"5"'), encoding="utf-8"
        )
        port = await _mosquitto(stack, folder)
        scale = ["--time-scale", f"{time_scale:g}"]
        twin = await _spawn(stack, folder, "twin", ["twin", "--site", str(site), "--any-port", *scale])
        endpoints = json.loads(await _first_line(twin, folder / "twin.log"))["endpoints"]
        gateways = [part for name, at in endpoints.items() for part in ("--gateway", f"{name}={at}")]
        figures, state = folder / "figures.json", folder / "state"
        daemon = await _spawn(
            stack, folder, "daemon",
            [
                "run", "--site", str(site), *gateways, "--broker", f"127.0.0.1:{port}",
                "--state-dir", str(state), "--figures", str(figures), "--start", *scale,
            ],
        )  # fmt: skip
        await _ticking(daemon, figures)
        await asyncio.sleep(SETTLE_S)
        before = (await _figures(daemon, figures))["ticks"]
        sent, rss_mib = await _measure(daemon, port, seconds, rate_hz)
        found = await _figures(daemon, figures)
        measured = found["tick_ms_recent"][-max(1, found["ticks"] - before) :]
        daemon.send_signal(signal.SIGTERM)
        await asyncio.wait_for(daemon.wait(), STOP_S)
        with Store.open(state, read_only=True) as store:
            entries = store.ledger.audit_entries(1_000_000)
        accepted = sum(e["kind"] == "command" and e["result"] != "refused" for e in entries)
        p99 = float(np.percentile(measured, 99))
        return found | {
            "sent": sent,
            "rss_mib": rss_mib,
            "accepted": accepted,
            "p99": p99,
            "ticks": len(measured),
        }


async def _mosquitto(stack: AsyncExitStack, folder: Path) -> int:
    """A broker on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n", encoding="utf-8"
    )
    process = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    stack.push_async_callback(_end, process)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        await asyncio.sleep(0.05)
    raise BenchError("mosquitto did not start")


async def _spawn(
    stack: AsyncExitStack, folder: Path, name: str, arguments: list[str]
) -> asyncio.subprocess.Process:
    """One of our own commands; its log goes to a file."""
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=log,
        stdin=asyncio.subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, limit=1 << 24,
    )  # fmt: skip
    stack.push_async_callback(_end, process)
    return process


async def _first_line(process: asyncio.subprocess.Process, log: Path) -> str:
    """What a process says first."""
    if process.stdout is None:
        raise BenchError("no output")
    line = await asyncio.wait_for(process.stdout.readline(), UP_S)
    if not line:
        raise BenchError(f"the twin ended by itself: {_text(log)[-500:]}")
    return line.decode()


async def _ticking(daemon: asyncio.subprocess.Process, figures: Path) -> None:
    """Wait until the daemon ticks."""
    for _ in range(int(UP_S / 0.5)):
        await asyncio.sleep(0.5)
        if daemon.returncode is not None:
            raise BenchError(f"the daemon ended by itself ({daemon.returncode})")
        if _has_handler(daemon.pid) and (await _figures(daemon, figures))["ticks"] > 3:
            return
    raise BenchError("the daemon does not tick")


async def _figures(daemon: asyncio.subprocess.Process, file: Path) -> dict[str, Any]:
    """What the daemon has measured of itself up to now."""
    before = _text(file)
    daemon.send_signal(signal.SIGUSR1)
    for _ in range(int(UP_S / 0.05)):
        await asyncio.sleep(0.05)
        now = _text(file)
        if now and now != before:
            try:
                found: dict[str, Any] = json.loads(now)
            except json.JSONDecodeError:
                continue  # half written
            return found
    raise BenchError("the daemon gave no figures")


def _text(path: Path) -> str:
    """A file's text, empty when it is not there yet."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _has_handler(pid: int) -> bool:
    """Whether a process catches SIGUSR1 by now; before, it would end by it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


async def _measure(
    daemon: asyncio.subprocess.Process, port: int, seconds: float, rate_hz: float
) -> tuple[int, float]:
    """Flood (or not) for so long; (messages sent, largest resident memory of the daemon [MiB])."""
    flood = None
    if rate_hz > 0.0:
        arguments = [str(port), "reconf/demo/command", f"{rate_hz:g}", f"{seconds:g}", "1"]
        flood = await asyncio.create_subprocess_exec(
            # the sender stands for another machine: it gets what the site's processes leave
            "nice",
            "-n",
            "15",
            sys.executable,
            "-m",
            "edge.bench.flood_sender",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
        )
    largest = 0.0
    for _ in range(max(1, int(seconds * 2))):
        await asyncio.sleep(0.5)
        largest = max(largest, _rss_mib(daemon.pid))
    if flood is None:
        return 0, largest
    out, _ = await flood.communicate()
    return int(out or 0), largest


def _rss_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    try:
        process = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20
    except psutil.Error:
        return 0.0


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, patience, SIGKILL."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
