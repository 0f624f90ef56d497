"""Which nodes answer and yet do not take what is written, and how that shows.

A node refuses by a Modbus exception, or silently: the write is acknowledged and the register reads back as
it was, or the echo of the heartbeat stands still. One refusal may be a hiccup; ticks in a row with one are
counted, and the count goes into the image. Only a write of that register that reads back takes it back, or
the trial made for it: one that takes commands may still be deaf to heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from edge.modbus.failures import FailureKind, NodeError
from edge.modbus.line import Node
from reconf.devices.profile import DeviceProfile
from reconf.readings import WriteRefusal
from reconf.replacing import replace

TRY_LATER = frozenset({5, 6})
"""Exceptions that only ask for patience: acknowledge, busy."""
EXCEPTION_WORDS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    8: "memory parity error",
}
OTHER = "acknowledged, but it reads"
TRY_AGAIN_S = 10.0
"""Wall time between two trials whether a node that refused takes writes again."""


class Refusals:
    """Refusals of all nodes.

    Args:
        profiles: registers by kind of node, for their names.
    """

    def __init__(self, profiles: dict[str, DeviceProfile]) -> None:
        self._names = {
            kind: {r.address: r.name for r in profile.of_table("holding")}
            for kind, profile in profiles.items()
        }
        self._standing: dict[int, WriteRefusal] = {}
        """By index of the node."""
        self._new: set[int] = set()
        """Refused since the last image."""
        self._tried_s: dict[int, float] = {}

    def exception(self, node: Node, address: int, error: NodeError) -> None:
        """A write was answered by an exception."""
        if error.kind is not FailureKind.REFUSED or error.exception_code in TRY_LATER:
            return
        words = EXCEPTION_WORDS.get(error.exception_code, "")
        self._note(node, address, f"exception {error.exception_code} {words}".rstrip())

    def silent(self, node: Node, address: int, found: int, asked: int) -> None:
        """A write was acknowledged, and something else stands there."""
        self._note(node, address, f"{OTHER} {found} instead of {asked}")

    def deaf_heart(self, node: Node, echo: int) -> None:
        """Heartbeats are acknowledged and their echo stands still."""
        self._note(node, 0, f"acknowledged, but its echo stays {echo}")

    def taken(self, node: Node, addresses: Collection[int] | None = None) -> None:
        """What was written reads back: at these addresses, or enough to believe that everything would."""
        entry = self._standing.get(node.index)
        if entry is None or (addresses is not None and entry.address not in addresses):
            return
        del self._standing[node.index]
        self._new.discard(node.index)
        self._tried_s.pop(node.index, None)

    def tick(self, erases: Callable[[str, int], bool]) -> tuple[WriteRefusal, ...]:
        """Refusals that stand at the end of a tick, those of this tick counted.

        Args:
            erases: whether the node of a kind and row erases its commands by itself now (a latch, an
                emergency stop). That a register reads otherwise is then not held against it, unless it was
                before.
        """
        for index in self._new:
            entry = self._standing[index]
            kind = "rm1" if entry.kind == "module" else "rc1"
            if not (entry.how.startswith(OTHER) and erases(kind, entry.row)):
                self._standing[index] = replace(entry, ticks=entry.ticks + 1)
            elif entry.ticks == 0:
                del self._standing[index]
        self._new.clear()
        return tuple(self._standing[index] for index in sorted(self._standing))

    def of(self, nodes: Sequence[Node]) -> list[Node]:
        """Nodes among `nodes` (of one kind, in order) with a refusal."""
        kinds = {"module": "rm1", "string": "rc1"}
        return [nodes[r.row] for r in self._standing.values() if nodes and kinds[r.kind] == nodes[0].kind]

    def due(self, nodes: Iterable[Node], now_s: float) -> list[Node]:
        """Nodes among `nodes` that refused and are to be tried again now."""
        chosen = [
            node
            for node in nodes
            if node.index in self._standing
            and now_s - self._tried_s.setdefault(node.index, now_s) >= TRY_AGAIN_S
        ]
        self._tried_s.update((node.index, now_s) for node in chosen)
        return chosen

    def _note(self, node: Node, address: int, how: str) -> None:
        before = self._standing.get(node.index)
        name = self._names[node.kind].get(address) or self._names[node.kind].get(address - 1, "")
        self._standing[node.index] = WriteRefusal(
            kind="module" if node.kind == "rm1" else "string",
            row=node.row,
            unit_id=node.unit,
            address=address,
            register=name,
            how=how,
            ticks=0 if before is None else before.ticks,
        )
        self._new.add(node.index)
