"""Whether the optimizer's plans are fit to be used: how many in a row were refused, and why the first was.

A plan is refused where it contradicts the question (then it never comes into force), or where verify says no
to what is made of it for some ticks in a row. One such plan may be bad luck with readings that moved; many in
a row are an optimizer that is not to be believed. Answers without a plan say nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.interval import PlanBook, contradiction
from optimizer.result import AllocationResult, Inaccurate, Plan
from reconf.actuation import Refused
from reconf.protection.faults import rule_numbers
from reconf.protection.refusing import NONE_REFUSED, RefusedPlans
from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class PlanTrial:
    """What is remembered of the optimizer's plans."""

    refused: RefusedPlans = NONE_REFUSED
    tried: bool = False
    """A plan of the optimizer's has come into force, and has not been refused yet."""
    ticks: int = 0
    """Ticks in a row in which verify said no to what was made of it."""


UNTRIED: Final = PlanTrial()


def follow(
    trial: PlanTrial,
    answer: AllocationResult | None,
    before: PlanBook,
    now: PlanBook,
    refused: Refused | None,
) -> PlanTrial:
    """After one tick.

    Args:
        trial: what is remembered.
        answer: of the optimizer, where one came in this tick.
        before: plans before it was looked at.
        now: plans since.
        refused: why verify said no to this tick's proposal, if it did.
    """
    plan = _proposed(answer, before)
    if plan is not None and before.question is not None:
        if trial.tried:  # the one before it has served without a refusal
            trial = UNTRIED
        wrong = contradiction(plan, before.question)
        if now.plan is plan:
            trial = replace(trial, tried=True, ticks=0)
        elif wrong:
            trial = _one_more(trial, wrong)
    ticks = 0 if refused is None else trial.ticks + 1
    trial = replace(trial, ticks=ticks)
    if refused is None or not trial.tried or ticks < rule_numbers().refused_ticks:
        return trial
    worst = refused.violations[0]
    return _one_more(trial, f"{worst.rule} on {worst.subject}: {worst.text}")


def _proposed(answer: AllocationResult | None, before: PlanBook) -> Plan | None:
    """The plan that answers the open question."""
    question = before.question
    if answer is None or question is None or answer.interval != question.interval:
        return None
    if isinstance(answer, Inaccurate):
        return answer.plan
    return answer if isinstance(answer, Plan) else None


def _one_more(trial: PlanTrial, why: str) -> PlanTrial:
    """The plan is refused; of those in a row the first one's reason is kept."""
    before = trial.refused
    return PlanTrial(RefusedPlans(before.in_a_row + 1, before.first or why))
