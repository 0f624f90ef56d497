from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.interval import HOLD_INTERVALS, PlanBook, Rung, begin, due, given_up, overdue, serves, settle
from edge.shaping import follow
from optimizer.result import AllocationInput, Inaccurate, Infeasible, Late, Plan, Policy, Request


def question(interval: int, power_w: float = 1000.0) -> AllocationInput:
    request = Request(power_w=power_w, connected=np.ones(1, dtype=np.bool_))
    nothing: Any = None  # the ladder never looks at the physics
    return AllocationInput(
        interval=interval,
        estimate=nothing,
        envelope=nothing,
        request=request,
        inserted=np.ones(2, dtype=np.bool_),
    )


def plan(interval: int, power_w: float = 1000.0, policy: Policy = Policy.STRUCTURED) -> Plan:
    return Plan(
        interval=interval,
        policy=policy,
        string_current_a=np.zeros(1),
        string_power_w=np.zeros(1),
        duty_frac=np.ones(2),
        trim_current_a=np.zeros(2),
        power_asked_w=power_w,
        power_planned_w=power_w,
        unserved_w=0.0,
        loss_w=1.0,
        cost_w=1.0,
        lower_bound_w=1.0,
        gap_frac=0.0,
        bindings=(),
        solve_ms=1.0,
    )


def rule(q: AllocationInput) -> Plan | Infeasible:
    return plan(q.interval, policy=Policy.LARGEST_REMAINING)


def empty(q: AllocationInput) -> Plan | Infeasible:
    return Infeasible(q.interval, "envelope empty")


def test_intervals_keep_their_grid_but_follow_an_early_question() -> None:
    book = begin(PlanBook(), question(1), 0.0, 30.0)
    assert not due(book, 29.0)
    book = begin(book, question(2), 31.0, 30.0)
    assert book.next_at_s == 60.0
    book = begin(book, question(3), 45.0, 30.0)  # asked early: the new interval is whole
    assert book.next_at_s == 75.0
    book = begin(book, question(4), 500.0, 30.0)  # overslept
    assert book.next_at_s == 530.0


@pytest.mark.parametrize(
    "failure",
    [Infeasible(0, "x"), Inaccurate(0, "x", plan(0)), Late(0, 0.5), None],
    ids=["infeasible", "inaccurate", "late", "never"],
)
def test_the_ladder_is_descended_rung_by_rung_and_climbed_at_once(failure: Any) -> None:
    book = settle(begin(PlanBook(), question(1), 0.0, 30.0), plan(1), rule)
    assert (book.rung, book.answered) == (Rung.NORMAL, 1)
    seen = []
    for i in range(2, 6):
        book = begin(book, question(i), 30.0 * i, 30.0)
        if failure is None:
            assert not given_up(book, 30.0 * i + 299.0, 30.0)
            assert given_up(book, 30.0 * i + 300.0, 30.0)
            book = overdue(book, rule)
        else:
            book = settle(book, replace(failure, interval=i), rule)
        seen.append(book.rung)
    assert seen == [Rung.HOLD] * HOLD_INTERVALS + [Rung.RULE] * 2
    assert book.fallback_intervals == 4
    assert book.plan is not None
    assert book.plan.policy is Policy.LARGEST_REMAINING
    book = settle(begin(book, question(6), 180.0, 30.0), plan(6), rule)
    assert book.rung is Rung.NORMAL


def test_without_any_plan_the_site_stands_at_power_zero() -> None:
    book = settle(begin(PlanBook(), question(1), 0.0, 30.0), Infeasible(1, "no sun"), empty)
    assert book.rung is Rung.ZERO
    assert book.plan is None
    assert "no sun" in book.reason
    assert "envelope empty" in book.reason


def test_a_plan_to_discharge_is_not_held_for_a_charge() -> None:
    book = settle(begin(PlanBook(), question(1), 0.0, 30.0), plan(1), rule)
    book = settle(begin(book, question(2, power_w=-500.0), 30.0, 30.0), Late(2, 0.5), rule)
    assert book.rung is Rung.RULE


def test_answers_to_old_questions_are_thrown_away() -> None:
    book = begin(PlanBook(), question(2), 0.0, 30.0)
    assert settle(book, plan(1), rule) == book


@pytest.mark.parametrize(
    ("asked_w", "served"), [(1000.0, True), (400.0, True), (1001.0, False), (-100.0, False)]
)
def test_a_plan_made_smaller_serves_less_of_the_same_direction(asked_w: float, served: bool) -> None:
    assert serves(plan(1), question(2, asked_w)) is served


