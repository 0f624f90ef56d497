"""From a command on the broker to its reply, and to the first register write on the wire.

Daemon, twin and broker run as processes of their own; moments are taken on the machine's monotonic clock, the
publish before it is sent and the write where the twin receives it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.flood import good_command, stop_site
from edge.bench.site_rig import Rig, Write, site_rig
from edge.northbound.commander import Commander

SETTLE_S = 5.0
REPLY_S = 10.0
REPLY_PAUSE_S = 0.06
"""Fewer a second than are looked at."""
SET_POINTS_W = (6_000.0, 9_000.0, -6_000.0, 4_000.0, -9_000.0)
SERVED_S = 20.0
"""Wall time for a set point to be served before the next."""


def run(replies: int = 300, set_points: int = 20, time_scale: float = 5.0) -> dict[str, Any]:
    """Measure.

    Args:
        replies: commands whose reply is timed.
        set_points: set points whose first write is timed.
        time_scale: control seconds per second; 5 makes the demo site's tick one second long.
    """
    return asyncio.run(_run(replies, set_points, time_scale))


async def _run(replies: int, set_points: int, time_scale: float) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rig = await stack.enter_async_context(site_rig(folder, time_scale=time_scale))
        operator = await stack.enter_async_context(Commander(rig.site, identifier="bench-operator"))
        await asyncio.sleep(SETTLE_S)
        reply_ms = [await _reply_ms(operator, 1_000.0 + k) for k in range(replies)]
        write_ms = [await _write_ms(rig, operator, k) for k in range(set_points)]
        stopped = await stop_site(rig, operator)
    written = [ms for ms in write_ms if ms is not None]
    tick_ms = 1e3 * rig.site.timing.tick_s / time_scale
    return {
        "reply_ms_p50": _percentile(reply_ms, 50),
        "reply_ms_p99": _percentile(reply_ms, 99),
        "replies": len(reply_ms),
        "set_power_to_write_ms_p50": _percentile(written, 50),
        "set_power_to_write_ms_max": _percentile(written, 100),
        "set_points_written": len(written),
        "set_points": set_points,
        "tick_ms": tick_ms,
        "emergency_stop_reply_ms": stopped["stop_reply_ms"],
        "emergency_stop_to_safe_write_ms": stopped["stop_write_ms"],
    }


async def _reply_ms(operator: Commander, power_w: float) -> float:
    """Publish to reply."""
    began_s = time.monotonic()
    reply = await operator.give(good_command("set_power", power_w=power_w), REPLY_S)
    taken_ms = 1e3 * (time.monotonic() - began_s)
    await asyncio.sleep(REPLY_PAUSE_S)
    return taken_ms if reply is not None else float("inf")


async def _write_ms(rig: Rig, operator: Commander, number: int) -> float | None:
    """Publish of a new set point to the first write that changes a converter's power towards it."""
    power_w = SET_POINTS_W[number % len(SET_POINTS_W)] + number
    before = _powers(rig.writes)
    position, began_s = len(rig.writes), time.monotonic()
    await operator.give(good_command("set_power", power_w=power_w), REPLY_S)

    def changes(write: Write) -> bool:
        return write.power_w is not None and write.power_w != before.get(write.unit, 0)

    write = await rig.first_write(position, changes, SERVED_S)
    await asyncio.sleep(1.0 + 0.37 * (number % 3))  # at no fixed moment of a tick
    return None if write is None else 1e3 * (write.t_s - began_s)


def _powers(writes: list[Write]) -> dict[int, int]:
    """Power last written to each converter."""
    return {write.unit: write.power_w for write in writes if write.power_w is not None}


def _percentile(values: list[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 1) if values else None
