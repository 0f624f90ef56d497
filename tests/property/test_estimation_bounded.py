"""Whatever cell is there and however it was found: capacity stays a capacity, SOC stays within its bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge.bench.estimation_drive import with_soc_error
from edge.bench.foreign import DUTIES, RATED_AH, start
from reconf.estimation.tuning import TUNING
from reconf.site import Chemistry

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failing case is a seed: there is nothing to shrink, and every try takes seconds."""
HARDLY_WORSE_FRAC = 0.003
"""0.3 points of SOC."""
CHEMISTRIES = st.sampled_from(sorted(Chemistry, key=str))


@settings(max_examples=5, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.too_slow])
@given(
    chemistry=CHEMISTRIES,
    seed=st.integers(0, 10_000),
    rest_s=st.sampled_from([0.0, 60.0, 600.0]),
    ocv_error_v=st.floats(0.0, 0.020),
    duty=st.sampled_from(DUTIES),
)
def test_capacity_neither_collapses_nor_explodes(chemistry, seed, rest_s, ocv_error_v, duty):
    drive = start(chemistry, seed, modules=12, ocv_error_v=ocv_error_v, rest_s=rest_s, dt_s=40.0)
    _, before = drive.errors()
    for _ in range(180):
        drive.step(duty)
    _, after = drive.errors()
    groups = drive.state.groups
    assert np.isfinite(groups.capacity_ah).all()
    assert np.isfinite(groups.soc_std_frac()).all()
    assert (drive.lowest_ah > 0.3 * RATED_AH).all()
    assert (drive.highest_ah < 1.25 * RATED_AH).all()
    # no belief gets far worse than the one it began with
    assert (np.abs(after) < np.abs(before) + 0.3).all()
    assert (groups.soc_frac > -0.1).all()
    assert (groups.soc_frac < 1.1).all()


@settings(max_examples=6, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000))
def test_on_a_plateau_a_filter_started_right_is_hardly_worse_than_counting(seed):
    errors = {}
    for name, floor in (("filter", TUNING.curve_floor), ("counting", 1e3)):
        drive = start(Chemistry.LFP, seed, modules=12, ocv_error_v=0.003, dt_s=40.0)
        constants = replace(drive.state.constants, tuning=replace(TUNING, curve_floor=floor))
        soc = drive.plant.cells.soc_frac
        drive.state = with_soc_error(replace(drive.state, constants=constants), soc, 0.005)
        found = []
        for _ in range(180):
            drive.step("mid")
            found.append(drive.errors()[0])
        errors[name] = np.sqrt(np.mean(np.square(found)))
    assert errors["filter"] <= errors["counting"] + HARDLY_WORSE_FRAC


@settings(max_examples=3, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.too_slow])
@given(chemistry=CHEMISTRIES, seed=st.integers(0, 10_000), rest_s=st.sampled_from([0.0, 60.0]))
def test_a_rest_says_nothing_of_capacity(chemistry, seed, rest_s):
    drive = start(chemistry, seed, modules=12, rest_s=rest_s, dt_s=40.0)
    before = drive.state.groups.capacity_ah
    for _ in range(60):
        drive.step("rest")
    assert np.abs(drive.state.groups.capacity_ah - before).max() < 0.02 * RATED_AH
