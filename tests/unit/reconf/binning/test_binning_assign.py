"""Binning against brute force, against a linear program, and against its own bound."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from reconf.binning.assign import Layout, Objective, assign, group_bound_frac, group_gap_frac, sort_key
from reconf.binning.compare import Ageing, assigned_energy_wh, compare, loaded, plan_energy_wh
from reconf.binning.energy import string_charge_ah, string_energy_wh
from reconf.binning.lot import lot_from_rows
from reconf.errors import DataFileError, ParameterError


def lot_of(capacities, **columns):
    rows = [
        {
            "serial": f"M{i}",
            "capacity_ah": float(c),
            "rated_capacity_ah": 60,
            **{k: v[i] for k, v in columns.items()},
        }
        for i, c in enumerate(capacities)
    ]
    return lot_from_rows("lot", rows)


def longest_run_by_lp(capacity, spares):
    """max q with 0 <= q_i <= min(r_i, q), sum q_i = (N - m) q: q_i is d_i·I·T."""
    n = len(capacity)
    cost = np.zeros(n + 1)
    cost[-1] = -1.0
    upper = np.hstack([np.eye(n), -np.ones((n, 1))])
    equal = np.concatenate([np.ones(n), [-(n - spares)]])[None]
    got = linprog(cost, upper, np.zeros(n), equal, [0.0], [*((0.0, c) for c in capacity), (0, None)])
    assert got.success
    return got.x[-1]


@pytest.mark.parametrize("spares", [0, 1, 2, 5])
def test_the_closed_form_is_the_linear_program(spares):
    rng = np.random.default_rng(spares)
    for _ in range(10):
        capacity = rng.uniform(5.0, 60.0, 9)
        assert string_charge_ah(capacity, spares) == pytest.approx(
            longest_run_by_lp(capacity, spares), rel=1e-7
        )


def test_a_dead_module_costs_a_fixed_string_everything_and_a_shared_one_nothing_but_itself():
    capacity = np.array([0.0, 50.0, 50.0, 50.0])
    assert string_energy_wh(capacity, np.ones(4), 0) == 0.0
    assert string_energy_wh(capacity, np.ones(4), 1) == pytest.approx(150.0)


def test_sort_and_cut_is_the_best_of_all_assignments():
    rng = np.random.default_rng(3)
    layout = Layout(2, 3)
    for _ in range(5):
        lot = lot_of(rng.uniform(20.0, 60.0, 7))
        plan = assign(lot, layout, lot.capacity_ah)
        energy, bound = plan_energy_wh(lot, layout, plan)
        rows = np.array(list(permutations(range(7), 6))).reshape(-1, 2, 3)
        best = (3 * lot.capacity_ah[rows].min(axis=2)).sum(axis=1).max() * lot.voltage_v[0]
        assert energy == pytest.approx(best, rel=1e-12)
        assert bound == pytest.approx(best, rel=1e-12)


def test_nothing_passes_the_bound_and_the_shared_plan_comes_close():
    rng = np.random.default_rng(4)
    lot = lot_of(rng.uniform(25.0, 60.0, 60), resistance_ohm=rng.uniform(0.001, 0.004, 60))
    layout = Layout(4, 12, 1, 2, current_a=15.0)
    energy, bound = plan_energy_wh(lot, layout, assign(lot, layout, lot.capacity_ah))
    assert energy <= bound * (1 + 1e-12)
    assert energy > 0.99 * bound
    volts = loaded(lot, layout)
    for _ in range(200):
        chance = assign(lot, layout, rng.random(60))
        assert assigned_energy_wh(chance, layout, lot.capacity_ah, volts, 2).sum() <= bound * (1 + 1e-12)


def test_parallel_groups_come_close_to_the_mean_that_none_can_beat():
    rng = np.random.default_rng(5)
    lot = lot_of(rng.uniform(20.0, 60.0, 96))
    layout = Layout(2, 12, 4)
    plan = assign(lot, layout, lot.capacity_ah)
    gap = group_gap_frac(lot.capacity_ah[plan.index])
    assert gap < 0.02
    assert sorted([*plan.index.ravel(), *plan.shelf]) == list(range(96))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 5))
def test_filling_in_rounds_keeps_its_proven_bound_and_pairs_are_exact(seed, parallel, length):
    rng = np.random.default_rng(seed)
    lot = lot_of(rng.uniform(10.0, 60.0, length * parallel))
    plan = assign(lot, Layout(1, length, parallel), lot.capacity_ah)
    filled = lot.capacity_ah[plan.index]
    assert group_gap_frac(filled) <= group_bound_frac(filled) + 1e-12
    if parallel == 2 and length <= 3:
        found = float(filled.sum(axis=2).min())
        orders = (list(order) for order in permutations(range(2 * length)))
        best = max(float(lot.capacity_ah[o].reshape(length, 2).sum(axis=1).min()) for o in orders)
        assert found == pytest.approx(best)


def test_each_string_is_of_one_voltage_and_the_better_kind_is_taken():
    cells = [6] * 10 + [12] * 10
    lot = lot_of(np.full(20, 40.0), n_cells=cells)
    plan = assign(lot, Layout(2, 5), lot.capacity_ah)
    assert {cells[i] for i in plan.index.ravel()} == {12}
    with pytest.raises(ParameterError, match="fills 4"):
        assign(lot, Layout(5, 4), lot.capacity_ah)


def test_a_doubtful_module_counts_less():
    lot = lot_of([50.0, 50.0, 49.0], soh_std_frac=[0.01, 0.08, 0.01])
    assert list(np.argsort(-sort_key(lot, Objective.ENERGY, 1.28, 0.02, 10))) == [0, 2, 1]
    assert list(np.argsort(-sort_key(lot, Objective.ENERGY, 0.0, 0.02, 10), kind="stable"))[-1] == 2


def test_power_sorts_by_resistance_where_that_limits():
    lot = lot_of([50.0, 50.0, 50.0], resistance_ohm=[0.002, 0.004, 0.003])
    assert list(np.argsort(-sort_key(lot, Objective.POWER, 0.0, 0.0, 1))) == [0, 2, 1]


def test_the_strongest_sit_where_it_is_warmest():
    lot = lot_of(np.linspace(30.0, 50.0, 6))
    layout = Layout(1, 6, rack_gradient_k=6.0)
    plan = assign(lot, layout, lot.capacity_ah)
    assert (np.diff(lot.capacity_ah[plan.index[0, :, 0]]) > 0).all()
    assert layout.warmth_k()[-1] == 3.0


def test_sorting_wins_now_and_time_sharing_wins_for_life():
    rng = np.random.default_rng(6)
    lot = lot_of(np.clip(rng.normal(48.0, 6.0, 48), 30, 60))
    layout = Layout(4, 12, 1, 2)
    plan = assign(lot, layout, lot.capacity_ah)
    got = compare(lot, layout, plan, plan, Ageing(0.02, 0.5, 10), 20, rng)
    now = {w.name: w.energy_wh[:, 0].mean() for w in got.worth}
    late = {w.name: w.energy_wh[:, -1].mean() for w in got.worth}
    assert now["random_fixed"] < now["sorted_fixed"] < now["planned"]
    assert late["random_fixed"] < late["sorted_fixed"] < 0.95 * late["planned"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"serial": "A", "soh_frac": "0,8"}, "decimal comma"),
        ({"serial": "A", "soh_frac": "8"}, "outside"),
        ({"serial": "A", "chemistry": "LTO", "soh_frac": 0.8}, "none of LMO"),
        ({"serial": "", "soh_frac": 0.8}, "column serial"),
        ({"serial": "A"}, "column soh_frac"),
    ],
)
def test_bad_rows_are_named(row, message):
    with pytest.raises(DataFileError, match=message):
        lot_from_rows("lot.csv", [{"rated_capacity_ah": 60, **row}], [2])


def test_a_serial_stands_once():
    with pytest.raises(
        DataFileError, match=r"lot.csv:3: column serial: 'A' a second time, first at lot.csv:2"
    ):
        lot_from_rows("lot.csv", [{"serial": "A", "soh_frac": 0.8, "rated_capacity_ah": 60}] * 2, [2, 3])


def test_capacities_alone_make_one_kind():
    lot = lot_from_rows("lot", [{"ID": "a", "Q": "7.1"}, {"ID": "b", "Q": "6.4"}])
    assert len(lot.kinds) == 1
    assert lot.kinds[0].rated_capacity_ah == 7.1
