"""Everything that is written into nodes: commands, heartbeats, watchdogs, CLEAR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge.modbus.failures import FailureKind, NodeError
from edge.modbus.line import Node
from edge.modbus.refusals import Refusals
from edge.modbus.shadow import Shadow, WriteBudget, filled_runs, signed_words
from edge.modbus.transport import Link
from reconf.actuation import VerifiedCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices import rc1, rm1
from reconf.devices.rc1 import Rc1Codec
from reconf.devices.rm1 import Rm1Codec, Rm1Status
from reconf.readings import SiteImage, WriteRefusal
from reconf.registers import encode_value
from reconf.sequences.nodes import RC1_WATCHDOG_S, RM1_WATCHDOG_S
from reconf.site import Site

POWER_UP_WATCHDOG_S = 5.0
HEARTBEAT_SHARE = 0.25
"""A heartbeat goes out every quarter of the watchdog time."""
RC1_POWER, RC1_BUS_VOLTAGE, RC1_LIMIT, RC1_CONTACTOR = 3, 5, 6, rc1.CONTACTOR_ADDRESS
RM1_TRIM = 5
WATCHDOGS_S = {"rm1": RM1_WATCHDOG_S, "rc1": RC1_WATCHDOG_S}
CLEAR_ADDRESS = {"rm1": rm1.CLEAR, "rc1": rc1.CLEAR}


@dataclass(frozen=True, slots=True)
class Targets:
    """What one verified command asks of the registers."""

    time_s: float
    words: dict[str, IntArray]
    """(N, K) command words by kind of node, from address 2."""
    relevant: dict[str, BoolArray]
    """(N, K) which of them matter."""
    closes: BoolArray
    """(S,) contactors that may be closed."""


class Writer:
    """Knows what stands in the nodes and brings it to what is asked."""

    def __init__(
        self,
        site: Site,
        rm1_codec: Rm1Codec,
        rc1_codec: Rc1Codec,
        nodes: Mapping[str, Sequence[Node]],
        rate_per_s: float,
        burst: float,
    ) -> None:
        m, s = site.topology.n_modules, site.topology.n_strings
        self._nodes = nodes
        self._rm1 = rm1_codec
        self._rc1 = rc1_codec
        self.shadows = {
            "rm1": Shadow(m, rm1.IDENTIFY, (), POWER_UP_WATCHDOG_S),
            "rc1": Shadow(s, rc1.CLEAR, (RC1_POWER,), POWER_UP_WATCHDOG_S),
        }
        self.budget = WriteBudget(m + s, rate_per_s, burst)
        self.refusals = Refusals({"rm1": rm1_codec.profile, "rc1": rc1_codec.profile})
        self._expected = self._fed()
        """Value and wall time of the heartbeats acknowledged before the nodes were read, by kind."""
        self._uptime_s: IntArray = np.zeros(m, dtype=np.int64)
        self._status = {"rm1": np.zeros(m, dtype=np.int64), "rc1": np.zeros(s, dtype=np.int64)}
        self._echo = {"rm1": np.full(m, -1, dtype=np.int64), "rc1": np.full(s, -1, dtype=np.int64)}
        self._missed_s = {"rm1": np.full(m, -np.inf), "rc1": np.full(s, -np.inf)}
        """When the last heartbeat was sent that an echo did not follow, by kind."""
        self._watchdog = {"rm1": np.full(m, -1, dtype=np.int64), "rc1": np.full(s, -1, dtype=np.int64)}
        """Word that was asked for a node's WATCHDOG and is not known to stand there, -1 for none, by kind."""

    def targets(self, verified: VerifiedCommand) -> Targets:
        """The command as register words.

        Raises:
            RegisterError: a value that no register can hold.
        """
        command = verified.command
        words = {"rm1": self._rm1.command_words(command), "rc1": self._rc1.command_words(command)}
        relevant = {
            "rm1": np.ones(words["rm1"].shape, dtype=np.bool_),
            "rc1": self._rc1.relevant(command),
        }
        closes = (
            np.ones(command.contactor.shape, dtype=np.bool_) if verified.closes is None else verified.closes
        )
        return Targets(verified.time_s, words, relevant, closes)

    def due(self, targets: Targets, modules: Sequence[Node], strings: Sequence[Node]) -> list[Node]:
        """Nodes that hold something else than asked (WATCHDOG included), or of which nothing is known."""
        found: list[Node] = []
        for kind, nodes in (("rm1", modules), ("rc1", strings)):
            rows = self.shadows[kind].rows_due(2, targets.words[kind], targets.relevant[kind])
            rows = rows | (self._watchdog[kind] >= 0)
            found += [nodes[int(k)] for k in np.flatnonzero(rows)]
        return found

    def forget(self, node: Node) -> None:
        """Something happened to `node`: read before the next write."""
        self.shadows[node.kind].known[node.row] = False

    def begin_read(self) -> None:
        """The nodes are about to be read: their echoes must show at least these heartbeats."""
        self._expected = self._fed()

    def _fed(self) -> dict[str, tuple[IntArray, FloatArray]]:
        return {kind: (s.fed_value.copy(), s.fed_wall_s.copy()) for kind, s in self.shadows.items()}

    def observe(self, image: SiteImage) -> tuple[WriteRefusal, ...]:
        """Forget nodes that restarted or erased commands, as readings show; tell who takes no writes."""
        modules, strings = image.modules, image.strings
        restarted = modules.answered & (modules.uptime_s < self._uptime_s)
        self._uptime_s = np.where(modules.answered, modules.uptime_s, self._uptime_s)
        self.shadows["rm1"].forget(restarted)
        for kind, part, erasing in (
            ("rm1", modules, Rm1Status.WATCHDOG_EXPIRED),
            ("rc1", strings, rc1.ERASING),
        ):
            shadow = self.shadows[kind]
            changed = ((part.status ^ self._status[kind]) & int(erasing)) != 0
            moved = (part.heartbeat_echo != self._echo[kind]) & (shadow.fed_value >= 0)
            strange = moved & (part.heartbeat_echo != shadow.fed_value)
            shadow.forget(part.answered & (changed | strange))
            self._hearts(kind, part.answered, moved, part.heartbeat_echo)
            self._status[kind] = np.where(part.answered, part.status, self._status[kind])
            self._echo[kind] = np.where(part.answered, part.heartbeat_echo, self._echo[kind])
        return self.refusals.tick(self._erases)

    def _erases(self, kind: str, row: int) -> bool:
        """The node erases commands by itself, as its last readings say."""
        bits = Rm1Status.WATCHDOG_EXPIRED if kind == "rm1" else rc1.ERASING
        return (int(self._status[kind][row]) & int(bits)) != 0

    def _hearts(self, kind: str, answered: BoolArray, moved: BoolArray, echo: IntArray) -> None:
        """Note the nodes whose echo stands still behind a heartbeat that they acknowledged, and who follows.

        A heartbeat counts once, however often it is looked for.
        """
        (expected, sent_s), fed = self._expected[kind], self.shadows[kind].fed_value
        behind = (echo - expected) % 0x10000 > (fed - expected) % 0x10000
        missed = answered & ~moved & (expected >= 0) & behind & (sent_s > self._missed_s[kind])
        self._missed_s[kind] = np.where(missed, sent_s, self._missed_s[kind])
        for row in np.flatnonzero(missed):
            self.refusals.deaf_heart(self._nodes[kind][int(row)], int(echo[row]))
        for node in self.refusals.of(self._nodes[kind]):
            if answered[node.row] and moved[node.row] and not behind[node.row]:
                self.refusals.taken(node, (0,))

    async def refresh(self, node: Node, link: Link) -> None:
        """Read what stands in the node's writable registers."""
        async with node.registers:
            await self._refresh(node, link)

    async def _refresh(self, node: Node, link: Link) -> None:
        shadow = self.shadows[node.kind]
        shadow.learn(node.row, await link.read(node.unit, "holding", 0, shadow.words.shape[1]))
        shadow.watchdog_s[node.row] = 0.1 * float(shadow.words[node.row, 1])

    async def write_node(self, node: Node, targets: Targets, link: Link) -> int:
        """Bring one node's command registers to what is asked; the number of registers written.

        A node whose watchdog time does not stand as asked is not used: it gets that first, and until it has
        taken it nothing but less.

        Raises:
            NodeError: not acknowledged, not read back as asked, or put off by the write budget.
        """
        async with node.registers:
            word = int(self._watchdog[node.kind][node.row])
            if word >= 0 and not await self._only_lowers(node, targets, link):
                await self._set_watchdog(node, word, link)
            return await self._write_node(node, targets, link)

    async def _only_lowers(self, node: Node, targets: Targets, link: Link) -> bool:
        """Something is to be written, and none of it asks for more."""
        shadow = self.shadows[node.kind]
        if not shadow.known[node.row]:
            await self._refresh(node, link)
        wanted = targets.words[node.kind][node.row]
        addresses = shadow.differing(node.row, 2, wanted, targets.relevant[node.kind][node.row])
        goal = shadow.words[node.row].copy()
        goal[addresses] = wanted[[a - 2 for a in addresses]]
        return bool(addresses) and self._towards_zero(node, goal)

    async def _write_node(self, node: Node, targets: Targets, link: Link) -> int:
        shadow = self.shadows[node.kind]
        wanted = targets.words[node.kind][node.row]
        relevant = targets.relevant[node.kind][node.row]
        if not shadow.known[node.row]:
            await self._refresh(node, link)
        addresses = shadow.differing(node.row, 2, wanted, relevant)
        if not addresses:
            return 0
        closes = node.kind == "rc1" and RC1_CONTACTOR in addresses and wanted[RC1_CONTACTOR - 2] == 1
        if closes and not targets.closes[node.row]:
            text = f"unit {node.unit}: its contactor is open by itself and is not closed again unasked"
            raise NodeError(FailureKind.REFUSED, text)
        goal = shadow.words[node.row].copy()
        goal[addresses] = wanted[[a - 2 for a in addresses]]
        towards_zero = self._towards_zero(node, goal)
        if not self.budget.take(node.index, targets.time_s, towards_zero=towards_zero):
            raise NodeError(FailureKind.BACKING_OFF, f"unit {node.unit}: write budget spent, put off")
        written = await self._write_runs(node, goal, self._runs(node, addresses, goal), link)
        left = shadow.differing(node.row, 2, wanted, relevant)
        if left:
            self.refusals.silent(node, left[0], int(shadow.words[node.row, left[0]]), int(goal[left[0]]))
            text = f"unit {node.unit}: holding registers {left} do not read back as written"
            raise NodeError(FailureKind.REFUSED, text)
        self.refusals.taken(node, range(2, 2 + wanted.size))
        return written

    async def _put(self, node: Node, link: Link, address: int, words: Sequence[int]) -> None:
        """One write; an exception is remembered."""
        try:
            await link.write(node.unit, address, words)
        except NodeError as error:
            self.refusals.exception(node, address, error)
            raise

    async def _write_runs(
        self, node: Node, goal: IntArray, runs: Sequence[tuple[int, int]], link: Link
    ) -> int:
        """Write `runs` of `goal`, then read everything back."""
        self.forget(node)  # until it is read back, nobody knows what the node took
        for address, count in runs:
            await self._put(node, link, address, goal[address : address + count].tolist())
        await self._refresh(node, link)
        return sum(count for _, count in runs)

    def _runs(self, node: Node, addresses: Sequence[int], goal: IntArray) -> tuple[tuple[int, int], ...]:
        """Requests in safe order: a string's current limit is lowered before anything else changes."""
        if node.kind == "rm1":
            return filled_runs(addresses, frozenset(range(2, 2 + rm1.COMMAND_COUNT)))
        # BUS_VOLTAGE_SETPOINT is never written in passing: what it holds outside MODE 2 may be out of range
        fillable = frozenset(range(2, 2 + rc1.COMMAND_COUNT)) - {RC1_BUS_VOLTAGE}
        runs = filled_runs(addresses, fillable)
        lowered = goal[RC1_LIMIT] < self.shadows["rc1"].words[node.row, RC1_LIMIT]
        return tuple(reversed(runs)) if lowered else runs

    def _towards_zero(self, node: Node, goal: IntArray) -> bool:
        """No value grows in magnitude."""
        shadow = self.shadows[node.kind]
        signed = frozenset({RM1_TRIM}) if node.kind == "rm1" else frozenset[int]()
        before = signed_words(shadow.words[node.row], shadow.pairs, signed)
        after = signed_words(goal, shadow.pairs, signed)
        return bool((np.abs(after[2:]) <= np.abs(before[2:])).all())

    # ---- keeping alive -------------------------------------------------------------------------

    def heartbeat_due(self, node: Node, now_s: float) -> bool:
        """A quarter of the watchdog time has passed since the last acknowledged heartbeat."""
        shadow = self.shadows[node.kind]
        due: bool = (
            now_s - shadow.fed_wall_s[node.row] >= HEARTBEAT_SHARE * shadow.watchdog_s[node.row] - 1e-3
        )
        return due

    async def feed(self, node: Node, link: Link, wall: Callable[[], float]) -> None:
        """Change HEARTBEAT once.

        Raises:
            NodeError: not acknowledged.
        """
        async with node.registers:
            await self._feed(node, link, wall)

    async def _feed(self, node: Node, link: Link, wall: Callable[[], float]) -> None:
        shadow = self.shadows[node.kind]
        if shadow.fed_value[node.row] < 0 or not shadow.known[node.row]:
            await self._refresh(node, link)  # the value must differ from what stands there
        value = (int(shadow.words[node.row, 0]) + 1) % 0x10000
        sent_s = wall()
        await self._put(node, link, 0, [value])
        shadow.words[node.row, 0] = value
        shadow.fed_value[node.row] = value
        shadow.fed_wall_s[node.row] = sent_s

    def ask_watchdogs(self, seconds: Mapping[str, float]) -> None:
        """From now on every node is to have the watchdog time of its kind; no node is known to have it.

        Raises:
            RegisterError: outside what the register takes.
        """
        profiles = {"rm1": self._rm1.profile, "rc1": self._rc1.profile}
        words = {
            kind: encode_value(profile.register("holding", "WATCHDOG"), seconds[kind])[0]
            for kind, profile in profiles.items()
        }
        for kind, word in words.items():
            self._watchdog[kind][:] = word

    async def set_watchdog(self, node: Node, link: Link, wall: Callable[[], float]) -> None:
        """Write the WATCHDOG that was asked for where it differs, and read it back.

        A node whose time gets shorter is fed before: one that was last fed, or powered up, longer ago than
        its new time would expire on the spot.

        Raises:
            NodeError: not acknowledged or not read back.
        """
        async with node.registers:
            word = int(self._watchdog[node.kind][node.row])
            if word >= 0:
                await self._set_watchdog(node, word, link, wall)

    async def _set_watchdog(
        self, node: Node, word: int, link: Link, feeds_at: Callable[[], float] | None = None
    ) -> None:
        shadow = self.shadows[node.kind]
        await self._refresh(node, link)
        if shadow.words[node.row, 1] == word:
            self._watchdog_stands(node, word)
            return
        if feeds_at is not None and shadow.words[node.row, 1] > word:
            await self._feed(node, link, feeds_at)
        await self._put(node, link, 1, [word])
        await self._refresh(node, link)
        stands = int(shadow.words[node.row, 1])
        if stands != word:
            self.refusals.silent(node, 1, stands, word)
            text = f"unit {node.unit}: holding register 1 WATCHDOG reads {stands} instead of {word}"
            raise NodeError(FailureKind.REFUSED, text)
        self.refusals.taken(node, (1,))
        self._watchdog_stands(node, word)

    def _watchdog_stands(self, node: Node, word: int) -> None:
        """WATCHDOG was read back as `word`: nothing is owed where that was asked."""
        if self._watchdog[node.kind][node.row] == word:
            self._watchdog[node.kind][node.row] = -1

    async def try_again(self, node: Node, link: Link) -> None:
        """See whether a node that refused takes writes now: its WATCHDOG a step shorter, or longer again.

        That moves nothing, feeds nothing, and keeps converters ahead of modules.

        Raises:
            NodeError: it does not, or does not answer.
        """
        seconds = WATCHDOGS_S[node.kind]
        codec = self._rm1 if node.kind == "rm1" else self._rc1
        register = codec.profile.register("holding", "WATCHDOG")
        usual = encode_value(register, seconds)[0]
        async with node.registers:
            await self._refresh(node, link)
            stands = int(self.shadows[node.kind].words[node.row, 1])
            await self._set_watchdog(node, usual - 1 if stands == usual else usual, link)
        self.refusals.taken(node)

    async def clear(self, node: Node, link: Link, wall: Callable[[], float]) -> None:
        """Zero every command register, read it back, feed the watchdog, write CLEAR.

        What stands in the command registers acts the moment a latch clears, so CLEAR is not written
        unless they read back as zero.

        Raises:
            NodeError: some part of it was not confirmed; CLEAR was then not written, or not acknowledged.
        """
        async with node.registers:
            await self._clear(node, link, wall)

    async def _clear(self, node: Node, link: Link, wall: Callable[[], float]) -> None:
        shadow = self.shadows[node.kind]
        count = rm1.COMMAND_COUNT if node.kind == "rm1" else rc1.COMMAND_COUNT
        wanted = np.zeros(count, dtype=np.int64)
        relevant = np.ones(count, dtype=np.bool_)
        if node.kind == "rc1":
            relevant[rc1.BUS_VOLTAGE_COLUMN] = False
        await self._refresh(node, link)
        addresses = shadow.differing(node.row, 2, wanted, relevant)
        if addresses:
            goal = shadow.words[node.row].copy()
            goal[addresses] = 0
            await self._write_runs(node, goal, self._runs(node, addresses, goal), link)
        left = shadow.differing(node.row, 2, wanted, relevant)
        if left:
            self.refusals.silent(node, left[0], int(shadow.words[node.row, left[0]]), 0)
            raise NodeError(FailureKind.REFUSED, f"unit {node.unit}: command registers do not read back as 0")
        await self._feed(node, link, wall)
        await self._put(node, link, CLEAR_ADDRESS[node.kind], [rm1.CLEAR_CODE])
