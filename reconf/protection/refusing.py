"""Refusals: nodes that answer and take no writes, an optimizer whose proposals are not let through.

A node that takes no writes cannot be controlled: it is left where it stands, gets no heartbeats, and its own
watchdog takes it out. Its fault latches, so that it is not used again before somebody has looked. What was
refused, and how, is told in words beside the numbers of the fault machine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from reconf.arrays import FloatArray
from reconf.protection.envelope import FaultStatus
from reconf.protection.faults import (
    MODULE_REFUSES,
    PLANS_REFUSED,
    STRING_REFUSES,
    FaultEvent,
    Scope,
)
from reconf.protection.signals import Signal
from reconf.readings import WriteRefusal
from reconf.replacing import replace

Words: TypeAlias = Mapping[tuple[str, str], str]
"""Evidence in words by fault and subject."""

NODE_ROWS: Final[Mapping[str, tuple[Scope, str]]] = {
    "module": ("module", MODULE_REFUSES),
    "string": ("string", STRING_REFUSES),
}
"""Scope and row of the fault table by kind of node."""


@dataclass(frozen=True, slots=True)
class RefusedPlans:
    """The optimizer's plans that were refused in a row, up to the last one."""

    in_a_row: int = 0
    first: str = ""
    """Why the first of them was."""


NONE_REFUSED: Final = RefusedPlans()


def write_signal(refusals: Sequence[WriteRefusal], kind: str, n: int, least_ticks: int) -> Signal:
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


def plan_signal(plans: RefusedPlans, least: int) -> Signal:
    """Row of the refused plans: raised by so many in a row, gone with the first that served."""
    count = plans.in_a_row
    return Signal(np.array([count >= least]), np.array([count == 0]), float(count), float(least))


def words_of(
    refusals: Sequence[WriteRefusal], plans: RefusedPlans, subjects: Mapping[Scope, tuple[str, ...]]
) -> dict[tuple[str, str], str]:
    """What this tick's refusals are called."""
    told = {}
    for r in refusals:
        scope, fault = NODE_ROWS[r.kind]
        told[fault, subjects[scope][r.row]] = (
            f"unit {r.unit_id}, holding register {r.address} {r.register}: {r.how}"
        )
    if plans.in_a_row:
        (site,) = subjects["site"]
        told[PLANS_REFUSED, site] = f"{plans.in_a_row} in a row, the first because of {plans.first}"
    return told


def remembered(before: Words, now: Words, present: Collection[tuple[str, str]]) -> Words:
    """The last words of every fault that is present."""
    return {key: text for key, text in (*before.items(), *now.items()) if key in present}


def with_words(statuses: tuple[FaultStatus, ...], words: Words) -> tuple[FaultStatus, ...]:
    """`statuses` with their evidence in words, where there are any."""
    if not words:
        return statuses
    return tuple(
        replace(s, evidence=words[s.fault, s.subject]) if (s.fault, s.subject) in words else s
        for s in statuses
    )


def spoken(events: tuple[FaultEvent, ...], words: Words) -> tuple[FaultEvent, ...]:
    """`events` with the words of those that were raised."""
    if not words:
        return events
    return tuple(
        replace(e, words=words[e.fault, e.subject])
        if e.change == "raised" and (e.fault, e.subject) in words
        else e
        for e in events
    )
