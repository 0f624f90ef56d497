"""The worked examples of docs/allocation.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.energy_site import energy_site
from optimizer.fixed import Fixed, checked
from optimizer.schedule_string import band_slots
from optimizer.structured import Engine, solve_fixed
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
