"""Samples of the long duties, and the clairvoyant's bound by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bench import duty as duty_bench
from edge.bench.duty import DUTIES, START_DAY, Asked, run
from edge.bench.duty_checkpoint import resume
from edge.bench.duty_clairvoyant import MeanModule, best_wh, mean_module
from edge.bench.duty_profiles import DAY_S, cold, cold_degc, desert_degc, season_degc
from edge.bench.protect import run as run_protect
from edge.bench.protect_site import bench_site
from reconf.errors import DataFileError
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "grid_duty").is_dir(), reason=f"no {DATA / 'grid_duty'}")


def mean(**change):
    values = {
        "energy_wh": 2000.0,
        "stored_wh": 2000.0,
        "voltage_v": 45.0,
        "resistance_ohm": 0.03,
        "capacity_j_per_k": 20_000.0,
        "conductance_w_per_k": 6.0,
        "temperature_degc": 25.0,
        "limit_degc": 48.0,
        "loss_linear_frac": 0.0,
        "loss_fixed_w": 0.0,
    }
    return MeanModule(**(values | change))


def test_bound_is_the_request_where_nothing_binds():
    asked = np.full(12, 300.0)
    assert best_wh(mean(), asked, 0 * asked, np.full(12, 25.0), 300.0) == pytest.approx(300.0)


def test_bound_is_the_charge_where_that_binds():
    asked = np.full(24, 2000.0)
    bound = best_wh(mean(stored_wh=500.0, resistance_ohm=1e-6), asked, 0 * asked, np.full(24, 25.0), 300.0)
    assert bound == pytest.approx(500.0, rel=1e-3)


def test_bound_rides_the_thermal_limit_for_long_duties():
    """In the long run the heat is what the limit lets through."""
    asked = np.full(500, 5000.0)
    cool = mean(energy_wh=1e9, stored_wh=1e9, temperature_degc=48.0, resistance_ohm=0.2)
    bound = best_wh(cool, asked, 0 * asked, np.full(500, 40.0), 300.0) / (500 / 12.0)
    steady = 45.0 * np.sqrt(8.0 * 6.0 / 0.2)
    assert steady <= bound <= 1.3 * steady


def test_a_pack_driven_a_hair_below_empty_stores_nothing():
    """The weakest group of an emptied pack may be below its cut-off under load."""
    site = bench_site(4)
    plant = Plant(site, draw_truth(site, np.random.default_rng(1)))
    plant.cells.soc_frac[:] = -2e-5
    module = mean_module(plant, 48.0)
    assert module.stored_wh == 0.0
    asked = np.full(12, 300.0)
    assert best_wh(module, asked, 0 * asked, np.full(12, 25.0), 300.0) == pytest.approx(0.0, abs=1e-6)


def test_weather():
    hours = np.arange(0.0, DAY_S, 600.0)
    assert max(map(desert_degc, hours)) == pytest.approx(45.0, abs=0.01)
    assert min(map(cold_degc, hours)) == pytest.approx(-10.0, abs=0.01)
    year = [season_degc(t) for t in np.arange(0.0, 365 * DAY_S, 7200.0)]
    assert -10.0 < min(year) < -3.0
    assert 25.0 < max(year) < 30.0


def test_unknown_duties_and_missing_data_are_named():
    with pytest.raises(DataFileError, match="no duty"):
        run(Asked("siesta"))
    with pytest.raises(DataFileError, match="needs --data"):
        run(Asked("peak_shaving"))
    with pytest.raises(DataFileError, match="no trace"):
        run(Asked("peak_shaving", data=Path("nowhere")))
    with pytest.raises(DataFileError, match="no grid frequency"):
        run(Asked("frequency", data=Path("nowhere")))


def test_the_hot_hours_of_the_desert_day():
    result = run(Asked("desert", hour=14.4, days=0.042, modules=8, tick_s=20.0))
    assert result["violations"] == 0
    assert result["hottest_core_degc"] < 48.5
    # of one hour the joining and the first ramp take about 4 points, which a whole day does not feel
    assert 0.94 < result["energy_ratio_to_clairvoyant"] <= 1.0


def test_a_cold_morning():
    result = run(Asked("cold", hour=6.9, days=0.035, modules=8, tick_s=30.0))
    assert result["violations"] == 0
    assert result["delivered_kwh"] > 0.0


@needs_data
@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "season"), [("peak_shaving", "winter"), ("frequency", "summer")])
def test_an_hour_of_the_recorded_duties(name, season):
    result = run(Asked(name, data=DATA, season=season, hour=9.0, days=1.0 / 24.0, modules=6))
    assert result["violations"] == 0
    assert result["ticks"] >= 60


@needs_data
@pytest.mark.needs_data
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("name", ["peak_shaving", "frequency", "frequency_year"])
def test_a_year(name):
    assert run(Asked(name, data=DATA, modules=12))["violations"] == 0


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("name", ["desert", "cold"])
def test_a_day_at_short_ticks(name):
    result = run(Asked(name, tick_s=5.0, modules=24))
    assert result["violations"] == 0
    assert result["energy_ratio_to_clairvoyant"] >= (0.98 if name == "desert" else 0.5)


@needs_data
@pytest.mark.needs_data
@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("season", sorted(START_DAY))
def test_a_day_of_each_season_at_one_second(season):
    result = run(Asked("frequency", data=DATA, season=season, days=1.0, tick_s=1.0, modules=24))
    assert result["violations"] == 0


def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(duty_bench, "PIECE_S", 600.0)
    asked = Asked("cold", hour=7.0, days=1800.0 / 86400.0, modules=4)
    whole = run(asked)
    file = tmp_path / "cold.checkpoint"
    hours = []
    for _ in range(3):
        part = run(asked, checkpoint=file, cpu_budget_s=0.0)
        hours.append(part["hours"])
    assert hours == pytest.approx([1.0 / 6.0, 2.0 / 6.0, 0.5])
    assert part["complete"]
    assert part["delivered_kwh"] == whole["delivered_kwh"]
    assert part["ticks"] == whole["ticks"]
    kept = resume(file, duty_bench.checkpoint_key(asked))
    assert kept is not None
    # a year's single ticks and events are counted, not kept
    assert [*kept.loop.tick_ms, *kept.loop.solve_ms, *kept.loop.events] == []
    assert part["events"] == whole["events"]
    assert sum(part["rungs"].values()) == part["ticks"] == 30
    with pytest.raises(DataFileError, match="something else"):
        run(Asked("desert"), checkpoint=file)
    file.write_bytes(b"no pickle")
    with pytest.raises(DataFileError, match="no checkpoint"):
        run(asked, checkpoint=file)


def test_progress_is_told_within_a_piece(monkeypatch):
    monkeypatch.setattr(duty_bench, "SAY_EVERY_S", 0.0)
    said = []
    run(Asked("cold", hour=7.0, days=600.0 / 86400.0, modules=4), log=said.append)
    assert len(said) == 11
    assert said[-1].startswith("cold: day 0.01 of 0.01, 10 ticks, violations 0")


def test_a_duty_begins_with_readings_of_its_own_state(monkeypatch):
    """The first reading is the rest voltage the estimate starts from; another one costs a false start."""
    monkeypatch.setattr(duty_bench, "cold", lambda energy_wh: replace(cold(energy_wh), soc_frac=0.5))
    result = run(Asked("cold", hour=7.0, days=600.0 / 86400.0, modules=4))
    assert result["rungs"] == {"normal": 10}
    assert result["events"]["rung"] == 1


def test_duties_are_listed():
    assert set(DUTIES) == {"desert", "cold", "peak_shaving", "frequency", "frequency_year"}


def test_protect_bench_has_its_keys():
    result = run_protect(48, ticks=10)
    assert result["ms_per_tick"] > 0.0
    assert result["refused"] == 0
