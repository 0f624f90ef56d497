"""The failure ladder and the plan in force: which plan counts now, how old it is, and why.

    NORMAL     the optimizer's plan of this interval; also one of a wide gap, where what would be used instead
               (below) is no better
    HOLD       missing, late, infeasible or inaccurate: the last plan inside the fresh envelope, for two
               intervals and while it gives most of what is asked
    RULE       still none: largest remaining charge first, inside the envelope
    ZERO       no plan at all, or verify refuses: power 0, strings stay connected
    LEFT       latched fault of severity "open" or emergency stop: a string or the site is left

Pure: values in, values out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, assert_never

import numpy as np

from optimizer.result import AllocationInput, AllocationResult, Inaccurate, Infeasible, Late, Plan
from reconf.replacing import replace

GIVE_UP_INTERVALS = 10.0
"""Intervals after which a question without any answer counts as missed."""
HOLD_INTERVALS = 2
"""Intervals that a plan may outlive its own."""
CONTRADICTION_FRAC = 0.02
CONTRADICTION_W = 50.0
"""A plan that goes beyond what was asked, or the other way, by more than this share of the powers in
question and this much a string is none."""
HOLD_SHARE = 0.8
"""A plan for less than this share of what is asked now is not held: the rule serves more."""


class Rung(IntEnum):
    """Step of the failure ladder, best first."""

    NORMAL = 0
    HOLD = 1
    RULE = 2
    ZERO = 3
    LEFT = 4


@dataclass(frozen=True, slots=True)
class PlanBook:
    """What is known of plans."""

    plan: Plan | None = None
    """The plan in force."""
    question: AllocationInput | None = None
    """The question that waits for its answer."""
    interval: int = 0
    """Number of the last interval begun."""
    asked_at_s: float = 0.0
    """Control time of the last question."""
    next_at_s: float = 0.0
    """Control time at which the next interval begins."""
    misses: int = 0
    """Intervals in a row without a usable answer."""
    rung: Rung = Rung.NORMAL
    reason: str = "no plan is needed yet"
    fallback_intervals: int = 0
    """Intervals served on a rung below NORMAL since start."""
    answered: int = 0
    """Intervals served by the optimizer since start."""


Fallback: TypeAlias = Callable[[AllocationInput], Plan | Infeasible]
NoWorse: TypeAlias = Callable[[AllocationInput, Plan, Plan], bool]
"""Whether the first plan serves a question no worse than the second, on what is known now."""


def due(book: PlanBook, now_s: float) -> bool:
    """Whether a new interval begins."""
    return now_s >= book.next_at_s - 1e-9


def given_up(book: PlanBook, now_s: float, interval_s: float) -> bool:
    """Whether the open question has waited too long.

    Whoever asks the optimizer answers with `Late` at the deadline, which is wall time: against a twin that
    runs fast an interval may be over before. Only an answer that never comes at all is given up here.
    """
    return book.question is not None and now_s - book.asked_at_s >= GIVE_UP_INTERVALS * interval_s - 1e-9


def begin(book: PlanBook, question: AllocationInput, now_s: float, interval_s: float) -> PlanBook:
    """Begin an interval with `question`. The grid of intervals stays even unless one was cut short."""
    on_grid = book.next_at_s + interval_s
    next_at_s = on_grid if now_s < on_grid and now_s >= book.next_at_s - 1e-9 else now_s + interval_s
    return replace(book, question=question, interval=question.interval, asked_at_s=now_s, next_at_s=next_at_s)


def overdue(book: PlanBook, fallback: Fallback) -> PlanBook:
    """The interval ended without any answer: that is one miss."""
    if book.question is None:
        return book
    return _missed(book, book.question, "no answer within the interval", fallback)


def settle(
    book: PlanBook, result: AllocationResult, fallback: Fallback, no_worse: NoWorse | None = None
) -> PlanBook:
    """Take the answer to the open question; answers to older questions are thrown away.

    Args:
        book: what is known of plans.
        result: the answer.
        fallback: makes the plan of rung RULE.
        no_worse: holds a plan of too wide a gap against what would be used instead; without it every such
            plan is a miss.
    """
    question = book.question
    if question is None or result.interval != question.interval:
        return book
    match result:
        case Plan():
            wrong = contradiction(result, question)
            if wrong:
                return _missed(book, question, wrong, fallback)
            return _in_force(book, result, "the optimizer's plan is in force")
        case Infeasible(reason=reason):
            return _missed(book, question, f"infeasible: {reason}", fallback)
        case Inaccurate():
            return _inaccurate(book, question, result, fallback, no_worse)
        case Late(waited_s=waited_s):
            return _missed(book, question, f"no answer after {waited_s:.2f} s", fallback)
        case _:
            assert_never(result)


def _inaccurate(
    book: PlanBook,
    question: AllocationInput,
    result: Inaccurate,
    fallback: Fallback,
    no_worse: NoWorse | None,
) -> PlanBook:
    """A plan of too wide a gap counts where what would be used instead is no better."""
    below = _missed(book, question, f"inaccurate: {result.reason}", fallback)
    found = result.plan
    if contradiction(found, question) or no_worse is None:
        return below
    if not _usable(question, found, below.plan, no_worse):
        return below
    return _in_force(
        book,
        found,
        f"the optimizer's plan is in force: {result.reason}; what would be used instead is no better",
    )


def contradiction(plan: Plan, question: AllocationInput) -> str:
    """What in a plan speaks against the question that it answers; empty if nothing does.

    Verify guards limits, and charging breaks none of them where a discharge was asked for.
    """
    numbers = (plan.string_power_w, plan.string_current_a, plan.duty_frac, plan.trim_current_a)
    if not all(bool(np.isfinite(values).all()) for values in numbers):
        return "the optimizer's plan holds what is no number"
    asked_w, planned_w = question.request.power_w, float(plan.string_power_w.sum())
    most_w = max(float(np.abs(plan.string_power_w).sum()), abs(asked_w))
    slack_w = CONTRADICTION_FRAC * most_w + CONTRADICTION_W * plan.string_power_w.size
    if min(asked_w, 0.0) - slack_w <= planned_w <= max(asked_w, 0.0) + slack_w:
        return ""
    return f"the optimizer's plan contradicts the request: {planned_w:.0f} W planned, {asked_w:.0f} W asked"


def _in_force(book: PlanBook, plan: Plan, reason: str) -> PlanBook:
    """The optimizer has answered and its plan counts."""
    return replace(
        book,
        plan=plan,
        question=None,
        misses=0,
        rung=Rung.NORMAL,
        reason=reason,
        answered=book.answered + 1,
    )


def _usable(question: AllocationInput, found: Plan, instead: Plan | None, no_worse: NoWorse) -> bool:
    """Whether a plan of a wide gap is no worse than the one that would be used instead of it.

    A plan without a certificate (two solvers that do not agree) is not believed at all.
    """
    return math.isfinite(found.gap_frac) and (instead is None or no_worse(question, found, instead))


def _missed(book: PlanBook, question: AllocationInput, why: str, fallback: Fallback) -> PlanBook:
    misses = book.misses + 1
    book = replace(book, question=None, misses=misses, fallback_intervals=book.fallback_intervals + 1)
    if book.plan is not None and misses <= HOLD_INTERVALS and worth_holding(book.plan, question):
        text = f"{why}; the last plan holds ({misses} of {HOLD_INTERVALS} intervals)"
        return replace(book, rung=Rung.HOLD, reason=text)
    ruled = fallback(question)
    if isinstance(ruled, Plan):
        return replace(book, plan=ruled, rung=Rung.RULE, reason=f"{why}; largest remaining charge first")
    return replace(book, plan=None, rung=Rung.ZERO, reason=f"{why}; rule-based plan: {ruled.reason}")


def same_direction(plan: Plan, question: AllocationInput) -> bool:
    """Whether the last plan serves a request of the same sign (a plan to discharge cannot charge)."""
    return plan.power_planned_w * question.request.power_w >= 0.0


def worth_holding(plan: Plan, question: AllocationInput) -> bool:
    """Whether the last plan gives most of what is asked now; an idle one gives nothing of a new set point."""
    enough = abs(plan.power_asked_w) >= HOLD_SHARE * abs(question.request.power_w)
    return enough and same_direction(plan, question)


def serves(plan: Plan, question: AllocationInput) -> bool:
    """Whether a plan, made smaller, gives what a question asks for."""
    asked_w = question.request.power_w
    return same_direction(plan, question) and abs(asked_w) <= abs(plan.power_asked_w)
