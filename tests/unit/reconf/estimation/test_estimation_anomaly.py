"""Internal shorts, resistive cells and open sense wires on the twin."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bench.estimation_drive import Drive
from edge.bench.protect_site import bench_site
from reconf.estimation.filter import clear_findings
from reconf.site import Chemistry
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth


@pytest.fixture
def drive():
    site = bench_site(12)
    rng = np.random.default_rng(4)
    return Drive.start(site, Plant(site, draw_truth(site, rng, soc_frac=0.75)), rng, 60.0)


def test_leaking_cell_is_found_at_rest_and_no_other(drive):
    drive.plant.faults.leakage_ohm[5, 2] = 10.0  # 0.4 A
    for _ in range(600):
        drive.step(np.zeros(1))
    found = [(f.serial, f.subject, f.test) for f in drive.estimate.findings]
    assert found == [(drive.state.serials[5], "cell_3", "leakage")]
    assert 0.1 < drive.state.anomaly.leak_a[5, 2] < 1.0


def test_a_hard_short_is_found_within_half_an_hour_of_rest(drive):
    for _ in range(20):
        drive.step(np.zeros(1))
    drive.plant.faults.leakage_ohm[5, 2] = 1.0  # 4 A
    for _ in range(30):
        drive.step(np.zeros(1))
    found = [(f.serial, f.subject, f.test) for f in drive.estimate.findings]
    assert found == [(drive.state.serials[5], "cell_3", "leakage")]
    assert "within one rest" in drive.estimate.findings[0].evidence


@pytest.mark.parametrize("chemistry", list(Chemistry))
@pytest.mark.parametrize("soc", [0.95, 0.6, 0.3])
def test_no_sound_cell_is_accused_in_the_rest_after_a_load(chemistry, soc):
    site = bench_site(12, chemistry=chemistry)
    rng = np.random.default_rng(6)
    drive = Drive.start(site, Plant(site, draw_truth(site, rng, soc_frac=soc)), rng, 30.0)
    for _ in range(2):
        for _ in range(20):
            drive.step(np.full(1, 12_000.0))
        for _ in range(120):
            drive.step(np.zeros(1))
    assert not [f for f in drive.estimate.findings if f.test == "leakage"]


def _unlike_groups(soc_frac, seed):
    """A pack whose groups differ in capacity within a module, by 2 % (1 sigma), as salvaged ones do."""
    site = bench_site(12)
    rng = np.random.default_rng(seed)
    truth = draw_truth(site, rng, soc_frac=soc_frac)
    truth.capacity_ah[:] *= np.clip(rng.normal(1.0, 0.02, truth.capacity_ah.shape), 0.95, 1.05)
    return Drive.start(site, Plant(site, truth), rng, 60.0)


@pytest.mark.parametrize("power_w", [420.0, -420.0])
def test_a_trickle_of_hours_through_unlike_groups_is_no_short(power_w):
    drive = _unlike_groups(0.5, 11)
    for _ in range(1_200):
        drive.step(np.full(1, power_w))
    travelled = abs(float(np.median(drive.plant.truth.soc_frac - drive.plant.cells.soc_frac)))
    assert travelled > 0.2  # at less than 0.02 C all the way
    assert not [f for f in drive.estimate.findings if f.test == "leakage"]


@pytest.mark.parametrize("seed", [11, 12])
def test_two_days_near_full_and_one_near_empty_are_no_leak(seed):
    drive = _unlike_groups(0.9, seed)
    for power_w, ticks in ((0.0, 1_440), (9_000.0, 200), (0.0, 480), (-6_000.0, 250), (0.0, 480)):
        for _ in range(ticks):
            drive.step(np.full(1, power_w))
    assert not [f for f in drive.estimate.findings if f.test == "leakage"]


def test_sense_wire_open_is_found_at_once_and_cleared_by_order(drive):
    drive.step(np.zeros(1))
    drive.plant.faults.sense_open[7, 0] = True
    drive.step(np.zeros(1))
    finding = drive.estimate.findings[0]
    assert (finding.subject, finding.test) == ("cell_1", "sense_wire")
    assert abs(drive.estimate.cell_voltage_min_v[7] - drive.plant.true.cell_voltage_v[7].min()) < 0.1
    drive.plant.faults.sense_open[7, 0] = False
    drive.state = clear_findings(drive.state, drive.state.serials[7])
    drive.step(np.zeros(1))
    assert drive.estimate.findings == ()


def test_resistive_cell_is_found_in_its_own_current_steps(drive):
    drive.dt_s = 5.0
    drive.plant.faults.resistance_factor[3, 4] = 2.5
    for k in range(500):
        drive.step(np.full(1, 9_000.0 if k % 4 < 2 else 1_000.0), by_remaining=False)
    found = {(f.serial, f.subject) for f in drive.estimate.findings if f.test == "cell_resistance"}
    assert found == {(drive.state.serials[3], "cell_5")}


def test_the_group_with_most_resistance_is_told_long_before_it_counts_as_faulty(drive):
    drive.step(np.zeros(1))
    assert (drive.estimate.group_resistance_frac >= 1.0).all()
    drive.dt_s = 5.0
    drive.plant.faults.resistance_factor[3, 4] = 1.35
    for k in range(200):
        drive.step(np.full(1, 9_000.0 if k % 4 < 2 else 1_000.0), by_remaining=False)
    scale = drive.plant.truth.resistance_scale * drive.plant.faults.resistance_factor
    true = scale.max(axis=1) / scale.mean(axis=1)
    told = drive.estimate.group_resistance_frac
    assert told[3] == pytest.approx(true[3], rel=0.08)
    assert np.abs(told / true - 1.0).max() < 0.1
    assert not [f for f in drive.estimate.findings if f.test == "cell_resistance"]
