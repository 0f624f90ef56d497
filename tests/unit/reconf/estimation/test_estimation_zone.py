"""Cooling lost for a whole string: told as that, and neither lies nor attackers are excused by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.estimation_drive import Drive
from edge.bench.protect_site import bench_site
from reconf.estimation.zone import median_of, zones_of
from reconf.readings import Channel
from reconf.site import ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

N = 24
DT_S = 10.0
STRIKE_S = 600.0


def scene(*, ambient=25.0, warmer=0.0, seed=2, spoil=None, thermal=None, asked=0.0):
    """A string of 24 modules; `spoil(degc, since_s)` changes the readings of the temperatures in place."""
    rng = np.random.default_rng(seed)
    site = bench_site(N, thermal=thermal)
    truth = replace(draw_truth(site, rng, soc_frac=0.6), temperature_degc=np.full(N, ambient + warmer))
    drive = Drive.start(site, Plant(site, truth, ambient), rng, DT_S)
    drive.cooling_frac = asked

    def lie(image):
        since_s = image.time_s - STRIKE_S
        if spoil is None or since_s < 0.0:
            return image
        degc = image.modules.temperature_degc.value.copy()
        spoil(degc, since_s)
        return replace(image, modules=replace(image.modules, temperature_degc=Channel.of(np.round(degc, 1))))

    drive.spoil = lie
    return drive


def ride(drive, hours, *, share=None, power_w=0.0, see=lambda drive: None):
    """Half an hour out, half an hour in; convection falls to `share` at `STRIKE_S`."""
    while drive.plant.time_s < STRIKE_S + 3600.0 * hours:
        if share is not None and drive.plant.time_s >= STRIKE_S:
            drive.plant.faults.cooling_factor[:] = share
        sign = 1.0 if drive.plant.time_s // 1800.0 % 2 == 0 else -1.0
        drive.step(np.array([sign * power_w]))
        see(drive)
    return drive.estimate


def told_after_s(drive, hours, **kwargs):
    """When cooling was first told as lost [s after the strike], and the last estimate."""
    times = []

    def see(drive):
        if drive.estimate.cooling.lost.all():
            times.append(drive.plant.time_s - STRIKE_S)

    last = ride(drive, hours, see=see, **kwargs)
    return (times or [None])[0], last


def findings(estimate):
    return {(f.serial, f.subject) for f in estimate.findings}


@pytest.mark.parametrize(
    ("share", "warmer", "power_w", "within_s"),
    [(0.0, 15.0, 0.0, 1500.0), (0.1, 15.0, 25e3, 1500.0), (0.0, 0.0, 50e3, 7200.0)],
)
def test_lost_convection_is_told_as_such_and_every_sensor_believed(share, warmer, power_w, within_s):
    drive = scene(warmer=warmer)
    short = []

    def see(drive):
        short.append((drive.plant.core_degc - drive.estimate.temperature_high_degc).max())
        assert drive.estimate.trusted.all()

    after_s, times = None, []

    def both(drive):
        see(drive)
        if drive.estimate.cooling.lost.all():
            times.append(drive.plant.time_s - STRIKE_S)

    last = ride(drive, 2.0, share=share, power_w=power_w, see=both)
    after_s = times[0]
    assert 0.0 < after_s < within_s
    assert findings(last) == set()
    assert max(short) < 1.0, "the bound stays with the true core"
    assert (last.cooling.share_frac < 0.35).all()


@pytest.mark.parametrize("warmer", [0.0, 8.0])
def test_cooling_that_works_is_not_told_as_lost(warmer):
    after_s, last = told_after_s(scene(warmer=warmer), 3.0, power_w=40e3)
    assert after_s is None
    assert (last.cooling.share_frac == 1.0).all()
    assert findings(last) == set()


FAN = ThermalSpec(cooling="fan", cooling_resistance_factor_frac=0.3)


def test_a_strong_fan_that_cools_accuses_no_sensor():
    drive = scene(ambient=38.0, warmer=4.0, thermal=FAN, asked=1.0)
    last = ride(drive, 3.0, share=1.0 / 0.3, power_w=50e3)
    assert findings(last) == set()
    assert not last.cooling.lost.any()


def test_a_fan_that_is_asked_and_dead_is_one_cause():
    drive = scene(ambient=30.0, warmer=16.0, thermal=FAN, asked=1.0)
    after_s, last = told_after_s(drive, 2.0, share=1.0, power_w=20e3)
    assert after_s is not None
    assert findings(last) == set()
    # what is left is what there is without a fan
    assert last.cooling.share_frac.mean() == pytest.approx(1.0, abs=0.35)
    assert (last.temperature_high_degc >= drive.plant.core_degc - 0.5).all()


def test_cooling_that_comes_back_is_no_longer_told():
    drive = scene(warmer=15.0)
    ride(drive, 1.0, share=0.0)
    assert drive.estimate.cooling.lost.all()
    ride(drive, 4.0, share=1.0)
    assert not drive.estimate.cooling.lost.any()
    assert findings(drive.estimate) == set()


@pytest.mark.parametrize("kelvin", [15.0, -15.0])
@pytest.mark.parametrize("sensors", [slice(0, 1), slice(0, 2)])
def test_a_liar_is_found_while_cooling_is_lost(kelvin, sensors):
    def creep(degc, since_s):
        # begins when the loss is known
        degc[5, sensors] += kelvin * np.clip((since_s - 3000.0) / 300.0, 0.0, 1.0)

    drive = scene(warmer=15.0, spoil=creep)
    last = ride(drive, (3000.0 + 600.0) / 3600.0, share=0.0, power_w=20e3)
    serials = drive.state.serials
    assert {s for s, _ in findings(last)} == {serials[5]}
    assert len(findings(last)) == 2 if sensors == slice(0, 2) else 1


@pytest.mark.parametrize("how", ["creep", "frozen"])
def test_a_string_that_reads_low_is_not_excused(how):
    first = {}

    def lie(degc, since_s):
        if how == "creep":
            degc -= 15.0 * min(since_s / 300.0, 1.0)
        else:
            # as it stood, while the modules grow warmer
            degc[:] = first.setdefault("degc", degc.copy())

    drive = scene(spoil=lie)
    if how == "frozen":
        drive.plant.faults.extra_heat_w[:] = 0.0
    for _ in range(round((STRIKE_S + 7200.0) / DT_S)):
        drive.plant.ambient_degc = 25.0 + 12.0 * min(max(drive.plant.time_s - STRIKE_S, 0.0) / 3600.0, 1.0)
        drive.step(np.array([20e3 if drive.plant.time_s // 1800.0 % 2 == 0 else -20e3]))
    last = drive.estimate
    assert len(findings(last)) == 2 * N
    assert not last.cooling.lost.any()
    assert not last.trusted.any()
    assert (last.temperature_high_degc >= drive.plant.core_degc - 0.5).all()


def test_a_string_made_to_read_warm_opens_no_cold_limit():
    """Charged at -4 degC: the lowest temperature to reckon with never rises above what the truth allows."""
    reach, once = [], []

    def creep(degc, since_s):
        degc += 15.0 * min(since_s / 300.0, 1.0)

    def see(drive):
        excess = (drive.estimate.temperature_low_degc - drive.plant.core_degc).max()
        reach.append(excess)
        if drive.estimate.cooling.lost.all():
            once.append(excess)

    drive = scene(ambient=-4.0, spoil=creep)
    last = ride(drive, 1.5, power_w=5e3, see=see)
    # steps of the current show a resistance that does not go with such a temperature
    assert {f.test for f in last.findings} == {"resistance"}
    assert once, "told as lost"
    assert max(reach) < 3.0, "no more than the observer's doubt until then"
    assert max(once) < 0.0, "and below the truth from then on"
    assert (last.temperature_high_degc >= drive.plant.core_degc).all()


def test_an_ambient_sensor_that_reads_too_cold_condemns_no_module():
    drive = scene(ambient=30.0)
    lie = drive.spoil

    def cold(image):
        return lie(replace(image, inputs=replace(image.inputs, ambient_degc=18.0)))

    drive.spoil = cold
    after_s, last = told_after_s(drive, 2.0, power_w=20e3)
    assert after_s is not None
    assert findings(last) == set()
    assert last.trusted.all()


def test_small_strings_share_a_zone():
    string_of = np.repeat([0, 1, 2, 3], [2, 6, 3, 4])
    zone = zones_of(string_of)
    assert zone.tolist() == [0] * 2 + [1] * 6 + [0] * 3 + [3] * 4
    # five together are enough for a median, and a zone without modules is no trouble
    values = np.arange(15.0)
    median = median_of(values, zone)
    assert median[0] == 8.0
    assert np.isnan(median[2])
    assert np.isnan(median_of(np.where(zone == 1, np.nan, values), zone)[1])
