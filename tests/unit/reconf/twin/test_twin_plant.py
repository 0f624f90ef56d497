"""The plant's physics against closed forms, Kirchhoff, its own books, and the fixed baselines."""

from dataclasses import replace

import numpy as np
import pytest

from reconf.actuation import ConverterMode
from reconf.errors import ParameterError
from reconf.protection.limits import default_limits
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
    ThermalSpec,
)
from reconf.twin.baselines import (
    fixed_series,
    ideal_energy,
    order_by_charge,
    rearranged_truth,
    shared_power_w,
    sorted_series,
)
from reconf.twin.observe import QUIET, SensorNoise, observe, sense
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.thermal import ThermalStep
from reconf.twin.truth import draw_truth


def site_of(
    n_strings=2, n_modules=6, *, n_cells=4, cv=0.1, model="nmc_generic", chemistry=Chemistry.NMC, trim_a=5.0
):
    """Strings whose window all modules together fit into, half of them too."""
    full = n_modules * n_cells
    converter = ConverterSpec("g", 201, 250.0 * full, 100.0, 1.2 * full, 5.0 * full, 20.0, 0.01, 0.01)
    strings = tuple(
        StringSpec(
            f"s{s}",
            replace(converter, unit_id=201 + s),
            tuple(
                PositionSpec(
                    f"{s}/{k}", "g", k + 1,
                    ModuleSpec(f"m{s}-{k}", chemistry, model, n_cells, 1, 60.0, 0.8, 0.05, 1.2, trim_a, 0.92),
                    0.001,
                )
                for k in range(n_modules)
            ),
        )
        for s in range(n_strings)
    )  # fmt: skip
    bus = BusSpec("pcs", 400.0, 350.0, 450.0)
    return Site("t", (), strings, bus, {chemistry: default_limits(chemistry)}, twin_soh_cv=cv)


def running(site, power_w, **changes):
    m, s = site.topology.n_modules, site.topology.n_strings
    inputs = replace(
        PlantInputs.safe(m, s),
        inserted=np.ones(m, dtype=bool),
        mode=np.full(s, int(ConverterMode.POWER)),
        power_setpoint_w=np.full(s, float(power_w)),
        contactor_closed=np.ones(s, dtype=bool),
    )
    return replace(inputs, **changes)


def plant_of(site, seed=1, **truth):
    return Plant(site, draw_truth(site, np.random.default_rng(seed), **truth))


class TestTruth:
    def test_spread_of_soh_is_exactly_what_the_site_says(self):
        for seed in range(3):
            soh = draw_truth(site_of(cv=0.13), np.random.default_rng(seed)).soh_frac
            assert soh.std() / soh.mean() == pytest.approx(0.13, abs=1e-12)
            assert soh.mean() == pytest.approx(0.8)

    def test_weakest_group_is_the_modules_capacity(self):
        truth = draw_truth(site_of(), np.random.default_rng(2))
        assert truth.capacity_ah.min(axis=1) == pytest.approx(truth.soh_frac * 60.0)

    def test_same_seed_same_truth(self):
        site = site_of()
        one, same, other = (draw_truth(site, np.random.default_rng(k)) for k in (5, 5, 6))
        assert all(np.array_equal(getattr(one, n), getattr(same, n)) for n in one.__dataclass_fields__)
        assert not np.array_equal(one.soh_frac, other.soh_frac)

    def test_cells_in_parallel_even_each_other_out(self):
        one = site_of(2, 40)
        four = replace(
            one,
            strings=tuple(
                replace(
                    s,
                    positions=tuple(replace(p, module=replace(p.module, n_parallel=4)) for p in s.positions),
                )
                for s in one.strings
            ),
        )

        def spread(site):
            truth = draw_truth(site, np.random.default_rng(1))
            capacity = truth.capacity_ah / truth.capacity_ah.mean(axis=1, keepdims=True)
            return capacity.std(), truth.branch_peak_frac

        wide, alone = spread(one)
        narrow, shared = spread(four)
        assert narrow == pytest.approx(wide / 2.0, rel=0.15)
        assert (alone == 1.0).all()
        assert 1.02 < shared.mean() < 1.15

    @pytest.mark.parametrize(
        ("model", "chemistry", "sign"), [("nmc_generic", Chemistry.NMC, -1), ("leaf_lmo", Chemistry.LMO, 1)]
    )
    def test_resistance_goes_with_soh_as_in_retired_cells(self, model, chemistry, sign):
        site = site_of(4, 50, model=model, chemistry=chemistry, cv=0.13)
        truth = draw_truth(site, np.random.default_rng(1))
        together = np.corrcoef(truth.soh_frac, truth.resistance_scale.mean(axis=1))[0, 1]
        assert 0.35 < sign * together < 0.95

    def test_impossible_spread_is_refused(self):
        with pytest.raises(ParameterError, match="twin_soh_cv"):
            draw_truth(site_of(cv=0.9), np.random.default_rng(1))


