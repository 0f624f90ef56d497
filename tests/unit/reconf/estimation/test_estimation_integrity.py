"""Thresholds from false alarms, and lies of every kind found on a working site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.bench.integrity_honest import false_alarms, upper95
from edge.bench.integrity_lies import LIES, lies
from edge.bench.protect_site import bench_site
from reconf.errors import DataFileError
from reconf.estimation import cusum, integrity
from reconf.estimation.constants import constants_of
from reconf.estimation.integrity_budget import budget, table
from reconf.estimation.integrity_state import IntegrityState, Signals
from reconf.estimation.integrity_tests import BLOCK_S, DRIFT
from reconf.estimation.zone import median_of


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


def test_white_residuals_alarm_about_as_often_as_the_budget_says():
    modules, years, per_year = 96, 0.02, 20_000.0
    rows = {row.test: row for row in budget(modules, per_year)}
    assert sum(row.per_year for row in rows.values()) == pytest.approx(per_year)
    pair = rows["sensor_pair"]
    rng = np.random.default_rng(8)
    score, alarms = np.zeros((2, modules)), 0
    for _ in range(round(years * cusum.YEAR_S / BLOCK_S)):
        score = cusum.advance(score, rng.standard_normal(modules), DRIFT)
        over = score > pair.threshold
        alarms += int(over.sum())
        score[over] = 0.0
    # 40 expected; Poisson
    assert alarms == pytest.approx(pair.per_year * years, abs=4.0 * (pair.per_year * years) ** 0.5)


def test_budget_in_the_documentation_is_that_of_the_code():
    assert table(96) in Path("docs/estimation.md").read_text(encoding="utf-8")


def test_scores_count_both_sides_and_skip_gaps():
    score = np.zeros((2, 3))
    for _ in range(4):
        score = cusum.advance(score, np.array([2.0, -2.0, np.nan]), 0.5)
    assert score[0].tolist() == [6.0, 0.0, 0.0]
    assert score[1].tolist() == [0.0, 6.0, 0.0]


def test_median_of_a_string_is_that_of_its_known_values():
    rng = np.random.default_rng(2)
    string_of = np.repeat([0, 1, 2, 3], [5, 3, 8, 6])
    values = rng.standard_normal(22)
    values[[1, 8, 9, 10, 11, 12, 20]] = np.nan
    median = median_of(values, string_of)
    for s, known in enumerate([4, 3, 3, 5]):
        mine = values[string_of == s]
        assert np.isfinite(mine).sum() == known
        wanted = np.nanmedian(mine) if known >= 4 else np.nan
        assert median[s] == pytest.approx(wanted, nan_ok=True)


def test_upper_bound_of_nothing_seen_is_the_rule_of_three():
    assert upper95(0, 1.0) == pytest.approx(2.996, abs=0.001)


def test_lies_are_found_in_time_and_nobody_else_is_accused():
    found = {row["kind"]: row for row in lies(learn_s=900.0, lies_s=5400.0, dt_s=5.0)}
    assert found.pop("honest_neighbours_accused")["findings"] == []
    assert set(found) == set(LIES)
    for kind, row in found.items():
        # ramps of 0.1 K/min reach 10 K after 6000 s, a drift of 2 mV/min is no lie of 15 K; two modules that
        # do the same may be swapped until one of them rests
        limit = 2940.0 if "ramp" in kind or "drift" in kind else 900.0 if "swapped" in kind else 600.0
        if "temperature" in kind and "frozen" in kind:
            # a reading that stands still is a lie by as much as the module has moved
            assert row["bound_missed_by_k"] < 3.0
            limit = 5400.0
        assert row["found_s"] is not None, kind
        assert row["found_s"] <= limit, kind


def test_honest_hour_finds_nothing():
    honest = false_alarms(1.0, dt_s=10.0)
    assert honest.findings == []
    assert honest.cooling_told == 0
    assert honest.complete
    assert honest.hours == pytest.approx(1.0)


def test_honest_hours_go_on_from_their_checkpoint_to_the_last_bit(tmp_path):
    file = tmp_path / "honest.checkpoint"
    parts = 0
    while True:
        part = false_alarms(1.0, dt_s=10.0, budget_s=1e-9, file=file)
        parts += 1
        if part.complete:
            break
    assert parts == 4
    whole = false_alarms(1.0, dt_s=10.0)
    assert (part.coldest_degc, part.hottest_degc) == (whole.coldest_degc, whole.hottest_degc)
    with pytest.raises(DataFileError, match="something else"):
        false_alarms(2.0, dt_s=10.0, file=file)


def _stepping(constants, state, ratio, blocks, current_ah=0.0):
    """Blocks of 30 s in which every module answers current steps with `ratio` of its known resistance."""
    m = constants.mask.shape[0]
    none, warm = np.full(m, np.nan), np.full((m, 2), 25.0)
    weight = 1e4
    signals = Signals(
        temperature_degc=warm, model_degc=np.full(m, 25.0), cell_sum_v=none,
        cell_voltage_v=np.full((m, 12), np.nan), module_voltage_v=none,
        string_current_a=none, converter_current_a=none, quiet_current_a=none,
        current_a=np.full(m, 20.0), counter_ah=none,
        current_ah=np.full(m, current_ah), step_xy=ratio * weight * np.ones(m), step_xx=weight * np.ones(m),
        ambient_degc=25.0, ambient_known=True,
    )  # fmt: skip
    serials = tuple(f"S{k}" for k in range(m))
    for k in range(blocks):
        state = integrity.watch(
            constants, state, signals, np.zeros(m, dtype=np.intp), serials, 30.0 * k, BLOCK_S
        )
    return state


def test_resistance_nobody_measured_is_learned_first_and_a_lie_is_found_against_what_was_learned():
    constants = constants_of(bench_site(4))
    start = IntegrityState.start(constants, np.full(4, 25.0), np.full(4, 1.3))
    learned = _stepping(constants, start, 2.6, 40)
    assert learned.findings == (), "twice the resistance believed is an old module"
    assert learned.ratio_scale == pytest.approx([2.6] * 4, rel=0.02)
    # now the sensors claim a temperature at which it would be 40 % more
    lied = _stepping(constants, learned, 2.6 / 1.4, 20)
    assert {f.test for f in lied.findings} == {"resistance"}
    deaf = _stepping(constants, start, 0.05, 40)
    assert {f.subject for f in deaf.findings} == {"cell_voltages"}


def test_counter_that_was_not_looked_at_does_not_stand_still():
    constants = constants_of(bench_site(4))
    state = IntegrityState.start(constants, np.full(4, 25.0), np.full(4, 1.3))
    assert _stepping(constants, state, 1.3, 40, current_ah=0.15).findings == ()
