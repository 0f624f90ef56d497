"""What the sequencer remembers, is given and answers."""

from __future__ import annotations

from dataclasses import dataclass

from reconf.actuation import Receipt, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.sequences.modes import SiteMode
from reconf.sequences.nodes import Nodes
from reconf.sequences.phases import Phase

JOINS_AT_MOST = 3
"""Failed joins in a row before a string waits for a start: precharge resistors, contacts and switches are not
worn out on a converter that does not close, or on a fault that comes back with every join."""
JOIN_LASTS_S = 600.0
"""Wall time joined after which the count begins anew."""


@dataclass(frozen=True, slots=True)
class SequencerState:
    """Everything the sequencer remembers."""

    mode: SiteMode
    wanted: SiteMode
    """What was last asked for; a fault or an emergency stop sets it back to OFF."""
    clear_seen: bool
    """An operator's clear was accepted since the site was opened."""
    phase: IntArray
    """(S,) `Phase`"""
    entered_s: FloatArray
    """(S,) control time of entering the phase."""
    entered_wall_s: FloatArray
    """(S,) the same in wall time."""
    ticks: IntArray
    """(S,) ticks spent in the phase."""
    armed: BoolArray
    """(S,) may join: a mode change since the restart asked for it."""
    starting: BoolArray
    """(S,) a mode change starts it: lone watchdog latches are cleared without waiting."""
    failed: IntArray
    """(S,) joins in a row that did not end with a closed contactor, or not for long; a start sets it back."""
    waits: BoolArray
    """(S,) open, and would join but for a lone watchdog latch whose time has not come."""
    found_closed: BoolArray
    """(S,) was closed when this process began, and no plausible image came yet."""
    pattern: BoolArray
    """(M,) modules to be inserted while joining."""
    shown_inserted: BoolArray
    """(M,) last freshly shown switch state."""
    modules: Nodes
    strings: Nodes
    began_wall_s: float
    wall_s: float
    """Wall time of the last tick."""

    @property
    def gave_up(self) -> BoolArray:
        """(S,) strings that do not try to join again before somebody starts the site."""
        mask: BoolArray = self.failed >= JOINS_AT_MOST
        return mask

    @property
    def joined(self) -> BoolArray:
        """(S,) strings that may carry power: give them to the allocator as connected."""
        mask: BoolArray = self.phase == int(Phase.JOINED)
        return mask


@dataclass(frozen=True, slots=True)
class SequencerInputs:
    """What one tick brings."""

    image: SiteImage
    envelope: Envelope
    in_force: SlotCommand
    """The last command that was verified and written (`adopt(site, image)` before the first)."""
    proposal: SlotCommand | None
    """The scheduler's slot command; None: hold the switches, power 0."""
    now_s: float
    """Control time, monotonic."""
    wall_s: float
    """Wall time, monotonic."""
    request: SiteMode | None = None
    """A mode asked for in this tick (OFF, STANDBY, RUN); an edge, not a level."""
    receipt: Receipt | None = None
    """Of the last tick's write; None: nothing was due."""
    verified: bool = True
    """The last tick ended with a verified command."""
    emergency_stop: bool = False
    """Asked for by MQTT or on site (the input register is read from the image)."""
    maintenance: bool = False
    """The maintenance lock is held on site; a level."""
    cleared: bool = False
    """An operator's clear_fault was accepted in this tick."""
    clear_modules: BoolArray | None = None
    """(M,) latches an operator's accepted clear asks to reset."""
    clear_strings: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class SequencerActions:
    """What is to be done besides writing the command."""

    clear_modules: BoolArray
    """(M,) zero, read back, CLEAR."""
    clear_strings: BoolArray
    set_watchdogs: bool
    """Write RC1 3.0 s and RM1 6.0 s everywhere (before anything closes)."""
    heartbeat_modules: BoolArray
    """(M,) has earned heartbeats until the next tick."""
    heartbeat_strings: BoolArray
    unsure_modules: BoolArray
    """(M,) for `History.unsure`: may stand either way."""
    modules_out: BoolArray
    """(M,) out of service: silent or unconfirmed for two ticks, or latched."""
    strings_out: BoolArray
    events: tuple[SequenceEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceEvent:
    """A transition worth a line in the log."""

    subject: str
    """String name, or `site`."""
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class SequencerOutcome:
    """Answer of one tick."""

    state: SequencerState
    command: SlotCommand
    actions: SequencerActions
