"""The sequencer: joins and leaves strings in the one safe order, earns heartbeats, clears lone latches.

Pure: `Sequencer(site).step(state, inputs) -> Outcome`. Its command is a proposal like any other: it is
staged and verified before it reaches a wire. Two clocks come in: control time for physics (contactors,
currents), wall time for watchdogs and for waiting times.

The line, once per tick:

    outcome  = sequencer.step(state, inputs)            inputs.proposal: the scheduler's slot command
    steps    = stage(site, image, estimate, in_force, outcome.command)
    verified = verify_steps(..., history=History(unsure=outcome.actions.unsure_modules, ...))
    clear / set_watchdogs / heartbeat as outcome.actions say
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.faults import MODULE_REFUSES, STRING_REFUSES
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences.conditions import RC1_BLOCKING, RM1_TRIPS, View, conditions, latches
from reconf.sequences.joining import joining_pattern, window_lost
from reconf.sequences.modes import CONNECTING, HELD, SiteMode, next_mode
from reconf.sequences.nodes import (
    CLEARS_PER_HOUR,
    REJOIN_GOOD_S,
    RM1_WATCHDOG_S,
    WATCHDOG_MARGIN_S,
    Nodes,
)
from reconf.sequences.overlay import overlay
from reconf.sequences.phases import PHASE_TABLE, Phase, among
from reconf.sequences.state import (
    JOIN_LASTS_S,
    JOINS_AT_MOST,
    SequenceEvent,
    SequencerActions,
    SequencerInputs,
    SequencerOutcome,
    SequencerState,
)
from reconf.site import Site
from reconf.verify.tables import build_tables

SLOW_TICK_S = 1.5
"""Two ticks longer than this take longer than RC1's watchdog."""
UNSEEN_S = 3.0
"""A string found closed at a restart is left if no plausible image comes within this wall time."""


