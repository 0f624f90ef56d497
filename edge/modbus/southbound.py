"""The southbound side: every node of a site read, written and kept alive over its gateways.

async with Southbound(site) as south:
    image = await south.read(now_s, tick)
    receipt = await south.write(verified)
    await south.heartbeat(module_mask, string_mask)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from edge.modbus import wiretime
from edge.modbus.blocks import Freshness, ImageMaker
from edge.modbus.failures import FailureKind, NodeError, NodeEvent
from edge.modbus.identity import ConverterIdentity, Identities, ModuleIdentity
from edge.modbus.line import Line, Node
from edge.modbus.nodes import lines_of, nodes_of
from edge.modbus.reader import Reader, finished
from edge.modbus.site_io import SiteIo
from edge.modbus.transport import Link
from edge.modbus.writer import Writer
from reconf.actuation import NodeWriteFailure, Receipt, VerifiedCommand
from reconf.arrays import BoolArray
from reconf.devices import rc1, rm1
from reconf.devices.profile import DeviceProfile, load_profile
from reconf.devices.rc1 import Rc1Codec
from reconf.devices.rm1 import Rm1Codec
from reconf.errors import RegisterError
from reconf.readings import SiteImage
from reconf.sequences.nodes import RC1_WATCHDOG_S, RM1_WATCHDOG_S
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class SouthboundOptions:
    """What may be tuned."""

    freshness: Freshness = field(default_factory=Freshness)
    write_rate_per_s: float = 2.0
    """Writes a node gets in the long run, per second of control time."""
    write_burst: float = 120.0
    scrub_every_s: float = 1.0
    """Wall time after which each line reads back the command registers of its next node, to notice what
    changed behind our back; 0: never."""


@dataclass(frozen=True, slots=True)
class SouthboundStats:
    """Counters since the start."""

    reads: int
    read_failures: int
    writes: int
    write_failures: int
    writes_deferred: int
    heartbeats: int
    exchanges: int
    suspects: int
    """Nodes being probed in the background now."""
    connected: dict[str, int]
    """Connections that stand, by gateway."""
    wire_s: dict[str, float]
    """Computed wire time used so far by serial gateway [s]."""


class Southbound:
    """All gateways of a site; an async context manager.

    Args:
        site: what is where.
        read_only: never write a register, heartbeats included.
        wall: monotonic wall clock [s]; drives time-outs, back-off and heartbeats.
        options: tuning.
        rm1_profile: registers of the module nodes; the shipped profile by default.
        rc1_profile: registers of the converters; the shipped profile by default.
    """

    def __init__(
        self,
        site: Site,
        *,
        read_only: bool = False,
        wall: Callable[[], float] = time.monotonic,
        options: SouthboundOptions | None = None,
        rm1_profile: DeviceProfile | None = None,
        rc1_profile: DeviceProfile | None = None,
    ) -> None:
        self.site = site
        self.read_only = read_only
        self.options = options or SouthboundOptions()
        self._wall = wall
        self._rm1 = Rm1Codec(rm1_profile or load_profile("rm1"), site.topology.n_cells)
        self._rc1 = Rc1Codec(rc1_profile or load_profile("rc1"))
        n_strings = site.topology.n_strings
        self._images = ImageMaker(self._rm1, self._rc1, n_strings, self.options.freshness)
        self._modules, self._strings = nodes_of(site, self._rm1, self._rc1)
        self._lines = lines_of(site, self._modules, self._strings, wall, read_only=read_only)
        self._writer = Writer(
            site,
            self._rm1,
            self._rc1,
            {"rm1": self._modules, "rc1": self._strings},
            self.options.write_rate_per_s,
            self.options.write_burst,
        )
        scrub = 0.0 if read_only else self.options.scrub_every_s
        self._site_io = SiteIo.of(site, {line.gateway.name: line for line in self._lines}, wall)
        self._reader = Reader(
            self._lines, self._images, self._writer, wall, scrub, self._site_io, read_only=read_only
        )
        self._stack = AsyncExitStack()
        self._writes = self._write_failures = self._heartbeats = 0

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._stack.enter_async_context(line) for line in self._lines))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # ---- reading -------------------------------------------------------------------------------

    async def read(self, now_s: float, tick: int, budget_s: float | None = None) -> SiteImage:
        """Read every node once and give the image of this tick.

        Args:
            now_s: control time.
            tick: number of the tick.
            budget_s: wall time after which the image is made of what is there; late answers count for
                the next one. Without it the gateways' time-outs are the only bound.
        """
        return await self._reader.read(now_s, tick, budget_s)

    def events(self) -> tuple[NodeEvent, ...]:
        """What happened to nodes since the last call."""
        return self._reader.events()

    # ---- writing -------------------------------------------------------------------------------

    async def write(self, verified: VerifiedCommand) -> Receipt:
        """Write what differs from what stands in the nodes, in parallel, and read it back. Never retried."""
        targets = self._writer.targets(verified)
        failures: list[NodeWriteFailure] = []
        confirmed = np.ones(len(self._modules) + len(self._strings), dtype=np.bool_)
        written = 0

        async def one(node: Node, link: Link) -> None:
            nonlocal written
            try:
                registers = await self._writer.write_node(node, targets, link)
                written += registers
                self._writes += 1
            except NodeError as error:
                refuse(node, str(error))
                if error.kind is FailureKind.NO_ANSWER:
                    self._reader.failed(node, error)

        def refuse(node: Node, text: str) -> None:
            confirmed[node.index] = False
            self._write_failures += 1
            failures.append(self._write_failure(node, text))

        jobs: list[tuple[Line, Node]] = []
        for node in self._writer.due(targets, self._modules, self._strings):
            if self.read_only:
                refuse(node, "read-only, nothing is written")
            elif node.suspect:
                refuse(node, "not tried, the unit does not answer")
            else:
                jobs.append((self._reader.line_of(node), node))
        batches = [
            line.submit([partial(one, n) for at, n in jobs if at is line], urgent=True)
            for line in self._lines
        ]
        outputs: list[NodeWriteFailure] = []
        if not self.read_only:
            batches += self._site_io.submit_outputs(verified.outputs, outputs)
        await finished(batches, None)
        n = len(self._modules)
        return Receipt(
            verified.time_s,
            confirmed[:n],
            confirmed[n:],
            written,
            (*failures, *outputs),
            outputs_confirmed=not outputs,
        )

    def _write_failure(self, node: Node, text: str) -> NodeWriteFailure:
        return NodeWriteFailure(self._reader.line_of(node).gateway.name, node.unit, "commands", text)

    async def heartbeat(
        self, module_mask: BoolArray, string_mask: BoolArray, *, only_due: bool = True
    ) -> tuple[BoolArray, BoolArray]:
        """Change HEARTBEAT of the nodes asked for that are due (a quarter of their watchdog, wall time).

        Returns:
            (M,) and (S,) whether each node's watchdog is fed, as far as this side knows.
        """
        asked = self._chosen(module_mask, string_mask)
        now = self._wall()
        due = [n for n in asked if not only_due or self._writer.heartbeat_due(n, now)]
        ok = self._mask_of(asked)

        async def one(node: Node, link: Link) -> None:
            await self._writer.feed(node, link, self._wall)
            self._heartbeats += 1

        return self._split(ok & ~(await self._each(due, one)))

    async def set_watchdogs(
        self, rc1_s: float = RC1_WATCHDOG_S, rm1_s: float = RM1_WATCHDOG_S
    ) -> tuple[BoolArray, BoolArray]:
        """Write every WATCHDOG that differs and read it back; converters must stop before modules bypass.

        A node that does not take it now is asked again with each `write`, and until it has, no command of its
        is confirmed but one that only asks for less.

        Returns:
            (M,) and (S,) whether each node's watchdog is set.
        """
        nodes = [*self._modules, *self._strings]
        if not self.read_only:
            self._writer.ask_watchdogs({"rm1": rm1_s, "rc1": rc1_s})

        async def one(node: Node, link: Link) -> None:
            await self._writer.set_watchdog(node, link, self._wall)

        return self._split(~(await self._each(nodes, one)))

    async def clear(self, module_mask: BoolArray, string_mask: BoolArray) -> tuple[BoolArray, BoolArray]:
        """Zero every command register, read it back, feed the watchdog, then write CLEAR.

        Returns:
            (M,) and (S,) whether CLEAR was acknowledged. Whether the latch is gone shows in STATUS.
        """
        nodes = self._chosen(module_mask, string_mask)

        async def one(node: Node, link: Link) -> None:
            await self._writer.clear(node, link, self._wall)

        return self._split(self._mask_of(nodes) & ~(await self._each(nodes, one)))

    async def identify(self, module: int, seconds: float) -> bool:
        """Blink the lamp of a module's node; whether it was acknowledged."""
        node = self._modules[module]

        async def one(node: Node, link: Link) -> None:
            await link.write(node.unit, rm1.IDENTIFY, [round(seconds)])

        return not (await self._each([node], one))[node.index]

    async def identities(self) -> Identities:
        """Who is there: the identity registers of every node, None where nobody answered."""
        modules: list[ModuleIdentity | None] = [None] * len(self._modules)
        strings: list[ConverterIdentity | None] = [None] * len(self._strings)

        async def one(node: Node, link: Link) -> None:
            block = rm1.IDENTITY if node.kind == "rm1" else rc1.IDENTITY
            payload = await link.read(node.unit, "holding", block.address, block.count)
            try:
                if node.kind == "rm1":
                    head = await link.read(node.unit, "input", 0, 3)
                    modules[node.row] = ModuleIdentity.decode(self._rm1.profile, head, payload)
                else:
                    strings[node.row] = ConverterIdentity.decode(self._rc1.profile, payload)
            except RegisterError as error:
                raise NodeError(FailureKind.GARBAGE, f"unit {node.unit}: {error}") from error

        await self._each([*self._modules, *self._strings], one, reading=True)
        return Identities(tuple(modules), tuple(strings))

    async def _each(
        self,
        nodes: Sequence[Node],
        work: Callable[[Node, Link], Awaitable[None]],
        *,
        reading: bool = False,
    ) -> BoolArray:
        """Do `work` for nodes that are not suspects; (N,) True where it failed or was not tried."""
        failed = np.zeros(len(self._modules) + len(self._strings), dtype=np.bool_)

        async def guarded(node: Node, link: Link) -> None:
            try:
                await work(node, link)
            except NodeError as error:
                failed[node.index] = True
                if error.kind is FailureKind.NO_ANSWER:
                    self._reader.failed(node, error)

        tried: list[Node] = []
        for node in nodes:
            if node.suspect or (self.read_only and not reading):
                failed[node.index] = True
            else:
                tried.append(node)
        batches = [
            line.submit([partial(guarded, n) for n in tried if self._reader.line_of(n) is line], urgent=True)
            for line in self._lines
        ]
        await finished(batches, None)
        return failed

    def _chosen(self, module_mask: BoolArray, string_mask: BoolArray) -> list[Node]:
        return [self._modules[i] for i in np.flatnonzero(module_mask)] + [
            self._strings[s] for s in np.flatnonzero(string_mask)
        ]

    def _mask_of(self, nodes: Sequence[Node]) -> BoolArray:
        mask = np.zeros(len(self._modules) + len(self._strings), dtype=np.bool_)
        mask[[n.index for n in nodes]] = True
        return mask

    def _split(self, mask: BoolArray) -> tuple[BoolArray, BoolArray]:
        n = len(self._modules)
        return mask[:n], mask[n:]

    # ---- figures -------------------------------------------------------------------------------

    @property
    def stats(self) -> SouthboundStats:
        """Counters since the start."""
        return SouthboundStats(
            reads=self._reader.reads,
            read_failures=self._reader.failures,
            writes=self._writes,
            write_failures=self._write_failures,
            writes_deferred=self._writer.budget.deferred,
            heartbeats=self._heartbeats,
            exchanges=sum(link.exchanges for line in self._lines for link in line.all_links),
            suspects=sum(n.suspect for line in self._lines for n in line.nodes),
            connected={line.gateway.name: line.connected for line in self._lines},
            wire_s={line.gateway.name: line.wire_s for line in self._lines if line.gateway.kind == "rtu"},
        )

    @property
    def tick_wire_s(self) -> float:
        """Computed wire time of reading every node of the busiest serial line once [s]; 0 without any."""
        return max(
            (
                sum(wiretime.read_s(line.gateway, n.read_count) for n in line.nodes)
                for line in self._lines
                if line.gateway.kind == "rtu"
            ),
            default=0.0,
        )
