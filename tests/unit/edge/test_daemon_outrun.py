"""A plan is asked for anew when limits fall below what it counts on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.allocate_case import draw_case
from edge.core_plan import _outrun
from edge.interval import PlanBook
from optimizer.allocate import allocate
from optimizer.result import Plan


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
