"""Reading every node of a site once a tick, and looking after those that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from edge.modbus.blocks import ImageMaker
from edge.modbus.failures import FailureKind, NodeError, NodeEvent
from edge.modbus.line import Batch, Line, Node
from edge.modbus.site_io import SiteIo
from edge.modbus.transport import Link
from edge.modbus.writer import Writer
from reconf.readings import SiteImage
from reconf.replacing import replace


class Reader:
    """Reads all lines into the block stores of `images`; tells `writer` what it sees.

    Args:
        lines: gateways with their nodes.
        images: where blocks land.
        writer: what is known of the nodes' holding registers.
        wall: monotonic wall clock [s].
        scrub_every_s: see `SouthboundOptions`; 0: never.
        site_io: units that are neither modules nor converters.
        read_only: never write a register.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        images: ImageMaker,
        writer: Writer,
        wall: Callable[[], float],
        scrub_every_s: float,
        site_io: SiteIo,
        *,
        read_only: bool = False,
    ) -> None:
        self.reads = 0
        self.failures = 0
        self._lines = tuple(lines)
        self._line_of = {id(node): line for line in lines for node in line.nodes}
        self._images = images
        self._writer = writer
        self._site_io = site_io
        self._wall = wall
        self._read_only = read_only
        self._scrub_every_s = scrub_every_s
        self._scrub_at = [0] * len(self._lines)
        self._scrubbed_s = [wall()] * len(self._lines)
        self._now_s = 0.0
        self._events: list[NodeEvent] = []

    async def read(self, now_s: float, tick: int, budget_s: float | None = None) -> SiteImage:
        """Read every node once and give the image of this tick.

        Args:
            now_s: control time.
            tick: number of the tick.
            budget_s: wall time after which the image is made of what is there; late answers count for
                the next one. Without it the gateways' time-outs are the only bound.
        """
        self._now_s = now_s
        self._images.begin()
        self._writer.begin_read()
        batches: list[Batch] = []
        for index, line in enumerate(self._lines):
            due = [node for node in line.nodes if not node.suspect and not node.busy]
            for node in due:
                node.busy = True  # from now on: what waits past this tick's budget is not asked for twice
            works = [partial(self._read_node, node) for node in due]
            if due and self._scrub_due(index):
                works.append(partial(self._scrub, due[self._scrub_at[index] % len(due)]))
            if not self._read_only:
                again = self._writer.refusals.due(due, self._wall())
                works += [partial(self._try_again, node) for node in again]
            batches.append(line.submit(works))
        # put in last and first on their lines: an emergency stop does not wait behind modules
        batches = [*self._site_io.submit(now_s), *batches]
        await finished(batches, budget_s)
        self._probe_suspects()
        image = self._images.image(tick, now_s, self._wall(), self._site_io.inputs(now_s))
        refusals = self._writer.observe(image)
        return replace(image, refusals=refusals) if refusals else image

    async def _read_node(self, node: Node, link: Link) -> None:
        """Read one node's input block; a failure that came at once is tried again once."""
        asked_s = self._now_s
        try:
            for attempt in (1, 2):
                try:
                    payload = await self._genuine(node, link)
                except NodeError as error:
                    self.failures += 1
                    if not error.retry_now or attempt == 2:
                        self.failed(node, error)
                        return
                else:
                    self._landed(node, payload, asked_s)
                    return
        finally:
            node.busy = False

    async def _genuine(self, node: Node, link: Link) -> bytes:
        """A whole input block that carries the device's mark and its status.

        A node that does not know its status says nothing of its contactor or switch: such a block must not be
        taken for one with all bits clear, which would read as a contactor that is open.
        """
        self.reads += 1
        payload = await link.read(node.unit, "input", 0, node.read_count)
        if not payload.startswith(node.prefix):
            raise NodeError(
                FailureKind.GARBAGE,
                f"unit {node.unit}: block begins with {payload[:6].hex()}, not with {node.prefix.hex()}",
            )
        if node.no_status and payload.startswith(node.no_status, node.status_at):
            raise NodeError(FailureKind.GARBAGE, f"unit {node.unit}: STATUS is not available")
        return payload

    def _landed(self, node: Node, payload: bytes, asked_s: float) -> None:
        store = self._images.modules if node.kind == "rm1" else self._images.strings
        store.land(node.row, payload, asked_s)
        if node.suspect:
            node.failures = 0
            self._writer.forget(node)
            self._note("back", node, "answers again")
            # what healed this node may have healed its neighbours
            for other in self.line_of(node).nodes:
                other.next_try_s = min(other.next_try_s, self._wall())

    def failed(self, node: Node, error: NodeError) -> None:
        """An exchange with `node` failed: leave it out of the next ticks and probe it instead."""
        if error.kind is FailureKind.DISCONNECTED:
            return  # the connection's fault, not the node's: it is asked again as soon as one stands
        if not node.suspect:
            self._note("lost", node, str(error))
        node.failed(self._wall())

    def line_of(self, node: Node) -> Line:
        """The line `node` is on."""
        return self._line_of[id(node)]

    def _note(self, kind: Literal["lost", "back"], node: Node, text: str) -> None:
        line = self.line_of(node)
        self._events.append(NodeEvent(kind, node.label, line.gateway.name, node.unit, text))

    def _probe_suspects(self) -> None:
        """Start the background probes that are due."""
        now = self._wall()
        for line in self._lines:
            suspects = [n for n in line.nodes if n.suspect]
            due = sorted(
                (n for n in suspects if not n.busy and n.next_try_s <= now), key=lambda n: n.next_try_s
            )
            nobody_to_slow = len(suspects) == len(line.nodes)
            if not due or line.probing or (now < line.probe_after_s and not nobody_to_slow):
                continue
            for node in due if nobody_to_slow else due[:1]:
                line.probe(partial(self._probe, node, line))

    async def _probe(self, node: Node, line: Line, link: Link) -> None:
        began = self._wall()
        asked_s = self._now_s
        node.busy = True
        try:
            self._landed(node, await self._genuine(node, link), asked_s)
        except NodeError as error:
            self.failures += 1
            self.failed(node, error)
            line.probe_cost(self._wall() - began)
        finally:
            node.busy = False

    def _scrub_due(self, line: int) -> bool:
        """It is time to check the next node of `line`."""
        every, now = self._scrub_every_s, self._wall()
        if every <= 0.0 or now - self._scrubbed_s[line] < every:
            return False
        self._scrubbed_s[line] = now
        self._scrub_at[line] += 1
        return True

    async def _scrub(self, node: Node, link: Link) -> None:
        """Read what stands in the command registers; the next write mends what differs."""
        try:
            await self._writer.refresh(node, link)
        except NodeError:
            self._writer.forget(node)

    async def _try_again(self, node: Node, link: Link) -> None:
        """A node that did not take a write may take one now."""
        try:
            await self._writer.try_again(node, link)
        except NodeError as error:
            self.failures += error.kind is FailureKind.NO_ANSWER

    def events(self) -> tuple[NodeEvent, ...]:
        """What happened to nodes since the last call."""
        events, self._events = (*self._events, *self._site_io.events()), []
        return events


async def finished(batches: Sequence[Batch], budget_s: float | None) -> None:
    """Wait for all batches, `budget_s` at most."""
    try:
        async with asyncio.timeout(budget_s):
            for batch in batches:
                await batch.wait()
    except TimeoutError:
        return
