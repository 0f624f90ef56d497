"""The plating table as it is read: what it promises, and that it never jumps."""

from __future__ import annotations

import numpy as np
import pytest
from counting import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.plating_follow import LOWEST_RATE_PER_H, POTENTIAL_TOLERANCE_V, Charge, aged, follow, trace
from edge.plating_table import MARGIN_V, SOC_NODES, bridged, table_of
from reconf.electrochem.parameters import SETS, load_anode_set
from reconf.protection.plating import charge_limit_a, margin_v, plating_table

FRAC = st.floats(0.0, 1.0)
DEGC = st.floats(-30.0, 60.0)
ONE = np.ones(1)


def limit(soc, degc, soh=1.0):
    return float(charge_limit_a(soc * ONE, degc * ONE, ONE, soh)[0])


def test_the_shipped_table_is_of_all_sets_and_says_what_made_it():
    table = plating_table()
    assert table.margin_v == MARGIN_V
    assert table.log_rate.shape == (len(table.soh_frac), len(table.temperature_k), len(table.soc_frac))
    assert (np.diff(table.log_rate, axis=2) <= 0).all()
    assert (np.diff(table.log_rate, axis=1) >= 0).all()
    assert (np.diff(table.log_rate, axis=0) >= 0).all()


# Highest constant rate from 20 to 80 % SOC without a margin, fresh cells, single-particle model with
# electrolyte: of the sets of Chen 2020 and O'Kane 2022, whichever is lower.
CONSTANT_RATE = {263.15: 0.16, 273.15: 0.25, 283.15: 0.38, 298.15: 0.66, 313.15: 0.91}


@pytest.mark.parametrize(("kelvin", "rate"), CONSTANT_RATE.items())
def test_the_limit_is_a_margin_below_the_lowest_constant_rate(kelvin, rate):
    assert 0.7 * rate < limit(0.8, kelvin - 273.15) < 0.95 * rate


@given(FRAC, FRAC, DEGC, DEGC, st.floats(0.5, 1.1), st.floats(0.5, 1.1))
@settings(max_examples=200, deadline=None)
def test_doubt_about_anything_only_lowers_the_limit(z1, z2, t1, t2, s1, s2):
    sure = limit(min(z1, z2), max(t1, t2), max(s1, s2))
    assert limit(max(z1, z2), min(t1, t2), min(s1, s2)) <= sure + 1e-12


@given(FRAC, DEGC, st.floats(0.6, 1.0))
@settings(max_examples=200, deadline=None)
def test_small_changes_of_the_readings_change_the_limit_little(soc, degc, soh):
    here = limit(soc, degc, soh)
    near = limit(min(soc + 1e-3, 1.0), degc - 0.05, soh)
    assert here - near <= 0.05 * here + 0.01


def test_where_nothing_is_known_nothing_is_allowed():
    assert limit(0.5, -100.0) == 0.0
    assert limit(0.5, -25.0) == 0.0
    assert np.isnan(limit(np.nan, 20.0))


def test_the_oldest_anodes_get_the_least():
    assert limit(0.8, 25.0, 0.7) < 0.8 * limit(0.8, 25.0, 1.0)
    assert limit(0.8, 25.0, 0.5) == limit(0.8, 25.0, 0.7)


def test_at_its_limit_a_module_has_the_margin_left_and_beyond_it_less():
    soc, degc = np.linspace(0.1, 0.95, 18), np.full(18, 10.0)
    allowed = charge_limit_a(soc, degc, np.ones(18))
    at_limit = margin_v(soc, degc, allowed, allowed)
    assert (at_limit >= MARGIN_V - 0.004).all()
    half, more, rest = (margin_v(soc, degc, k * allowed, allowed) for k in (0.5, 3.0, 0.0))
    assert (half > at_limit).all()
    assert (more < 0.0).all()
    assert (rest > half).all()
    assert margin_v(soc, degc, -allowed, allowed) == pytest.approx(rest)


def test_a_thousand_modules_take_no_more_calls_than_ten():
    rng = np.random.default_rng(1)

    def calls(modules):
        soc, degc = rng.uniform(0, 1, modules), rng.uniform(-20, 45, modules)
        capacity = np.full(modules, 60.0)

        def both():
            allowed = charge_limit_a(soc, degc, capacity, 0.8)
            margin_v(soc, degc, 0.5 * allowed, allowed)

        return calls_of(both)

    calls(2)  # what is made once
    assert calls(1000) <= calls(10) < 500


# ---- how the table is made -----------------------------------------------------------------------------


def test_a_table_is_nowhere_above_what_it_was_made_from():
    soc = np.linspace(0.025, 0.995, 195)
    rng = np.random.default_rng(3)
    kelvin = np.arange(5.0)
    rate = np.exp(-2.0 * soc[:, None] + 0.3 * kelvin + 0.1 * rng.standard_normal((195, 5)))
    table = table_of([Charge(soc, np.minimum(rate, 1.5), np.zeros_like(rate))])
    assert table.shape == (3, len(SOC_NODES))
    inside = soc >= SOC_NODES[0]
    for row in range(5):
        two = np.log(table[[row // 2, (row + 1) // 2]]).mean(axis=0)
        read = np.exp(np.interp(soc[inside], SOC_NODES, two))
        assert (read <= np.minimum(rate[inside, row], 1.5) * (1 + 1e-6)).all()


def test_following_keeps_the_margin_and_half_the_rate_keeps_more():
    parameters, kelvin = load_anode_set("OKane2022"), np.array([273.15, 298.15])
    charge = follow(parameters, kelvin, MARGIN_V)
    found = np.isfinite(charge.rate_per_h)
    assert charge.potential_v[found].min() >= MARGIN_V - POTENTIAL_TOLERANCE_V
    assert found[:20].mean() > 0.8
    assert found[20:].all()
    assert np.nanmin(charge.rate_per_h) > LOWEST_RATE_PER_H
    binding = charge.rate_per_h[100:] < 1.49
    assert (charge.potential_v[100:][binding] < MARGIN_V + 0.001).all()
    half = trace(parameters, kelvin, 0.5 * bridged(charge.rate_per_h))
    assert (half.potential_v > charge.potential_v).mean() > 0.95


@pytest.mark.parametrize("name", SETS)
def test_age_thickens_the_film_and_closes_pores(name):
    fresh = load_anode_set(name)
    old = aged(fresh, 0.7)
    assert old.film_ohm_m2 > fresh.film_ohm_m2
    assert old.porosity[0] == pytest.approx(0.9 * fresh.porosity[0])
    assert (old.porosity[1:] == fresh.porosity[1:]).all()
    assert aged(fresh, 1.0).tortuosity == pytest.approx(fresh.tortuosity)
