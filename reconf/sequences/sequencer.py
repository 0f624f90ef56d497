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

from reconf.arrays import BoolArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences.beginning import initial_state
from reconf.sequences.conditions import RC1_BLOCKING, RM1_TRIPS, View, conditions
from reconf.sequences.joining import joining_pattern, window_lost
from reconf.sequences.modes import CONNECTING, HELD, SiteMode, next_mode
from reconf.sequences.nodes import CLEARS_PER_HOUR, REJOIN_GOOD_S
from reconf.sequences.nodes_say import SLOW_TICK_S, clears, earned, latched_modules, refusing, unsure
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

UNSEEN_S = 3.0
"""A string found closed at a restart is left if no plausible image comes within this wall time."""


@dataclass(frozen=True)
class Sequencer:
    """Runs the tables of `phases` and `modes` for one site."""

    site: Site

    def initial(self, image: SiteImage, wall_s: float, saved_mode: SiteMode | None = None) -> SequencerState:
        """State at (re)start; see `initial_state`."""
        return initial_state(self.site.derived(build_tables), image, wall_s, saved_mode)

    def step(self, state: SequencerState, inputs: SequencerInputs) -> SequencerOutcome:
        """One tick."""
        state = self._observe(state, inputs)
        state, mode_events = self._mode(state, inputs)
        view, state = self._view(state, inputs)
        state, phase_events = self._phases(state, view, inputs.now_s)
        clear_modules, clear_strings = clears(state, view, inputs)
        unsure_modules = unsure(state, inputs)
        modules_out = state.modules.out_of_service | latched_modules(inputs.image)
        command = overlay(self.site, state.phase, state.mode, state.pattern, modules_out, inputs)
        beats_m, beats_s = earned(state, view, inputs)
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
            unsure_modules=unsure_modules,
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
        refusing_m, refusing_s = refusing(self.site.derived(build_tables), inputs)
        return replace(
            state,
            modules=state.modules.seen(image.modules.answered, module_ok, ~trips, inputs.wall_s, refusing_m),
            strings=state.strings.seen(image.strings.answered, string_ok, ~faults, inputs.wall_s, refusing_s),
            shown_inserted=np.where(image.modules.answered, shown, state.shown_inserted),
            ticks=state.ticks + 1,
        )

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
