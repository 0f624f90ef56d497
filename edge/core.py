"""The control line without input or output: image in, verified steps out.

    estimate -> protect -> set point -> (question to the optimizer) -> schedule -> sequences
             -> stage -> verify, step by step

The daemon drives it over sockets, the benchmarks against the twin in process; both see the same
object. It has no clock (times are arguments) and no randomness, so an `IntervalRecord` replays to the
last bit. One tick is

    outcome = core.tick(TickInput(...))
    step = outcome.step
    while step is not None:
        step = core.confirm(write(step))
"""

from __future__ import annotations

import numpy as np

from edge import core_captest, core_events, shaping
from edge.core_orders import handle
from edge.core_plan import plan
from edge.core_proposal import propose
from edge.core_standing import (
    APART_WALL_S,
    apart_since,
    known_in_force,
    opened_unasked,
    standing,
    switches_apart,
)
from edge.core_state import Recorder, SavedCore, fresh_state
from edge.core_steps import Case, after_receipt, failed_strings, joint, judge, merged
from edge.core_values import (
    Answer,
    CoreState,
    Heartbeats,
    Looked,
    NodeActions,
    Order,
    Pending,
    RecordedClears,
    RecordedOrder,
    SetLimits,
    TickInput,
    TickOutcome,
    TickView,
)
from edge.onsite_orders import string_isolation
from edge.proposals import follow
from edge.setpoint import advance, ramp_w_per_s
from optimizer.schedule import Scheduler
from reconf.actuation import Receipt, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray
from reconf.captest.steer import steered
from reconf.estimation.constants import constants_of
from reconf.estimation.filter import estimate as run_filter
from reconf.estimation.filter import initial_state
from reconf.isolation import Maintenance, broken_isolation
from reconf.protection.envelope import Envelope
from reconf.protection.protect import protect
from reconf.replacing import replace
from reconf.sequences import (
    Phase,
    Sequencer,
    SequencerInputs,
    SequencerOutcome,
    adopt,
)
from reconf.site import Site
from reconf.verify import History, prepare


