"""What the nodes' own latches and watchdogs ask of a tick: resets, heartbeats, and whose switch is unsure."""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.faults import MODULE_REFUSES, STRING_REFUSES
from reconf.readings import SiteImage
from reconf.sequences.conditions import RM1_TRIPS, View, latches
from reconf.sequences.nodes import REJOIN_GOOD_S, RM1_WATCHDOG_S, WATCHDOG_MARGIN_S
from reconf.sequences.phases import Phase, among
from reconf.sequences.state import SequencerInputs, SequencerState
from reconf.verify.tables import Tables

SLOW_TICK_S = 1.5
"""Two ticks longer than this take longer than RC1's watchdog."""


def refusing(t: Tables, inputs: SequencerInputs) -> tuple[BoolArray, BoolArray]:
    """(M,), (S,) nodes with the fault of taking no writes."""
    modules, strings = np.zeros(t.n_modules, dtype=np.bool_), np.zeros(t.n_strings, dtype=np.bool_)
    for fault in inputs.envelope.faults:
        if fault.fault == MODULE_REFUSES:
            modules[t.serials.index(fault.subject)] = True
        elif fault.fault == STRING_REFUSES:
            strings[t.names.index(fault.subject)] = True
    return modules, strings


def clears(state: SequencerState, view: View, inputs: SequencerInputs) -> tuple[BoolArray, BoolArray]:
    """Latches to reset now: of starting strings, of modules good for 60 s, and what an operator asks."""
    t = view.tables
    _, lone = latches(view)
    still = ~inputs.in_force.inserted
    clearing = state.phase == int(Phase.CLEARING)
    due = clearing & (state.ticks % 2 == 0)
    rc1 = (inputs.image.strings.status & int(Rc1Status.WATCHDOG_EXPIRED)) != 0
    back = state.modules.good_for(REJOIN_GOOD_S, inputs.wall_s) & state.joined[t.string_of]
    modules = lone & still & (due[t.string_of] | (back & state.modules.may_clear(inputs.wall_s)))
    strings = due & rc1
    if inputs.clear_modules is not None:
        modules |= inputs.clear_modules & still & inputs.image.modules.answered
    if inputs.clear_strings is not None:
        idle = among(state.phase, Phase.OPEN, Phase.CLEARING, Phase.WELDED, Phase.BYPASSING)
        strings |= inputs.clear_strings & idle & inputs.image.strings.answered
    return modules, strings


def unsure(state: SequencerState, inputs: SequencerInputs) -> BoolArray:
    """(M,) modules whose switch may stand either way.

    Silent ones that were inserted until their watchdog has surely run out, and those that answer but do
    not confirm what is written. One that is known to take nothing is bypassed by its own watchdog, if
    that works: while it reads inserted, nobody knows how long it will.
    """
    running = inputs.wall_s < state.modules.beat_until_s + RM1_WATCHDOG_S + WATCHDOG_MARGIN_S
    silent = ~inputs.image.modules.answered
    was_in = state.shown_inserted | inputs.in_force.inserted
    mask: BoolArray = (silent & was_in & running) | (~silent & (state.modules.unconfirmed_ticks > 0))
    mask |= state.modules.deaf & was_in & ~silent
    return mask


def latched_modules(image: SiteImage) -> BoolArray:
    """(M,) modules whose commands have no effect, or that tripped."""
    bits = RM1_TRIPS | int(Rm1Status.WATCHDOG_EXPIRED)
    mask: BoolArray = image.modules.answered & ((image.modules.status & bits) != 0)
    return mask


def earned(state: SequencerState, view: View, inputs: SequencerInputs) -> tuple[BoolArray, BoolArray]:
    """Heartbeats are earned: fresh image, verified command, confirmed receipt, for that very node.

    A converter above modules that are silent and without which its string has no window gets none: the
    modules' own watchdogs are running, and the converter's must be ahead of them.
    """
    image = inputs.image
    modules = image.modules.answered & (state.modules.unconfirmed_ticks == 0) & inputs.verified
    strings = image.strings.answered & (state.strings.unconfirmed_ticks == 0) & inputs.verified
    # what takes no writes is not to be kept alive by one that it may take after all
    modules &= ~state.modules.deaf
    strings &= ~state.strings.deaf
    # ticks slower than the converter's watchdog cannot open it in time by command: let it open itself
    slow = inputs.wall_s - state.wall_s > SLOW_TICK_S
    strings &= ~view.at_risk & ~(slow & among(state.phase, Phase.RAMP_DOWN, Phase.OPENING))
    return modules, strings
