"""The compiled loops of the filter do what their namesakes in numpy do, whatever they are given."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site
from reconf.arrays import row_median
from reconf.cells.bank import BankPoint
from reconf.estimation import groups
from reconf.estimation.constants import Constants, constants_of, curves
from reconf.estimation.far import FAR_STD_FRAC, SOC_HIGH, SOC_LOW
from reconf.estimation.memory import GroupState
from reconf.site import Chemistry

MODULES = 24
AH, VOLT = 60.0, 4.0
SIZES = (AH, AH, VOLT, AH * AH, AH * AH, AH * VOLT, AH * AH, AH * VOLT, VOLT * VOLT)
"""Of what is added up in each field of a group: the last bit of these is what a rounding costs."""
CLOSE = 1e-13
LAST_BIT = float(np.finfo(np.float64).eps)
CHEMISTRIES = st.sampled_from([Chemistry.NMC, Chemistry.LFP])
SEEDS = st.integers(0, 2**32 - 1)


@cache
def constants_for(chemistry: Chemistry) -> Constants:
    """A site's tables, with some modules shorter than the others."""
    made = constants_of(bench_site(MODULES, chemistry=chemistry))
    mask = made.mask.copy()
    mask[::5, -2:] = False
    return replace(made, mask=mask, share=mask.astype(np.float64))


def random_state(constants: Constants, rng: np.random.Generator) -> GroupState:
    """Groups anywhere, sure or not, with a covariance that is one (the square of a random triangle)."""
    shape = constants.mask.shape
    capacity = constants.rated_ah[:, None] * rng.uniform(0.2, 1.25, shape)
    std = 10.0 ** rng.uniform(-3.0, -0.5, shape)
    factor = np.tril(rng.uniform(-1.0, 1.0, (*shape, 3, 3)) + 1.5 * np.eye(3))
    factor *= np.stack([std * capacity, 0.05 * capacity, np.full(shape, 0.006)], axis=-1)[..., None]
    var = factor @ np.swapaxes(factor, -1, -2)
    return GroupState(
        charge_ah=rng.uniform(-0.1, 1.05, shape) * capacity,
        capacity_ah=capacity,
        ocv_error_v=0.006 * rng.standard_normal(shape),
        var_rr=var[..., 0, 0],
        var_rq=var[..., 0, 1],
        var_re=var[..., 0, 2],
        var_qq=var[..., 1, 1],
        var_qe=var[..., 1, 2],
        var_ee=var[..., 2, 2],
    )


def random_measurement(
    constants: Constants, ocv_v: np.ndarray, rng: np.random.Generator
) -> groups.Measurement:
    """Voltages near what is believed, far from it, or none."""
    m, shape = constants.rated_ah.size, constants.mask.shape
    voltage = ocv_v + 10.0 ** rng.uniform(-4.0, 0.0, shape) * rng.choice((-1.0, 1.0), shape)
    voltage[~constants.mask | (rng.random(shape) < 0.1)] = np.nan
    return groups.Measurement(
        voltage_v=voltage,
        var_v2=10.0 ** rng.uniform(-6.0, -3.0, shape),
        use=np.isfinite(voltage),
        curve_std_v=rng.uniform(0.003, 0.03, m),
        error_share=rng.uniform(0.0, 1.0, m),
        capacity_floor_frac=10.0 ** rng.uniform(-2.0, 1.0, m),
    )


def rounding(constants: Constants, state: GroupState, given_: groups.Measurement) -> np.ndarray:
    """(M, 1) what a rounding may cost, in parts of what is added up.

    The grid of groups that are far off weighs a node by exp(-misfit^2 / (2 sigma^2)). A last bit of a voltage
    in the misfit changes that exponent by misfit * bit / sigma^2: a misfit of 0.3 V at 13 mV makes 7,000 bits
    of one. Groups of a module may share a grid: the largest misfit and the least sigma of a module count.
    """
    ends = [constants.bank.at(np.full(constants.mask.shape, soc)).ocv_v for soc in (SOC_LOW, SOC_HIGH)]
    level = given_.voltage_v - state.ocv_error_v
    misfit = np.nan_to_num(np.maximum(*(np.abs(level - end) for end in ends)))
    sigma2 = np.maximum(state.var_ee, given_.curve_std_v[:, None] ** 2) + given_.var_v2
    worst = misfit.max(axis=1, keepdims=True) * VOLT / sigma2.min(axis=1, keepdims=True)
    far = (given_.use & (state.soc_std_frac() > FAR_STD_FRAC)).any(axis=1, keepdims=True)
    return np.where(far, np.maximum(CLOSE, LAST_BIT * worst), CLOSE)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, dt_s=st.sampled_from([0.1, 1.0, 60.0]), chemistry=CHEMISTRIES)
@example(seed=13591, dt_s=0.1, chemistry=Chemistry.LFP)  # a misfit of 22 sigma beside the plateau
def test_groups_are_corrected_alike(seed: int, dt_s: float, chemistry: Chemistry) -> None:
    constants = constants_for(chemistry)
    assert constants.engine == "compiled"
    rng = np.random.default_rng(seed)
    state = random_state(constants, rng)
    point = constants.bank.at(state.soc_frac)
    given_ = random_measurement(constants, point.ocv_v, rng)
    before = state.stacked()
    fast = groups.correct(constants, state, point, given_, dt_s)
    slow = groups.correct(replace(constants, engine="numpy"), state, point, given_, dt_s)
    np.testing.assert_array_equal(state.stacked(), before)
    close = rounding(constants, state, given_)
    for k, field in enumerate(fields(GroupState)):
        a, b = getattr(fast, field.name), getattr(slow, field.name)
        assert (np.abs(a - b) <= close * SIZES[k]).all(), field.name
        assert (a != before[k]).any(), field.name


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, chemistry=CHEMISTRIES, grid=st.booleans())
def test_curves_are_those_of_the_bank(seed: int, chemistry: Chemistry, grid: bool) -> None:
    constants = constants_for(chemistry)
    shape = constants.mask.shape if grid else constants.rated_ah.shape
    soc = np.random.default_rng(seed).uniform(-0.3, 1.3, shape)
    fast, slow = curves(constants, soc), constants.bank.at(soc)
    for field in fields(BankPoint):
        np.testing.assert_array_equal(getattr(fast, field.name), getattr(slow, field.name))


def test_an_soc_that_is_none_reads_inside_the_table() -> None:
    constants = constants_for(Chemistry.NMC)
    found = curves(constants, np.full(MODULES, np.nan))
    assert np.isnan(found.ocv_v).all()
    assert np.isfinite(found.slope_v).all()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, columns=st.integers(1, 14))
def test_the_median_of_a_row_is_that_of_numpy(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((9, columns))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0] = np.nan
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="All-NaN"):
        wanted = np.nanmedian(values, axis=1, keepdims=True)
    np.testing.assert_array_equal(row_median(values), wanted)
