"""The demo's processes: broker, twin and daemon, each the shipped command, on free loopback ports."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from reconf.errors import ReconfError
from reconf.site import Site

START_S = 60.0
"""Wall time a process may take to be up (first start compiles kernels)."""
STOP_S = 35.0
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent is gone."""

_LIBC = ctypes.CDLL(None)
"""Found before any fork: a child must not look for it."""


class DemoError(ReconfError):
    """A process of the demo did not start, or ended by itself."""


def free_port() -> int:
    """A loopback port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_with_parent(parent: int) -> None:
    """In a child, before it becomes a command: SIGTERM comes when `parent` is gone, however it went."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it went before the line above
        os._exit(1)


@dataclass(frozen=True, slots=True)
class DemoSetup:
    """What the processes are started with."""

    site_file: Path
    site: Site
    time_scale: float
    seed: int
    soc_frac: float
    folder: Path
    """Logs, state and figures."""


class Processes:
    """Broker, twin and daemon; an async context manager that ends them in reverse order."""

    def __init__(self, setup: DemoSetup) -> None:
        self.setup = setup
        self.port = free_port()
        self.site = replace(
            setup.site, mqtt=replace(setup.site.mqtt, host="127.0.0.1", port=self.port, protocol="3.1.1")
        )
        """The site as its commander sees it: the broker is where the demo put it."""
        self.endpoints: dict[str, str] = {}
        self._stack = AsyncExitStack()
        self._twin: asyncio.subprocess.Process | None = None
        self._daemon: asyncio.subprocess.Process | None = None
        self._all: dict[str, asyncio.subprocess.Process] = {}

    @property
    def figures_file(self) -> Path:
        """Where the daemon writes what it measured of itself."""
        return self.setup.folder / "figures.json"

    @property
    def state_dir(self) -> Path:
        """The daemon's state directory."""
        return self.setup.folder / "state"

    async def __aenter__(self) -> Self:
        # whatever ends the start, a cancellation too, ends what has started
        async with self._stack as starting:
            await self._start()
            self._stack = starting.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        setup = self.setup
        broker = await self._spawn("broker", ["-m", "edge.demo_broker", str(self.port)])
        twin = await self._spawn(
            "twin",
            [
                "-m", "edge.cli", "twin", "--site", str(setup.site_file), "--any-port", "--control",
                "--time-scale", f"{setup.time_scale:g}", "--seed", str(setup.seed),
                "--soc", f"{setup.soc_frac:g}",
            ],
        )  # fmt: skip
        self._twin = twin
        await self._line(broker, "broker")
        self.endpoints = json.loads(await self._line(twin, "twin"))["endpoints"]
        gateways = [part for n, a in self.endpoints.items() for part in ("--gateway", f"{n}={a}")]
        self._daemon = await self._spawn(
            "daemon",
            [
                "-m", "edge.cli", "run", "--site", str(setup.site_file), *gateways,
                "--broker", f"127.0.0.1:{self.port}", "--state-dir", str(self.state_dir),
                "--time-scale", f"{setup.time_scale:g}", "--figures", str(self.figures_file),
            ],
        )  # fmt: skip

    async def _spawn(self, name: str, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        """Start a process whose logs go to a file, and end it with the demo."""
        logs: IO[bytes] = self._stack.enter_context((self.setup.folder / f"{name}.log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE if name == "twin" else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=logs,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches the demo, which ends them in order
            limit=1 << 26,
            preexec_fn=partial(end_with_parent, os.getpid()),  # also when the demo is killed
        )
        self._all[name] = process
        self._stack.push_async_callback(self._end, process)
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, patience, SIGKILL."""
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _line(self, process: asyncio.subprocess.Process, name: str) -> str:
        """The next line a process says."""
        if process.stdout is None:
            raise DemoError(f"{name} has no output")
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        if not line:
            raise DemoError(f"{name} ended by itself: {self.tail(name)}")
        return line.decode()

    def tail(self, name: str) -> str:
        """The last lines of a log."""
        text = (self.setup.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-8:])

    def check_alive(self) -> None:
        """Raise when one of the processes has ended by itself."""
        for name, process in self._all.items():
            if process.returncode is not None:
                raise DemoError(f"{name} ended by itself ({process.returncode}): {self.tail(name)}")

    async def ledger(self) -> dict[str, Any]:
        """The twin's truth up to now."""
        if self._twin is None or self._twin.stdin is None:
            raise DemoError("the twin is not running")
        self._twin.stdin.write(b'{"do": "ledger"}\n')
        await self._twin.stdin.drain()
        reply = json.loads(await self._line(self._twin, "twin"))
        ledger: dict[str, Any] = reply["ledger"]
        return ledger

    async def figures(self) -> dict[str, Any]:
        """What the daemon has measured of itself up to now."""
        if self._daemon is None:
            raise DemoError("the daemon is not running")
        before = self.figures_file.stat().st_mtime_ns if self.figures_file.exists() else 0
        self._daemon.send_signal(signal.SIGUSR1)
        for _ in range(100):
            await asyncio.sleep(0.05)
            if self.figures_file.exists() and self.figures_file.stat().st_mtime_ns != before:
                found: dict[str, Any] = json.loads(self.figures_file.read_text(encoding="utf-8"))
                return found
        raise DemoError(f"the daemon gave no figures: {self.tail('daemon')}")
