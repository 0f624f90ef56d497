"""Thresholds from false alarms, and lies of every kind found on a working site."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bench.integrity import LIES, _operate, _scene, lies, upper95
from reconf.estimation import cusum


@pytest.mark.parametrize(("drift", "threshold"), [(0.5, 3.0), (0.5, 4.0), (0.25, 5.0)])
def test_run_length_agrees_with_simulation(drift, threshold):
    rng = np.random.default_rng(5)
    runs = 400
    score, length, alive = np.zeros(runs), np.zeros(runs), np.ones(runs, dtype=bool)
    for _ in range(20_000):
        score = np.maximum(0.0, score + rng.standard_normal(runs) - drift)
        length += alive
        alive &= score <= threshold
        if not alive.any():
            break
    expected = cusum.average_run_length(drift, threshold)
    assert np.mean(length) == pytest.approx(expected, rel=0.2)


def test_threshold_keeps_the_wanted_rate():
    runs = cusum.run_length_for(0.1, tests=1536, sample_s=30.0)
    threshold = cusum.threshold_for(0.5, runs)
    assert cusum.average_run_length(0.5, threshold) >= runs
    assert cusum.average_run_length(0.5, threshold - 0.01) < runs


def test_scores_count_both_sides_and_skip_gaps():
    score = np.zeros((2, 3))
    for _ in range(4):
        score = cusum.advance(score, np.array([2.0, -2.0, np.nan]), 0.5)
    assert score[0].tolist() == [6.0, 0.0, 0.0]
    assert score[1].tolist() == [0.0, 6.0, 0.0]


def test_upper_bound_of_nothing_seen_is_the_rule_of_three():
    assert upper95(0, 1.0) == pytest.approx(2.996, abs=0.001)


def test_lies_are_found_in_time_and_nobody_else_is_accused():
    found = {row["kind"]: row for row in lies(learn_s=900.0, lies_s=2940.0, dt_s=5.0)}
    assert found.pop("honest_neighbours_accused")["findings"] == []
    assert set(found) == set(LIES)
    for kind, row in found.items():
        # ramps of 0.1 K/min reach 10 K after 6000 s, a drift of 2 mV/min is no lie of 15 K
        limit = 2940.0 if "ramp" in kind or "drift" in kind else 600.0
        assert row["found_s"] is not None, kind
        assert row["found_s"] <= limit, kind


def test_honest_hour_finds_nothing():
    drive, duty = _scene(3, 10.0, None)
    _operate(drive, duty, 3600.0)
    assert drive.estimate.findings == ()
