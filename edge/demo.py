"""The demo's run: commanded over MQTT as SCADA would, one full discharge and recharge at C/3."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from edge.demo_processes import DemoError, Processes
from edge.northbound.commander import NoBrokerError, exchange
from edge.northbound.topics import Topics
from edge.northbound.watcher import watch
from reconf.site import Site

NOMINAL_CELL_V = 3.65
"""Mean voltage of an NMC cell, only used to turn C/3 into a power."""
SHORT_SHARE = 0.5
SHORT_FOR_S = 60.0
"""The discharge counts until less than half of the request could be delivered for a minute."""
FULL_SHARE = 0.35
"""The recharge ends when the site can take less than this share of C/3 (plating bounds full modules)."""
TAPER_SHARE = 0.78
"""Share of the charge capability that is asked for once it nears C/3, as a careful dispatcher would."""
TAPER_STEP = 0.96
"""A new set point is sent when it is this much smaller than the last."""
CAPABILITY_HORIZON_S = 60.0
WARM_TIMEOUT_S = 90.0
"""The first run on a machine compiles the optimizer's kernels."""
JOIN_TIMEOUT_S = 40.0
PHASE_TIMEOUT_CONTROL_S = 8.0 * 3600.0
"""Control time that one direction may take; and a minute of wall time on top."""
SETTLE_S = 120.0
"""Control time after a command in which a shortfall does not count yet."""


def c3_power_w(site: Site) -> float:
    """Power at C/3 of the rated capacity."""
    return sum(m.rated_capacity_ah / 3.0 * m.n_cells * NOMINAL_CELL_V for m in site.modules)


@dataclass(slots=True)
class Live:
    """What has been heard of the site."""

    status: dict[str, Any] = field(default_factory=dict)
    soc: dict[str, float] = field(default_factory=dict)
    """By serial."""
    phase: str = "starting"
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spread_frac(self) -> float:
        """Highest less lowest SOC of all modules."""
        return max(self.soc.values()) - min(self.soc.values()) if self.soc else 0.0


@dataclass(frozen=True, slots=True)
class Cycle:
    """Control times of one cycle, by the twin's clock, and the truth at its end."""

    discharge_from_s: float
    charge_from_s: float
    ended_s: float
    power_w: float
    ledger: dict[str, Any]
    figures: dict[str, Any]


class Commander:
    """Gives commands as SCADA would: numbered, dated, expiring."""

    def __init__(self, site: Site, time_scale: float) -> None:
        self._site, self._time_scale = site, time_scale
        # strictly increasing over runs, as the contract asks: milliseconds of the date
        self._sequence = int(datetime.now(UTC).timestamp() * 1000)

    async def send(self, action: str, args: dict[str, Any]) -> dict[str, Any]:
        """Give a command and return its reply.

        Raises:
            DemoError: refused, or no reply.
        """
        now = datetime.now(UTC)
        self._sequence += 1
        command = {
            "id": str(uuid.uuid4()),
            "issuer": "demo",
            "sequence": self._sequence,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(hours=1)).isoformat(),
            "action": action,
            "args": args,
        }
        for _ in range(20):  # the daemon may still be starting
            try:
                reply = await exchange(self._site, command, 4.0)
            except NoBrokerError:
                reply = None
            if reply is not None:
                break
        if reply is None or reply["result"] == "refused":
            raise DemoError(f"{action} {args}: {reply['text'] if reply else 'no reply'}")
        return reply


async def listen(site: Site, live: Live) -> None:
    """Keep `live` up to date."""
    topics = Topics.of(site)
    async for topic, data in watch(site, [topics.status, f"{topics.base}/module/+"], "demo"):
        if topic == topics.status:
            live.status = data
            live.heard.set()
        elif data.get("soc_frac") is not None:
            live.soc[data["serial"]] = data["soc_frac"]