class TestCells:
    def test_rc_pairs_follow_the_analytic_answer(self):
        site = site_of(1, 1, cv=0.0)
        plant = plant_of(site, soc_frac=0.6)
        bank, truth = plant.bank, plant.truth
        point = bank.at(plant.cells.soc_frac)
        scale = truth.resistance_scale
        plant.step_alone(np.array([30.0]), 5.0)
        for state, resistance, tau in (
            (plant.cells.rc1_v, point.r1_ohm, bank.tau1_s),
            (plant.cells.rc2_v, point.r2_ohm, bank.tau2_s),
        ):
            expected = 30.0 * resistance * scale * (1.0 - np.exp(-5.0 / tau[:, None]))
            assert state == pytest.approx(expected, rel=1e-12)

    def test_charge_is_counted_exactly_and_charging_loses_a_little(self):
        plant = plant_of(site_of(1, 2))
        before = plant.cells.soc_frac.copy()
        plant.step_alone(np.array([20.0, -20.0]), 360.0)
        moved = (before - plant.cells.soc_frac) * plant.truth.capacity_ah
        assert moved[0] == pytest.approx(2.0)
        assert moved[1] == pytest.approx(-2.0 * 0.9995)

    def test_step_length_changes_nothing_that_matters(self):
        site = site_of(1, 3)

        def after(dt_s):
            plant = plant_of(site, 7)
            plant.apply(running(site, 600.0))
            for _ in range(int(300.0 / dt_s)):
                plant.step(dt_s)
            return plant

        reference = after(0.25)
        for dt_s in (1.0, 5.0, 60.0):
            other = after(dt_s)
            assert other.cells.soc_frac == pytest.approx(reference.cells.soc_frac, abs=2e-5)
            assert other.core_degc == pytest.approx(reference.core_degc, abs=0.01)
            assert other.true.module_voltage_v == pytest.approx(reference.true.module_voltage_v, abs=2e-3)

    def test_lfp_remembers_the_direction(self):
        site = site_of(1, 2, cv=0.0, model="lfp_generic", chemistry=Chemistry.LFP)
        plant = plant_of(site, soc_frac=0.5)
        for _ in range(60):
            plant.step_alone(np.array([20.0, -20.0]), 60.0)
        assert (plant.cells.hysteresis[0] < -0.9).all()
        assert (plant.cells.hysteresis[1] > 0.9).all()

    def test_a_leaking_group_falls_behind_at_rest(self):
        plant = plant_of(site_of(1, 2))
        plant.faults.leakage_ohm[0, 1] = 4.0
        before = plant.cells.soc_frac.copy()
        for _ in range(60):
            plant.step(60.0)
        lost = (before - plant.cells.soc_frac) * plant.truth.capacity_ah
        assert lost[0, 1] == pytest.approx(1.0, rel=0.1)  # about 4 V over 4 ohm for an hour
        assert lost[1] == pytest.approx(0.0)
        assert plant.energy.out_j == pytest.approx(plant.chemical_out_j, rel=1e-6)


