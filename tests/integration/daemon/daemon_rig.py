"""The daemon on real sockets against a twin in the same loop, and what went over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.clock import Clock
from edge.core_values import IntervalRecord, SetMode, TickView
from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.modbus.writer import POWER_UP_WATCHDOG_S
from edge.rehearsal import rehearse
from edge.setpoint import PowerCommand
from edge.supervisor import Daemon
from edge.wiring import RunOptions, daemon
from edge.worker import Allocate, default_allocate
from reconf.sequences import SiteMode
from reconf.site import Site, TimingSpec
from reconf.twin.firmware import NodeBank

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from southbound_rig import attached, make_bank, small_site

POWER_W = 900.0
WATCHDOG = 1
"""Command register of RM1 and RC1, in tenths of a second."""
MODE, POWER, CONTACTOR = 2, 3, 7
"""RC1 command registers."""
INSERT = 3
"""RM1 command register."""


def quick_site(n_modules: int = 4, n_strings: int = 2) -> Site:
    """Small strings with ticks of 0.3 s."""
    site = small_site(n_modules=n_modules, n_strings=n_strings)
    return replace(site, timing=TimingSpec(tick_s=0.3, slot_s=0.6, interval_s=3.0))


SCALE = 4.0
"""Control seconds per second for tests that wait for physics (precharge, discharging links)."""


def fast_site(n_modules: int = 4, n_strings: int = 2) -> Site:
    """The same ticks on the wall at `SCALE`."""
    site = small_site(n_modules=n_modules, n_strings=n_strings)
    return replace(site, timing=TimingSpec(tick_s=1.2, slot_s=2.4, interval_s=12.0))


@dataclass(frozen=True)
class Write:
    """One register write as the twin saw it."""

    unit: int
    address: int
    words: tuple[int, ...]
    closed: bool
    """The contactor of that gateway's string, at that moment."""


@dataclass
class Field:
    """A twin on sockets."""

    site: Site
    bank: NodeBank
    server: TwinServer
    writes: list[Write] = field(default_factory=list)

    def register_writes(self, unit_is: Callable[[int], bool], address: int) -> list[tuple[int, Write, int]]:
        """(position, write, value) of every write that touches a register."""
        found = []
        for k, w in enumerate(self.writes):
            if unit_is(w.unit) and w.address <= address < w.address + len(w.words):
                found.append((k, w, w.words[address - w.address]))
        return found

    @property
    def closed(self) -> list[bool]:
        return [bool(c) for c in self.bank.rc1.closed]

    @property
    def power_w(self) -> float:
        return float(self.bank.plant.true.bus_power_w.sum())


def let_be_patient(bank: NodeBank, site: Site) -> None:
    """Half a minute without a heartbeat latches no node, until a daemon sets its own time."""
    for node in (*site.positions, *(s.converter for s in site.strings)):
        assert bank.write(node.gateway, node.unit_id, WATCHDOG, [300])


@asynccontextmanager
async def field_of(
    site: Site, time_scale: float = 1.0, soc_frac: float = 0.6, *, powered_for_long: bool = False
) -> AsyncIterator[Field]:
    """The twin's time passes while this is open.

    Nodes latch when nobody feeds them in their first 5 s. That must not fall into the start of a daemon,
    which takes some seconds, and more on a busy machine: they are patient until they are told otherwise, or,
    with `powered_for_long`, have latched before.
    """
    rehearse()  # twin and daemon share this process and its loop: no watchdog runs yet
    bank = make_bank(site, soc_frac=soc_frac)
    if powered_for_long:
        bank.step(2.0 * POWER_UP_WATCHDOG_S, 0.001)
    else:
        let_be_patient(bank, site)
    seen: list[Write] = []
    strings = {s.converter.gateway: k for k, s in enumerate(site.strings)}  # not those of site I/O alone

    def tap(gateway: str, unit: int, pdu: bytes) -> None:
        if pdu[0] not in (6, 16) or gateway not in strings:
            return
        address = int.from_bytes(pdu[1:3], "big")
        data = pdu[3:5] if pdu[0] == 6 else pdu[6:]
        words = tuple(int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2))
        seen.append(Write(unit, address, words, bool(bank.rc1.closed[strings[gateway]])))

    async with TwinServer(bank, any_port=True, tap=tap) as server:
        pacer = asyncio.create_task(Pacer(bank, time_scale, time.monotonic).run())
        try:
            yield Field(attached(site, server), bank, server, seen)
        finally:
            pacer.cancel()


@asynccontextmanager
async def daemon_on(
    twin: Field,
    *,
    state_dir: Path | None = None,
    read_only: bool = False,
    allocate: Allocate = default_allocate,
    clock: Clock | None = None,
    leave: bool = True,
    northbound: bool = False,
    site: Site | None = None,
) -> AsyncIterator[Daemon]:
    """A running daemon; with `leave` false it vanishes without a word, as if killed."""
    options = RunOptions(gateways={}, state_dir=state_dir, read_only=read_only, northbound=northbound)
    async with daemon(site or twin.site, options, clock=clock, allocate=allocate) as made:
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            if leave:
                made.stop()
                await asyncio.wait_for(task, 40.0)
            else:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def until(made: Daemon, condition: Callable[[TickView], bool], limit_s: float = 60.0) -> TickView:
    """Wait for a tick of which `condition` holds."""
    end = time.monotonic() + limit_s
    while True:
        outcome = made.outcome
        if outcome is not None and condition(outcome.view):
            return outcome.view
        if time.monotonic() > end:
            shown = (
                None
                if outcome is None
                else (outcome.view.mode, outcome.view.phases, outcome.view.rung_reason)
            )
            raise AssertionError(f"not within {limit_s} s: {shown}, ticks {made.figures.ticks}")
        await asyncio.sleep(0.03)


def order(made: Daemon, what: object) -> None:
    clock = made.parts.clock
    made.core.order(what, clock.control_s(), clock.wall_s())  # type: ignore[arg-type]


async def warm(made: Daemon, limit_s: float = 60.0) -> None:
    """The optimizer has compiled what it needs."""
    end = time.monotonic() + limit_s
    while not made.parts.worker.warm:
        assert time.monotonic() < end, "the optimizer does not come up"
        await asyncio.sleep(0.05)


async def serve_power(made: Daemon, twin: Field, power_w: float = POWER_W) -> None:
    """Join and serve power."""
    order(made, SetMode(SiteMode.RUN))
    await until(made, lambda v: v.mode is SiteMode.RUN)
    order(made, PowerCommand(power_w))
    end = time.monotonic() + 60.0
    while abs(twin.power_w - power_w) > 0.1 * abs(power_w):
        assert time.monotonic() < end, f"{twin.power_w:.0f} W of {power_w:.0f} W"
        await asyncio.sleep(0.05)


async def put_down(made: Daemon) -> None:
    """Estimates as they are now are on the disk."""
    made.parts.keeper.save_estimates(made.core.state)
    await made.parts.keeper.flush()


def keep_records(made: Daemon) -> list[IntervalRecord]:
    """Every interval record from now on."""
    kept: list[IntervalRecord] = []
    tick = made.parts.keeper.tick

    def noting(state, view, record):
        if record is not None:
            kept.append(record)
        tick(state, view, record)

    made.parts.keeper.tick = noting  # type: ignore[method-assign]
    return kept
