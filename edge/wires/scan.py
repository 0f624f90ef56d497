"""Who answers on which bus. Read-only: the links used here have no way to write.

Silent unit ids are what makes a scan slow. On a serial line each costs the probe's time-out and the quiet
window after it, so the time-out is short and follows what the nodes that do answer need. A TCP gateway
usually says at once that nobody is there; where it keeps silent instead, its own time-out is kept, because a
gateway that still waits for its target would only queue what follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

from edge.modbus import wiretime
from edge.modbus.failures import FailureKind, NodeError
from edge.modbus.identity import ConverterIdentity, ModuleIdentity
from edge.modbus.transport import QUIET_S, Link
from reconf.commissioning.roster import RC1_IDS, RM1_IDS, Answerer
from reconf.devices import rc1, rm1
from reconf.devices.profile import DeviceProfile, Table, load_profile
from reconf.errors import RegisterError
from reconf.site import GatewaySpec

NodeKind = Literal["rm1", "rc1"]
ALL_IDS = (*RM1_IDS, *RC1_IDS)
HEAD_WORDS = 4
"""MAGIC, MAP_VERSION, N_CELLS and STATUS of an RM1: every node answers these."""
SERIAL_FIRST_S = 0.10
"""Patience on a serial line, beyond the wire time, before anybody has answered."""
SERIAL_LEAST_S = 0.05
"""And at least, later: USB adapters alone hold answers back for 16 ms."""
SLOWEST_FACTOR = 4.0
TCP_MOST_S = 0.5
SECOND_LOOKS = 3
GIVE_UP_AFTER = 3
"""Requests in a row without a connection after which a gateway counts as unreachable."""


@dataclass(slots=True)
class GatewayScan:
    """What was found behind one gateway."""

    gateway: GatewaySpec
    ids: tuple[int, ...]
    answerers: list[Answerer] = field(default_factory=list)
    probes: int = 0
    garbled: int = 0
    """Probes answered by bytes that were no answer: noise, a collision, a wrong baud rate."""
    seconds: float = 0.0
    unreachable: str = ""
    """Why, when there is no connection at all."""


def seconds_at_most(gateway: GatewaySpec, ids: int, timeout_s: float | None = None) -> float:
    """Time a scan of `ids` unit ids takes when nobody answers [s]."""
    patience = first_timeout_s(gateway) if timeout_s is None else timeout_s
    if gateway.kind == "rtu":
        return ids * (patience + QUIET_S)
    return ids * patience / max(gateway.connections, 1)


def first_timeout_s(gateway: GatewaySpec) -> float:
    """Patience with a unit before anybody on that line has answered [s]."""
    if gateway.kind == "rtu":
        return min(gateway.timeout_s, wiretime.read_s(gateway, HEAD_WORDS) + SERIAL_FIRST_S)
    return min(gateway.timeout_s, TCP_MOST_S)


class _Patience:
    """Time-out of the next probe: short, but never shorter than what slow nodes were seen to need."""

    def __init__(self, gateway: GatewaySpec, timeout_s: float | None) -> None:
        self._gateway = gateway
        self._fixed = timeout_s
        self._slowest_s = 0.0

    def answered(self, took_s: float) -> None:
        """A node answered after so long."""
        self._slowest_s = max(self._slowest_s, took_s)

    @property
    def timeout_s(self) -> float:
        """For the next probe [s]."""
        if self._fixed is not None:
            return self._fixed
        first = first_timeout_s(self._gateway)
        if self._gateway.kind != "rtu" or self._slowest_s == 0.0:
            return first
        wire = wiretime.read_s(self._gateway, HEAD_WORDS)
        wanted = wire + max(SERIAL_LEAST_S, SLOWEST_FACTOR * self._slowest_s)
        return min(self._gateway.timeout_s, wanted)


class Scanner:
    """Probes every unit id of some gateways, side by side.

    Args:
        gateways: lines to look at.
        expected: unit ids that the site file has, by gateway: looked at first, and again when silent.
        ids: unit ids to try.
        timeout_s: patience with one unit; None: short, adapted to the line.
        progress: called after each probe.
    """

    def __init__(
        self,
        gateways: Sequence[GatewaySpec],
        *,
        expected: dict[str, tuple[int, ...]] | None = None,
        ids: Sequence[int] = ALL_IDS,
        timeout_s: float | None = None,
        progress: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateways = tuple(gateways)
        self._expected = expected or {}
        self._ids = tuple(ids)
        self._timeout_s = timeout_s
        self._progress = progress
        self._wall = wall
        self._profiles: dict[NodeKind, DeviceProfile] = {
            "rm1": load_profile("rm1"),
            "rc1": load_profile("rc1"),
        }

    @property
    def budget_s(self) -> float:
        """Time at most, when nobody answers; all gateways are looked at side by side."""
        return max((seconds_at_most(g, len(self._ids), self._timeout_s) for g in self._gateways), default=0.0)

    async def run(self) -> tuple[GatewayScan, ...]:
        """Look at everybody once, and again at those of whom something was expected or half heard."""
        return tuple(await asyncio.gather(*(self._gateway(g) for g in self._gateways)))

    async def _gateway(self, gateway: GatewaySpec) -> GatewayScan:
        first = [u for u in self._expected.get(gateway.name, ()) if u in self._ids]
        order = (*first, *(u for u in self._ids if u not in set(first)))
        scan = GatewayScan(gateway, order)
        began = self._wall()
        patience = _Patience(gateway, self._timeout_s)
        count = 1 if gateway.kind == "rtu" else max(gateway.connections, 1)
        spec = replace(gateway, timeout_s=max(gateway.timeout_s, self._timeout_s or 0.0))
        async with AsyncExitStack() as stack:
            links = [Link(spec, wall=self._wall, read_only=True) for _ in range(count)]
            await asyncio.gather(*(stack.enter_async_context(link) for link in links))
            again = await self._pass(links, scan, order, patience)
            for _ in range(SECOND_LOOKS):
                if not again or scan.unreachable:
                    break
                again = await self._pass(links, scan, self._worth_it(scan, again), patience, patient=True)
        scan.answerers.sort(key=lambda a: a.unit_id)
        scan.seconds = self._wall() - began
        return scan

    def _worth_it(self, scan: GatewayScan, silent: dict[int, bool]) -> tuple[int, ...]:
        """Silent ids that deserve another look: expected, half heard, or among those that answer."""
        expected = set(self._expected.get(scan.gateway.name, ()))
        modules = [a.unit_id for a in scan.answerers if a.unit_id in RM1_IDS]
        reach = max(modules, default=0) if not expected else 0
        return tuple(u for u, half_heard in silent.items() if half_heard or u in expected or u < reach)

    async def _pass(
        self,
        links: Sequence[Link],
        scan: GatewayScan,
        ids: Sequence[int],
        patience: _Patience,
        *,
        patient: bool = False,
    ) -> dict[int, bool]:
        """Probe `ids` over all links; those that did not answer, and whether something was half heard."""
        waiting = list(reversed(ids))
        silent: dict[int, bool] = {}
        lost = 0

        async def serve(link: Link) -> None:
            nonlocal lost
            while waiting and lost < GIVE_UP_AFTER:
                unit = waiting.pop()
                link.wait_for(link.gateway.timeout_s if patient else patience.timeout_s)
                scan.probes += 1
                try:
                    scan.answerers.append(await self._look(link, scan.gateway.name, unit, patience))
                    lost = 0
                except NodeError as error:
                    if error.kind is FailureKind.DISCONNECTED:
                        lost += 1
                        waiting.append(unit)
                        scan.unreachable = str(error) if lost >= GIVE_UP_AFTER else ""
                        await asyncio.sleep(0.2)
                        continue
                    half_heard = error.kind in (FailureKind.GARBAGE, FailureKind.SHORT)
                    scan.garbled += half_heard
                    silent[unit] = half_heard
                if not patient:
                    self._progress()

        await asyncio.gather(*(serve(link) for link in links))
        return silent

    async def _look(self, link: Link, gateway: str, unit: int, patience: _Patience) -> Answerer:
        """Who `unit` is.

        Raises:
            NodeError: nobody answered.
        """
        try:
            head = await link.read(unit, "input", 0, HEAD_WORDS)
        except NodeError as error:
            if error.kind is not FailureKind.REFUSED:
                raise
            return Answerer(gateway, unit, "unknown", answer_s=link.last_took_s, text=f"says {error.args[0]}")
        took_s = link.last_took_s
        patience.answered(took_s)
        magic = int.from_bytes(head[:2], "big")
        for kind, profile in self._profiles.items():
            if magic == profile.magic:
                link.wait_for(link.gateway.timeout_s)
                return replace(await self._who(link, gateway, unit, kind, head), answer_s=took_s)
        words = head.hex(" ", 2)
        return Answerer(gateway, unit, "unknown", answer_s=took_s, text=f"registers {words}")

    async def _who(self, link: Link, gateway: str, unit: int, kind: NodeKind, head: bytes) -> Answerer:
        """The identity of an RM1 or RC1."""
        profile: DeviceProfile = self._profiles[kind]
        block = rm1.IDENTITY if kind == "rm1" else rc1.IDENTITY
        version = int.from_bytes(head[2:4], "big")
        try:
            payload = await read_again(link, unit, "holding", block.address, block.count)
            if kind == "rc1":
                who = ConverterIdentity.decode(profile, payload)
                return Answerer(gateway, unit, "rc1", who.serial, version)
            module = ModuleIdentity.decode(profile, head[:6], payload)
        except (NodeError, RegisterError) as error:
            return Answerer(gateway, unit, kind, map_version=version, text=f"identity not read: {error}")
        return Answerer(
            gateway, unit, "rm1", module.serial, version, module.n_cells, module.chemistry_code,
            module.rated_capacity_ah, trips=module.trips,
        )  # fmt: skip


async def read_again(
    link: Link, unit: int, table: Table, address: int, count: int, tries: int = SECOND_LOOKS
) -> bytes:
    """Read, and again where the line garbled it: reads may be repeated, writes never.

    Raises:
        NodeError: of the last try; a refusal is final at once.
    """
    for attempt in range(1, tries + 1):
        try:
            return await link.read(unit, table, address, count)
        except NodeError as error:
            if error.kind is FailureKind.REFUSED or attempt == tries:
                raise
    raise ValueError(f"{tries} tries")
