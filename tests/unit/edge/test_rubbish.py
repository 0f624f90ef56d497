"""The collector runs after ticks only, and is left as it was found."""

from __future__ import annotations

import gc

import pytest

from edge.rubbish import SETTLED_TICKS, Rubbish


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_off_while_held_and_as_before_afterwards(was_on):
    before = gc.isenabled()
    try:
        gc.enable() if was_on else gc.disable()
        with Rubbish().held():
            assert not gc.isenabled()
        assert gc.isenabled() is was_on
    finally:
        gc.enable() if before else gc.disable()


def test_circles_made_in_a_tick_are_gone_after_the_next_ticks_and_nothing_stays_frozen():
    class Circle:
        gone = 0

        def __init__(self):
            self.me = self

        def __del__(self):
            Circle.gone += 1

    rubbish = Rubbish()
    with rubbish.held():
        for made in range(SETTLED_TICKS + 5):
            Circle()
            rubbish.after_tick()
            assert made + 1 - Circle.gone <= 1
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
