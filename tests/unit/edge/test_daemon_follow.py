"""A set point that moves in the direction of the plan: counted in ticks, through core and twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from edge.bench.closed_loop import Loop, default_allocate
from edge.interval import Rung
from edge.shaping import SERVED_FRAC, average_room, beyond
from optimizer.result import AllocationInput, AllocationResult, Late, Plan
from reconf.site import Site, TimingSpec
from reconf.twin.truth import draw_truth

SETTLE_TICKS = 30
SLOT_TICKS = 6


class _World:
    """What is asked, and whether the optimizer answers; changed between ticks."""

    def __init__(self, power_w: float) -> None:
        self.power_w, self.late = power_w, False
        site, _ = draw_case(48, 2, 5)
        # slots long beside ticks: what waits for a slot is seen
        timing = TimingSpec(tick_s=1.0, slot_s=1.0 * SLOT_TICKS, interval_s=60.0)
        site = replace(site, timing=timing)
        truth = draw_truth(site, np.random.default_rng(3))
        self.loop = Loop(site, truth, lambda _: self.power_w, allocate=self.answer)
        self.loop.start()

    def answer(self, site: Site, question: AllocationInput) -> AllocationResult:
        return Late(question.interval, 0.5) if self.late else default_allocate(site, question)

    def settled(self, extra_ticks: int = 0) -> _World:
        for _ in range(SETTLE_TICKS + extra_ticks):
            self.loop.step()
        assert self.commanded_w == pytest.approx(self.power_w, rel=0.01)
        return self

    def ticks(self, power_w: float, count: int) -> list[float]:
        """Power commanded after each of the next ticks."""
        self.power_w = power_w
        given = []
        for _ in range(count):
            outcome = self.loop.step()
            assert not outcome.view.refused
            given.append(self.commanded_w)
        return given

    @property
    def commanded_w(self) -> float:
        in_force = self.loop.core.state.in_force
        assert in_force is not None
        return float(in_force.power_w.sum())


@pytest.mark.parametrize("phase", [0, 2, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_more_and_less_power_is_written_in_the_very_tick_and_stays(sign: float, phase: int) -> None:
    world = _World(sign * 6000.0).settled(phase)
    # a plan for less is in force in every case, a better one is asked for where it is worth it
    for asked_w in (6500.0, 9000.0, 3000.0, 12000.0):
        assert world.ticks(sign * asked_w, 4) == pytest.approx([sign * asked_w] * 4, rel=0.01)
    assert world.loop.plant.violations.total == 0


@pytest.mark.parametrize("late", [False, True])
def test_a_first_set_point_and_a_turn_take_the_tick_of_the_answer(late: bool) -> None:
    """Nothing serves another direction before a plan is there: two ticks, by the rule where it is late."""
    world = _World(0.0).settled()
    world.late = late
    for asked_w in (6000.0, -6000.0):
        first_w, second_w = world.ticks(asked_w, 2)
        assert first_w == 0.0
        assert second_w == pytest.approx(asked_w, rel=0.01)
        assert world.loop.outcome is not None
        assert world.loop.outcome.view.rung is (Rung.RULE if late else Rung.NORMAL)


def test_power_between_slots_switches_nothing() -> None:
    world = _World(6000.0).settled()
    while world.loop.plant.time_s < world.loop.core.state.next_slot_s - SLOT_TICKS + 0.5:
        world.loop.step()
    before = world.loop.core.state
    assert before.in_force is not None
    world.ticks(20000.0, 2)  # asked, answered
    after = world.loop.core.state
    assert after.in_force is not None
    assert after.next_slot_s == before.next_slot_s
    assert (after.in_force.inserted == before.in_force.inserted).all()
    assert after.in_force.power_w.sum() > 1.5 * before.in_force.power_w.sum()


def test_a_plan_at_a_limit_is_not_raised_and_averages_bound_what_no_answer_mends() -> None:
    site, asked = draw_case(24, 1, 5)
    plan = default_allocate(site, replace(asked, request=replace(asked.request, power_w=5000.0)))
    assert isinstance(plan, Plan)
    assert beyond(plan, 10000.0) == pytest.approx(10000.0 / plan.power_planned_w)
    assert beyond(plan, 2500.0) == beyond(plan, -9000.0) == beyond(None, 5000.0) == 1.0
    short = replace(plan, power_asked_w=plan.power_planned_w / (0.99 * SERVED_FRAC))
    idle = replace(plan, power_asked_w=0.0)
    against = replace(plan, string_power_w=np.append(plan.string_power_w + 100.0, -100.0))
    assert beyond(short, 10000.0) == beyond(idle, 10000.0) == beyond(against, 10000.0) == 1.0
    mean_a = plan.duty_frac * plan.string_current_a[0]
    envelope = replace(asked.envelope, discharge_avg_a=2.0 * mean_a + 1e-12)
    assert average_room(site.topology, plan, envelope) == pytest.approx(2.0, rel=1e-6)
