"""The cooling is asked for: do the modules show that it cools? Against the twin's own thermal model."""

import numpy as np
import pytest

from edge.bench.protect_site import bench_site
from reconf.cells.bank import CellBank
from reconf.protection.cooling import TIMES, CoolingWatch, Surroundings, watch_cooling
from reconf.site import ThermalSpec
from reconf.twin.thermal import ThermalStep

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
