"""The fault catalogue in closed loop: a few rows here, all of it and the pairs in the long campaign."""

from __future__ import annotations

import pytest

from edge.bench.fault_cases import CATALOGUE
from edge.bench.faults import run

SAMPLE = ("half_string_silent", "emergency_stop", "optimizer_mad")


def test_sampled_faults_pass_no_safety_tier_and_are_reacted_to_at_once():
    result = run(only=SAMPLE, at_most_s=40.0)
    assert result["safety_violations"] == 0
    assert [case["fault"] for case in result["cases"]] == [c.fault for c in CATALOGUE if c.fault in SAMPLE]
    for row, case in zip((c for c in CATALOGUE if c.fault in SAMPLE), result["cases"], strict=True):
        if row.reaction != "none":
            assert case["detected_s"] == 0.0
            assert case["reaction_ticks"] == 1
        assert set(case["worst"]) == {
            "cell_voltage_min_v", "cell_voltage_max_v", "temperature_max_degc", "current_max_a",
        }  # fmt: skip
    (stop,) = [case for case in result["cases"] if case["fault"] == "emergency_stop"]
    assert stop["worst"]["current_max_a"] < 1.0
    assert stop["energy_lost_kwh"] > 0.05


def test_the_other_string_takes_the_share_of_one_whose_converter_fell_silent():
    (case,) = run(only=("converter_silent",), at_most_s=60.0)["cases"]
    assert case["safety_violations"] == 0
    assert case["detected_by"]
    # 5 of 10 kW until its own watchdog has surely opened it and the power has been ramped, not for all 60 s
    assert 0.0 < case["energy_lost_kwh"] < 5.0 * 20.0 / 3600.0


def test_nodes_that_take_no_writes_are_told_by_their_own_faults():
    names = ("module_writes_refused", "module_writes_swallowed", "converter_writes_refused")
    for case in run(only=names, at_most_s=30.0)["cases"]:
        assert case["safety_violations"] == 0
        fault = case["fault"].replace("swallowed", "refused")
        assert case["detected_by"].endswith(fault)
        assert case["detected_s"] <= 3.0


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_whole_catalogue_with_pairs_passes_no_safety_tier():
    result = run()
    assert result["safety_violations"] == 0
    assert len(result["cases"]) > len(CATALOGUE)
