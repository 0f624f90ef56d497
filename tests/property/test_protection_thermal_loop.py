"""Heat limits in closed loop on the twin: no core too hot, nothing swings, the fan is not a buzzer."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site
from reconf.cells.bank import CellBank
from reconf.protection import thermal
from reconf.site import ThermalSpec
from reconf.twin.thermal import RackHeat

N = 6
TICK_S = 10.0
LIMIT_DEGC = 48.0
SETTINGS = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
SPECS = st.builds(
    ThermalSpec,
    cooling=st.sampled_from(["off", "fan", "liquid"]),
    cooling_resistance_factor_frac=st.floats(0.3, 0.9),
    cooling_min_run_s=st.floats(60.0, 900.0),
    cooling_ramp_s=st.floats(5.0, 120.0),
    neighbour_conductance_frac=st.sampled_from([0.0, 0.2, 0.5]),
)


def ride(spec, ambient_degc, start_degc, asked_w, cooling_scale, hours=2.5):
    """Modules that always make all the heat that is allowed, and at most `asked_w`; columns over time."""
    site = bench_site(N, thermal=spec)
    bank, topology = CellBank.of(site.modules), site.topology
    rack, state = RackHeat(bank, topology, spec), thermal.ThermalState.start(N)
    core, surface = np.full(N, start_degc), np.full(N, start_degc)
    heat = np.zeros(N)
    horizon = np.outer([thermal.SHORT_S, thermal.LONG_S, thermal.LONG_S], np.ones(N))
    rows = []
    for tick in range(int(hours * 3600.0 / TICK_S)):
        warmth = thermal.Warmth(
            core_degc=core,
            surface_degc=surface,
            ambient_degc=np.full(N, ambient_degc),
            limit_degc=np.full(N, LIMIT_DEGC),
            heat_w=heat,
            horizon_s=horizon,
        )
        state, ahead = thermal.look_ahead(bank, topology, spec, state, warmth, TICK_S)
        wanted = asked_w(tick * TICK_S)
        heat = np.minimum(ahead.heat_limits_w(np.full(N, LIMIT_DEGC))[0], wanted)
        core, surface = rack.advance(
            core, surface, heat, ambient_degc, cooling_scale, float(state.cooling_asked), TICK_S
        )
        rows.append((core.max(), heat.mean(), wanted, float(state.cooling_asked)))
    return np.array(rows).T


@given(SPECS, st.floats(-5.0, 44.0), st.floats(0.0, 15.0), st.floats(20.0, 400.0))
@example(ThermalSpec(cooling="fan", cooling_min_run_s=60.0, cooling_ramp_s=5.0), 0.0, 0.0, 345.0)
@example(ThermalSpec(cooling="fan"), 10.0, 0.0, 300.0)
@SETTINGS
def test_a_steady_request_is_followed_without_swinging(spec, ambient, warmer, asked_w):
    start = min(ambient + warmer, 46.0)
    core, heat, _, fan = ride(spec, ambient, start, lambda _: asked_w, np.ones(N))
    assert core.max() < LIMIT_DEGC + 0.05
    turns_s = TICK_S * np.flatnonzero(np.diff(fan))
    if turns_s.size > 1:
        # it comes and goes only where all heat is borne, as a thermostat that rests for ten minutes and more
        assert heat.min() == pytest.approx(asked_w)
        assert np.diff(turns_s)[::2].min() >= spec.cooling_min_run_s - TICK_S
        assert np.diff(turns_s)[1::2].min(initial=np.inf) >= 600.0
    # the derating falls towards its end and never swings back by more than a breath
    after = heat[np.flatnonzero(fan)[0] + int(spec.cooling_ramp_s / TICK_S) + 2 :] if fan.any() else heat
    rises = np.maximum(np.diff(after), 0.0).sum()
    assert rises <= 0.05 * asked_w
    assert heat[-1] > 0.0


@given(SPECS, st.floats(10.0, 42.0), st.integers(0, 1000))
@SETTINGS
def test_restless_requests_never_overheat_nor_buzz(spec, ambient, seed):
    rng = np.random.default_rng(seed)
    asked = rng.uniform(0.0, 300.0, 300) * (rng.random(300) < 0.7)
    core, _, _, fan = ride(spec, ambient, ambient, lambda t: asked[int(t // 60.0) % 300], np.ones(N))
    assert core.max() < LIMIT_DEGC + 0.05
    turns = TICK_S * np.flatnonzero(np.diff(fan) < 0)
    starts = TICK_S * np.flatnonzero(np.diff(fan) > 0)
    for off in turns:
        # off only after its least run
        began = starts[starts < off]
        assert not began.size or off - began[-1] >= spec.cooling_min_run_s - TICK_S


@pytest.mark.parametrize("scale", [0.85, 1.15])
def test_wrong_cooling_is_made_good_by_asking_again(scale):
    """15 % less cooling than believed: each tick begins from the temperatures as they are."""
    core, heat, _, _ = ride(ThermalSpec(), 40.0, 40.0, lambda _: 300.0, np.full(N, scale), hours=6.0)
    assert core.max() < LIMIT_DEGC + 0.5
    assert np.abs(np.diff(heat[60:])).max() < 0.01 * heat.max()
