"""The compiled loops over the groups of each module do what their namesakes in numpy do."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site
from reconf.estimation import groups
from reconf.estimation.circuit import Warm
from reconf.estimation.filter import initial_state
from reconf.estimation.integrity_state import Pair, Untrue
from reconf.estimation.memory import FilterState, GroupState
from reconf.estimation.remaining import Reach, reach
from reconf.estimation.report import temperature_bounds, within
from reconf.readings import Channel, Quality, SiteImage
from reconf.site import Chemistry
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULES = 24
CASES = {"chemistry": st.sampled_from([Chemistry.NMC, Chemistry.LFP]), "seed": st.integers(0, 2**32 - 1)}
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@cache
def begun(chemistry: Chemistry) -> tuple[FilterState, SiteImage]:
    """A filter that has just started at a site where some modules have fewer groups, and what it saw."""
    site, rng = bench_site(MODULES, chemistry=chemistry), np.random.default_rng(0)
    plant = Plant(site, draw_truth(site, rng, soc_frac=0.5), 25.0)
    image = observe(plant, rng, 0, plant.time_s)
    state = initial_state(site, image)
    mask = state.constants.mask.copy()
    mask[::5, -2:] = False
    constants = replace(state.constants, mask=mask, share=mask.astype(np.float64))
    assert constants.engine == "compiled"
    return replace(state, constants=constants), image


def anywhere(state: FilterState, rng: np.random.Generator) -> FilterState:
    """`state` with random groups, resistances, polarisation, loads, observers and judgements."""
    shape, m = state.constants.mask.shape, MODULES
    capacity = 60.0 * rng.uniform(0.2, 1.25, shape)
    std = 10.0 ** rng.uniform(-3.0, -0.5, shape) * capacity
    held = GroupState(
        charge_ah=rng.uniform(-0.1, 1.05, shape) * capacity,
        capacity_ah=capacity,
        ocv_error_v=0.006 * rng.standard_normal(shape),
        var_rr=std**2,
        var_rq=0.1 * std,
        var_re=-0.001 * std,
        var_qq=rng.uniform(0.1, 9.0, shape),
        var_qe=0.001 * rng.standard_normal(shape),
        var_ee=rng.uniform(1e-6, 1e-4, shape),
    )
    core = rng.uniform(-20.0, 60.0, m)
    nodes = {"core_degc": core, "surface_degc": core + rng.standard_normal(m)}
    pair = Pair(np.full(m, 20.0), *np.sort(rng.uniform(-2.0, 2.0, (3, m)), axis=0)[[1, 0, 2]])
    free = {name: value + 3.0 * rng.standard_normal(m) for name, value in nodes.items()}
    untrue = rng.integers(0, 4, m) * (rng.random(m) < 0.3)
    return replace(
        state,
        groups=held,
        resistance=replace(
            state.resistance, scale=rng.uniform(0.5, 4.0, shape), var=rng.uniform(0.0, 0.1, shape)
        ),
        circuit=replace(
            state.circuit,
            v1_v=0.01 * rng.standard_normal(m),
            hysteresis=rng.uniform(-1.0, 1.0, m),
            **nodes,
        ),
        charge=replace(
            state.charge,
            current_a=40.0 * rng.standard_normal(m),
            load_a=rng.uniform(0.0, 90.0, m),
            load_mean_a=rng.uniform(0.0, 60.0, m),
        ),
        integrity=replace(state.integrity, pair=pair, untrue=untrue * int(Untrue.TEMPERATURE_1), **free),
    )


def in_numpy(state: FilterState) -> FilterState:
    """The same by the other engine."""
    return replace(state, constants=replace(state.constants, engine="numpy"))


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_groups_are_predicted_and_unloaded_alike(chemistry, seed):
    rng = np.random.default_rng(seed)
    fast = anywhere(begun(chemistry)[0], rng)
    slow, shape = in_numpy(fast), fast.constants.mask.shape
    moved, doubt, curve = rng.standard_normal(MODULES), rng.random(MODULES), rng.uniform(0.0, 0.02, MODULES)
    before = fast.groups.stacked()
    found = [groups.predict(s.constants, s.groups, moved, doubt, curve, 7.0) for s in (fast, slow)]
    np.testing.assert_array_equal(fast.groups.stacked(), before)
    for field in fields(GroupState):
        np.testing.assert_allclose(*(getattr(x, field.name) for x in found), **CLOSE)
    point = fast.constants.bank.at(fast.groups.soc_frac)
    voltage = rng.uniform(2.5, 4.3, shape)
    voltage[rng.random(shape) < 0.1] = np.nan
    given_ = (voltage, rng.random(shape), rng.standard_normal(shape), rng.standard_normal(shape))
    jump = rng.uniform(0.0, 50.0, MODULES)
    ready = [groups.unloaded(s.constants, s.resistance, point, *given_, jump, 1.0) for s in (fast, slow)]
    np.testing.assert_allclose(*ready, **CLOSE)


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_the_reach_of_modules_and_the_sums_of_their_groups_are_alike(chemistry, seed):
    rng = np.random.default_rng(seed)
    fast = anywhere(begun(chemistry)[0], rng)
    slow, shape = in_numpy(fast), fast.constants.mask.shape
    warm = Warm.of(fast.constants, fast.circuit.core_degc)
    cut = rng.uniform(-0.05, 0.6, MODULES)
    ends = [reach(s.constants, s, warm, cut) for s in (fast, slow)]
    for field in fields(Reach):
        np.testing.assert_allclose(*(getattr(x, field.name) for x in ends), **CLOSE)
    point = fast.constants.bank.at(fast.groups.soc_frac)
    voltage = rng.uniform(2.5, 4.3, shape)
    voltage[rng.random(shape) < 0.3] = np.nan
    shift = 0.01 * rng.standard_normal(shape)
    np.testing.assert_allclose(
        *(within(s.constants, s, warm, point, shift, voltage) for s in (fast, slow)), **CLOSE
    )


@settings(max_examples=40, deadline=None)
@given(ambient=st.sampled_from([np.nan, -5.0, 30.0]), **CASES)
def test_temperatures_are_bounded_alike(ambient, chemistry, seed):
    rng = np.random.default_rng(seed)
    state, image = begun(chemistry)
    state = anywhere(state, rng)
    value = state.circuit.core_degc[:, None] + 3.0 * rng.standard_normal((MODULES, 2))
    quality = np.where(rng.random(value.shape) < 0.2, np.uint8(Quality.NO_ANSWER), np.uint8(Quality.GOOD))
    modules = replace(image.modules, temperature_degc=Channel(value, quality, np.zeros(value.shape)))
    seen = replace(image, modules=modules, inputs=replace(image.inputs, ambient_degc=ambient))
    fast, slow = (temperature_bounds(s.constants, seen, s) for s in (state, in_numpy(state)))
    np.testing.assert_allclose(fast, slow, **CLOSE)
