"""Shortly before modules are empty: few whole slots are left, gaps are wide, plans are used all the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import optimizer.allocate
from edge.bench.closed_loop import Hooks, default_allocate, run_closed_loop, stop_when_undelivered
from edge.core import ControlCore
from edge.core_values import IntervalRecord, TickOutcome
from edge.demo import c3_power_w
from edge.interval import Rung
from optimizer.judge import cost_as_switched_w, no_worse
from optimizer.result import AllocationInput, AllocationResult, Inaccurate, Plan
from reconf.config import load_site
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

SITE = load_site(Path(__file__).parents[3] / "site_configs" / "demo.yaml")
START_SOC = 0.07
"""Some seven minutes at C/3 before empty."""


def last_minutes(
    seed: int, site: Site = SITE
) -> tuple[list[IntervalRecord], list[tuple[AllocationInput, AllocationResult]], int]:
    """Records, questions with answers, and fallback intervals of the end of a discharge."""
    records: list[IntervalRecord] = []
    asked: list[tuple[AllocationInput, AllocationResult]] = []

    def keep(outcome: TickOutcome, plant: Plant, core: ControlCore) -> None:
        if outcome.record is not None:
            records.append(outcome.record)

    def answer(where: Site, question: AllocationInput) -> AllocationResult:
        asked.append((question, default_allocate(where, question)))
        return asked[-1][1]

    power_w = c3_power_w(site)
    truth = draw_truth(site, np.random.default_rng(seed), soc_frac=START_SOC)
    result = run_closed_loop(
        site, truth, lambda _: power_w, stop=stop_when_undelivered(), seed=seed, hooks=Hooks(on_tick=keep),
        allocate=answer,
    )  # fmt: skip
    assert result.violations == 0
    return records, asked, result.fallback_intervals


@pytest.mark.parametrize("seed", [2, 15])
def test_no_interval_before_empty_falls_back_and_gaps_are_told(seed: int) -> None:
    records, asked, fallback_intervals = last_minutes(seed)
    assert fallback_intervals == 0
    assert all(r.end.rung is Rung.NORMAL for r in records)
    wide = [a for _, a in asked if isinstance(a, Inaccurate)]
    told = {round(r.end.gap_frac, 9): r.end.reason for r in records if math.isfinite(r.end.gap_frac)}
    for gap_frac in (a.plan.gap_frac for a in wide):
        assert gap_frac > SITE.allocator.gap_limit_frac
        if round(gap_frac, 9) in told:
            assert "certified gap" in told[round(gap_frac, 9)]
    # the plans serve what can be served or say what is missing
    for question, answer in asked:
        plan = answer.plan if isinstance(answer, Inaccurate) else answer
        assert isinstance(plan, Plan)
        assert plan.power_planned_w + plan.unserved_w == pytest.approx(question.request.power_w, rel=1e-3)


def test_near_empty_a_window_kept_on_average_is_tried_and_the_slots_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = replace(SITE, allocator=replace(SITE.allocator, gap_limit_frac=0.02))
    _, asked, _ = last_minutes(2, strict)
    tried = 0
    with monkeypatch.context() as patched:
        patched.setattr(
            optimizer.allocate, "without_reserve", lambda site, model, asked, answer, found, short_w: answer
        )
        for question, answer in asked:
            before = default_allocate(strict, question)
            if not isinstance(before, Inaccurate):
                continue
            plan = answer.plan if isinstance(answer, Inaccurate) else answer
            assert isinstance(plan, Plan)
            # never dearer, and still above a bound that is no lower than before
            assert plan.cost_w <= before.plan.cost_w * (1.0 + 1e-9)
            assert plan.cost_w >= plan.lower_bound_w >= before.plan.lower_bound_w * (1.0 - 1e-9)
            tried += plan.cost_w < before.plan.cost_w * (1.0 - 1e-3)
    assert tried >= 1


def test_a_plan_is_judged_by_what_its_slots_serve() -> None:
    _, asked, _ = last_minutes(15)
    question, plan = next((q, a) for q, a in asked if isinstance(a, Plan) and a.power_planned_w > 0.0)
    half = replace(
        plan, string_power_w=0.5 * plan.string_power_w, string_current_a=0.5 * plan.string_current_a
    )
    # what is not served is priced; a plan for more than is asked is followed as far as it is asked
    price = SITE.economics.unserved_price_per_kwh / SITE.economics.energy_price_per_kwh
    missing_w = 0.5 * question.request.power_w
    given = cost_as_switched_w(SITE, question, plan)
    assert cost_as_switched_w(SITE, question, half) - given > 0.9 * price * missing_w
    assert no_worse(SITE, question, plan, half)
    assert not no_worse(SITE, question, half, plan)
    more = replace(plan, string_power_w=2 * plan.string_power_w, string_current_a=2 * plan.string_current_a)
    assert cost_as_switched_w(SITE, question, more) == pytest.approx(given, rel=0.05)
