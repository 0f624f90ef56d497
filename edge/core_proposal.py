"""The slot that holds now: from the plan in force, made smaller to what set point and envelope allow."""

from __future__ import annotations

from edge import shaping
from edge.core_plan import Planned
from edge.core_standing import turned
from edge.core_values import CoreState, Looked, TickInput
from edge.setpoint import SetPoint, ramp_w_per_s
from optimizer.schedule import Scheduler
from reconf.actuation import SlotCommand
from reconf.protection.envelope import Envelope
from reconf.replacing import replace
from reconf.sequences import hold_zero
from reconf.site import Site


def propose(
    site: Site,
    scheduler: Scheduler,
    state: CoreState,
    given: TickInput,
    looked: Looked,
    planned: Planned,
    setpoint: SetPoint,
    inside: Envelope,
) -> tuple[CoreState, SlotCommand]:
    """The slot that holds now, and `state` with what of it must be remembered; `scheduler` takes a new plan.

    Args:
        site: what the site is.
        scheduler: turns plans into slots; remembers what each module is owed.
        state: what the core remembers.
        given: input of this tick.
        looked: what is known in it.
        planned: the plan book and the power wanted.
        setpoint: set point with its ramp.
        inside: the envelope as plan and schedule see it.
    """
    book = planned.book
    if book.plan is None:
        state = replace(state, target=None, next_slot_s=given.now_s)
        # no plan is no reason to keep a faulty module in
        resting = shaping.rid(hold_zero(looked.in_force), looked.envelope)
        return state, shaping.tighten(site, resting, looked.in_force, looked.envelope, 0.0)
    urgent = state.target is None or state.book.plan is None or turned(state.book, book)
    if book.plan is not scheduler.plan:
        scheduler.accept(book.plan, given.now_s)
        if state.target is not None and not urgent:
            # power follows a new plan at once; switches wait for their slot
            state = replace(state, target=_repowered(scheduler, looked, inside, state.target))
    target = state.target
    due = given.now_s >= state.next_slot_s - 1e-9
    if target is None or due or urgent or shaping.outdated(target, inside):
        target = scheduler.slot(given.now_s, looked.estimate, inside, looked.in_force, looked.sequence.joined)
        # a slot that began late is followed a whole slot later: switches rest for their dwell
        punctual = due and given.now_s - state.next_slot_s <= 0.25 * site.timing.tick_s
        next_slot_s = (state.next_slot_s if punctual else given.now_s) + site.timing.slot_s
        state = replace(state, target=target, next_slot_s=next_slot_s)
    reach_w = shaping.ramped_w(
        planned.power_w,
        looked.in_force.running_w,
        ramp_w_per_s(setpoint) * max(given.dt_s, site.timing.tick_s),
    )
    more = shaping.beyond(book.plan, reach_w)
    if book.question is None:  # no better plan is on its way: this one must bear it for its interval
        more = min(more, shaping.average_room(site.topology, book.plan, looked.envelope))
    if more > 1.0:
        target = _repowered(scheduler, looked, inside, target, more)
    share = shaping.follow(book.plan, reach_w)
    return state, shaping.tighten(site, target, looked.in_force, looked.envelope, share)


def _repowered(
    scheduler: Scheduler, looked: Looked, inside: Envelope, target: SlotCommand, more: float = 1.0
) -> SlotCommand:
    """`target` with the power of the plan in force, `more` times as much where its modules bear that."""
    return scheduler.repowered(target, looked.estimate, inside, connected=looked.sequence.joined, more=more)
