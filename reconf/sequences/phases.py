"""The life of a string as a table: phases, what each commands, and what leads from one to the next.

The sequencer runs exactly this table, docs/sequences.md is drawn from it and the model checks walk it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from reconf.arrays import BoolArray, IntArray


class Phase(IntEnum):
    """Where a string stands."""

    OPEN = 0
    """Contactor open, modules bypassed."""
    CLEARING = 1
    """Watchdogs written, lone watchdog latches cleared."""
    INSERTING = 2
    """Modules inserted into the window behind the open contactor."""
    PRECHARGE = 3
    """Contactor commanded, link charging."""
    JOINED = 4
    """Contactor read closed; the only phase that carries power."""
    RAMP_DOWN = 5
    """Power 0, MODE 0; waiting for the current to go."""
    OPENING = 6
    """Contactor commanded open, not read open yet; no switch moves."""
    BYPASSING = 7
    """Read open: modules are bypassed."""
    WELDED = 8
    """The contactor does not open, or the link is live behind it: nothing moves until a person clears it."""
    LOST = 9
    """The converter does not answer or does not take writes: its own watchdog opens it."""


def among(phase: IntArray, *wanted: Phase) -> BoolArray:
    """(S,) strings that stand in one of these phases."""
    mask: BoolArray = np.logical_or.reduce([phase == int(w) for w in wanted])
    return mask


@dataclass(frozen=True, slots=True)
class PhaseOutputs:
    """What a phase commands."""

    switches: str
    """`hold` as in force, `pattern` the joining pattern, `proposal` the scheduler's, `bypass` all out."""
    contactor: bool
    power: bool
    """May carry what the scheduler proposes; elsewhere power 0 and MODE 0."""


OUTPUTS: dict[Phase, PhaseOutputs] = {
    Phase.OPEN: PhaseOutputs("bypass", contactor=False, power=False),
    Phase.CLEARING: PhaseOutputs("bypass", contactor=False, power=False),
    Phase.INSERTING: PhaseOutputs("pattern", contactor=False, power=False),
    Phase.PRECHARGE: PhaseOutputs("hold", contactor=True, power=False),
    Phase.JOINED: PhaseOutputs("proposal", contactor=True, power=True),
    Phase.RAMP_DOWN: PhaseOutputs("hold", contactor=True, power=False),
    Phase.OPENING: PhaseOutputs("hold", contactor=False, power=False),
    Phase.BYPASSING: PhaseOutputs("bypass", contactor=False, power=False),
    Phase.WELDED: PhaseOutputs("hold", contactor=False, power=False),
    Phase.LOST: PhaseOutputs("hold", contactor=False, power=False),
}
"""Outputs of every phase."""


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """From `source`, when `when` holds, to `target`; the first row of a source that holds wins."""

    source: Phase
    when: str
    """Name of a condition in `reconf.sequences.conditions`."""
    target: Phase
    why: str


PHASE_TABLE: tuple[PhaseRow, ...] = (
    PhaseRow(Phase.OPEN, "read_closed", Phase.WELDED, "read closed although it was never asked to close"),
    PhaseRow(Phase.OPEN, "link_stands", Phase.WELDED, "the link is live behind the open contactor"),
    PhaseRow(Phase.OPEN, "may_clear", Phase.CLEARING, "asked to join; only watchdog latches stand"),
    PhaseRow(Phase.OPEN, "may_join", Phase.INSERTING, "asked to join, nothing latched"),
    PhaseRow(Phase.CLEARING, "leave", Phase.OPEN, "no longer asked to join"),
    PhaseRow(Phase.CLEARING, "clean", Phase.INSERTING, "latches read back clear"),
    PhaseRow(Phase.CLEARING, "clearing_late", Phase.OPEN, "a latch did not clear in time"),
    PhaseRow(Phase.INSERTING, "read_closed", Phase.OPENING, "closed without being asked"),
    PhaseRow(Phase.INSERTING, "leave", Phase.BYPASSING, "no longer asked to join"),
    PhaseRow(Phase.INSERTING, "link_stands", Phase.WELDED, "the link is live behind the open contactor"),
    PhaseRow(Phase.INSERTING, "latched", Phase.BYPASSING, "a watchdog ran out before its first heartbeat"),
    PhaseRow(Phase.INSERTING, "ready", Phase.PRECHARGE, "read back inserted, voltage plausible"),
    PhaseRow(Phase.INSERTING, "inserting_late", Phase.BYPASSING, "no plausible voltage in time"),
    PhaseRow(Phase.PRECHARGE, "lost", Phase.LOST, "the converter fell silent"),
    PhaseRow(Phase.PRECHARGE, "leave", Phase.OPENING, "no longer asked to join"),
    PhaseRow(Phase.PRECHARGE, "read_closed", Phase.JOINED, "contactor read back closed"),
    PhaseRow(Phase.PRECHARGE, "precharge_failed", Phase.OPENING, "precharge ended without closing"),
    PhaseRow(Phase.JOINED, "lost", Phase.LOST, "the converter fell silent or takes no writes"),
    PhaseRow(Phase.JOINED, "read_open", Phase.OPENING, "the converter opened by itself"),
    PhaseRow(Phase.JOINED, "leave", Phase.RAMP_DOWN, "the string is to be left"),
    PhaseRow(Phase.RAMP_DOWN, "read_open", Phase.OPENING, "the converter opened by itself"),
    PhaseRow(Phase.RAMP_DOWN, "lost", Phase.LOST, "the converter fell silent"),
    PhaseRow(Phase.RAMP_DOWN, "unloaded", Phase.OPENING, "under 1 A, or 0.5 s since MODE 0"),
    PhaseRow(Phase.OPENING, "read_open", Phase.BYPASSING, "contactor read back open"),
    PhaseRow(Phase.OPENING, "lost", Phase.LOST, "the converter fell silent"),
    PhaseRow(Phase.OPENING, "opening_late", Phase.WELDED, "the contactor does not open"),
    PhaseRow(Phase.BYPASSING, "read_closed", Phase.WELDED, "closed although it had been read open"),
    PhaseRow(Phase.BYPASSING, "bypassed", Phase.OPEN, "modules read back bypassed"),
    PhaseRow(Phase.BYPASSING, "bypassing_late", Phase.OPEN, "a module does not answer; the string is open"),
    PhaseRow(Phase.WELDED, "weld_cleared", Phase.BYPASSING, "a person cleared it and it reads open"),
    PhaseRow(Phase.LOST, "read_open", Phase.OPENING, "the converter is back and open"),
    PhaseRow(Phase.LOST, "obeys_closed", Phase.RAMP_DOWN, "the converter is back and closed: left in order"),
)
"""Every way from one phase to another."""