class TestHeat:
    def test_settles_where_the_resistances_say(self):
        one = np.ones(1)
        step = ThermalStep.of(1000.0 * one, 200.0 * one, 4.0 * one, 0.5 * one, 60.0)
        core, surface = np.array([20.0]), np.array([20.0])
        for _ in range(2000):
            core, surface = step.advance(core, surface, np.array([10.0]), 20.0)
        assert surface[0] == pytest.approx(40.0)
        assert core[0] == pytest.approx(42.5)

    def test_one_long_step_equals_many_short_ones(self):
        one = np.ones(1)
        parts = (1000.0 * one, 200.0 * one, 4.0 * one, 0.5 * one)
        long, short = ThermalStep.of(*parts, 600.0), ThermalStep.of(*parts, 1.0)
        x = y = (np.array([30.0]), np.array([25.0]))
        x = long.advance(*x, np.array([15.0]), 10.0)
        for _ in range(600):
            y = short.advance(*y, np.array([15.0]), 10.0)
        assert np.ravel(x) == pytest.approx(np.ravel(y), abs=1e-9)

    def test_without_any_cooling_all_heat_stays(self):
        one = np.ones(1)
        step = ThermalStep.of(1000.0 * one, 200.0 * one, 4.0 * one, 0.0 * one, 60.0)
        core = surface = np.array([20.0])
        for _ in range(60):
            core, surface = step.advance(core, surface, np.array([10.0]), 25.0)
        # 36 kJ in 1.2 kJ/K, the core a little ahead of its shell
        assert (1000.0 * core[0] + 200.0 * surface[0]) / 1200.0 == pytest.approx(50.0, abs=0.01)
        assert surface[0] < core[0] < surface[0] + 10.0 / 4.0

    def test_a_fan_cools_and_neighbours_warm(self):
        plain = site_of(1, 3)
        fan = replace(plain, thermal=ThermalSpec(cooling="fan", cooling_ramp_s=10.0, cooling_power_w=40.0))
        rack = replace(plain, thermal=ThermalSpec(neighbour_conductance_frac=0.5))
        hot = {}
        for name, site in (("plain", plain), ("fan", fan), ("rack", rack)):
            plant = plant_of(site)
            plant.faults.extra_heat_w[0] = 60.0
            plant.apply(replace(plant.inputs, cooling_frac=1.0))
            for _ in range(200):
                plant.step(30.0)
            hot[name] = plant.surface_degc
            assert plant.energy.auxiliary_j == pytest.approx(
                40.0 * 6000.0 if name == "fan" else 0.0, rel=0.01
            )
        assert hot["fan"][0] < hot["plain"][0] - 3.0
        assert hot["rack"][1] > hot["plain"][1] + 1.0
        assert hot["rack"][1] > hot["rack"][2]

    def test_failed_cooling_runs_hotter(self):
        site = site_of(1, 2)
        failed, sound = plant_of(site), plant_of(site)
        failed.faults.cooling_factor[0] = 0.1
        for plant in (failed, sound):
            plant.apply(running(site, 1500.0))
            for _ in range(240):
                plant.step(5.0)
        assert failed.core_degc[0] > sound.core_degc[0] + 0.2
        assert failed.core_degc[1] == pytest.approx(sound.core_degc[1], abs=0.02)


