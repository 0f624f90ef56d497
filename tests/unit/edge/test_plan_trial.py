"""An optimizer whose proposals are refused again and again is told of, with the first reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.closed_loop import Loop, default_allocate
from edge.bench.faults import SCENES, fault_site, run
from edge.core_values import ClearFault
from edge.interval import PlanBook, contradiction
from edge.proposals import UNTRIED, PlanTrial, follow
from optimizer.result import AllocationInput, Late, Plan, Policy, Request
from reconf.actuation import Refused, Violation
from reconf.protection.faults import rule_numbers
from reconf.twin.truth import draw_truth

ASKED_W = 1000.0
TICKS = rule_numbers().refused_ticks
SAYS_NO = Refused((Violation("window_min", "A", 200.0, 210.0, "V", "too few modules are inserted"),), 0.0)


def plan(number: int, power_w: float = ASKED_W) -> Plan:
    """A plan for one string."""
    return Plan(
        number, Policy.STRUCTURED, np.array([10.0]), np.array([power_w]), np.ones(4), np.zeros(4),
        ASKED_W, power_w, 0.0, 0.0, 0.0, 0.0, 0.0, (), 1.0,
    )  # fmt: skip


def book(number: int, in_force: Plan | None = None) -> PlanBook:
    """Plans while question `number` is open."""
    question = AllocationInput(
        number, None, None, Request(ASKED_W, np.ones(1, np.bool_)), np.ones(4, np.bool_)
    )  # type: ignore[arg-type]  # nobody looks at estimate and envelope
    return PlanBook(plan=in_force, question=question, interval=number)


def given(trial: PlanTrial, number: int, answer: Plan, *, taken: bool, no_ticks: int = 0) -> PlanTrial:
    """One interval: the answer, and then as many ticks in which verify says no."""
    before = book(number)
    now = PlanBook(plan=answer if taken else None)
    trial = follow(trial, answer, before, now, SAYS_NO if no_ticks else None)
    for k in range(1, TICKS + 2):
        trial = follow(trial, None, now, now, SAYS_NO if k < no_ticks else None)
    return trial


def test_plans_that_contradict_the_request_are_counted_and_the_first_reason_is_kept() -> None:
    trial = UNTRIED
    for number in (1, 2, 3):
        mad = plan(number, -ASKED_W * number)
        assert contradiction(mad, book(number).question)
        trial = given(trial, number, mad, taken=False)
        assert trial.refused.in_a_row == number
    assert "-1000 W planned" in trial.refused.first


def test_plans_that_verify_refuses_for_some_ticks_are_counted_once_each() -> None:
    trial = UNTRIED
    for number in (1, 2, 3):
        trial = given(trial, number, plan(number), taken=True, no_ticks=TICKS + 1)
        assert trial.refused.in_a_row == number
    assert trial.refused.first == "window_min on A: too few modules are inserted"


def test_a_short_refusal_is_none() -> None:
    trial = given(UNTRIED, 1, plan(1), taken=True, no_ticks=TICKS - 1)
    assert trial.refused.in_a_row == 0


def test_a_plan_that_serves_ends_the_row_when_the_next_one_comes() -> None:
    trial = given(UNTRIED, 1, plan(1, -ASKED_W), taken=False)
    trial = given(trial, 2, plan(2), taken=True)
    assert trial.refused.in_a_row == 1, "it has not served its time yet"
    trial = given(trial, 3, plan(3, -ASKED_W), taken=False)
    assert trial.refused.in_a_row == 1, "a new row"


@pytest.mark.parametrize("answer", [None, Late(1, 0.5), plan(7, -ASKED_W)])
def test_no_plan_late_plans_and_answers_to_old_questions_say_nothing(answer) -> None:
    trial = given(UNTRIED, 1, plan(1, -ASKED_W), taken=False)
    assert follow(trial, answer, book(1), PlanBook(), None) == trial


def test_a_mad_optimizer_is_one_latched_warning_that_may_be_cleared_once_a_plan_has_served() -> None:
    site = fault_site(SCENES["usual"])
    truth = draw_truth(site, np.random.default_rng(1), soc_frac=0.6)
    mad = [True]

    def allocate(site_, question):
        honest = default_allocate(site_, question)
        return replace(honest, string_power_w=-3.0 * honest.string_power_w) if mad[0] else honest

    loop = Loop(site, truth, lambda _: 10_000.0, allocate=allocate)
    loop.start()
    while not present(loop):
        assert loop.plant.time_s < 150.0
        loop.step()
    (status,) = present(loop)
    assert (status.severity, status.latched, status.active) == ("warn", True, True)
    assert status.evidence.startswith("3 in a row, the first because of the optimizer's plan contradicts")
    raised = [e for e in loop.events if e.kind == "fault_raised" and e.text.startswith("plans_refused")]
    assert len(raised) == 1
    assert "3 in a row, the first because of" in raised[0].text
    assert not loop.core.order(ClearFault("plans_refused"), loop.plant.time_s, loop.plant.time_s).accepted
    mad[0] = False
    while present(loop)[0].active:
        assert loop.plant.time_s < 300.0
        loop.step()
    assert loop.core.order(ClearFault("plans_refused"), loop.plant.time_s, loop.plant.time_s).accepted
    loop.step()
    assert not present(loop)


def present(loop: Loop) -> list:
    """The fault, if it is there."""
    if loop.outcome is None:
        return []
    return [f for f in loop.outcome.view.envelope.faults if f.fault == "plans_refused"]


def test_the_catalogue_tells_of_a_mad_optimizer_by_its_fault() -> None:
    (case,) = run(only=("optimizer_mad",))["cases"]
    assert "plans_refused" in case["faults"]
    assert case["safety_violations"] == 0