class ControlCore:
    """One site's control line. Frozen state inside; `tick`, `confirm`, `cleared` and `order` move it."""

    def __init__(self, site: Site, saved: SavedCore | None = None) -> None:
        self.site = site
        self._saved = saved or SavedCore()
        site.derived(constants_of)  # tables and compiled loops of the filter: not while a tick waits for them
        prepare()  # and of verify
        self._scheduler = Scheduler(site)
        self._sequencer = Sequencer(site)
        self._recorder = Recorder(site)
        self._state = fresh_state(site, self._saved)
        self._steps: list[VerifiedCommand] = []
        self._case: Case | None = None
        self._view: TickView | None = None
        self._told_strange: tuple[tuple[str, str], ...] = ()
        self._lessened_s = float("-inf")
        self._beats = Heartbeats.none(site.topology.n_modules, site.topology.n_strings)

    # ---- what is remembered --------------------------------------------------------------------

    @property
    def state(self) -> CoreState:
        """Everything remembered, as an immutable snapshot."""
        return replace(self._state, schedule=self._scheduler.snapshot())

    @property
    def view(self) -> TickView | None:
        """The last tick, None before the first."""
        return self._view

    @property
    def maintenance(self) -> Maintenance:
        """The lock as it stands, orders since the last tick included."""
        return self._state.maintenance

    @property
    def heartbeats(self) -> Heartbeats:
        """Nodes that have earned their heartbeat until the next tick, by what was written in this one."""
        state, beats = self._state, self._beats
        if not state.verified:
            return Heartbeats.none(beats.modules.size, beats.strings.size)
        if state.receipt is None:
            return beats
        return Heartbeats(
            beats.modules & state.receipt.module_confirmed, beats.strings & state.receipt.string_confirmed
        )

    @classmethod
    def resumed(cls, site: Site, state: CoreState) -> ControlCore:
        """A core that goes on exactly where `state` was taken."""
        core = cls(site)
        core._state = replace(state, schedule=None)
        if state.schedule is not None:
            core._scheduler.restore(state.schedule)
        return core

    # ---- what comes in besides ticks -----------------------------------------------------------

    def order(self, order: Order, now_s: float, wall_s: float) -> Answer:
        """Take an order between two ticks; the answer holds it against the last envelope."""
        self._recorder.came_in(RecordedOrder(order, now_s, wall_s))
        self._state, answer = handle(self.site, self._state, self._view, order, wall_s)
        return answer

    def confirm(self, receipt: Receipt) -> VerifiedCommand | None:
        """The step given out last was written; the next step of this tick, if there is one."""
        self._recorder.came_in(receipt)
        state, step = self._state, self._steps.pop(0)
        before = state.in_force or step.command
        moved = (before.inserted != step.command.inserted) & receipt.module_confirmed
        out = np.zeros_like(receipt.module_confirmed) if self._case is None else self._case.out
        self._state = replace(
            state,
            in_force=after_receipt(before, step.command, receipt, out),
            receipt=joint(state.receipt, receipt),
            moved=moved if state.moved is None else state.moved | moved,
            switched_s=np.where(
                moved, state.time_s, -np.inf if state.switched_s is None else state.switched_s
            ),
            switches=moved.astype(np.float64) if state.switches is None else state.switches + moved,
        )
        self._steps = self._still_good(receipt)
        if not self._steps:
            return None
        self._recorder.went_out(self._steps[0])
        return self._steps[0]

    def _still_good(self, receipt: Receipt) -> list[VerifiedCommand]:
        """Steps that remain: where a node did not confirm, its string waits and the others go on."""
        if not self._steps or self._case is None or self._state.in_force is None:
            return []
        failed = failed_strings(self.site, receipt, self._case.out)
        if not failed.any():
            return self._steps
        modules = failed[self.site.topology.string_of]
        in_force = self._state.in_force
        steps = [merged(s.command, in_force, failed, modules) for s in self._steps]
        return list(self._case.again(self.site, in_force, steps))

    def cleared(self, modules: BoolArray, strings: BoolArray) -> None:
        """Latches of these nodes were cleared; their command registers were set to safe values before."""
        self._recorder.came_in(RecordedClears(modules, strings))
        if self._state.in_force is None or not (modules.any() or strings.any()):
            return
        topology = self.site.topology
        safe = SlotCommand.safe(topology.n_modules, topology.n_strings)
        in_force = merged(self._state.in_force, safe, strings, modules)
        self._state = replace(self._state, in_force=in_force)

    # ---- the tick ------------------------------------------------------------------------------

    def tick(self, given: TickInput) -> TickOutcome:
        """One tick: what is known, what is wanted, what is let through."""
        before = self._state
        looked = self._look(given)
        state = self._state
        setpoint = advance(
            state.setpoint,
            self.site.fallback,
            now_s=given.now_s,
            wall_s=given.wall_s,
            dt_s=given.dt_s,
            second_of_day=given.second_of_day,
            scada_lost=given.scada_lost,
        )
        inside = self._inside(given, looked, setpoint.power_w)
        planned = plan(
            self.site, state, given, looked.estimate, inside, setpoint,
            looked.sequence.joined, looked.in_force,
        )  # fmt: skip
        record = None
        if planned.began:
            record = self._recorder.finish(self._view) if self._view is not None else None
            self._recorder.begin(replace(before, schedule=self._scheduler.snapshot()))
        self._recorder.came_in(given)
        self._state, proposal = propose(
            self.site, self._scheduler, self._state, given, looked, planned, setpoint, inside
        )
        moved = self._sequence(given, looked, proposal)
        self._case = Case(
            image=given.image,
            estimate=looked.estimate,
            envelope=looked.envelope,
            dt_s=max(given.dt_s, self.site.timing.tick_s),
            history=History(
                since_switch_s=None if before.switched_s is None else given.now_s - before.switched_s,
                switches=None if planned.began else before.switches,
                unsure=moved.actions.unsure_modules,
                settled=before.moved,
                ramp_w_per_s=ramp_w_per_s(setpoint),
                hold_s=max(given.dt_s, self.site.timing.tick_s),
                locked=self._state.maintenance.held,
            ),
            out=moved.actions.modules_out,
        )
        judged = judge(self.site, self._case, looked.in_force, moved.command)
        refused = core_events.refusal_text(judged.refused)
        self._state = replace(
            self._state,
            tick=state.tick + 1,
            time_s=given.now_s,
            setpoint=setpoint,
            book=planned.book,
            sequence=moved.state,
            connected=planned.connected,
            asked_w=planned.asked_w,
            in_force=looked.in_force,
            receipt=None,
            moved=None,
            switches=None if planned.began else state.switches,
            verified=bool(judged.steps),
            refused=refused,
            trial=follow(
                before.trial, given.allocation, before.book, planned.book, judged.refused or judged.reduced
            ),
            pending=Pending(),
        )
        self._beats = Heartbeats(moved.actions.heartbeat_modules, moved.actions.heartbeat_strings)
        self._steps = list(judged.steps)
        if self._steps:
            self._recorder.went_out(self._steps[0])
        lessened = core_events.less_text(self.site, judged.share, judged.reduced)
        rung, why = standing(planned.book, looked.envelope, refused, lessened)
        view = TickView(
            input=given,
            estimate=looked.estimate,
            envelope=looked.envelope,
            setpoint=replace(setpoint, power_w=planned.power_w),
            rung=rung,
            rung_reason=why,
            mode=moved.state.mode,
            phases=tuple(Phase(int(p)).name.lower() for p in moved.state.phase),
            book=planned.book,
            in_force=looked.in_force,
            out_of_service=moved.actions.modules_out | ~shaping.insertable(looked.envelope),
            connected=moved.state.joined,
            refused=judged.refused,
            lessened=lessened,
            maintenance=self._state.maintenance,
            capacity_test=self._state.capacity_test,
        )
        self._recorder.ticked(view)
        events = core_events.transitions(
            self._view, view, moved.actions.events, self._state.protection.events
        )
        events += core_events.strangers(given.now_s, self._told_strange, before.strange)
        self._told_strange = before.strange
        events += core_events.lessened(view, self._lessened_s)
        self._lessened_s = given.now_s if lessened else self._lessened_s
        events += core_captest.told(given.now_s, before.capacity_test, self._state.capacity_test)
        self._view = view
        actions = NodeActions(
            moved.actions.clear_modules, moved.actions.clear_strings, moved.actions.set_watchdogs
        )
        return TickOutcome(
            step=self._steps[0] if self._steps else None,
            actions=actions,
            question=planned.question,
            view=view,
            events=events,
            record=record,
        )

    def _look(self, given: TickInput) -> Looked:
        """Estimate and protect; on the first tick take over what the nodes say they do."""
        state, image, site = self._state, given.image, self.site
        memory = state.filter or initial_state(site, image, self._saved.modules or None, self._saved.away_s)
        sequence = state.sequence or self._sequencer.initial(image, given.wall_s, self._saved.mode)
        in_force = known_in_force(state.in_force or adopt(site, image), image, sequence)
        dt_s = given.dt_s if given.dt_s > 0.0 else site.timing.tick_s
        cooling_frac = state.protection.thermal.level_frac
        filtered, estimate = run_filter(site, memory, image, dt_s, cooling_frac)
        if given.wall_s >= state.limits.deadline_wall_s:
            infinite = float("inf")
            state = replace(
                state,
                limits=SetLimits(),
                operator=replace(state.operator, max_discharge_w=infinite, max_charge_w=infinite),
            )
        apart = switches_apart(image, sequence, in_force, state.moved)
        apart_wall_s = apart_since(state.apart_wall_s, apart & (state.in_force is not None), given.wall_s)
        isolation = {s.name: s for s in string_isolation(site, image)} if state.maintenance.permits else {}
        operator = replace(
            state.operator,
            bypass=state.operator.bypass | {expected for expected, _ in state.strange},
            emergency_stop=state.pending.emergency_stop,
            output_failed=state.receipt is not None and not state.receipt.outputs_confirmed,
            opened_unasked=opened_unasked(image, sequence, in_force),
            switches_apart=given.wall_s - apart_wall_s >= APART_WALL_S,
            join_failed=sequence.gave_up,
            refused_plans=state.trial.refused,
            isolation_lost=bool(broken_isolation(state.maintenance, isolation)),
            out_of_service=sequence.modules.out_of_service,
        )
        protection, envelope = protect(site, state.protection, image, estimate, dt_s, operator)
        self._state = replace(state, filter=filtered, protection=protection, apart_wall_s=apart_wall_s)
        test = core_captest.tested(site, self._state, given, estimate, envelope)
        self._state = core_captest.taught(replace(self._state, capacity_test=test), state.capacity_test)
        return Looked(estimate, envelope, sequence, in_force)

    def _inside(self, given: TickInput, looked: Looked, power_w: float) -> Envelope:
        """The envelope as plan and schedule see it: windows a little inside, a test's modules steered."""
        return steered(
            self.site, shaping.narrowed(looked.envelope), looked.estimate, self._state.capacity_test,
            power_w=power_w, string_current_a=core_captest.currents_a(given),
        )  # fmt: skip

    def _sequence(self, given: TickInput, looked: Looked, proposal: SlotCommand) -> SequencerOutcome:
        """Joining, leaving, and the site's mode on top of the proposal."""
        pending = self._state.pending
        return self._sequencer.step(
            looked.sequence,
            SequencerInputs(
                image=given.image,
                envelope=looked.envelope,
                in_force=looked.in_force,
                proposal=proposal,
                now_s=given.now_s,
                wall_s=given.wall_s,
                request=pending.mode,
                receipt=self._state.receipt,
                verified=self._state.verified,
                emergency_stop=pending.emergency_stop,
                cleared=pending.cleared,
                maintenance=self._state.maintenance.held,
                clear_modules=pending.clear_modules,
                clear_strings=pending.clear_strings,
            ),
        )
