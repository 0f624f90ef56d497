"""The coming intervals in this one: charge windows and limits that bind later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from optimizer.ahead import (
    BETA_MAX,
    WEIGHT_LEAST,
    depth_frac,
    looking_ahead,
    share_factors,
    until_turn,
    weight_factor,
)
from optimizer.allocate import allocate
from optimizer.model import Model, build
from optimizer.result import AllocationInput, Plan
from reconf.site import Site


def calm(seed: int = 5) -> tuple[Site, AllocationInput]:
    """A discharge of 8 kW without any limits that bind."""
    site, asked = draw_case(24, 1, seed)
    plenty = np.full(24, 90.0)
    envelope = replace(
        asked.envelope, discharge_now_a=plenty, discharge_avg_a=plenty, insertion=np.zeros(24, dtype=np.uint8)
    )
    return site, replace(asked, envelope=envelope, request=replace(asked.request, power_w=8000.0))


def model_of(site: Site, asked: AllocationInput) -> Model:
    return build(site, asked)


def test_powers_count_until_the_direction_turns() -> None:
    ahead, turns = until_turn(np.array([5.0, 0.0, 7.0, -1.0, 9.0]))
    np.testing.assert_allclose(ahead, [5.0, 0.0, 7.0])
    assert turns
    ahead, turns = until_turn(np.array([5.0, 2.0]))
    assert ahead.size == 2
    assert not turns


def test_evenness_is_worth_what_the_charge_is_needed_for() -> None:
    assert weight_factor(1.0) == pytest.approx(1.0)
    # nine tenths needed: a module may run ahead by a ninth, (0.13/(0.13 + 0.111))^2
    assert weight_factor(0.9) == pytest.approx(0.2908, abs=1e-3)
    assert weight_factor(0.5) == WEIGHT_LEAST
    site, asked = calm()
    model = model_of(site, asked)
    energy_wh = float(model.available_ah @ model.emf_v)
    assert depth_frac(model, np.array([energy_wh, energy_wh]), 900.0) == pytest.approx(0.5)


def test_a_charge_window_ahead_spares_losses_and_wear() -> None:
    site, asked = calm()
    blind = allocate(site, asked)
    told = allocate(site, replace(asked, request=replace(asked.request, horizon_power_w=(8000.0, -8000.0))))
    assert isinstance(blind, Plan)
    assert isinstance(told, Plan)
    price = model_of(site, asked).price_w_per_a
    spent = [p.loss_w + float(price @ (p.duty_frac * p.string_current_a[0])) for p in (blind, told)]
    assert spent[0] - spent[1] > 0.2 * blind.loss_w
    assert told.power_planned_w == pytest.approx(8000.0, rel=1e-6)


def test_a_module_that_will_be_out_in_a_peak_gives_more_before() -> None:
    site, asked = calm()
    limits = asked.envelope.discharge_now_a.copy()
    limits[6] = 14.0
    asked = replace(asked, envelope=replace(asked.envelope, discharge_now_a=limits))
    model = model_of(site, asked)
    needed = np.array([8000.0, 24_000.0])
    beta = share_factors(model, needed)
    assert beta[6] > 1.05
    assert beta[6] <= BETA_MAX
    np.testing.assert_allclose(np.delete(beta, 6), 1.0)
    changed = looking_ahead(model, needed[1:], 900.0)
    assert float(changed.target_a @ changed.emf_v) == pytest.approx(8000.0)
    before = allocate(site, asked)
    after = allocate(site, replace(asked, request=replace(asked.request, horizon_power_w=(24_000.0,))))
    assert isinstance(before, Plan)
    assert isinstance(after, Plan)
    through = [p.duty_frac[6] * p.string_current_a[0] for p in (before, after)]
    assert through[1] > 1.05 * through[0]


def test_nothing_changes_where_nothing_is_known_or_needed() -> None:
    site, asked = calm()
    model = model_of(site, asked)
    assert looking_ahead(model, np.zeros(0), 60.0) is model
    same = looking_ahead(model, np.full(5, 8000.0), 60.0)
    np.testing.assert_allclose(same.target_a, model.target_a, rtol=1e-9)
    np.testing.assert_allclose(same.weight_w_per_a2, model.weight_w_per_a2, rtol=1e-9)
