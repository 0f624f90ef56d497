"""The test of a string's wiring, against a string made of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconf.commissioning.insertion import (
    MOST_TOGETHER,
    Look,
    StringTest,
    Switch,
    base_size,
    try_string,
)


class Bench:
    """A string: who is stuck, who is backwards, whose node does not notice."""

    def __init__(
        self, volts, *, stuck_in=(), stuck_out=(), backwards=(), blind=(), sticks=(), noise_v=0.0, seed=0
    ):
        self.volts = np.asarray(volts, float)
        self.stuck_in, self.stuck_out = set(stuck_in), set(stuck_out)
        self.backwards, self.blind, self.sticks = set(backwards), set(blind), set(sticks)
        self.rng, self.noise_v = np.random.default_rng(seed), noise_v
        self.inserted: set[int] = set()
        self.most_together, self.most_v = 0, 0.0

    def look(self, pattern: frozenset[int]) -> Look:
        stay = self.inserted & self.sticks
        self.inserted = ((set(pattern) | self.stuck_in) - self.stuck_out) | stay
        total = sum(-self.volts[k] if k in self.backwards else self.volts[k] for k in self.inserted)
        self.most_together = max(self.most_together, len(pattern))
        self.most_v = max(self.most_v, total)
        shown = frozenset((self.inserted - self.blind) | (set(pattern) & self.blind))
        return Look(max(total + self.noise_v * self.rng.standard_normal(), 0.0), shown)

    def run(self, *, believed=None, most_v=1e9, only=None) -> StringTest:
        everybody = np.ones(self.volts.size, dtype=bool)
        test = try_string(self.volts if believed is None else believed, everybody, everybody, most_v, only)
        pattern = next(test)
        while True:
            try:
                pattern = test.send(self.look(pattern))
            except StopIteration as ended:
                assert not self.inserted - self.stuck_in - self.sticks, "left inserted"
                return ended.value


def found(result: StringTest) -> dict[int, Switch]:
    return {t.module: t.switch for t in result.tried if t.switch is not Switch.GOOD}


def test_a_good_string_is_good_and_never_more_than_three_are_in():
    bench = Bench([44.0 + 0.1 * k for k in range(8)], noise_v=0.15)
    result = bench.run()
    assert not found(result)
    assert [t.module for t in result.tried] == list(range(8))
    assert bench.most_together == MOST_TOGETHER
    assert all(t.shown for t in result.tried)


@pytest.mark.parametrize("blind", [False, True])
def test_each_fault_is_named_with_its_module(blind):
    bench = Bench(
        [44.0] * 8, stuck_in=[2], stuck_out=[3], backwards=[5], sticks=[6], blind=[2, 3] if blind else []
    )
    assert found(bench.run()) == {
        2: Switch.STUCK_INSERTED if not blind else Switch.DEAD,
        3: Switch.STUCK_BYPASSED if not blind else Switch.DEAD,
        5: Switch.BACKWARDS,
        6: Switch.STAYS_IN,
    }


def test_dead_switches_that_no_node_notices_are_told_apart_by_what_is_left_in_the_string():
    assert found(Bench([44.0] * 6, stuck_in=[2], blind=[2]).run()) == {2: Switch.STUCK_INSERTED}
    assert found(Bench([44.0] * 6, stuck_out=[2, 4], blind=[2, 4]).run()) == dict.fromkeys(
        (2, 4), Switch.STUCK_BYPASSED
    )


def test_the_base_is_made_of_modules_that_add_up():
    bench = Bench([44.0] * 6, backwards=[0], stuck_out=[1, 2])
    result = bench.run()
    assert not {0, 1, 2} & set(result.base)
    assert found(result) == {0: Switch.BACKWARDS, 1: Switch.STUCK_BYPASSED, 2: Switch.STUCK_BYPASSED}


def test_a_module_of_another_voltage_is_told():
    bench = Bench([44.0] * 6)
    bench.volts[4] = 37.0
    assert found(bench.run(believed=np.full(6, 44.0))) == {4: Switch.DISAGREES}


def test_only_some_may_be_asked_for():
    result = Bench([44.0] * 6).run(only=[0])
    assert [t.module for t in result.tried] == [0]
    assert 0 not in result.base
    assert len(result.base) == 2


def test_less_room_means_a_smaller_base_and_none_at_all_is_refused():
    assert base_size(np.full(6, 44.0), 140.0) == 2
    assert base_size(np.full(6, 44.0), 100.0) == 1
    assert base_size(np.full(6, 44.0), 50.0) == 0
    assert base_size(np.full(6, 44.0), 40.0) == -1
    bench = Bench([44.0] * 6, stuck_out=[3])
    assert found(bench.run(most_v=100.0)) == {3: Switch.STUCK_BYPASSED}
    assert bench.most_v <= 100.0
    with pytest.raises(ValueError, match="single module"):
        bench.run(most_v=40.0)


@given(
    st.integers(5, 14),
    st.sets(st.integers(0, 13), max_size=2),
    st.sets(st.integers(0, 13), max_size=2),
    st.integers(0, 1000),
)
def test_whatever_few_are_broken_the_broken_ones_and_no_others_are_found(n, backwards, out, seed):
    backwards, out = {k for k in backwards if k < n}, {k for k in out if k < n}
    out -= backwards
    if n - len(backwards | out) < 3:
        return
    volts = 30.0 + 5.0 * np.random.default_rng(seed).random(n)
    bench = Bench(volts, backwards=backwards, stuck_out=out, noise_v=0.1, seed=seed)
    expected = dict.fromkeys(backwards, Switch.BACKWARDS) | dict.fromkeys(out, Switch.STUCK_BYPASSED)
    assert found(bench.run()) == expected
