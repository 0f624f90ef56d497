"""Available energy against brute force, and the capability against the twin."""

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.protect_site import bench_site, true_estimate
from reconf.protection.bounds import build_constants
from reconf.protection.energy import CURRENT_SHARES, _run_h
from reconf.protection.protect import available_energy_kwh, initial_protection, protect
from reconf.site import ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth


def world(modules=24, soc=0.5, seed=2):
    site = bench_site(modules)
    rng = np.random.default_rng(seed)
    plant = Plant(site, draw_truth(site, rng))
    plant.cells.soc_frac[:] = soc
    plant.step_alone(np.zeros(modules), 1.0)
    estimate = true_estimate(plant)
    _, envelope = protect(site, initial_protection(site), plant.observe(rng), estimate, 1.0)
    return site, plant, estimate, envelope


@pytest.mark.parametrize("seed", range(8))
def test_longest_run_is_that_of_a_bisection(seed):
    site = bench_site(36)
    constants = site.derived(build_constants)
    rng = np.random.default_rng(seed)
    r, w = rng.uniform(0.0, 60.0, 36), rng.uniform(30.0, 50.0, 36)
    current = rng.uniform(5.0, 50.0, 2)
    power = current * np.array([w[:24].sum(), w[24:].sum()]) * rng.uniform(0.5, 1.1, 2)
    got = _run_h(constants, r, w, current, power)
    for s, part in enumerate((slice(0, 24), slice(24, 36))):

        def enough(hours, part=part, s=s):
            return (np.minimum(r[part], current[s] * hours) * w[part]).sum() >= power[s] * hours

        low, high = 0.0, 100.0
        for _ in range(80):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if enough(middle) else (low, middle)
        assert got[s] == pytest.approx(low if enough(1e-6) else 0.0, rel=1e-6, abs=1e-6)


def test_currents_span_the_window():
    assert CURRENT_SHARES[0] == 0.0
    assert CURRENT_SHARES[-1] == 1.0


def test_energy_agrees_with_each_module_run_down_alone():
    """At a vanishing loss the site gives what its modules hold."""
    site, plant, estimate, envelope = world()
    told = available_energy_kwh(site, estimate, envelope, 0.0)
    joule = np.zeros(24)
    left = estimate.remaining_ah.copy()
    while (left > 1e-3).any():
        current = np.minimum(3.0, left * 12.0)
        joule += plant.step_alone(current, 300.0)
        left = left - current / 12.0
    assert told == pytest.approx(joule.sum() / 3.6e6, rel=0.02)


def test_more_power_gives_less_energy():
    site, _, estimate, envelope = world()
    energies = [available_energy_kwh(site, estimate, envelope, p) for p in (1e4, 1.5e4, 2e4, 3e4, 4e4)]
    assert (np.diff(energies) < 0).all()
    assert available_energy_kwh(site, estimate, envelope, 1e7) == 0.0


def test_charging_energy_is_what_fits():
    site, _, estimate, envelope = world()
    fits = available_energy_kwh(site, estimate, envelope, -5e3)
    assert fits == pytest.approx((estimate.chargeable_ah * 3.95 * 12).sum() / 1000.0, rel=0.08)


def test_the_power_promised_for_a_minute_is_given():
    """The twin, with the best set of modules inserted, really gives what the capability says."""
    site, plant, _, envelope = world(soc=0.15)
    promised = envelope.capability.discharge_w[2]
    limit = np.sort(envelope.discharge_now_a)[::-1]
    best = 0.0
    for k in range(12, 25):
        inserted = envelope.discharge_now_a >= limit[k - 1]
        trial = Plant(site, plant.truth)
        trial.cells.soc_frac[:] = plant.cells.soc_frac
        trial.apply(
            PlantInputs(
                inserted, inserted.astype(float), np.zeros(24), np.ones(1, np.int64), np.array([promised]),
                np.zeros(1), np.array([min(limit[k - 1], 117.0)]), np.ones(1, bool),
            )
        )  # fmt: skip
        for _ in range(12):
            trial.step(5.0)
        best = max(best, float(trial.true.bus_power_w[0]))
    assert best >= 0.97 * promised


def test_what_the_cooling_takes_is_neither_promised_nor_counted():
    """The same readings with a fan that takes nothing and with one that takes 900 W, both asked for."""
    site, plant, estimate, _ = world()
    image = plant.observe(np.random.default_rng(0), 0, 0.0)
    surface = replace(image.modules.temperature_degc, value=np.full((24, 2), 47.0))
    image = replace(image, modules=replace(image.modules, temperature_degc=surface))
    hot = replace(estimate, temperature_degc=np.full(24, 47.0), temperature_high_degc=np.full(24, 47.5))
    looked = {}
    for taken_w in (0.0, 900.0):
        fan = replace(site, thermal=ThermalSpec(ambient_degc=45.0, cooling="fan", cooling_power_w=taken_w))
        looked[taken_w] = protect(fan, initial_protection(fan), image, hot, 1.0)[1]
        assert looked[taken_w].outputs.cooling_frac == 1.0
    free, paid = looked[0.0], looked[900.0]
    assert free.capability.discharge_w[0] > 900.0
    assert paid.auxiliary_w == 900.0
    assert paid.capability.discharge_w == pytest.approx(
        [max(p - 900.0, 0.0) for p in free.capability.discharge_w]
    )
    assert paid.capability.charge_w == free.capability.charge_w
    power_w = 0.25 * free.capability.discharge_w[0]
    without = available_energy_kwh(site, hot, free, power_w)
    with_fan = available_energy_kwh(site, hot, paid, power_w)
    both = available_energy_kwh(site, hot, free, power_w + 900.0)
    assert with_fan == pytest.approx(both * power_w / (power_w + 900.0))
    assert with_fan < without
