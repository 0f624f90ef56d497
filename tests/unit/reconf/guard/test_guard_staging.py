"""Staging by itself: what each step of a change carries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from guard_site import MODULE_V, command, envelope, estimate, guard_site, image

from reconf.actuation import Refused, SlotCommand
from reconf.switching import stage
from reconf.verify import verify_steps
from reconf.verify.circuit import exposure, sources
from reconf.verify.tables import build_tables

SITE = guard_site()
TRIM_A = np.array([1.5, 0.0, -1.3, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, -0.44, 0.0, 0.0])
"""Balanced on either string at 92 %."""


def changed(after: SlotCommand, **limits) -> tuple[SlotCommand, ...]:
    """Steps from 3 kW with `TRIM_A` to `after`; every one is let through."""
    before = replace(command(SITE, power_w=3000.0), trim_current_a=TRIM_A)
    seen, believed, allowed = image(SITE, current_a=11.3), estimate(SITE), envelope(SITE, **limits)
    steps = stage(SITE, seen, believed, allowed, before, after)
    verified = verify_steps(SITE, seen, believed, allowed, before, steps, dt_s=1.0)
    assert isinstance(verified, tuple), verified
    assert np.array_equal(steps[-1].trim_current_a, after.trim_current_a)
    return steps


def test_a_trim_that_is_no_longer_allowed_stops_before_anything_else_and_takes_no_power_with_it():
    """Near empty a module may give less trim from tick to tick while its string goes on."""
    less = np.full(12, 5.0)
    less[0] = 1.0
    stopped = np.where(np.arange(12) < 6, 0.0, TRIM_A)
    after = replace(command(SITE, power_w=2500.0), trim_current_a=stopped)
    steps = changed(after, trim_give_a=less, trim_take_a=np.full(12, 5.0))
    assert np.array_equal(steps[0].trim_current_a, stopped)
    assert (steps[0].power_w > 0.0).all()


def test_trims_that_are_allowed_stay_until_the_last_step():
    fine = np.full(12, 5.0)
    without = replace(command(SITE, power_w=2500.0, limit_a=35.0), trim_current_a=np.zeros(12))
    out = without.inserted.copy()
    out[3] = False
    steps = changed(replace(without, inserted=out), trim_give_a=fine, trim_take_a=fine)
    assert len(steps) > 1
    assert all(np.array_equal(step.trim_current_a, TRIM_A) for step in steps[:-1])


def below_its_window():
    """(image, envelope, in force): the first string needs its sixth module, the second changes nothing."""
    five = np.arange(12) != 5
    low = np.array([5.5 * MODULE_V, 0.6 * 6 * MODULE_V])
    before = command(SITE, inserted=five, power_w=3000.0)
    return image(SITE, five, current_a=11.3), envelope(SITE, string_voltage_min_v=low), before


def test_a_string_below_its_window_stops_while_its_modules_come_in():
    seen, allowed, before = below_its_window()
    believed = estimate(SITE)
    for power_w in (3000.0, 2500.0):
        after = command(SITE, power_w=power_w)
        steps = stage(SITE, seen, believed, allowed, before, after)
        verified = verify_steps(SITE, seen, believed, allowed, before, steps, dt_s=1.0)
        assert isinstance(verified, tuple), verified
        assert [step.mode.tolist() for step in steps] == [[0, 1], [0, 1], [1, 1]]
        assert [step.power_w.tolist() for step in steps] == [
            [0.0, power_w],
            [0.0, power_w],
            [power_w, power_w],
        ]
        assert [bool(step.inserted[5]) for step in steps] == [False, True, True]


def test_why_it_stops_neither_less_power_nor_another_module_is_let_through_below_the_window():
    seen, allowed, before = below_its_window()
    believed = estimate(SITE)
    for step in (command(SITE, inserted=before.inserted, power_w=100.0), command(SITE, power_w=3000.0)):
        outcome = verify_steps(SITE, seen, believed, allowed, before, (step,), dt_s=1.0)
        assert isinstance(outcome, Refused)
        assert {v.rule for v in outcome.violations} <= {"window_min", "subset_window_min"}


def test_a_string_inside_its_window_goes_on_while_a_module_comes_in():
    five = np.arange(12) != 5
    seen, allowed, believed = image(SITE, five, current_a=11.3), envelope(SITE), estimate(SITE)
    before = command(SITE, inserted=five, power_w=3000.0)
    steps = stage(SITE, seen, believed, allowed, before, command(SITE, power_w=3000.0))
    assert all((step.mode == 1).all() and (step.power_w == 3000.0).all() for step in steps)


def test_trims_that_stop_one_by_one_below_the_window_stop_the_converter_too():
    """At the edge of the window the trims of a module weigh: some gone and some not is worse than either."""
    less = np.full(12, 5.0)
    less[0] = 1.0
    before = replace(command(SITE, power_w=3000.0), trim_current_a=TRIM_A)
    seen, believed = image(SITE, current_a=11.3), estimate(SITE)
    reach = exposure(build_tables(SITE), sources(build_tables(SITE), seen, believed), before.inserted,
                     before.inserted, (before,))  # fmt: skip
    low = np.array([reach.voltage_low_v[0] - 1e-3, 0.6 * 6 * MODULE_V])
    allowed = envelope(SITE, string_voltage_min_v=low, trim_give_a=less, trim_take_a=np.full(12, 5.0))
    stopped = np.where(np.arange(12) < 6, 0.0, TRIM_A)
    after = replace(command(SITE, power_w=2000.0), trim_current_a=stopped)
    steps = stage(SITE, seen, believed, allowed, before, after)
    assert isinstance(verify_steps(SITE, seen, believed, allowed, before, steps, dt_s=1.0), tuple)
    assert steps[0].mode.tolist() == [0, 1]
    kept = replace(before, trim_current_a=stopped, power_w=after.power_w)
    assert isinstance(verify_steps(SITE, seen, believed, allowed, before, (kept,), dt_s=1.0), Refused)