class TestStrings:
    def test_kirchhoff_and_the_converters_balance(self):
        site = site_of()
        plant = plant_of(site)
        plant.apply(running(site, 1500.0))
        plant.step(1.0)
        true = plant.true
        current = true.string_current_a[site.topology.string_of]
        assert true.module_current_a == pytest.approx(current)
        drop = site.topology.sum_by_string(site.topology.r_on_ohm * current)
        assert true.string_voltage_v == pytest.approx(
            site.topology.sum_by_string(true.module_voltage_v) - drop, rel=1e-9
        )
        assert true.bus_power_w == pytest.approx([1500.0, 1500.0])
        loss = 20.0 + 0.01 * 1500.0 + 0.01 * true.string_current_a**2
        assert true.string_voltage_v * true.string_current_a == pytest.approx(1500.0 + loss, rel=1e-3)

    def test_bypassed_modules_carry_nothing(self):
        site = site_of(1)
        inserted = np.array([True, True, False, True, True, False])
        plant = plant_of(site)
        plant.apply(running(site, 800.0, inserted=inserted))
        plant.step(1.0)
        assert (plant.true.module_current_a[~inserted] == 0.0).all()
        assert plant.true.string_voltage_v[0] < plant.true.module_voltage_v[inserted].sum()

    def test_half_a_duty_moves_half_the_charge_and_half_the_heat_of_the_string(self):
        site = site_of(1, 6, cv=0.0)
        duty = np.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
        plant = plant_of(site)
        plant.apply(running(site, 900.0, duty_frac=duty))
        plant.step(1.0)
        assert plant.true.module_current_a[0] == pytest.approx(0.5 * plant.true.string_current_a[0])

    def test_power_beyond_every_limit_is_derated_and_said_so(self):
        site = site_of(1)
        plant = plant_of(site)
        plant.apply(running(site, 1e9))
        plant.step(1.0)
        rating = site.strings[0].converter.power_rating_w
        assert plant.true.limiting[0]
        assert plant.true.bus_power_w[0] <= rating * (1 + 1e-9)
        plant.apply(running(site, 5000.0, current_limit_a=np.array([10.0])))
        plant.step(1.0)
        assert plant.true.string_current_a[0] == pytest.approx(10.0)
        assert plant.true.limiting[0]
        plant.apply(running(site, -5000.0, current_limit_a=np.array([10.0])))
        plant.step(1.0)
        assert plant.true.string_current_a[0] == pytest.approx(-10.0)

    def test_window_holds_with_a_way_back(self):
        site = site_of(1)
        low = site.strings[0].converter.voltage_min_v
        plant = plant_of(site)
        few = np.array([True, False, False, False, False, False])
        plant.apply(running(site, 500.0, inserted=few))
        plant.step(1.0)
        assert plant.true.string_voltage_v[0] < low
        assert plant.true.outside_window[0]
        assert plant.true.bus_power_w[0] == 0.0
        plant.apply(running(site, 500.0))
        plant.step(1.0)
        assert not plant.true.outside_window[0]
        assert plant.true.bus_power_w[0] == pytest.approx(500.0)

    def test_slew_is_full_rating_in_half_a_second(self):
        site = site_of(1)
        plant = plant_of(site)
        rating = site.strings[0].converter.power_rating_w
        plant.apply(running(site, 0.8 * rating))
        plant.step(0.1)
        assert plant.true.bus_power_w[0] == pytest.approx(0.2 * rating)

    def test_open_contactor_carries_nothing_but_shows_the_string(self):
        site = site_of(1)
        plant = plant_of(site)
        plant.apply(running(site, 500.0, contactor_closed=np.array([False])))
        plant.step(1.0)
        assert plant.true.string_current_a[0] == 0.0
        assert plant.true.string_voltage_v[0] == pytest.approx(plant.true.module_voltage_v.sum())

    def test_trim_bus_balances_and_runs_while_bypassed(self):
        site = site_of(1)
        setpoint = np.array([3.0, 2.0, 0.0, -1.0, -4.0, -5.0])
        plant = plant_of(site)
        plant.apply(running(site, 0.0, trim_setpoint_a=setpoint, inserted=np.zeros(6, dtype=bool)))
        plant.step(1.0)
        t, v = plant.true.trim_current_a, plant.true.module_voltage_v
        given = (v * t * 0.92)[t > 0].sum()
        taken = (v * -t)[t < 0].sum()
        assert given == pytest.approx(taken, rel=2e-3)
        assert t[:2] == pytest.approx(setpoint[:2])  # the smaller side runs as asked
        assert (np.abs(t[3:]) < np.abs(setpoint[3:])).all()
        assert t[4] / t[3] == pytest.approx(4.0)

    def test_one_string_holds_the_bus(self):
        site = site_of(2)
        plant = plant_of(site)
        mode = np.array([int(ConverterMode.BUS_VOLTAGE), int(ConverterMode.POWER)])
        plant.apply(
            running(site, 300.0, mode=mode, bus_voltage_setpoint_v=np.array([400.0, 0.0]), pcs_power_w=1000.0)
        )
        for _ in range(3):
            plant.step(1.0)
        assert plant.true.bus_power_w == pytest.approx([700.0, 300.0], rel=1e-6)
        assert plant.bus_voltage_v == pytest.approx(400.0)
        plant.apply(replace(plant.inputs, pcs_power_w=1e5))
        plant.step(1.0)
        assert plant.bus_voltage_v < 200.0  # nobody can hold that

    def test_bad_inputs_are_refused(self):
        site = site_of(1)
        plant = plant_of(site)
        with pytest.raises(ParameterError, match="duty"):
            plant.apply(running(site, 0.0, duty_frac=np.full(6, 1.2)))
        with pytest.raises(ParameterError, match="step"):
            plant.step(0.0)


class TestViolations:
    def test_a_calm_run_has_none(self):
        site = site_of()
        plant = plant_of(site)
        plant.apply(running(site, 1000.0))
        for _ in range(100):
            plant.step(5.0)
        assert plant.violations.total == 0

    def test_over_discharge_heat_and_current_are_all_seen(self):
        site = site_of(1)
        plant = plant_of(site, soc_frac=0.02)
        plant.apply(running(site, 1500.0))
        for _ in range(60):
            plant.step(5.0)
        assert plant.violations.by_rule["cell_voltage_min"] > 0
        assert plant.violations.worst["cell_voltage_min"] > 0.0
        hot = plant_of(site)
        hot.faults.extra_heat_w[2] = 500.0
        for _ in range(300):
            hot.step(5.0)
        assert set(hot.violations.by_rule) == {"temperature_max"}
        fast = plant_of(site)
        fast.step_alone(np.full(6, -200.0), 1.0)
        assert fast.violations.by_rule["charge_current"] == 6


