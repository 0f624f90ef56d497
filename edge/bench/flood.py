"""Hostile traffic on the command topic of a running daemon: what control feels of it, and what of it acts.

Twin, mosquitto and daemon run as processes of their own over real sockets, once quiet and once under the
flood. Meanwhile an operator gives good commands and, at the end, an emergency stop.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from edge.bench.site_rig import Rig, site_rig
from edge.northbound.commander import Commander, NoBrokerError
from edge.store import Store

SETTLE_S = 5.0
"""Start-up (compiling, first closing of contactors) is not measured with the flood."""
OPERATOR_PERIOD_S = 2.0
"""Wall time between good commands during the flood."""
REPLY_S = 10.0
STOP_LIMIT_S = 20.0
FLOOD_TAIL_S = 5.0
"""The flood goes on for the emergency stop."""
SENDER_NICENESS = 15
"""The sender stands for another machine: it gets what the site's processes leave."""
OPERATOR, HOSTILE = "operator", "hostile"


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
        "accepted_hostile": flooded["accepted_hostile"],
        "rss_mib": round(flooded["rss_mib"], 1),
        "rss_mib_quiet": round(quiet["rss_mib"], 1),
        "cpu_frac_quiet": quiet["cpu_frac"],
        "cpu_frac_flood": flooded["cpu_frac"],
        "tick_ms": tick_ms,
        "tick_ms_p50_quiet": round(quiet["p50"], 2),
        "tick_ms_p50_flood": round(flooded["p50"], 2),
        "operator_sent": flooded["operator_sent"],
        "operator_answered": flooded["operator_answered"],
        "reply_ms_p50_flood": flooded["reply_ms_p50"],
        "reply_ms_max_flood": flooded["reply_ms_max"],
        "stop_reply_ms_quiet": quiet["stop_reply_ms"],
        "stop_reply_ms_flood": flooded["stop_reply_ms"],
        "stop_to_safe_write_ms_quiet": quiet["stop_write_ms"],
        "stop_to_safe_write_ms_flood": flooded["stop_write_ms"],
        "sent": flooded["sent"],
        "rate_hz": rate_hz,
        "seconds": seconds,
        "ticks": flooded["ticks"],
        "overruns": flooded["overruns"],
    }


async def _daemon_run(seconds: float, rate_hz: float, time_scale: float) -> dict[str, Any]:
    """One daemon from start to stop; what it measured of itself, and what the operator saw."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        async with (
            site_rig(folder, time_scale=time_scale) as rig,
            Commander(rig.site, identifier="bench-operator") as operator,
        ):
            await asyncio.sleep(SETTLE_S)
            before = (await rig.figures())["ticks"]
            sender = await _sender(rig, rate_hz, seconds + FLOOD_TAIL_S)
            seen = await _during(rig, operator, seconds)
            found = await rig.figures()
            measured = found["tick_ms_recent"][-max(1, found["ticks"] - before) :]
            seen |= await stop_site(rig, operator)
            sent = 0 if sender is None else int((await sender.communicate())[0] or 0)
        with Store.open(rig.state_dir, read_only=True) as store:
            entries = store.ledger.audit_entries(1_000_000)
    hostile = [e for e in entries if e["kind"] == "command" and e["command"]["issuer"] != OPERATOR]
    return (
        found
        | seen
        | {
            "sent": sent,
            "accepted_hostile": sum(e["result"] != "refused" for e in hostile),
            "p50": float(np.percentile(measured, 50)),
            "p99": float(np.percentile(measured, 99)),
            "ticks": len(measured),
        }
    )


async def _sender(rig: Rig, rate_hz: float, seconds: float) -> asyncio.subprocess.Process | None:
    """Begin the flood; None for the quiet run."""
    if rate_hz <= 0.0:
        return None
    return await asyncio.create_subprocess_exec(
        "nice", "-n", str(SENDER_NICENESS), sys.executable, "-m", "edge.bench.flood_sender",
        str(rig.port), "reconf/demo/command", f"{rate_hz:g}", f"{seconds:g}", "1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _during(rig: Rig, operator: Commander, seconds: float) -> dict[str, Any]:
    """Good commands for so long, and the largest memory."""
    replies_ms: list[float] = []
    sent, largest, end_s = 0, 0.0, time.monotonic() + seconds
    used_s, since_s = rig.cpu_s(), time.monotonic()
    while time.monotonic() < end_s:
        began_s = time.monotonic()
        sent += 1
        with suppress(NoBrokerError):
            if await operator.give(good_command("set_power", power_w=1_000.0 + sent), REPLY_S):
                replies_ms.append(1e3 * (time.monotonic() - began_s))
        largest = max(largest, rig.rss_mib())
        await asyncio.sleep(max(0.0, OPERATOR_PERIOD_S - (time.monotonic() - began_s)))
    span_s, now_s = time.monotonic() - since_s, rig.cpu_s()
    return {
        "cpu_frac": {name: round((now_s[name] - used_s[name]) / span_s, 3) for name in now_s},
        "rss_mib": largest,
        "operator_sent": sent,
        "operator_answered": len(replies_ms),
        "reply_ms_p50": round(float(np.median(replies_ms)), 1) if replies_ms else None,
        "reply_ms_max": round(max(replies_ms), 1) if replies_ms else None,
    }


async def stop_site(rig: Rig, operator: Commander) -> dict[str, Any]:
    """An emergency stop: time to its reply, and to the first safe write to a converter."""
    position, began_s = len(rig.writes), time.monotonic()
    asking = asyncio.create_task(operator.give(good_command("emergency_stop"), STOP_LIMIT_S))
    write = await rig.first_write(position, lambda w: w.makes_safe, STOP_LIMIT_S)
    reply = await asking
    replied = reply is not None and reply["result"] == "accepted"
    return {
        "stop_reply_ms": round(1e3 * operator.heard_s[reply["id"]] - 1e3 * began_s, 1)
        if reply and replied
        else None,
        "stop_write_ms": None if write is None else round(1e3 * (write.t_s - began_s), 1),
    }


def good_command(action: str, **args: Any) -> dict[str, Any]:
    """A command the site takes; the sequence counts milliseconds."""
    now = datetime.now(UTC)
    return {
        "id": str(uuid4()),
        "issuer": OPERATOR,
        "sequence": int(now.timestamp() * 1e3),
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
        "action": action,
        "args": args,
    }
