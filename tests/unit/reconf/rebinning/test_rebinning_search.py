"""Moves that pay: against brute force, within the doubt, within labour, and only where modules fit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from reconf.binning.assign import Layout, assign
from reconf.binning.compare import Ageing
from reconf.binning.energy import Trim, string_charge_ah, string_energy_wh, trimmed_charge_ah
from reconf.binning.lot import Lot, ModuleKind
from reconf.errors import ParameterError
from reconf.rebinning.pack import Pack, StringHardware
from reconf.rebinning.search import Terms, search
from reconf.rebinning.sharing import sharing
from reconf.rebinning.steps import arrangement_after, steps_between
from reconf.rebinning.worth import draw_truths, life_mean_wh, site_worth_wh
from reconf.site import Chemistry

NMC = ModuleKind(Chemistry.NMC, "nmc_generic", 12, 1, 60.0)
LFP = ModuleKind(Chemistry.LFP, "lfp_generic", 12, 1, 60.0)
FREE = Terms(value_per_kwh=0.1, cycles_per_year=250, years=5, cost_per_position=0.0, confidence=0.5)
AGEING = Ageing(0.02, 0.0, 5)


def pack_of(capacity, strings, std=1e-6, spares=0, trim=None, shelf=(), kinds=None):
    capacity = np.array([*np.ravel(capacity), *shelf], dtype=float)
    m, n = len(capacity), (len(capacity) - len(shelf)) // strings
    kinds = kinds or [NMC] * m
    listed = tuple(dict.fromkeys(kinds))
    lot = Lot(
        serials=tuple(f"M{i}" for i in range(m)), kinds=listed,
        kind_of=np.array([listed.index(k) for k in kinds]), capacity_ah=capacity,
        capacity_std_ah=np.full(m, float(std)), resistance_ohm=np.full(m, 0.01), voltage_v=np.full(m, 44.0),
        rated_capacity_ah=np.full(m, 60.0), resistance_scale=np.ones(m),
    )  # fmt: skip
    hardware = tuple(StringHardware(f"S{s}", spares, trim or Trim(0.0, 1.0), 20.0) for s in range(strings))
    held = tuple(np.arange(s * n, (s + 1) * n) for s in range(strings))
    return Pack(lot, np.full(m, 1e-6), np.ones(m, dtype=bool), hardware, held, np.arange(strings * n, m))


def truths_of(pack, draws=60, seed=0):
    return draw_truths(pack, AGEING, draws, np.random.default_rng(seed))


def energy_kwh(pack, held):
    return float(site_worth_wh(pack, truths_of(pack), held)[:, 0].mean()) / 1e3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2]))
def test_with_labour_for_nothing_the_sorted_arrangement_is_reached(seed, spares):
    rng = np.random.default_rng(seed)
    pack = pack_of(rng.uniform(30, 60, 24), 3, spares=spares)
    found = search(pack, truths_of(pack), FREE)
    plan = assign(pack.lot, Layout(3, 8, 1, spares, 20.0), pack.lot.capacity_ah)
    best = energy_kwh(pack, tuple(plan.index[s, :, 0] for s in range(3)))
    assert energy_kwh(pack, found.held) >= best * (1.0 - 2e-3)
    assert sorted(int(m) for row in found.held for m in row) == list(range(24))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.5), st.floats(0.5, 1.0), st.integers(0, 2))
def test_trimmed_charge_is_the_linear_programme(seed, share, efficiency, spares):
    r = np.random.default_rng(seed).uniform(10, 60, 6)
    n = len(r)
    # x = string share s (n), give (n), take (n), q:  maximise q
    cost = np.r_[np.zeros(3 * n), -1.0]
    a, b = [], []
    for i in range(n):
        row = np.zeros(3 * n + 1)
        row[[i, n + i]], row[2 * n + i] = 1.0, -1.0
        a.append(row)
        b.append(r[i])
        for k, limit in ((i, 1.0), (n + i, share), (2 * n + i, share)):
            row = np.zeros(3 * n + 1)
            row[k], row[-1] = 1.0, -limit
            a.append(row)
            b.append(0.0)
    bus = np.r_[np.zeros(n), -efficiency * np.ones(n), np.ones(n), 0.0]
    carry = np.r_[-np.ones(n), np.zeros(2 * n), n - spares]
    want = linprog(cost, A_ub=np.vstack([*a, bus, carry]), b_ub=[*b, 0.0, 0.0], bounds=(0, None))
    got = float(trimmed_charge_ah(r, spares, Trim(share, efficiency)))
    assert got == pytest.approx(-want.fun, rel=1e-6)
    assert got >= float(string_charge_ah(r, spares)) - 1e-9


def test_trim_adds_nothing_that_is_not_in_the_modules():
    r = np.array([20.0, 40.0, 50.0, 60.0])
    energy = string_energy_wh(r, np.full(4, 40.0), 0, Trim(5.0, 1.0))
    assert float(energy) == pytest.approx(40.0 * r.sum(), rel=1e-6)


def test_a_gain_within_the_doubt_is_not_proposed():
    capacity = np.r_[[50.0, 50.0, 50.0, 49.0], [50.0, 50.0, 50.0, 49.4]]
    sure, unsure = pack_of(capacity, 2, std=0.01), pack_of(capacity, 2, std=3.0)
    terms = replace(FREE, confidence=0.9)
    assert search(sure, truths_of(sure, 200), terms).taken
    found = search(unsure, truths_of(unsure, 200), terms)
    assert found.taken == ()
    assert found.doubtful > 0


def test_a_move_that_costs_more_than_it_earns_is_not_proposed():
    pack = pack_of(np.r_[[50.0] * 5, 40.0, [50.0] * 5, 41.0], 2)
    dear = replace(FREE, cost_per_position=1000.0)
    assert search(pack, truths_of(pack), FREE).taken
    found = search(pack, truths_of(pack), dear)
    assert found.taken == ()
    assert found.unpaid > 0


def test_joint_moves_are_found_where_single_ones_gain_nothing():
    # two equally weak modules in each string: only when both leave does a string gain
    pack = pack_of(np.r_[[50.0] * 4, 40.0, 40.0, [50.0] * 4, 40.0, 40.0], 2)
    found = search(pack, truths_of(pack), FREE)
    weak = [sum(pack.lot.capacity_ah[m] < 45.0 for m in row) for row in found.held]
    assert sorted(weak) == [0, 4]


def test_chemistries_stay_apart_and_the_shelf_helps_only_where_it_fits():
    kinds = [NMC] * 4 + [LFP] * 4 + [LFP, NMC]
    pack = pack_of(np.r_[30.0, 50, 50, 50, 30, 50, 50, 50], 2, shelf=(55.0, 55.0), kinds=kinds)
    found = search(pack, truths_of(pack), FREE)
    for row in found.held:
        assert len({pack.lot.kind_of[m] for m in row}) == 1
    assert 9 in found.held[0]
    assert 8 in found.held[1]
    assert sorted(found.shelf) == [0, 4]


def test_positions_are_counted_once_and_bounded():
    rng = np.random.default_rng(4)
    pack = pack_of(rng.uniform(30, 60, 24), 2)
    few = search(pack, truths_of(pack), replace(FREE, positions_max=4))
    opened = sum(int((a != b).sum()) for a, b in zip(pack.held, few.held, strict=True))
    assert 0 < opened <= 4
    assert opened == sum(t.positions for t in few.taken)


def test_reported_gains_add_up():
    rng = np.random.default_rng(5)
    pack = pack_of(rng.uniform(30, 60, 24), 3, std=1.0)
    truths = truths_of(pack, 100)
    found = search(pack, truths, replace(FREE, confidence=0.9))
    whole = site_worth_wh(pack, truths, found.held) - site_worth_wh(pack, truths, pack.held)
    assert np.allclose(sum(t.gain_life_wh for t in found.taken), life_mean_wh(whole))
    assert all(float((t.gain_life_wh > 0).mean()) >= 0.9 for t in found.taken)


def test_sharing_gives_every_string_what_it_holds():
    pack = pack_of(np.r_[[50.0] * 6, [25.0] * 6], 2, spares=2)
    shares = sharing(pack, pack.held)
    assert [round(s.share_frac, 3) for s in shares.strings] == [0.667, 0.333]
    assert shares.alike_wh == pytest.approx(2 * shares.strings[1].energy_wh)
    assert shares.energy_wh > shares.alike_wh
    for share in shares.strings:
        assert share.duty_frac.sum() == pytest.approx(4.0)


def test_a_useless_module_can_be_spared():
    pack = pack_of(np.r_[[50.0] * 5, 0.1], 1, spares=1)
    (share,) = sharing(pack, pack.held).strings
    assert list(share.can_be_spared) == [5]


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(9)))
def test_steps_lead_from_one_arrangement_to_the_other(order):
    now = {f"P{k}": f"M{k}" for k in range(6)}
    wanted = {f"P{k}": f"M{order[k]}" for k in range(6)}  # M6..M8 lie on the shelf
    steps = steps_between(now, wanted)
    assert arrangement_after(now, steps) == wanted
    back = arrangement_after(wanted, [s.undone() for s in reversed(steps)])
    assert back == now
    opened = sum(now[p] != wanted[p] for p in now)
    assert sum(s.kind == "replace" for s in steps) == sum(m not in now.values() for m in wanted.values())
    assert len(steps) <= opened


def test_steps_that_do_not_fit_what_is_there_are_refused():
    now = {"A": "M1", "B": "M2"}
    steps = steps_between(now, {"A": "M2", "B": "M1"})
    with pytest.raises(ParameterError, match="step 1"):
        arrangement_after({"A": "M3", "B": "M2"}, steps)
    with pytest.raises(ParameterError):
        steps_between(now, {"A": "M1"})
    with pytest.raises(ParameterError):
        steps_between(now, {"A": "M1", "B": "M1"})