@pytest.mark.parametrize(
    ("gap_frac", "better", "rung"),
    [(2.0, True, Rung.NORMAL), (2.0, False, Rung.HOLD), (float("nan"), True, Rung.HOLD)],
    ids=["no worse than what would follow", "worse", "not certified"],
)
def test_a_plan_of_a_wide_gap_counts_where_what_would_be_used_instead_is_no_better(
    gap_frac: float, better: bool, rung: Rung
) -> None:
    compared: list[tuple[int, int]] = []

    def no_worse(_: AllocationInput, found: Plan, instead: Plan) -> bool:
        compared.append((found.interval, instead.interval))
        return better

    book = settle(begin(PlanBook(), question(1), 0.0, 30.0), plan(1), rule)
    book = begin(book, question(2), 30.0, 30.0)
    wide = Inaccurate(2, "certified gap 200 %", replace(plan(2), gap_frac=gap_frac))
    book = settle(book, wide, rule, no_worse)
    assert book.rung is rung
    assert "certified gap 200 %" in book.reason
    assert book.fallback_intervals == (rung is not Rung.NORMAL)
    assert book.plan is not None
    assert book.plan.interval == (2 if rung is Rung.NORMAL else 1)
    assert compared == ([] if np.isnan(gap_frac) else [(2, 1)])


def test_without_a_plan_to_hold_the_rule_is_what_a_wide_gap_is_held_against() -> None:
    seen: list[Policy] = []

    def no_worse(_: AllocationInput, found: Plan, instead: Plan) -> bool:
        seen.append(instead.policy)
        return True

    book = settle(begin(PlanBook(), question(1), 0.0, 30.0), Inaccurate(1, "gap", plan(1)), rule, no_worse)
    assert (book.rung, seen) == (Rung.NORMAL, [Policy.LARGEST_REMAINING])


@pytest.mark.parametrize(
    ("held_w", "asked_w", "rung"),
    [
        (0.0, 1000.0, Rung.RULE),
        (1000.0, 1100.0, Rung.HOLD),
        (1000.0, 2000.0, Rung.RULE),
        (1000.0, 0.0, Rung.HOLD),
    ],
)
def test_a_plan_for_much_less_than_is_asked_now_is_not_held(
    held_w: float, asked_w: float, rung: Rung
) -> None:
    book = settle(begin(PlanBook(), question(1, held_w), 0.0, 30.0), plan(1, held_w), rule)
    book = settle(begin(book, question(2, asked_w), 30.0, 30.0), Late(2, 0.5), rule)
    assert book.rung is rung


@pytest.mark.parametrize(
    ("asked_w", "planned_w", "now_w", "share"),
    [
        (1000.0, 1000.0, 250.0, 0.25),
        (1e6, 6000.0, 900.0, 0.15),  # it could give 6 kW of what was asked: 900 W are 15 % of that
        (1e6, 6000.0, 1e6, 1.0),
        (1000.0, 1000.0, 2000.0, 1.0),
        (1000.0, 1000.0, -500.0, 0.0),
        (-1000.0, -800.0, -400.0, 0.5),
        (0.0, 0.0, 500.0, 1.0),
    ],
)
def test_a_plan_follows_a_smaller_set_point_from_what_it_gives(
    asked_w: float, planned_w: float, now_w: float, share: float
) -> None:
    given = replace(plan(1, asked_w), power_planned_w=planned_w)
    assert follow(given, now_w) == pytest.approx(share)
    assert follow(None, now_w) == 0.0


@pytest.mark.parametrize(
    ("power_w", "holds"),
    [(1000.0, True), (400.0, True), (0.0, True), (-1000.0, False), (3000.0, False), (float("nan"), False)],
)
def test_a_plan_that_contradicts_the_request_is_a_miss(power_w: float, holds: bool) -> None:
    book = begin(PlanBook(), question(1), 0.0, 30.0)
    book = settle(book, replace(plan(1), string_power_w=np.array([1000.0])), rule)
    book = begin(book, question(2), 30.0, 30.0)
    book = settle(book, replace(plan(2), string_power_w=np.array([power_w])), rule)
    assert (book.rung is Rung.NORMAL) is holds
    assert book.misses == (0 if holds else 1)
    assert ("in force" in book.reason) is holds
    # an inaccurate one is no better for being said to be inaccurate
    book = begin(book, question(3), 60.0, 30.0)
    found = Inaccurate(3, "gap", replace(plan(3), string_power_w=np.array([power_w])))
    book = settle(book, found, rule, lambda *_: True)
    assert (book.rung is Rung.NORMAL) is holds
