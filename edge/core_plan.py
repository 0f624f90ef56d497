"""Plans in the core: when the optimizer is asked, what it is asked, and what its answer changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.core_values import CoreState, SetLimits, TickInput
from edge.interval import PlanBook, Rung, begin, due, given_up, overdue, settle
from edge.setpoint import SetPoint, scheduled_w
from optimizer.fallback import largest_remaining
from optimizer.judge import no_worse
from optimizer.result import AllocationInput, Infeasible, Plan, Request
from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.replacing import replace
from reconf.site import Site

ASK_AGAIN_FRAC = 0.02
"""A set point that moved by this share of the site's rating is worth a new plan before its time."""
HORIZON_INTERVALS = 120
"""Intervals of a schedule that the allocator is told of: an hour at 30 s."""
OUTRUN_FRAC = 0.9
"""A limit that fell below this share of the planned current is worth one as well (at the knee)."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning did in one tick."""

    book: PlanBook
    question: AllocationInput | None
    connected: BoolArray
    """(S,) strings that the open plan counts on."""
    asked_w: float
    power_w: float
    """Set point within temporary limits."""
    began: bool
    """An interval began."""


def bounded_w(power_w: float, limits: SetLimits, wall_s: float) -> float:
    """The set point inside temporary limits, until they expire."""
    if wall_s >= limits.deadline_wall_s:
        return power_w
    return float(np.clip(power_w, -limits.charge_max_w, limits.discharge_max_w))


def horizon_w(site: Site, limits: SetLimits, given: TickInput, setpoint: SetPoint) -> tuple[float, ...]:
    """What a schedule asks in the coming intervals, empty where none is in force.

    Wall time runs at the pace of control time on a real site; a twin that runs fast looks less far ahead.
    """
    step_s, command = site.timing.interval_s, setpoint.command
    ahead = [step_s * k for k in range(1, HORIZON_INTERVALS + 1)]
    if setpoint.source == "command" and command is not None and command.schedule:
        asked = [
            command.power_at(given.wall_s + s) for s in ahead if given.wall_s + s < command.deadline_wall_s
        ]
    elif setpoint.source == "fallback_schedule":
        asked = [scheduled_w(site.fallback, given.second_of_day + s) for s in ahead]
    else:
        return ()
    return tuple(bounded_w(p, limits, given.wall_s) for p in asked)


def rated_w(site: Site) -> float:
    """Power of all converters."""
    return sum(s.converter.power_rating_w for s in site.strings)


def plan(
    site: Site,
    state: CoreState,
    given: TickInput,
    estimate: Estimate,
    envelope: Envelope,
    setpoint: SetPoint,
    connected: BoolArray,
    in_force: SlotCommand,
) -> Planned:
    """Take the answer that has come; ask the next question when it is due."""

    def known_now(question: AllocationInput) -> AllocationInput:
        """The question as it would be put in this tick."""
        request = replace(question.request, connected=connected)
        return replace(
            question, estimate=estimate, envelope=envelope, request=request, inserted=in_force.inserted
        )

    def rule(question: AllocationInput) -> Plan | Infeasible:
        """Rung RULE, on what is known now."""
        return largest_remaining(site, known_now(question))

    def prefers(question: AllocationInput, found: Plan, instead: Plan) -> bool:
        """Whether a plan of a wide gap is no worse than `instead`, on what is known now."""
        return no_worse(site, known_now(question), found, instead)

    power_w = bounded_w(setpoint.power_w, state.limits, given.wall_s)
    book = state.book
    if given.allocation is not None:
        book = settle(book, given.allocation, rule, prefers)
    known = state.connected if state.connected is not None else np.zeros_like(connected)
    if not connected.any():
        idle = replace(
            book, plan=None, question=None, misses=0, rung=Rung.NORMAL,
            reason="no string is connected", next_at_s=given.now_s,
        )  # fmt: skip
        return Planned(idle, None, connected, 0.0, power_w, began=False)
    early = _moved(site, state.asked_w, power_w) or _outrun(site, book, envelope, given.now_s)
    changed = bool(np.any(known != connected)) or _turned(state.asked_w, power_w)
    if given_up(book, given.now_s, site.timing.interval_s):
        book = overdue(book, rule)
    waits = book.question is not None
    if not (changed or (not waits and (early or due(book, given.now_s)))):
        return Planned(book, None, known, state.asked_w, power_w, began=False)
    question = AllocationInput(
        interval=book.interval + 1,
        estimate=estimate,
        envelope=envelope,
        request=Request(
            power_w=power_w,
            connected=connected,
            balance=state.balancing,
            soc_min_frac=state.operator.soc_min_frac,
            soc_max_frac=state.operator.soc_max_frac,
            horizon_power_w=horizon_w(site, state.limits, given, setpoint),
        ),
        inserted=in_force.inserted,
    )
    book = begin(book, question, given.now_s, site.timing.interval_s)
    return Planned(book, question, connected, power_w, power_w, began=True)


def _moved(site: Site, asked_w: float, power_w: float) -> bool:
    """The set point has moved enough to plan anew."""
    return abs(power_w - asked_w) > ASK_AGAIN_FRAC * rated_w(site)


def _outrun(site: Site, book: PlanBook, envelope: Envelope, now_s: float) -> bool:
    """A module that the plan counts on may no longer carry the planned current; looked at once a slot."""
    plan = book.plan
    if plan is None or now_s - book.asked_at_s < site.timing.slot_s - 1e-9:
        return False
    current = plan.string_current_a[site.topology.string_of]
    limit = np.where(current > 0.0, envelope.discharge_now_a, envelope.charge_now_a)
    return bool(((plan.duty_frac > 0.0) & (limit < OUTRUN_FRAC * np.abs(current))).any())


def _turned(asked_w: float, power_w: float) -> bool:
    """The set point started, or changed its direction: no plan in force can serve it."""
    return power_w != 0.0 and asked_w * power_w <= 0.0
