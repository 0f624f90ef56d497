"""The reduced anode model: what it must conserve, and where a closed form is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reconf.electrochem import anode
from reconf.electrochem.anode import AnodeModel
from reconf.electrochem.parameters import FARADAY, GAS_CONSTANT, SETS, load_anode_set
from reconf.errors import ParameterError


def one(value):
    return np.array([value], dtype=np.float64)


def run(model, state, rate, kelvin, dt_s, steps):
    for _ in range(steps):
        state, _ = model.step(state, one(rate), one(kelvin), dt_s)
    return state


def salt_per_area(model, state):
    return float((state.salt * model.porosity * model.width).sum())


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("rate", [0.4, -0.4])
def test_particles_gain_what_the_current_brings(name, rate):
    model = AnodeModel(load_anode_set(name))
    state = run(model, model.rested(one(0.5)), rate, 298.15, 10.0, 60)
    assert model.soc_frac(state)[0] == pytest.approx(0.5 + rate * 600.0 / 3600.0, abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_salt_is_conserved(name):
    model = AnodeModel(load_anode_set(name))
    start = model.rested(one(0.3))
    state = run(model, start, 0.4, 283.15, 10.0, 60)
    assert np.ptp(state.salt) > 20.0
    assert salt_per_area(model, state) == pytest.approx(salt_per_area(model, start), rel=1e-9)


def test_lithium_moves_between_slices_but_none_is_lost_at_rest():
    model = AnodeModel(load_anode_set("Chen2020"))
    charged = run(model, model.rested(one(0.3)), 0.8, 298.15, 10.0, 90)
    unequal = np.ptp(charged.x[0].mean(axis=1))
    rested = run(model, charged, 0.0, 298.15, 60.0, 120)
    assert model.soc_frac(rested)[0] == pytest.approx(model.soc_frac(charged)[0], abs=1e-6)
    assert np.ptp(rested.x[0].mean(axis=1)) < 0.9 * unequal  # slowly: graphite has a flat plateau
    assert np.ptp(rested.salt) < 0.05 * np.ptp(charged.salt)


@pytest.mark.parametrize("name", SETS)
def test_rest_stays_at_rest_at_the_open_circuit_potential(name):
    p = load_anode_set(name)
    model = AnodeModel(p)
    start = model.rested(one(0.6))
    state, potential = model.step(start, one(0.0), one(298.15), 600.0)
    assert state.x == pytest.approx(start.x, abs=1e-9)
    assert state.salt == pytest.approx(start.salt, rel=1e-9)
    x = p.x_empty + 0.6 * (p.x_full - p.x_empty)
    assert potential[0] == pytest.approx(np.interp(x, p.x_grid, p.potential_v), abs=1e-6)


def test_without_ionic_resistance_the_potential_is_that_of_butler_and_volmer(monkeypatch):
    """With perfect conduction all slices act as one, and asinh gives the overpotential."""
    p = load_anode_set("Chen2020")
    p = replace(p, conductivity=p.conductivity * 1e6, film_ohm_m2=0.01)
    model = AnodeModel(p)
    kelvin, rate, soc = 285.15, 0.7, 0.5
    state = model.rested(one(soc))
    reaction, potential = model.solve(state, one(rate), one(kelvin))
    j = rate * p.charge_c_per_m2 / 3600.0 / (p.specific_area * p.thickness_m[0])
    assert reaction[0] == pytest.approx(np.full(anode.NODES, j), rel=1e-4)
    warm = np.exp(-p.diffusivity_j_per_mol / GAS_CONSTANT * (1 / kelvin - 1 / 298.15))
    x = p.x_empty + soc * (p.x_full - p.x_empty)
    diffusivity = np.exp(np.interp(x, p.x_grid, p.log_diffusivity)) * warm
    surface = x + j * model.surface_gap_m / (FARADAY * diffusivity * p.concentration_max)
    i0 = np.interp(surface, p.x_grid, p.exchange_a_per_m2)
    i0 *= np.exp(-p.exchange_j_per_mol / GAS_CONSTANT * (1 / kelvin - 1 / 298.15))
    eta = 2 * GAS_CONSTANT * kelvin / FARADAY * np.arcsinh(j / (2 * i0))
    want = np.interp(surface, p.x_grid, p.potential_v) - eta - 0.01 * j
    assert potential[0] == pytest.approx(want, abs=5e-5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kelvin", [263.15, 298.15])
def test_more_charge_current_means_a_lower_potential(name, kelvin):
    model = AnodeModel(load_anode_set(name))
    rate = np.linspace(0.0, 0.8, 9)
    state = model.rested(np.full(9, 0.6))
    _, potential = model.step(state, rate, np.full(9, kelvin), 60.0)
    assert (np.diff(potential) < 0).all()


def test_cold_lowers_the_potential():
    model = AnodeModel(load_anode_set("OKane2022"))
    kelvin = np.linspace(258.0, 318.0, 7)
    state, rate = model.rested(np.full(7, 0.5)), np.full(7, 0.3)
    for _ in range(20):
        state, potential = model.step(state, rate, kelvin, 30.0)
    assert (np.diff(potential) > 0).all()


def test_halving_the_steps_changes_the_potential_by_less_than_a_millivolt():
    model = AnodeModel(load_anode_set("Ecker2015"))
    ends = []
    for dt_s in (20.0, 10.0):
        state = run(model, model.rested(one(0.2)), 0.6, 298.15, dt_s, int(1200 / dt_s))
        ends.append(model.solve(state, one(0.6), one(298.15))[1][0])
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)


def test_steep_potentials_of_an_empty_anode_do_not_make_the_slices_swing():
    model = AnodeModel(load_anode_set("Ecker2015"))
    state = run(model, model.rested(one(0.02)), 1.5, 313.15, 12.0, 30)
    assert (state.reaction > 0.0).all()
    assert (np.diff(state.x[0, :, -1]) <= 1e-9).all()


def test_a_starved_electrolyte_promises_nothing():
    model = AnodeModel(load_anode_set("Chen2020"))
    state = model.rested(one(0.5))
    starved = replace(state, salt=np.full_like(state.salt, 1.0))
    assert model.solve(starved, one(0.1), one(298.15))[1][0] == anode.LOST_V


def test_a_shifted_state_keeps_its_gradients():
    model = AnodeModel(load_anode_set("Chen2020"))
    charged = run(model, model.rested(one(0.3)), 0.8, 298.15, 10.0, 30)
    moved = model.shifted(charged, one(0.7))
    assert model.soc_frac(moved)[0] == pytest.approx(0.7)
    assert np.diff(moved.x, axis=2) == pytest.approx(np.diff(charged.x, axis=2))


def test_an_unknown_set_is_told():
    with pytest.raises(ParameterError, match="Chen2020"):
        load_anode_set("nobody")