async def run_cycle(processes: Processes, live: Live, told: Callable[[Live], None]) -> Cycle:
    """One discharge and one recharge; `told` is called whenever something new is known."""
    site, scale = processes.site, processes.setup.time_scale
    commander = Commander(site, scale)
    power_w = c3_power_w(site)
    live.phase = "warming up"
    await _until(processes, live, told, lambda s: bool(s["health"]["optimizer_ready"]), WARM_TIMEOUT_S)
    live.phase = "connecting"
    await commander.send("set_mode", {"mode": "run"})
    await _until(processes, live, told, lambda s: s.get("mode") == "run", JOIN_TIMEOUT_S)
    began_soc = float(live.status.get("soc_frac") or 1.0)
    start = await processes.ledger()
    patience_s = 60.0 + PHASE_TIMEOUT_CONTROL_S / scale
    live.phase = "discharging at C/3"
    await commander.send("set_power", {"power_w": power_w})
    await _until(processes, live, told, _Short(scale), patience_s)
    turned = await processes.ledger()
    live.phase = "recharging at C/3"
    await commander.send("set_power", {"power_w": -power_w})
    taper = Taper(commander, power_w)
    full = _Full(scale, began_soc, taper)
    await _until(processes, live, told, full, patience_s, taper.follow)
    live.phase = "resting"
    await commander.send("set_power", {"power_w": 0.0})
    ledger = await processes.ledger()
    return Cycle(
        discharge_from_s=float(start["time_s"]),
        charge_from_s=float(turned["time_s"]),
        ended_s=float(ledger["time_s"]),
        power_w=power_w,
        ledger=ledger,
        figures=await processes.figures(),
    )


class _Short:
    """Less than a share of what was asked has been delivered for a minute of control time."""

    def __init__(self, time_scale: float, share: float = SHORT_SHARE) -> None:
        self._scale, self._share = time_scale, share
        self._began: datetime | None = None
        self._since: datetime | None = None

    def __call__(self, status: dict[str, Any]) -> bool:
        """Whether the phase is over."""
        at = datetime.fromisoformat(status["utc"])
        self._began = self._began or at
        asked = float(status["power_asked_w"])
        given = float(status["power_delivered_w"] or 0.0)
        settled = (at - self._began).total_seconds() * self._scale > SETTLE_S
        short = asked == 0.0 or given / asked < self._share
        if not (settled and short):
            self._since = None
            return False
        self._since = self._since or at
        return (at - self._since).total_seconds() * self._scale >= SHORT_FOR_S


class Taper:
    """Asks for less charge as the site says that it can take less."""

    def __init__(self, commander: Commander, power_w: float) -> None:
        self._commander, self._full_w = commander, power_w
        self._asked_w = power_w

    @property
    def share(self) -> float:
        """Of C/3, as asked last."""
        return self._asked_w / self._full_w

    async def follow(self, status: dict[str, Any]) -> None:
        """Send a smaller set point when the published capability asks for it."""
        limits = status["limits"]
        at = next(i for i, h in enumerate(limits["horizon_s"]) if h >= CAPABILITY_HORIZON_S)
        wanted_w = min(self._full_w, TAPER_SHARE * float(limits["charge_w"][at]))
        if wanted_w < TAPER_STEP * self._asked_w:
            self._asked_w = wanted_w
            if self.share >= FULL_SHARE:
                await self._commander.send("set_power", {"power_w": -wanted_w})


class _Full(_Short):
    """Full again as at the beginning, or nothing more goes in."""

    def __init__(self, time_scale: float, soc_frac: float, taper: Taper) -> None:
        super().__init__(time_scale, 0.0)
        self._soc, self._taper = soc_frac, taper

    def __call__(self, status: dict[str, Any]) -> bool:
        """Whether the phase is over."""
        full = float(status.get("soc_frac") or 0.0) >= self._soc or self._taper.share < FULL_SHARE
        return full or super().__call__(status)


async def _until(
    processes: Processes,
    live: Live,
    told: Callable[[Live], None],
    over: Callable[[dict[str, Any]], bool],
    timeout_s: float,
    steer: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> None:
    """Wait for a status that says so; `steer` may act on every one."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        live.heard.clear()
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0.0:
            raise DemoError(
                f"{live.phase}: not over after {timeout_s:.0f} s; the daemon says:\n"
                f"{processes.tail('daemon')}"
            )
        try:
            await asyncio.wait_for(live.heard.wait(), min(left, 1.0))
        except TimeoutError:
            processes.check_alive()
            continue
        told(live)
        if over(live.status):
            return
        if steer is not None:
            await steer(live.status)
