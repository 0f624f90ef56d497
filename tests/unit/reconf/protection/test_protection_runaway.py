"""Beginning thermal runaway as samples and uneven ticks show it: found in time, nothing else taken for it."""

import numpy as np
import pytest
from test_protection_scenes import S2, World, cell, degc

from reconf.protection.protect import Cleared, clear_fault


def sampled(rate, begins_s=0.0, top=200.0, phase_s=0.0, period_s=0.5, module=2, base=25.0):
    """A module that heats by `rate` K/s as RM1 tells it: a sample every `period_s`, rounded to 0.1 K."""

    def bend(image, now_s):
        sample_s = np.floor((now_s + phase_s) / period_s) * period_s - phase_s
        return degc(round(min(base + rate * max(sample_s - begins_s, 0.0), top), 1), module)(image)

    return bend


def watched(world, bend, until_s, step=lambda k: 1.0, cells=lambda now_s: None):
    """Ticks of uneven length until a runaway is told; the time of it, None if it is not."""
    now_s, k = 0.0, 0
    while now_s < until_s:
        dt = step(k)
        now_s, k = now_s + dt, k + 1
        low = cells(now_s)
        world.look(lambda image, t=now_s, v=low: bend(image if v is None else cell(v)(image), t), dt=dt)
        if ("thermal_runaway", S2) in world.present:
            return now_s
    return None


@pytest.mark.parametrize("phase_s", [0.0, 0.1, 0.26, 0.49])
@pytest.mark.parametrize("uneven", [0.0, 0.04, -0.03])
@pytest.mark.parametrize("rate", [1.0, 1.3, 6.0])
def test_a_runaway_is_found_however_samples_and_ticks_fall(rate, uneven, phase_s):
    world = World()
    found = watched(
        world,
        sampled(rate, begins_s=3.0, phase_s=phase_s),
        12.0,
        step=lambda k: 1.0 + uneven * (-1) ** k,
        cells=lambda now_s: 2.6 if now_s > 4.0 else None,
    )
    assert found is not None
    assert found <= 3.0 + 3.0 + 2.1, "three seconds of rise, and the ticks around them"


@pytest.mark.parametrize("before_s", [1.0, 10.0, 40.0, 58.0])
def test_a_cell_that_fell_before_the_heat_counts_as_well(before_s):
    world = World()
    found = watched(
        world,
        sampled(1.5, begins_s=3.0 + before_s, top=45.0),
        3.0 + before_s + 12.0,
        cells=lambda now_s: 2.6 if now_s >= 3.0 else None,
    )
    assert found is not None, "below 50 degC: only the fallen cell tells"


def test_a_cell_that_has_long_been_low_is_no_sign():
    world = World()
    low = {"cells": lambda now_s: 2.6 if now_s >= 3.0 else None}
    assert watched(world, sampled(1.5, begins_s=150.0, top=45.0), 160.0, **low) is None


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.75])
def test_slower_heating_above_the_maximum_is_no_runaway(rate):
    assert watched(World(), sampled(rate, begins_s=2.0, base=52.0), 20.0) is None


def test_a_sensor_that_jumps_and_stays_is_no_runaway():
    world = World()
    world.repeat(3)
    world.repeat(10, degc(70.0))
    assert ("over_temperature", S2) in world.present
    assert ("thermal_runaway", S2) not in world.present


def test_a_runaway_is_released_under_a_restless_sensor_and_not_while_it_warms():
    world = World()
    assert watched(world, sampled(2.0, begins_s=2.0, top=58.0), 20.0, cells=lambda t: 2.6) is not None
    for k in range(900):
        world.look(degc(40.0 + 0.002 * k + 0.1 * (k % 2)))
    assert world.state.statuses[0].active, "1.8 K in a quarter of an hour is not steady"
    for k in range(640):
        world.look(degc(42.0 + 0.1 * (k % 3)))
    still = next(s for s in world.state.statuses if s.fault == "thermal_runaway")
    assert (still.active, still.latched) == (False, True)
    assert isinstance(clear_fault(world.state, "thermal_runaway", on_site=True), Cleared)
