"""The state filter on the twin: right where it matters, and never poisoned by what is missing."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from edge.bench.protect_site import bench_site
from reconf.estimation.filter import estimate, initial_state
from reconf.estimation.memory import SavedModule
from reconf.readings import Channel, Quality, SiteImage
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth


@pytest.fixture(scope="module")
def site():
    return bench_site(12)


def plant_of(site, seed=1, soc_frac=0.8):
    return Plant(site, draw_truth(site, np.random.default_rng(seed), soc_frac=soc_frac), 25.0)


def drive(site, plant, state, ticks, *, power_w=5_000.0, dt_s=5.0, rng=None, spoil=lambda image, k: image):
    """`ticks` of a rotating insertion pattern; returns the state and every estimate."""
    rng = rng or np.random.default_rng(9)
    m, s = site.topology.n_modules, site.topology.n_strings
    inputs = replace(
        PlantInputs.safe(m, s),
        mode=np.ones(s, dtype=np.int64),
        contactor_closed=np.ones(s, dtype=np.bool_),
        duty_frac=np.ones(m),
        power_setpoint_w=np.full(s, power_w),
        current_limit_a=np.full(s, 60.0),
    )
    estimates = []
    for k in range(ticks):
        resting = (np.arange(m) % 12) == (k // 2) % 12
        plant.apply(replace(inputs, inserted=~resting))
        plant.step(dt_s)
        state, estimate_ = estimate(site, state, spoil(plant.observe(rng, tick=k), k), dt_s)
        estimates.append(estimate_)
    return state, estimates


def true_soc(plant):
    charge = (plant.cells.soc_frac * plant.truth.capacity_ah).min(axis=1)
    room = ((1.0 - plant.cells.soc_frac) * plant.truth.capacity_ah).min(axis=1)
    return charge / (charge + room)


def test_rest_voltage_gives_soc_at_start(site):
    plant = plant_of(site)
    state = initial_state(site, plant.observe(np.random.default_rng(3)))
    error = state.groups.soc_frac - plant.cells.soc_frac
    assert np.abs(error).max() < 0.02
    assert np.all(np.abs(error) < 5.0 * state.groups.soc_std_frac())


def test_soc_and_capacity_after_a_partial_cycle(site):
    plant = plant_of(site, soc_frac=0.9)
    state = initial_state(site, plant.observe(np.random.default_rng(3)))
    _, estimates = drive(site, plant, state, 1200)
    soc_error = estimates[-1].soc_frac - true_soc(plant)
    capacity = plant.truth.soh_frac * site.topology.rated_capacity_ah
    error = (estimates[-1].capacity_ah - capacity) / capacity
    assert np.sqrt(np.mean(soc_error**2)) < 0.008
    assert np.sqrt(np.mean(error**2)) < 0.035
    assert np.mean(np.abs(soc_error) < 2.5 * estimates[-1].soc_std_frac) > 0.9


def blank(channel: Channel, rows) -> Channel:
    value, quality = channel.value.copy(), channel.quality.copy()
    value[rows] = np.nan
    quality[rows] = Quality.NO_ANSWER
    return Channel(value, quality, channel.age_s)


def without(image: SiteImage, rows) -> SiteImage:
    """`image` as if the modules `rows` had never answered."""
    m = image.modules
    answered = m.answered.copy()
    answered[rows] = False
    age = m.age_s.copy()
    age[rows] = np.inf
    names = [f.name for f in fields(m) if isinstance(getattr(m, f.name), Channel)]
    blanks = {n: blank(getattr(m, n), rows) for n in names}
    return replace(image, modules=replace(m, answered=answered, age_s=age, **blanks))


def finite(estimate_):
    return (
        all(
            np.isfinite(getattr(estimate_, f.name)).all()
            for f in fields(estimate_)
            if f.name not in {"findings", "trend", "cooling"}
        )
        and np.isfinite(estimate_.cooling.share_frac).all()
    )


def test_silence_widens_and_never_poisons(site):
    plant = plant_of(site)
    rng = np.random.default_rng(3)
    state = initial_state(site, plant.observe(rng))
    rows = np.array([3, 9])
    state, before = drive(site, plant, state, 100)
    state, during = drive(site, plant, state, 120, spoil=lambda image, k: without(image, rows))
    assert all(finite(e) for e in during)
    assert np.all(during[-1].remaining_std_ah[rows] > before[-1].remaining_std_ah[rows])
    assert not during[-1].trusted[rows].any()
    # the string current stood in for the silent module's own
    assert np.abs(during[-1].soc_frac - true_soc(plant))[rows].max() < 0.02
    silent = state
    state, after = drive(site, plant, state, 20)
    assert after[-1].trusted.all()
    assert np.abs(after[-1].soc_frac - true_soc(plant))[rows].max() < 0.02
    # had it warmed up meanwhile, no sensor would be accused of a jump for that
    plant.core_degc[rows] += 20.0
    plant.surface_degc[rows] += 20.0
    _, warm = drive(site, plant, silent, 1)
    assert not [f for f in warm[0].findings if f.test == "jump"]


def stale(image: SiteImage, rows, age_s: float) -> SiteImage:
    """`image` as if the modules `rows` had not answered this time: their last good values, older."""
    m = image.modules
    answered, age = m.answered.copy(), m.age_s.copy()
    answered[rows], age[rows] = False, age_s
    held = {}
    for f in fields(m):
        channel = getattr(m, f.name)
        if isinstance(channel, Channel):
            quality = channel.quality.copy()
            quality[rows] = np.maximum(quality[rows], Quality.STALE)
            held[f.name] = Channel(channel.value, quality, channel.age_s)
    return replace(image, modules=replace(m, answered=answered, age_s=age, **held))


def test_one_missed_answer_makes_nobody_untrusted_and_silence_does(site):
    plant = plant_of(site)
    state = initial_state(site, plant.observe(np.random.default_rng(3)))
    rows = np.array([3, 9])
    state, _ = drive(site, plant, state, 10)
    state, once = drive(site, plant, state, 1, spoil=lambda image, k: stale(image, rows, 2.0))
    assert once[-1].trusted.all()
    _, long = drive(site, plant, state, 40, spoil=lambda image, k: stale(image, rows, 2.0 * k))
    assert not long[-1].trusted[rows].any()


def test_a_site_that_never_answered_is_finite_and_untrusted(site):
    plant = plant_of(site)
    everyone = np.arange(site.topology.n_modules)
    dark = without(plant.observe(np.random.default_rng(1)), everyone)
    state = initial_state(site, dark)
    state, estimate_ = estimate(site, state, dark, 1.0)
    assert finite(estimate_)
    assert not estimate_.trusted.any()
    assert np.all(estimate_.soc_std_frac > 0.2)
    assert np.all(estimate_.temperature_high_degc - estimate_.temperature_low_degc > 4.0)


def test_restart_resumes_and_widens(site):
    plant = plant_of(site)
    rng = np.random.default_rng(3)
    state = initial_state(site, plant.observe(rng))
    state, estimates = drive(site, plant, state, 300)
    saved = {k: SavedModule.from_json(v.to_json()) for k, v in state.saved().items()}
    everyone = np.arange(site.topology.n_modules)
    dark = without(plant.observe(rng), everyone)
    again = initial_state(site, dark, saved, away_s=86400.0)
    _, resumed = estimate(site, again, dark, 1.0)
    assert np.allclose(resumed.soc_frac, estimates[-1].soc_frac, atol=1e-3)
    assert np.allclose(resumed.capacity_ah, estimates[-1].capacity_ah, rtol=1e-3)
    assert np.all(resumed.soc_std_frac > estimates[-1].soc_std_frac)


def test_charge_moved_while_away_is_taken_from_the_counter(site):
    plant = plant_of(site)
    rng = np.random.default_rng(3)
    state = initial_state(site, plant.observe(rng))
    state, _ = drive(site, plant, state, 50)
    saved = state.saved()
    drive(site, plant, initial_state(site, plant.observe(rng)), 100)
    image = without(plant.observe(rng), np.array([], dtype=int))
    again = initial_state(site, image, saved, away_s=500.0)
    error = again.groups.soc_frac - plant.cells.soc_frac
    unmoved = initial_state(site, image, {k: replace(v, counter_ah=None) for k, v in saved.items()})
    assert np.sqrt(np.mean(error**2)) < 0.005
    assert np.mean(unmoved.groups.soc_frac - plant.cells.soc_frac) > 0.02


def test_tick_must_move_time(site):
    plant = plant_of(site)
    image = plant.observe(np.random.default_rng(1))
    with pytest.raises(ValueError, match="dt_s"):
        estimate(site, initial_state(site, image), image, 0.0)
