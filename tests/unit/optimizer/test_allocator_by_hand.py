"""The worked examples of docs/allocation.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from edge.bench.energy_site import energy_site
from optimizer.ahead import BETA_MAX, share_factors, weight_factor
from optimizer.fixed import Fixed, checked
from optimizer.kernels_dual import needed
from optimizer.model import Model, build
from optimizer.result import AllocationInput
from optimizer.schedule_string import band_slots
from optimizer.solution import loss_w
from optimizer.structured import solve_fixed
from reconf.compiled import Engine
from reconf.site import Chemistry


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_four_modules_at_the_lower_edge_of_the_window(engine: Engine) -> None:
    target = np.array([14.0, 8.0, 6.0, 4.0])
    current = 1280.0 / 120.0
    fixed = checked(
        Fixed(
            start=np.array([0, 4]),
            v=np.full(4, 40.0),
            a=np.zeros(4),
            mu=400.0 / target,
            c=target,
            lo=np.zeros(4),
            hi=np.full(4, current),
            g=np.ones(1),
            k=np.zeros(1),
            zlo=np.full(1, 120.0 * current),
            zhi=np.full(1, 160.0 * current),
            power_w=1280.0,
            rho=100.0,
        )
    )
    q = solve_fixed(fixed, engine).q
    np.testing.assert_allclose(q, [10.667, 9.481, 7.111, 4.741], atol=1e-3)
    np.testing.assert_allclose((q / current).sum(), 3.0, atol=1e-9)


def test_band_of_the_schedule_where_a_switching_costs_what_it_saves() -> None:
    site = energy_site(12, 2, 0.13, Chemistry.NMC, 1)
    duty, volts = np.array([0.85]), np.array([44.0])
    a, share = 1.0 * 0.85 * 0.15 / (10.0 / 3600.0), 18.0 * (10.0 / 3600.0) / 40.0
    b = 10.0 / 6.0 * 44.0 * 18.0 * share**2
    assert a == pytest.approx(45.9)
    assert share == pytest.approx(0.00125)
    assert b == pytest.approx(0.00206, rel=2e-3)
    assert (a / (2.0 * b)) ** (1.0 / 3.0) == pytest.approx(22.3, abs=0.1)
    # 0.8 % of what is left comes before, until little is left
    assert band_slots(site, duty, np.array([40.0]), volts, 18.0)[0] == pytest.approx(6.4)
    assert band_slots(site, duty, np.array([1.0]), volts, 18.0)[0] == 1.0
    free = replace(site, economics=replace(site.economics, switching_price_per_event=0.0))
    assert band_slots(free, duty, np.array([40.0]), volts, 18.0)[0] == 1.0


DOC = Path(__file__).parents[3] / "docs" / "allocation.md"


def said(text: str) -> bool:
    """Whether the page says so, whatever its line breaks."""
    return " ".join(text.split()) in " ".join(DOC.read_text(encoding="utf-8").split())


def model_at(power_w: float = 6000.0) -> tuple[Model, AllocationInput]:
    site, asked = draw_case(24, 1, 5)
    return build(site, replace(asked, request=replace(asked.request, power_w=power_w))), asked


def test_figures_of_the_model_section() -> None:
    model, _ = model_at()
    one = replace(model, resistance_ohm=np.full(24, 0.018), loss_fixed_w=np.zeros(1))
    one = replace(
        one, loss_linear_frac=np.zeros(1), loss_quadratic_ohm=np.zeros(1), r_on_ohm=np.array([0.012])
    )
    current, q, none = np.array([15.0]), np.full(24, 13.5), np.zeros(24)
    modules = loss_w(replace(one, r_on_ohm=np.zeros(1)), current, q, none, np.zeros(1))
    assert modules == pytest.approx(87.48)
    assert loss_w(one, current, q, none, np.zeros(1)) - modules == pytest.approx(2.7)
    assert said("loses 24*0.018*15*13.5 = 87.5 W in its modules and 24*0.0005*15^2 = 2.7 W in its switches")
    # linear in duty: half the time 20 A, not all the time 10 A
    single = replace(one, resistance_ohm=np.full(24, 0.010), r_on_ohm=np.zeros(1))
    half = np.zeros(24)
    half[0] = 10.0
    assert loss_w(single, np.array([20.0]), half, none, np.zeros(1)) == pytest.approx(2.0)
    assert said("10 mOhm, 20 A, duty 0.5 lose 0.010*20*10 = 2 W")


def test_figures_of_wear_and_unserved_power() -> None:
    site, asked = draw_case(24, 1, 5)
    estimate = replace(
        asked.estimate,
        capacity_ah=0.8 * site.topology.rated_capacity_ah,
        temperature_degc=np.full(24, 35.0),
        ocv_v=np.full(24, 44.0),
    )
    model = build(site, replace(asked, estimate=estimate))
    np.testing.assert_allclose(model.price_w_per_a, 33.0)
    assert model.unserved_price == pytest.approx(100.0)
    assert said("0.3*44*2/0.8 = 33 W/A. An unserved watt at 10 per kWh costs 100 W")


def test_figures_of_the_balance_weight() -> None:
    model, _ = model_at()
    i = int(np.argmax(model.target_a))
    power = float(model.target_a[i] * model.emf_v[i])
    for ahead, share in ((0.13, 0.0845), (0.01, 0.0005)):
        cost = 0.5 * float(model.weight_w_per_a2[i]) * (ahead * float(model.target_a[i])) ** 2
        assert cost / power == pytest.approx(share)
    assert said("costs 5*0.13^2 = 8.5 % of its power")
    assert said("one 1 % ahead costs 0.05 %")


def test_figures_of_the_certificate() -> None:
    assert pytest.approx(0.008) == 0.010 * 8.0 * 0.1
    assert said("gives away at most 0.010*8*0.1 = 8 mW")
    # 43 V modules without resistance: a window from 815 V needs 19 of them
    rows = np.zeros((12, 24))
    rows[0], rows[5] = 43.0, 90.0
    string = np.array([815.0, 1200.0, 0.0, 0.0, 0.0, 43.0])
    assert needed(rows, 0, 24, string, 1.0, 10.0, 10.1, np.empty(24)) == 19.0
    assert 19 * 43 == 817
    assert said("no slot has fewer than 19 modules (18*43 = 774)")
    assert pytest.approx(83.3, abs=0.1) == 500.0 * (10.0 - 8.0) / (20.0 - 8.0)
    assert said("500*(10 - 8)/(20 - 8) = 83 W")


def test_figures_of_the_intervals_ahead() -> None:
    assert weight_factor(0.9) == pytest.approx(0.29, abs=0.005)
    assert weight_factor(0.5) == pytest.approx(0.02)
    assert said("0.29 at nine tenths, 0.02 (its floor) at half")
    model, _ = model_at(6.0)
    free = np.full(24, 90.0)
    model = replace(
        model, target_a=np.full(24, 6.0), limit_now_a=free, limit_avg_a=free, slot_min_v=np.zeros(1)
    )
    limits = free.copy()
    limits[3] = 10.0
    beta = share_factors(replace(model, limit_avg_a=limits), np.array([6.0, 18.0]))
    # in this interval the current caps it: all modules are in all the time at 6 A
    assert beta[3] == pytest.approx(BETA_MAX)
    assert pytest.approx(2.33, abs=0.005) == (24.0 - 10.0) / 6.0
    assert said("`6*beta + 10 = 24` gives `beta = 2.33`")


def test_figures_of_the_table_and_the_band_stand_on_the_page() -> None:
    for row in (
        "| 14 | 10.67 | 1.000 |",
        "| 8 | 9.48 | 0.889 |",
        "| 6 | 7.11 | 0.667 |",
        "| 4 | 4.74 | 0.444 |",
    ):
        assert said(row)
    assert said("a = 45.9 W, one slot is 18*10/3600/40 = 0.125 % of the charge, b = 2.06 mW, B = 22 slots")
    assert pytest.approx(0.84) == 0.92 * 1.0 - (1.0 - 0.92)
    assert said("with eta = 0.92 and theta = 1 that is 0.84 to 1")
    assert pytest.approx(8.1, abs=0.05) == 0.74 * 8750.0 * 0.020 / (0.020 * 800.0)
    assert said("8.75 kW at 800 V give 8.1 V, 1.0 %")
