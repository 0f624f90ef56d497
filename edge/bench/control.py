"""What the daemon costs: tick, solve, memory and wires, measured on the real thing against a twin.

The twin runs in a process of its own (over TCP, or on ptys with the wire time of its baud rate); the daemon
runs here with its worker, at time scale 1 unless asked otherwise, commanded to C/3.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.core_values import SetMode
from edge.figures import percentile, pss_mib
from edge.setpoint import PowerCommand
from edge.supervisor import Daemon
from edge.wiring import RunOptions, daemon
from reconf.config import load_site
from reconf.errors import TransportError
from reconf.sequences import SiteMode
from reconf.shipped import find_site_file
from reconf.site import Site, TimingSpec

TWIN_START_S = 60.0
DEFAULT_TICK_S = 1.0


def bench_timing(site: Site, tick_s: float | None) -> TimingSpec:
    """Periods measured at: 1 s over TCP, the site's own over serial lines, an interval every ten ticks."""
    serial = any(g.kind == "rtu" for g in site.gateways)
    tick = tick_s or (site.timing.tick_s if serial else DEFAULT_TICK_S)
    return TimingSpec(tick, 2.0 * tick, 10.0 * tick)


async def start_twin(
    site_file: Path, *, time_scale: float, real_baud: bool
) -> tuple[asyncio.subprocess.Process, dict[str, str]]:
    """A twin in a process of its own, and where its gateways are.

    Raises:
        TransportError: it did not come up.
    """
    arguments = ["-m", "edge.cli", "twin", "--site", str(site_file), "--any-port"]
    arguments += ["--time-scale", f"{time_scale:g}"] + (["--real-baud"] if real_baud else [])
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if process.stdout is None:
        raise TransportError("the twin has no output")
    line = await asyncio.wait_for(process.stdout.readline(), TWIN_START_S)
    if not line:
        raise TransportError("the twin ended by itself")
    endpoints: dict[str, str] = json.loads(line)["endpoints"]
    return process, endpoints


async def measure(made: Daemon, seconds: float, warm_up_s: float) -> None:
    """Join, serve power, and forget everything measured before."""
    clock = made.parts.clock
    made.core.order(SetMode(SiteMode.RUN), clock.control_s(), clock.wall_s())
    await asyncio.sleep(warm_up_s)
    site = made.parts.site
    power_w = 0.25 * sum(s.converter.power_rating_w for s in site.strings)
    made.core.order(PowerCommand(power_w), clock.control_s(), clock.wall_s())
    await asyncio.sleep(warm_up_s / 2.0)
    made.figures.forget(made.parts.south.stats.reads, clock.wall_s())
    await asyncio.sleep(seconds)


async def control(
    site_name: str, *, seconds: float, time_scale: float, tick_s: float | None, real_baud: bool
) -> dict[str, Any]:
    """Run the daemon for `seconds` and say what it took."""
    site_file = find_site_file(site_name)
    site = load_site(site_file)
    site = replace(site, timing=bench_timing(site, tick_s))
    twin, endpoints = await start_twin(site_file, time_scale=time_scale, real_baud=real_baud)
    try:
        with tempfile.TemporaryDirectory(prefix="reconf-bench-") as folder:
            options = RunOptions(
                gateways=endpoints, state_dir=Path(folder), time_scale=time_scale, northbound=False
            )
            return await _measured(site, options, seconds)
    finally:
        if twin.returncode is None:
            twin.send_signal(signal.SIGTERM)
            await twin.wait()


async def _measured(site: Site, options: RunOptions, seconds: float) -> dict[str, Any]:
    """Figures of one run."""
    async with daemon(site, options) as made:
        running = asyncio.create_task(made.run())
        tick_wall_s = site.timing.tick_s / options.time_scale
        warm_up_s = max(6.0, 8.0 * tick_wall_s)
        work = asyncio.create_task(measure(made, seconds, warm_up_s))
        await asyncio.wait({running, work}, return_when=asyncio.FIRST_COMPLETED)
        figures, stats = made.figures, made.parts.south.stats
        reads = stats.reads - figures.reads_before
        since_s = made.parts.clock.wall_s() - figures.forgotten_s
        worker = made.parts.worker.pid
        memory = pss_mib(os.getpid()) + (pss_mib(worker) if worker else 0.0)
        result = {
            "site": site.name,
            "modules": site.topology.n_modules,
            "time_scale": options.time_scale,
            "ticks": len(figures.tick_ms),
            "tick_ms_p50": percentile(figures.tick_ms, 50),
            "tick_ms_p99": percentile(figures.tick_ms, 99),
            "tick_s": tick_wall_s,
            "tick_share_p99": percentile(figures.tick_ms, 99) / 1e3 / tick_wall_s,
            "read_ms_p50": percentile(figures.read_ms, 50),
            "core_ms_p50": percentile(figures.core_ms, 50),
            "write_ms_p50": percentile(figures.write_ms, 50),
            "solve_ms_p50": percentile(figures.solve_ms, 50),
            "solve_ms_p99": percentile(figures.solve_ms, 99),
            "pss_mib": memory,
            "modbus_reads_per_s": reads / max(since_s, 1e-9),
            "wire_share": made.parts.south.tick_wire_s / tick_wall_s,
            "overruns": figures.overruns,
            "mode": made.outcome.view.mode.value if made.outcome else "off",
        }
        made.stop()
        await running
        return result
