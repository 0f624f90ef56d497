"""One lying temperature sensor widens no bound, whatever it says and whatever the observer makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site
from reconf.estimation.filter import clear_findings, initial_state
from reconf.estimation.integrity_state import PAIR_BLOCKS, Untrue
from reconf.estimation.memory import FilterState, SavedModule
from reconf.estimation.report import temperature_bounds
from reconf.readings import Channel, SiteImage
from reconf.site import Site
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULES = 12
KELVIN = st.floats(-20.0, 20.0)


@cache
def site() -> Site:
    """Modules that are all alike."""
    return bench_site(MODULES)


@cache
def begun() -> tuple[FilterState, SiteImage]:
    """A filter that has just started, and what it saw."""
    rng = np.random.default_rng(0)
    plant = Plant(site(), draw_truth(site(), rng, soc_frac=0.5), 25.0)
    image = observe(plant, rng, 0, plant.time_s)
    return initial_state(site(), image), image


def after_blocks(state: FilterState, differences_k: list[float]) -> FilterState:
    """`state` that has seen these differences of the two sensors."""
    pair = state.integrity.pair
    for k in differences_k:
        pair = pair.learned(np.full(MODULES, k))
    return replace(state, integrity=replace(state.integrity, pair=pair))


def bounds(state: FilterState, image: SiteImage, first_degc: float, second_degc: float, core_k: float):
    """Bounds with these readings and a core so much above the observer's surface, which is their mean."""
    pair = np.tile([first_degc, second_degc], (MODULES, 1))
    surface = np.full(MODULES, 0.5 * (first_degc + second_degc))
    inside = replace(state.circuit, surface_degc=surface, core_degc=surface + core_k)
    spoilt = replace(image, modules=replace(image.modules, temperature_degc=Channel.of(pair)))
    low, high = temperature_bounds(state.constants, spoilt, replace(state, circuit=inside))
    return low[0], high[0]


@settings(deadline=None)
@given(
    level_degc=st.floats(-10.0, 50.0),
    offset_k=st.floats(-0.9, 0.9),
    lie_k=KELVIN,
    creeping=st.integers(0, 40),
    core_k=st.floats(-5.0, 5.0),
    found=st.booleans(),
)
def test_one_lying_sensor_widens_no_bound(level_degc, offset_k, lie_k, creeping, core_k, found):
    state, image = begun()
    honest = after_blocks(state, [offset_k] * int(PAIR_BLOCKS))
    low, high = bounds(honest, image, level_degc + offset_k, level_degc, core_k)
    lied = after_blocks(honest, [offset_k + lie_k * k / 40.0 for k in range(creeping)])
    if found:
        marks = np.full(MODULES, int(Untrue.TEMPERATURE_1))
        lied = replace(lied, integrity=replace(lied.integrity, untrue=marks))
    lied_low, lied_high = bounds(lied, image, level_degc + offset_k + lie_k, level_degc, core_k)
    # what is forgotten of a range in so many blocks
    slack = 0.1 * creeping / 2880.0 + 1e-9
    if lie_k >= 0.0:
        assert lied_low <= low + slack
    if lie_k <= 0.0:
        assert lied_high >= high - slack


@settings(deadline=None)
@given(differences=st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=60))
def test_the_range_of_a_difference_holds_its_mean_and_survives_gaps_restarts_and_orders(differences):
    state, _ = begun()
    seen = after_blocks(state, differences).integrity.pair
    assert (seen.low_k <= seen.mean_k).all()
    assert (seen.mean_k <= seen.high_k).all()
    saved = {
        k: SavedModule.from_json(v.to_json()) for k, v in after_blocks(state, differences).saved().items()
    }
    again = initial_state(site(), begun()[1], saved).integrity.pair
    assert [again.of(i) for i in range(MODULES)] == [seen.of(i) for i in range(MODULES)]
    gap = seen.learned(np.full(MODULES, np.nan))
    assert [gap.of(i) for i in range(MODULES)] == [seen.of(i) for i in range(MODULES)]
    serial = state.serials[3]
    cleared = clear_findings(after_blocks(state, differences), serial).integrity.pair
    assert cleared.of(3) == (0.0, 0.0, 0.0, 0.0)
    assert cleared.of(2) == seen.of(2)