@dataclass(frozen=True)
class Sequencer:
    """Runs the tables of `phases` and `modes` for one site."""

    site: Site

    def initial(self, image: SiteImage, wall_s: float, saved_mode: SiteMode | None = None) -> SequencerState:
        """State at (re)start: what is open stays open; what is found closed stays, at power 0.

        Args:
            image: the first image (nodes may be silent).
            wall_s: wall time.
            saved_mode: mode that was persisted; FAULT, ESTOP and MAINTENANCE live on, RUN does not.
        """
        t = self.site.derived(build_tables)
        closed = image.strings.answered & ((image.strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)
        mode = SiteMode.STANDBY if closed.any() else SiteMode.OFF
        if saved_mode in HELD or saved_mode is SiteMode.MAINTENANCE:
            mode = saved_mode
        phase = np.where(closed, int(Phase.JOINED), int(Phase.OPEN))
        phase = np.where(image.strings.answered, phase, int(Phase.LOST))
        return SequencerState(
            mode=mode,
            wanted=mode if mode is SiteMode.STANDBY else SiteMode.OFF,
            clear_seen=False,
            phase=phase.astype(np.int64),
            entered_s=np.full(t.n_strings, image.time_s),
            entered_wall_s=np.full(t.n_strings, wall_s),
            ticks=np.zeros(t.n_strings, dtype=np.int64),
            armed=np.zeros(t.n_strings, dtype=np.bool_),
            starting=np.zeros(t.n_strings, dtype=np.bool_),
            failed=np.zeros(t.n_strings, dtype=np.int64),
            waits=np.zeros(t.n_strings, dtype=np.bool_),
            found_closed=closed,
            pattern=np.zeros(t.n_modules, dtype=np.bool_),
            shown_inserted=(image.modules.status & int(Rm1Status.INSERTED)) != 0,
            modules=Nodes.fresh(t.n_modules, wall_s),
            strings=Nodes.fresh(t.n_strings, wall_s),
            began_wall_s=wall_s,
            wall_s=wall_s,
        )

    def step(self, state: SequencerState, inputs: SequencerInputs) -> SequencerOutcome:
        """One tick."""
        state = self._observe(state, inputs)
        state, mode_events = self._mode(state, inputs)
        view, state = self._view(state, inputs)
        state, phase_events = self._phases(state, view, inputs.now_s)
        clear_modules, clear_strings = self._clears(state, view, inputs)
        unsure = self._unsure(state, inputs)
        modules_out = state.modules.out_of_service | self._latched_modules(inputs.image)
        command = overlay(self.site, state.phase, state.mode, state.pattern, modules_out, inputs)
        beats_m, beats_s = self._earned(state, view, inputs)
        state = replace(
            state,
            modules=replace(state.modules.clear(clear_modules, inputs.wall_s), earned=beats_m),
            strings=replace(state.strings.clear(clear_strings, inputs.wall_s), earned=beats_s),
            wall_s=inputs.wall_s,
        )
        actions = SequencerActions(
            clear_modules=clear_modules,
            clear_strings=clear_strings,
            set_watchdogs=bool(self._begins(state).any()),
            heartbeat_modules=beats_m,
            heartbeat_strings=beats_s,
            unsure_modules=unsure,
            modules_out=modules_out,
            strings_out=state.strings.out_of_service,
            events=(*mode_events, *phase_events),
        )
        return SequencerOutcome(state, command, actions)

    def _observe(self, state: SequencerState, inputs: SequencerInputs) -> SequencerState:
        """Bring the memory of the nodes up to this tick."""
        image, receipt = inputs.image, inputs.receipt
        trips = (image.modules.status & RM1_TRIPS) != 0
        faults = (image.strings.status & RC1_BLOCKING) != 0
        shown = (image.modules.status & int(Rm1Status.INSERTED)) != 0
        module_ok = receipt.module_confirmed if receipt is not None else None
        string_ok = receipt.string_confirmed if receipt is not None else None
        refusing_m, refusing_s = self._refusing(inputs)
        return replace(
            state,
            modules=state.modules.seen(image.modules.answered, module_ok, ~trips, inputs.wall_s, refusing_m),
            strings=state.strings.seen(image.strings.answered, string_ok, ~faults, inputs.wall_s, refusing_s),
            shown_inserted=np.where(image.modules.answered, shown, state.shown_inserted),
            ticks=state.ticks + 1,
        )

    def _refusing(self, inputs: SequencerInputs) -> tuple[BoolArray, BoolArray]:
        """(M,), (S,) nodes with the fault of taking no writes."""
        t = self.site.derived(build_tables)
        modules, strings = np.zeros(t.n_modules, dtype=np.bool_), np.zeros(t.n_strings, dtype=np.bool_)
        for fault in inputs.envelope.faults:
            if fault.fault == MODULE_REFUSES:
                modules[t.serials.index(fault.subject)] = True
            elif fault.fault == STRING_REFUSES:
                strings[t.names.index(fault.subject)] = True
        return modules, strings

    def _mode(
        self, state: SequencerState, inputs: SequencerInputs
    ) -> tuple[SequencerState, tuple[SequenceEvent, ...]]:
        """Run the mode machine."""
        estop = inputs.emergency_stop or inputs.image.inputs.emergency_stop
        stop_bits = (inputs.image.strings.status & int(Rc1Status.EMERGENCY_STOP)) != 0
        estop = estop or bool(np.any(stop_bits & inputs.image.strings.answered))
        held = state.mode in HELD
        locked = inputs.maintenance
        request = None if held or locked else inputs.request
        wanted = SiteMode.OFF if locked else request or state.wanted
        clear_seen = held and (state.clear_seen or inputs.cleared)
        connects = wanted in {SiteMode.RUN, SiteMode.STANDBY}
        # a string that is welded, lost or being left joins nothing: the others do not wait for it
        joining = state.armed & among(state.phase, Phase.CLEARING, Phase.INSERTING, Phase.PRECHARGE)
        joined = bool(state.joined.any()) and not bool(joining.any())
        mode, why = next_mode(
            state.mode,
            {
                "emergency_stop": estop,
                "site_open": inputs.envelope.site_open,
                "cleared": clear_seen and not estop and not inputs.envelope.site_open,
                "locked": locked,
                "unlocked": not locked,
                "want_off": wanted is SiteMode.OFF,
                "want_connect": connects,
                "joined_run": joined and wanted is SiteMode.RUN,
                "joined_standby": joined and wanted is SiteMode.STANDBY,
                "want_run": wanted is SiteMode.RUN,
                "want_standby": wanted is SiteMode.STANDBY,
            },
        )
        if mode in HELD or held:
            wanted = SiteMode.OFF
        starts = request in {SiteMode.RUN, SiteMode.STANDBY} and mode in CONNECTING
        armed = (state.armed | starts) & (mode in CONNECTING)
        changed = replace(
            state,
            mode=mode,
            wanted=wanted,
            clear_seen=clear_seen and mode in HELD,
            armed=armed,
            failed=np.where(starts, 0, state.failed),
            starting=(state.starting | (starts and ~state.joined)) & armed,
        )
        if mode is state.mode:
            return changed, ()
        return changed, (SequenceEvent("site", state.mode.value, mode.value, why),)

    def _view(self, state: SequencerState, inputs: SequencerInputs) -> tuple[View, SequencerState]:
        """Collect what the conditions look at; renews the joining pattern of strings that are open."""
        t = self.site.derived(build_tables)
        envelope, image = inputs.envelope, inputs.image
        out = state.modules.out_of_service | ((image.modules.status & RM1_TRIPS) != 0)
        fresh_pattern, found = joining_pattern(t, image, envelope, out)
        choosing = among(state.phase, Phase.OPEN, Phase.CLEARING)
        pattern = np.where(choosing[t.string_of], fresh_pattern, state.pattern)
        state = replace(state, pattern=pattern)
        at_risk = state.joined & window_lost(
            t, image, envelope, inputs.in_force, out | ~image.modules.answered
        )
        lost = state.joined & window_lost(t, image, envelope, inputs.in_force, out)
        seen = image.strings.answered & ~t.any_by_string(inputs.in_force.inserted & ~image.modules.answered)
        found_closed = state.found_closed & ~seen
        unseen = found_closed & (inputs.wall_s - state.began_wall_s >= UNSEEN_S)
        state = replace(state, found_closed=found_closed)
        stays = state.mode in CONNECTING
        leave = ~envelope.string_usable | envelope.site_open | (not stays) | unseen
        # one missed answer may pass where the next tick comes well before any watchdog runs out
        leave |= lost | (at_risk & (inputs.wall_s - state.wall_s > SLOW_TICK_S))
        cleared = inputs.clear_strings
        view = View(
            tables=t,
            image=image,
            in_force=inputs.in_force,
            strings=state.strings,
            modules=state.modules,
            phase=state.phase,
            ticks=state.ticks,
            elapsed_s=inputs.now_s - state.entered_s,
            elapsed_wall_s=inputs.wall_s - state.entered_wall_s,
            pattern=pattern,
            join=state.armed & stays,
            leave=leave,
            start=state.starting,
            weld_cleared=np.zeros(t.n_strings, dtype=np.bool_) if cleared is None else cleared,
            gave_up=state.gave_up,
            pattern_found=found | ~choosing,
            joining_v=envelope.joining_difference_v,
            at_risk=at_risk,
            wall_s=inputs.wall_s,
        )
        return view, state

    def _phases(
        self, state: SequencerState, view: View, now_s: float
    ) -> tuple[SequencerState, tuple[SequenceEvent, ...]]:
        """Run the phase table, all strings at once; each moves at most one row a tick."""
        masks = conditions(view)
        phase = state.phase.copy()
        waiting = np.ones(phase.size, dtype=np.bool_)
        events: list[SequenceEvent] = []
        present = frozenset(state.phase.tolist())
        for row in PHASE_TABLE:
            if row.source not in present:
                continue
            moves = waiting & (state.phase == int(row.source)) & masks[row.when]
            phase[moves] = row.target
            waiting &= ~moves
            names = view.tables.names
            events += [
                SequenceEvent(names[i], row.source.name.lower(), row.target.name.lower(), row.why)
                for i in map(int, np.flatnonzero(moves))
            ]
        changed = phase != state.phase
        failed = self._failed(state, view, phase, masks["latched"])
        gave_up = (failed >= JOINS_AT_MOST) & ~state.gave_up
        told, names = f"did not join, or stay, {JOINS_AT_MOST} times: waits for a start", view.tables.names
        events += [SequenceEvent(names[s], "open", "open", told) for s in map(int, np.flatnonzero(gave_up))]
        waits = masks["waits"] & (state.phase == int(Phase.OPEN)) & ~changed
        events += _waiting(view, waits & ~state.waits)
        # a start outlives the way back from a latch: that is cleared at once, three times an hour at most
        back = masks["latched"] & (state.phase == int(Phase.INSERTING)) & view.strings.may_clear(view.wall_s)
        ended = changed & (phase == int(Phase.BYPASSING)) & ~back
        return replace(
            state,
            phase=phase,
            failed=failed,
            waits=waits,
            entered_s=np.where(changed, now_s, state.entered_s),
            entered_wall_s=np.where(changed, view.wall_s, state.entered_wall_s),
            ticks=np.where(changed, 0, state.ticks),
            starting=state.starting & (phase != int(Phase.JOINED)) & ~ended,
        ), tuple(events)

    def _failed(self, state: SequencerState, view: View, phase: IntArray, latched: BoolArray) -> IntArray:
        """(S,) joins in a row after this tick that failed, or were left again soon without anybody asking.

        A watchdog latch has a count of its own; a person's clear of a string's fault begins anew.
        """
        was = among(state.phase, Phase.CLEARING, Phase.INSERTING, Phase.PRECHARGE)
        fell = was & among(phase, Phase.OPEN, Phase.BYPASSING, Phase.OPENING)
        fell &= ~(latched & (state.phase == int(Phase.INSERTING)))
        joined = state.phase == int(Phase.JOINED)
        fell |= joined & (phase == int(Phase.RAMP_DOWN)) & (state.mode in CONNECTING)
        lasted = joined & (view.elapsed_wall_s >= JOIN_LASTS_S)
        failed: IntArray = np.where(lasted | view.weld_cleared, 0, state.failed) + fell
        return failed

    def _begins(self, state: SequencerState) -> BoolArray:
        """(S,) strings that begin to join in this tick."""
        mask: BoolArray = among(state.phase, Phase.CLEARING, Phase.INSERTING) & (state.ticks == 0)
        return mask

    def _clears(
        self, state: SequencerState, view: View, inputs: SequencerInputs
    ) -> tuple[BoolArray, BoolArray]:
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

    def _unsure(self, state: SequencerState, inputs: SequencerInputs) -> BoolArray:
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

    def _latched_modules(self, image: SiteImage) -> BoolArray:
        """(M,) modules whose commands have no effect, or that tripped."""
        bits = RM1_TRIPS | int(Rm1Status.WATCHDOG_EXPIRED)
        mask: BoolArray = image.modules.answered & ((image.modules.status & bits) != 0)
        return mask

    def _earned(
        self, state: SequencerState, view: View, inputs: SequencerInputs
    ) -> tuple[BoolArray, BoolArray]:
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


def _waiting(view: View, begun: BoolArray) -> list[SequenceEvent]:
    """What the strings that have just `begun` to wait wait for."""
    told = []
    spare = view.strings.may_clear(view.wall_s)
    left_s = REJOIN_GOOD_S - np.maximum(view.wall_s - view.strings.good_since_s, 0.0)
    for s in map(int, np.flatnonzero(begun)):
        why = f"waits {left_s[s]:.0f} s of good readings before its watchdog latch is cleared by itself"
        if not spare[s]:
            why = f"waits: its watchdog latch was cleared {CLEARS_PER_HOUR} times within the hour"
        told.append(SequenceEvent(view.tables.names[s], "open", "open", f"{why}; a start does it at once"))
    return told


def adopt(site: Site, image: SiteImage) -> SlotCommand:
    """The command taken to be in force before anything was written: what the nodes show they do.

    The current limit is taken as the converter's rating, its power-up value.
    """
    t = site.derived(build_tables)
    modules, strings, trim = image.modules, image.strings, image.modules.trim_current_a
    closed = strings.answered & ((strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)
    runs = closed & ((strings.status & int(Rc1Status.RUNNING)) != 0)
    power = np.where(runs & strings.power_w.good, np.nan_to_num(strings.power_w.value), 0.0)
    return replace(
        SlotCommand.safe(t.n_modules, t.n_strings),
        inserted=(modules.status & int(Rm1Status.INSERTED)) != 0,
        trim_current_a=np.where(trim.good, np.nan_to_num(trim.value), 0.0),
        mode=np.where(runs, int(ConverterMode.POWER), int(ConverterMode.OFF)).astype(np.int64),
        power_w=power,
        current_limit_a=np.where(runs, t.current_rating_a, 0.0),
        contactor=closed,
    )
