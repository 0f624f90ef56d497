"""Pieces of physics: voltage guard, thermal forecast, branches, knee."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from edge.bench.protect_site import bench_site, true_estimate
from reconf.cells import CellBank
from reconf.protection import branches, thermal
from reconf.protection.copper import KneeState, follow_knee, steeper_v_per_ah
from reconf.protection.voltage import current_to_voltage_a, group_model
from reconf.site import ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

# ---- voltage ---------------------------------------------------------------------------------------


def one(x):
    return np.array([float(x)])


def test_voltage_guard_by_hand():
    group = group_model(one(3.4), one(0.0), one(0.0), one(0.012), one(0.012), one(0.0), one(0.0), one(12.0))
    # 0.4 V over 1 mohm times the factor of the worst group
    assert current_to_voltage_a(group, one(3.0), 1.0, 0.0)[0] == pytest.approx(0.4 / (0.001 * 1.15))


def test_present_current_is_taken_off_the_reading():
    """A group read under load has the room of the same group at rest."""
    rest = group_model(one(3.4), one(0.0), one(0), one(0.012), one(0.012), one(0), one(0), one(12))
    load = group_model(one(3.4 - 0.05), one(50.0), one(0), one(0.012), one(0.012), one(0), one(0), one(12))
    at_rest, loaded = (current_to_voltage_a(g, one(3.0), 1.0, 10.0)[0] for g in (rest, load))
    assert loaded == pytest.approx(at_rest)


def test_no_room_gives_zero_not_negative():
    group = group_model(one(2.9), one(0.0), one(0), one(0.012), one(0.02), one(0), one(0.1), one(12))
    assert current_to_voltage_a(group, one(3.0), 1.0, 10.0)[0] == 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("soc", [0.02, 0.05, 0.5, 0.95, 0.98])
def test_the_allowed_current_keeps_the_true_cells_inside(sign, soc):
    """Held for the horizon in the twin, the limit is kept and, near the end, made good use of."""
    site = bench_site(24)
    truth = draw_truth(site, np.random.default_rng(3))
    plant = Plant(site, truth)
    plant.cells.soc_frac[:] = np.where(plant.bank.mask, soc, plant.cells.soc_frac)
    plant.step_alone(np.full(24, sign * 2.0), 5.0)
    estimate = true_estimate(plant)
    cell_v = estimate.cell_voltage_min_v if sign > 0 else estimate.cell_voltage_max_v
    group = group_model(
        cell_v,
        plant.true.module_current_a,
        estimate.polarisation_v,
        estimate.r0_ohm,
        estimate.resistance_ohm,
        estimate.resistance_std_ohm,
        estimate.ocv_slope_v_per_ah,
        np.full(24, 12.0),
    )
    limit = np.full(24, 3.0 if sign > 0 else 4.2)
    charge = estimate.remaining_ah if sign > 0 else estimate.chargeable_ah
    allowed = np.minimum(current_to_voltage_a(group, limit, sign, 15.0), charge * 3600.0 / 15.0)
    allowed = np.minimum(allowed, 2.0 * estimate.capacity_ah)
    plant.step_alone(sign * allowed, 15.0)
    cells = np.where(plant.bank.mask, plant.true.cell_voltage_v, np.nan)
    worst = np.nanmin(cells, axis=1) - 3.0 if sign > 0 else 4.2 - np.nanmax(cells, axis=1)
    assert worst.min() > -0.02
    if soc < 0.03 and sign > 0:
        assert np.median(worst) < 0.15


# ---- thermal ---------------------------------------------------------------------------------------


LONG = np.outer([300.0, 1800.0, 1800.0], np.ones(4))


@pytest.fixture(scope="module")
def bank():
    return CellBank.of(bench_site(4).modules)


def core_after(bank, core, surface, ambient, heat, seconds):
    def rates(_, x):
        flow = bank.conductance_core_surface_w_per_k[0] * (x[0] - x[1])
        out = bank.conductance_surface_ambient_w_per_k[0] * (x[1] - ambient)
        return [
            (heat - flow) / bank.heat_capacity_core_j_per_k[0],
            (flow - out) / bank.heat_capacity_surface_j_per_k[0],
        ]

    return solve_ivp(rates, (0.0, seconds), [core, surface], rtol=1e-9, atol=1e-9).y[0, -1]


@pytest.mark.parametrize(("core", "surface", "ambient"), [(25, 25, 25), (40, 36, 30), (30, 34, 45)])
def test_forecast_solves_the_two_nodes(bank, core, surface, ambient):
    full = np.full(4, 1.0)
    horizon = np.outer([300.0, 1800.0, 900.0], full)
    ahead = thermal.forecast(
        bank, core * full, surface * full, ambient * full, bank.conductance_surface_ambient_w_per_k, horizon
    )
    for h, seconds in enumerate(horizon[:, 0]):
        mine = ahead.free_degc[h, 0] + ahead.gain_k_per_w[h, 0] * 40.0
        assert mine == pytest.approx(core_after(bank, core, surface, ambient, 40.0, seconds), abs=1e-5)


def test_heat_limit_reaches_the_limit_and_no_more(bank):
    full = np.full(4, 1.0)
    outer = bank.conductance_surface_ambient_w_per_k
    ahead = thermal.forecast(bank, 40 * full, 38 * full, 35 * full, outer, LONG)
    for heat in ahead.heat_limits_w(48.0 * full):
        reached = [core_after(bank, 40, 38, 35, heat[0], t) for t in LONG[:, 0]]
        assert max(reached) == pytest.approx(48.0, abs=1e-4)


def test_what_is_soon_empty_may_make_more_heat(bank):
    full = np.full(4, 1.0)
    horizon = thermal.horizons_s(5.0 * full, 40.0 * full, 0.5 * full, 30.0 * full)
    assert horizon[0, 0] == thermal.SHORT_S
    assert horizon[1, 0] == pytest.approx(1.25 * 3600.0 * 6.0 / 30.0)
    assert horizon[2, 0] == thermal.LONG_S
    outer = bank.conductance_surface_ambient_w_per_k
    dis, cha = thermal.forecast(bank, 40 * full, 38 * full, 35 * full, outer, horizon).heat_limits_w(
        48 * full
    )
    assert (dis > cha).all()
    idle = thermal.horizons_s(5.0 * full, 40.0 * full, 0.5 * full, 0.0 * full)
    assert (idle[1:] == thermal.LONG_S).all()


def test_no_heat_is_allowed_when_the_air_is_too_warm(bank):
    full = np.full(4, 1.0)
    outer = bank.conductance_surface_ambient_w_per_k
    ahead = thermal.forecast(bank, 49 * full, 49 * full, 50 * full, outer, LONG)
    assert all((heat == 0.0).all() for heat in ahead.heat_limits_w(48.0 * full))


def test_horizon_is_at_least_twenty_minutes():
    assert thermal.LONG_S >= 1200.0


def test_closing_in_on_the_limit_is_smooth(bank):
    """Heat at the limit, asked again every 10 s for three hours: no overshoot, no jump."""
    full = np.full(4, 1.0)
    core, surface, heats = 30.0, 30.0, []
    k_cs, k_sa = bank.conductance_core_surface_w_per_k[0], bank.conductance_surface_ambient_w_per_k[0]
    for _ in range(1080):
        ahead = thermal.forecast(
            bank, core * full, surface * full, 40 * full, bank.conductance_surface_ambient_w_per_k, LONG
        )
        heats.append(float(ahead.heat_limits_w(48.0 * full)[0][0]))
        flow = k_cs * (core - surface)
        core += 10.0 * (heats[-1] - flow) / bank.heat_capacity_core_j_per_k[0]
        surface += 10.0 * (flow - k_sa * (surface - 40.0)) / bank.heat_capacity_surface_j_per_k[0]
        assert core < 48.0 + 1e-6
    steps = np.abs(np.diff(heats))
    assert steps.max() < 0.05 * max(heats)
    steady = 8.0 / (1.0 / k_cs + 1.0 / k_sa)
    assert heats[-1] == pytest.approx(steady, rel=0.05)


def test_average_current_keeps_the_heat():
    heat, ohm = np.array([40.0]), np.array([0.02])
    for string_a in (5.0, 44.72, 80.0, 200.0):
        q = thermal.average_current_a(heat, ohm, np.array([string_a]))[0]
        carried = max(string_a, q)
        assert q * carried * ohm[0] == pytest.approx(40.0, rel=1e-6)


def cooled(**change):
    return ThermalSpec(cooling="fan", cooling_min_run_s=120.0, cooling_ramp_s=30.0, **change)


def drive_cooling(bank, spec, heats, dt=10.0, ambient=30.0):
    full = np.full(4, 1.0)
    topology = bench_site(4).topology
    state, story = thermal.ThermalState.start(4), []
    for heat in heats:
        warmth = thermal.Warmth(
            core_degc=40 * full,
            surface_degc=38 * full,
            ambient_degc=ambient * full,
            limit_degc=48 * full,
            heat_w=heat * full,
            horizon_s=LONG,
        )
        state, _ = thermal.look_ahead(bank, topology, spec, state, warmth, dt)
        story.append(state.cooling_asked)
    return state, story


def test_cooling_is_asked_first_and_keeps_its_minimum_run(bank):
    hot = 1.2 * 18.0 * bank.conductance_surface_ambient_w_per_k[0]
    state, story = drive_cooling(bank, cooled(), [hot] * 200 + [0.0] * 200)
    assert True in story[:200]
    assert state.cooling_asked is False
    switches = np.flatnonzero(np.diff(np.array(story).astype(int)))
    assert len(switches) == 2
    assert (switches[1] - switches[0]) * 10.0 >= 120.0
    assert state.level_frac == 0.0


def test_cooling_allows_more_heat_than_none(bank):
    full = np.full(4, 1.0)
    topology = bench_site(4).topology
    warmth = thermal.Warmth(40 * full, 38 * full, 35 * full, 48 * full, 500.0 * full, LONG)
    start = thermal.ThermalState.start(4)
    none = thermal.look_ahead(bank, topology, ThermalSpec(), start, warmth, 3600.0)[1]
    fan = thermal.look_ahead(bank, topology, cooled(), start, warmth, 3600.0)[1]
    assert (fan.heat_limits_w(warmth.limit_degc)[0] > 1.1 * none.heat_limits_w(warmth.limit_degc)[0]).all()


def test_a_hot_neighbour_takes_room_away(bank):
    full = np.full(4, 1.0)
    topology = bench_site(4).topology
    spec = ThermalSpec(neighbour_conductance_frac=0.3)
    heat = np.array([0.0, 200.0, 0.0, 0.0])
    warmth = thermal.Warmth(
        np.array([35.0, 47.0, 35.0, 35.0]),
        np.array([35.0, 46.0, 35.0, 35.0]),
        35 * full,
        48 * full,
        heat,
        LONG,
    )
    state = replace(thermal.ThermalState.start(heat.size), heat_w=heat, ran_s=0.0)
    ahead = thermal.look_ahead(bank, topology, spec, state, warmth, 1.0)[1]
    limit = ahead.heat_limits_w(warmth.limit_degc)[0]
    assert limit[0] < limit[3]
    assert limit[2] < limit[3]


# ---- branches --------------------------------------------------------------------------------------


def test_branch_currents_obey_kirchhoff():
    ocv, ohm = np.array([3.70, 3.72, 3.69]), np.array([0.02, 0.03, 0.025])
    split = branches.branch_currents_a(ocv, ohm, np.array(30.0))
    assert split.sum() == pytest.approx(30.0)
    terminal = ocv - ohm * split
    assert terminal == pytest.approx(np.full(3, terminal[0]))


def test_circulating_current_of_two_unequal_branches():
    split = branches.branch_currents_a(np.array([3.8, 3.7]), np.array([0.01, 0.01]), np.array(0.0))
    assert split == pytest.approx([5.0, -5.0])


def test_worst_share_matches_the_split():
    n, spread = 4, branches.BRANCH_RESISTANCE_SPREAD_FRAC
    ohm = np.array([1 - spread] + [1 + spread] * (n - 1))
    split = branches.branch_currents_a(np.zeros(n), ohm, np.array(float(n)))
    assert branches.worst_branch_share(np.array([n]))[0] == pytest.approx(split.max())
    assert branches.worst_branch_share(np.array([1]))[0] == pytest.approx(1.0)


def test_two_branches_settle_with_the_stated_time_constant():
    ohm, ah, slope, total = (0.02, 0.03), (40.0, 50.0), 0.8, 20.0
    tau = branches.settling_time_s(ohm, ah, slope)
    soc, dt = np.array([0.5, 0.5]), 1.0
    first = branches.branch_currents_a(slope * soc, np.array(ohm), np.array(total))[0]
    last = total * ah[0] / sum(ah)
    for _ in range(round(tau / dt)):
        split = branches.branch_currents_a(slope * soc, np.array(ohm), np.array(total))
        soc = soc - split * dt / (3600.0 * np.array(ah))
    now = branches.branch_currents_a(slope * soc, np.array(ohm), np.array(total))[0]
    assert (now - last) / (first - last) == pytest.approx(np.exp(-1.0), abs=0.01)


def test_inrush_is_bounded_by_the_joining_difference():
    ohm = np.array([0.05])
    allowed = branches.joining_difference_v(np.array([20.0]), ohm)
    assert branches.inrush_a(allowed, ohm)[0] == pytest.approx(20.0)
    assert branches.inrush_a(-allowed, ohm)[0] == pytest.approx(20.0)


# ---- knee ------------------------------------------------------------------------------------------


def test_knee_slope_is_measured_over_charge():
    state, volts = KneeState.start(1), 3.3
    for _ in range(100):
        state = follow_knee(state, one(volts), one(0.01), one(60.0), one(50.0), 1.0)
        volts -= 0.2 * 60.0 / 3600.0
    assert state.slope_v_per_ah[0] == pytest.approx(0.2, rel=1e-6)
    assert steeper_v_per_ah(one(0.01), state)[0] == pytest.approx(0.4)


def test_a_drop_that_is_not_sure_is_no_knee():
    """A frequency service: charge, then discharge, by a group of 15 % more resistance than is known."""
    ohm, true_slope, volts = 0.0015, 0.006, 3.6
    state = KneeState.start(1)
    for amps in (-40.0, 40.0, 10.0, 40.0, -20.0, 35.0):
        volts -= true_slope * amps / 60.0
        # seen: the voltage under load plus the drop of the resistance that is known
        seen, doubt = volts - 1.15 * ohm * amps + ohm * amps, 0.15 * ohm * amps
        state = follow_knee(state, one(seen), one(doubt), one(amps), one(50.0), 60.0)
        assert state.slope_v_per_ah[0] <= true_slope * (1.0 + 1e-9)


def test_charging_and_missing_values_forget_nothing_wrong():
    state = KneeState.start(1)
    for volts, amps in [(3.3, 60.0), (np.nan, 60.0), (3.29, 60.0)]:
        state = follow_knee(state, one(volts), one(0.0), one(amps), one(50.0), 1.0)
    assert np.isfinite(state.slope_v_per_ah[0])
    state = follow_knee(state, one(3.4), one(0.0), one(-60.0), one(50.0), 60.0)
    assert state.slope_v_per_ah[0] == 0.0
    assert state.moved_ah[0] == 0.0
