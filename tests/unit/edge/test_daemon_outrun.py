"""What planning looks at beside the set point: limits that outrun a plan, and the schedule ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from edge.core_plan import _outrun, horizon_w
from edge.core_values import SetLimits, TickInput
from edge.interval import PlanBook
from edge.setpoint import PowerCommand, SetPoint
from optimizer.allocate import allocate
from optimizer.result import Plan
from reconf.site import FallbackSpec
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_limit_below_the_planned_current_outruns_the_plan_once_a_slot(sign: float) -> None:
    site, asked = draw_case(24, 1, 5)
    asked = replace(asked, request=replace(asked.request, power_w=sign * 8000.0))
    plan = allocate(site, asked)
    assert isinstance(plan, Plan)
    book, envelope = replace(PlanBook(), plan=plan, asked_at_s=100.0), asked.envelope
    now_s = 100.0 + site.timing.slot_s
    assert not _outrun(site, book, envelope, now_s)
    module = int(np.argmax(plan.duty_frac))
    field = "discharge_now_a" if sign > 0 else "charge_now_a"
    limits = getattr(envelope, field).copy()
    limits[module] = 0.5 * abs(float(plan.string_current_a[0]))
    fallen = replace(envelope, **{field: limits})
    assert _outrun(site, book, fallen, now_s)
    assert not _outrun(site, book, fallen, now_s - 1.0)
    assert not _outrun(site, PlanBook(), fallen, now_s)
    # a module that the plan leaves out anyway is no reason
    rested = plan.duty_frac.copy()
    rested[module] = 0.0
    assert not _outrun(site, replace(book, plan=replace(plan, duty_frac=rested)), fallen, now_s)


def test_the_allocator_is_told_what_a_schedule_asks_ahead_within_limits_and_until_it_ends() -> None:
    site, _ = draw_case(4, 1, 1)
    image = observe(Plant(site, draw_truth(site, np.random.default_rng(1))), np.random.default_rng(1), 0, 0.0)
    given = TickInput(image, 0.0, 1000.0, 1.0, second_of_day=3600.0)
    steps = ((900.0, 4000.0), (1100.0, 9000.0), (1200.0, -3000.0))
    command = PowerCommand(4000.0, deadline_wall_s=1300.0, schedule=steps)
    limits = SetLimits(discharge_max_w=8000.0, deadline_wall_s=2000.0)
    ahead = horizon_w(site, limits, given, SetPoint(4000.0, 4000.0, "command", command))
    # every 60 s from 1060 s on, the second step held back by the limit, none after 1300 s
    assert ahead == (4000.0, 8000.0, 8000.0, -3000.0)
    plain = replace(command, schedule=())
    assert horizon_w(site, limits, given, SetPoint(4000.0, 4000.0, "command", plain)) == ()
    local = replace(
        site, fallback=FallbackSpec(action="schedule", schedule=((0.0, 1000.0), (3700.0, -2000.0)))
    )
    told = horizon_w(local, SetLimits(), given, SetPoint(1000.0, 1000.0, "fallback_schedule", None))
    assert told[:3] == (1000.0, -2000.0, -2000.0)
