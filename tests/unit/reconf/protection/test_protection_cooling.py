"""The cooling is asked for: do the modules show that it cools? Against the twin's own thermal model."""

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.protect_site import bench_site, true_estimate
from reconf.cells.bank import CellBank
from reconf.estimation.state import Cooling
from reconf.protection.cooling import TIMES, CoolingWatch, Surroundings, watch_cooling
from reconf.protection.protect import initial_protection, protect
from reconf.site import ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.thermal import ThermalStep
from reconf.twin.truth import draw_truth

N = 8
BANK = CellBank.of(bench_site(N).modules)
GAIN = 1.0 / ThermalSpec().cooling_resistance_factor_frac
DT_S = 10.0


def ridden(gain, *, hours=0.5, start_degc=45.0, ambient_degc=35.0, heat_w=25.0, believed=1.0, blind=False):
    """The watch at the end, and when it first said failed; the fan multiplies the conductance by `gain`."""
    rng = np.random.default_rng(3)
    outer = BANK.conductance_surface_ambient_w_per_k
    true = ThermalStep.of(
        BANK.heat_capacity_core_j_per_k, BANK.heat_capacity_surface_j_per_k,
        BANK.conductance_core_surface_w_per_k, gain * outer, DT_S,
    )  # fmt: skip
    core = surface = np.full(N, start_degc)
    offset = rng.normal(0.0, 0.3, N)
    watch, failed_s = CoolingWatch.start(N), None
    for k in range(round(hours * 3600.0 / DT_S)):
        core, surface = true.advance(core, surface, np.full(N, heat_w), ambient_degc)
        shown = np.round(surface + offset + rng.normal(0.0, 0.1, N), 1)
        now = Surroundings(
            measured_degc=shown,
            core_degc=core + offset,
            heat_w=np.full(N, believed * heat_w),
            ambient_degc=np.nan if blind else ambient_degc,
            cooled_w_per_k=GAIN * outer,
            uncooled_w_per_k=outer,
        )
        watch = watch_cooling(BANK, watch, now, 1.0, DT_S)
        if watch.failed and failed_s is None:
            failed_s = k * DT_S
    return watch, failed_s


def test_a_fan_that_does_not_turn_is_found_in_minutes_with_its_evidence():
    watch, failed_s = ridden(1.0)
    assert failed_s is not None
    assert failed_s < 900.0
    assert watch.above_k > 0.75 * watch.apart_k > 0.0


@pytest.mark.parametrize("believed", [0.7, 1.0, 1.15])
@pytest.mark.parametrize("start_degc", [36.0, 45.0])
def test_a_fan_that_turns_is_never_held_to_have_failed(start_degc, believed):
    # the heat may be believed 30 % too low or 15 % too high
    watch, failed_s = ridden(GAIN, start_degc=start_degc, believed=believed, hours=3.0)
    assert failed_s is None
    assert not watch.failed


def test_a_clogged_filter_that_leaves_most_of_it_is_no_failure():
    assert ridden(1.0 + 0.7 * (GAIN - 1.0))[1] is None


def test_without_an_ambient_sensor_nothing_is_said():
    assert ridden(1.0, blind=True)[1] is None


def test_it_is_told_until_a_later_run_cools_again():
    watch, _ = ridden(1.0)
    rest = Surroundings(*(np.full(N, 35.0) for _ in range(3)), 35.0, np.ones(N), np.ones(N))
    off = watch_cooling(BANK, watch, rest, 0.0, DT_S)
    assert off.failed
    assert np.isnan(off.cooled_degc).all()
    # one comparison that says works takes it back, it takes two to raise it
    outer = BANK.conductance_surface_ambient_w_per_k
    warm = np.full(N, 45.0)
    for _ in range(60):
        cold = Surroundings(warm - 8.0, warm, np.zeros(N), 35.0, GAIN * outer, outer)
        off = watch_cooling(BANK, off, cold, 1.0, DT_S)
    assert not off.failed
    assert off.times < TIMES


def test_lost_convection_is_told_of_its_string_and_lowers_what_heat_may_be_made():
    site = bench_site(2 * 24)
    plant = Plant(site, draw_truth(site, np.random.default_rng(1)), 35.0)
    plant.core_degc[:] = plant.surface_degc[:] = 46.0
    plant.step_alone(np.full(48, 20.0), 1.0)
    image, known = plant.observe(np.random.default_rng(1)), true_estimate(plant)
    lost = np.arange(48) >= 24
    cooling = Cooling(lost, np.where(lost, 0.1, 1.0), np.where(lost, 5.0, 0.1), np.full(48, 2.6))
    _, sound = protect(site, initial_protection(site), image, known, 1.0)
    state, envelope = protect(site, initial_protection(site), image, replace(known, cooling=cooling), 1.0)
    told = [f for f in envelope.faults if f.fault == "cooling_lost"]
    assert [(f.subject, f.severity, f.evidence) for f in told] == [("S1", "warn", "5 K against 2.6 K")]
    assert (envelope.discharge_avg_a[~lost] == sound.discharge_avg_a[~lost]).all()
    assert (envelope.discharge_avg_a[lost] < 0.8 * sound.discharge_avg_a[lost]).all()
    # and it goes with its cause
    _, after = protect(site, state, image, known, 1.0)
    assert "cooling_lost" not in {f.fault for f in after.faults}
