"""Nodes that answer and take no writes: when that is a fault, and what an operator reads of it.

Such a node cannot be controlled: it is left where it stands, gets no heartbeats, and its own watchdog takes
it out. The fault latches, so that it is not used again before somebody has looked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.protection.conditions import Signal
from reconf.protection.envelope import FaultStatus
from reconf.protection.faults import MODULE_REFUSES, STRING_REFUSES, Machine, Scope, row_index
from reconf.readings import WriteRefusal
from reconf.replacing import replace

ROW_OF: Final[Mapping[str, tuple[Scope, str]]] = {
    "module": ("module", MODULE_REFUSES),
    "string": ("string", STRING_REFUSES),
}
"""Scope and row of the fault table by kind of node."""


def refusal_signal(refusals: Sequence[WriteRefusal], kind: str, n: int, least_ticks: int) -> Signal:
    """The row of `kind` over N nodes: raised after so many ticks in a row, gone once a write was taken.

    Its evidence is the register's address held against the unit id.
    """
    address: FloatArray = np.full(n, np.nan)
    unit: FloatArray = np.full(n, np.nan)
    raised = np.zeros(n, dtype=np.bool_)
    standing = np.zeros(n, dtype=np.bool_)
    for entry in refusals:
        if entry.kind != kind:
            continue
        standing[entry.row] = True
        raised[entry.row] = entry.ticks >= least_ticks
        address[entry.row], unit[entry.row] = entry.address, entry.unit_id
    return Signal(raised, ~standing, address, unit)


def remembered(
    before: Sequence[WriteRefusal], now: Sequence[WriteRefusal], machines: Mapping[Scope, Machine]
) -> tuple[WriteRefusal, ...]:
    """The last refusal of every node whose fault is present: the words of its evidence."""
    latest = {(r.kind, r.row): r for r in (*before, *now)}
    return tuple(
        entry
        for (kind, row), entry in latest.items()
        if machines[ROW_OF[kind][0]].present[row_index(ROW_OF[kind][0])[ROW_OF[kind][1]], row]
    )


def with_refusals(
    statuses: tuple[FaultStatus, ...],
    refusals: Sequence[WriteRefusal],
    subjects: Mapping[Scope, tuple[str, ...]],
) -> tuple[FaultStatus, ...]:
    """`statuses` with what the nodes answered, where that is known."""
    if not refusals:
        return statuses
    texts = {
        (ROW_OF[r.kind][1], subjects[ROW_OF[r.kind][0]][r.row]): (
            f"unit {r.unit_id}, holding register {r.address} {r.register}: {r.how}"
        )
        for r in refusals
    }
    return tuple(
        replace(s, evidence=texts[s.fault, s.subject]) if (s.fault, s.subject) in texts else s
        for s in statuses
    )