class TestSensors:
    def test_same_seed_same_image_and_registers_resolution(self):
        site = site_of()
        plant = plant_of(site)
        plant.apply(running(site, 1000.0))
        plant.step(1.0)
        one, same = (observe(plant, np.random.default_rng(3), 5, 5.0) for _ in range(2))
        cells = one.modules.cell_voltage_v.value
        assert np.array_equal(cells, same.modules.cell_voltage_v.value)
        assert np.allclose(cells * 1000.0, np.round(cells * 1000.0), atol=1e-6)
        assert np.abs(cells - plant.true.cell_voltage_v).max() < 0.01
        assert one.modules.sample_counter.tolist() == [5] * 12

    def test_faults_of_sensors_show(self):
        site = site_of(1)
        plant = plant_of(site)
        plant.faults.sense_open[2, 1] = True
        plant.faults.temperature_offset_k[0, 0] = 15.0
        plant.faults.current_offset_a[4] = 2.0
        plant.step(1.0)
        seen = sense(plant, np.random.default_rng(0), QUIET)
        assert seen.cell_voltage_v[2, 1] == 0.0
        assert seen.temperature_degc[0, 0] - seen.temperature_degc[0, 1] > 13.0
        assert seen.module_current_a[4] == pytest.approx(2.0, abs=0.2)

    def test_noise_has_the_size_it_is_given(self):
        plant = plant_of(site_of(2, 24))
        noise = SensorNoise(cell_voltage_v=0.002)
        rng = np.random.default_rng(1)
        seen = np.array([sense(plant, rng, noise).cell_voltage_v for _ in range(40)])
        assert seen.std(axis=0).mean() == pytest.approx(0.002, rel=0.05)


class TestBaselines:
    def test_order_is_ideal_then_sorted_then_fixed(self):
        site = site_of(3, 8, cv=0.13)
        truth = draw_truth(site, np.random.default_rng(4))
        ideal = ideal_energy(site, truth, 1.0 / 3.0)
        power = 24 * 4 * 3.7 * 20.0
        fixed = fixed_series(site, truth, power, dt_s=20.0)
        by_size = sorted_series(site, truth, power, dt_s=20.0)
        assert fixed.string_energy_kwh < by_size.string_energy_kwh < ideal.string_energy_kwh
        assert 0.6 < fixed.string_energy_kwh / ideal.string_energy_kwh < 0.9
        assert fixed.bus_energy_kwh < fixed.string_energy_kwh

    def test_equal_modules_lose_nothing_in_series(self):
        site = site_of(1, 6, cv=0.0)
        site = replace(
            site,
            strings=tuple(
                replace(
                    s,
                    positions=tuple(
                        replace(p, module=replace(p.module, soh_std_frac=0.0)) for p in s.positions
                    ),
                )
                for s in site.strings
            ),
        )
        truth = draw_truth(site, np.random.default_rng(4), group_soc_std_frac=0.0)
        ideal = ideal_energy(site, truth, 1.0 / 3.0)
        fixed = fixed_series(site, truth, 6 * 4 * 3.7 * 20.0, dt_s=10.0)
        assert fixed.string_energy_kwh / ideal.string_energy_kwh > 0.985

    def test_a_module_alone_gives_the_charge_of_its_weakest_group(self):
        site = site_of(1, 4)
        truth = draw_truth(site, np.random.default_rng(4), soc_frac=1.0, group_soc_std_frac=0.0)
        run = ideal_energy(site, truth, 0.05, dt_s=60.0)
        assert run.charge_ah == pytest.approx(truth.soh_frac * 60.0, rel=0.03)

    def test_sorting_goes_by_usable_charge(self):
        site = site_of(2, 4)
        truth = draw_truth(site, np.random.default_rng(8), soc_std_frac=0.05)
        order = order_by_charge(truth, site)
        usable = (truth.capacity_ah * truth.soc_frac).min(axis=1)
        assert (np.diff(usable[order]) <= 0).all()
        assert np.array_equal(rearranged_truth(truth, order).soh_frac, truth.soh_frac[order])

    def test_sharing_respects_ratings_and_wastes_nothing(self):
        share = shared_power_w(
            900.0, np.array([3.0, 1.0, 1.0]), np.array([True, True, False]), np.array([600.0, 600.0, 600.0])
        )
        assert share == pytest.approx([600.0, 300.0, 0.0])
        assert shared_power_w(900.0, np.ones(2), np.zeros(2, dtype=bool), np.ones(2)).sum() == 0.0
