"""Staging by itself: what each step of a change carries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from guard_site import command, envelope, estimate, guard_site, image

from reconf.actuation import SlotCommand
from reconf.switching import stage
from reconf.verify import verify_steps

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
