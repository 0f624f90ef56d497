"""Active balancing pays before it moves anything: at rest and under way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from optimizer.allocate import allocate
from optimizer.currents import Padded
from optimizer.model import build
from optimizer.result import AllocationInput, Plan
from optimizer.solution import cost_of
from optimizer.solve import solve
from optimizer.trim import rest_trim, trim_currents
from reconf.arrays import FloatArray
from reconf.site import Site

FOUR_AH = np.array([10.0, 8.0, 6.0, 3.2])


def at_rest(needed: int, efficiency: float = 0.92) -> tuple[Site, AllocationInput]:
    """Four modules of 44 V with 10, 8, 6 and 3.2 Ah; the window asks for `needed` of them."""
    site, asked = draw_case(4, 1, 1)
    positions = tuple(
        replace(p, module=replace(p.module, trim_efficiency_frac=efficiency))
        for p in site.strings[0].positions
    )
    site = replace(site, strings=(replace(site.strings[0], positions=positions),))
    estimate = replace(asked.estimate, remaining_ah=FOUR_AH, ocv_v=np.full(4, 44.0))
    envelope = replace(
        asked.envelope,
        string_voltage_min_v=np.array([44.0 * needed - 2.0]),
        insertion=np.zeros(4, dtype=np.uint8),
    )
    request = replace(asked.request, power_w=0.0, balance=True)
    return site, replace(asked, estimate=estimate, envelope=envelope, request=request)


def rest_currents(needed: int, efficiency: float = 0.92) -> FloatArray:
    site, asked = at_rest(needed, efficiency)
    model = build(site, asked)
    return rest_trim(model, Padded.of(model), asked)


def test_at_rest_only_what_would_strand_is_moved() -> None:
    # three of four: 8.6 Ah is what each can give (docs/allocation.md), so 1.4 Ah of the first strand
    trim = rest_currents(3)
    assert trim[0] > 0.5
    assert (trim[1:] <= 0.0).all()
    # the bus balances: what reaches it comes off it
    assert 0.92 * trim[0] == pytest.approx(-trim[1:].sum(), rel=1e-9)
    # two of four: everything can be used, so nothing is moved
    assert not rest_currents(2).any()


def test_at_rest_nothing_moves_that_burns_more_than_it_brings() -> None:
    # of a watt given 1 - eta burns and eta arrives: at eta = 0.49 more burns than arrives
    assert not rest_currents(3, 0.49).any()
    assert rest_currents(3, 0.60).any()


def test_a_plan_at_rest_carries_the_trim_and_no_power() -> None:
    site, asked = at_rest(3)
    plan = allocate(site, asked)
    assert isinstance(plan, Plan)
    assert plan.trim_current_a[0] > 0.5
    assert plan.power_planned_w == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("worth_frac", "moves"), [(0.80, True), (0.835, True), (0.845, False), (0.95, False)]
)
def test_under_way_a_watt_must_be_worth_16_percent_more_elsewhere(worth_frac: float, moves: bool) -> None:
    site, asked = draw_case(2, 1, 1)
    model = build(site, replace(asked, request=replace(asked.request, power_w=500.0)))
    one = np.ones(2)
    # what an ampere costs in each module: the whole watt in the second, less in the first; nearly flat
    model = replace(
        model,
        emf_v=40.0 * one,
        resistance_ohm=1e-6 * one,
        weight_w_per_a2=1e-3 * one,
        target_a=10.0 * one,
        price_w_per_a=np.array([worth_frac * 40.0, 40.0]),
        trim_efficiency_frac=0.92 * one,
        trim_give_a=5.0 * one,
        trim_take_a=5.0 * one,
    )
    trim = trim_currents(model, Padded.of(model), 10.0 * one)
    assert bool(trim.any()) is moves
    if moves:
        assert trim[0] > 0.0 > trim[1]


@pytest.mark.parametrize("seed", [2, 4, 9])
def test_under_way_trim_saves_more_than_it_burns_or_stays_off(seed: int) -> None:
    site, asked = draw_case(12, 1, seed)
    model = build(site, asked)
    found = solve(model, asked)
    none = np.zeros(model.n_modules)
    still = solve(replace(model, trim_give_a=none, trim_take_a=none), asked)
    with_trim, without = cost_of(model, found).total_w, cost_of(model, still).total_w
    assert with_trim <= without * (1.0 + 1e-9)
    if found.trim_a.any():
        assert with_trim < without


@pytest.mark.parametrize("modules", [5, 8, 12, 15, 24])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_compiled_and_plain_trim_agree_to_the_last_bit(modules: int, seed: int) -> None:
    site, asked = draw_case(3 * modules, 3, seed)
    model = build(site, asked)
    through = np.random.default_rng(seed).uniform(0.0, 30.0, model.n_modules)
    plain = trim_currents(model, Padded.of(model), through, "numpy")
    assert plain.any()
    assert np.array_equal(plain, trim_currents(model, Padded.of(model), through, "compiled"))
