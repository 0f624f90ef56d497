"""The certificate: the bound lies below every plan, and close to the best one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bench.allocate_case import draw_case, without_trim
from optimizer.allocate import allocate, proven
from optimizer.bound import PricedStrings
from optimizer.currents import Padded
from optimizer.model import Model, at_power, build
from optimizer.result import AllocationInput, Plan
from optimizer.search import Budget, budget_for, search
from optimizer.solution import Solution, cost_of, priced_strings_w
from optimizer.solve import at_currents, deliverable, from_prices, solve
from optimizer.trim import balanced


def served(modules: int, strings: int, seed: int, *, trim: bool = True) -> tuple[Model, AllocationInput]:
    site, asked = draw_case(modules, strings, seed)
    model = build(site, asked if trim else without_trim(asked))
    return at_power(model, min(model.power_w, float(deliverable(model).sum()))), asked


def within_window(model: Model, plan: Solution) -> bool:
    """Whether the averages keep the converter windows (`optimizer.fixed` moves what cannot be kept)."""
    volts = model.string_sum(
        (model.emf_v - model.sign * model.resistance_ohm * plan.current_a[model.string_of]) * plan.through_a
    ) / np.maximum(plan.current_a, 1e-9)
    return bool((volts >= model.slot_min_v * (1.0 - 1e-6)).all())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(1, 10_000), strings=st.integers(1, 3))
def test_no_plan_is_cheaper_than_the_bound(seed: int, strings: int) -> None:
    model, asked = served(12 * strings, strings, seed)
    plan = solve(model, asked)
    found = proven(model, asked, plan)
    rng, padded = np.random.default_rng(seed), Padded.of(model)
    slack = 1e-6 * abs(found.bound_w)
    assert cost_of(model, found.solution).total_w <= cost_of(model, plan).total_w + slack
    for _ in range(20):
        current = found.solution.current_a * rng.uniform(0.8, 1.25, strings)
        trim = rng.uniform(-model.trim_take_a, model.trim_give_a) * rng.choice([0.0, 0.2, 1.0])
        other = at_currents(model, current, balanced(padded, model, trim), plan.deliverable_w)
        if within_window(model, other):
            assert cost_of(model, other).total_w >= found.bound_w - slack


@pytest.mark.parametrize("seed", [3, 11, 17])
def test_bound_of_one_string_meets_a_fine_scan_of_its_current(seed: int) -> None:
    model, asked = served(12, 1, seed, trim=False)
    found = proven(model, asked, solve(model, asked))
    scan = [
        at_currents(model, np.array([i]), np.zeros(12), found.solution.deliverable_w)
        for i in np.linspace(0.5, 1.6, 800) * found.solution.current_a[0]
    ]
    best = min(cost_of(model, s).total_w for s in scan)
    loss = cost_of(model, found.solution).loss_w
    assert found.bound_w <= best + 1e-6 * best
    # and the plan is as good as the scan's
    assert cost_of(model, found.solution).total_w <= best + 0.002 * loss


def test_ranges_of_current_bound_what_lies_in_them() -> None:
    model, asked = served(24, 1, 5)
    plan = solve(model, asked)
    strings = PricedStrings(model)
    price = strings.common_price(plan)
    own = float(priced_strings_w(model, plan, price)[0])
    current = float(plan.current_a[0])
    whole, _, _ = strings.least(0, 0.0, float(strings.top_a[0]), price)
    around, _, at = strings.least(0, 0.99 * current, 1.01 * current, price)
    beyond, _, _ = strings.least(0, 1.5 * current, float(strings.top_a[0]), price)
    assert whole <= around + 1e-9
    assert around <= own + 1e-6 * abs(own)
    assert 0.99 * current <= at <= 1.01 * current
    assert beyond > around


def test_search_leaves_a_local_optimum_that_prices_alone_do_not_see() -> None:
    # one string, one module whose limit the plan's current passes: below it the module would take part
    model, asked = served(12, 1, 39)
    plan = solve(model, asked)
    start = cost_of(model, plan)
    strings = PricedStrings(model)

    def keep(_given: object, before: Solution) -> Solution:
        return before

    blind = search(model, plan, keep, Budget(1, 0, 0))
    padded = Padded.of(model)
    found = search(
        model, plan, lambda c, b: from_prices(model, padded, asked, strings, c, b), budget_for(model), strings
    )
    ends = cost_of(model, found.solution)
    assert found.bound_w >= blind.bound_w
    assert ends.total_w <= start.total_w
    assert ends.total_w - found.bound_w <= 0.1 * ends.loss_w


def test_balancing_at_rest_is_not_argued_away() -> None:
    site, asked = draw_case(24, 1, 3)
    uneven = asked.estimate.remaining_ah * np.linspace(0.2, 1.0, 24)
    estimate = replace(asked.estimate, remaining_ah=uneven)
    request = replace(asked.request, power_w=0.0, balance=True)
    plan = allocate(site, replace(asked, estimate=estimate, request=request))
    assert isinstance(plan, Plan)
    assert np.abs(plan.trim_current_a).max() > 0.1
    assert np.isnan(plan.gap_frac)


@pytest.mark.parametrize("seed", [1002, 1010])
def test_a_count_of_modules_that_just_misses_the_window_on_average_is_not_given_up(seed: int) -> None:
    # 8 of 9 allowed modules miss the window by a fraction of a volt in the mean, many draws of 8 reach it
    site, asked = draw_case(120, 12, seed)
    answer = allocate(site, asked)
    assert isinstance(answer, Plan)
    assert answer.gap_frac < 0.10
