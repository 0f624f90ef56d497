"""The schedule: window in every slot, bounded deviation, few switchings, soft joining of limits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bench.allocate_case import draw_case
from optimizer.allocate import allocate
from optimizer.result import AllocationInput, Plan
from optimizer.schedule import Scheduler
from optimizer.schedule_string import BAND_MAX_SLOTS
from reconf.actuation import ConverterMode, SlotCommand
from reconf.protection.envelope import Insertion
from reconf.site import Site

SLOTS = 60


def standing(site: Site, asked: AllocationInput) -> SlotCommand:
    n, s = site.topology.n_modules, site.topology.n_strings
    return replace(
        SlotCommand.safe(n, s),
        inserted=asked.inserted & (asked.envelope.insertion == Insertion.ALLOWED),
        mode=np.full(s, ConverterMode.POWER, dtype=np.int64),
        contactor=np.ones(s, dtype=np.bool_),
    )


def play(
    site: Site, asked: AllocationInput, plan: Plan, slots: int = SLOTS
) -> tuple[list[SlotCommand], Scheduler]:
    scheduler = Scheduler(site)
    scheduler.accept(plan, 0.0)
    command, played = standing(site, asked), []
    for k in range(slots):
        command = scheduler.slot(10.0 * k, asked.estimate, asked.envelope, command, asked.request.connected)
        played.append(command)
    return played, scheduler


def answer(site: Site, asked: AllocationInput) -> Plan:
    found = allocate(site, asked)
    plan = found if isinstance(found, Plan) else getattr(found, "plan", None)
    assert isinstance(plan, Plan)
    return plan


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(1, 10_000))
def test_every_slot_is_inside_the_window_and_every_limit(seed: int) -> None:
    site, asked = draw_case(24, 1, seed)
    plan = answer(site, asked)
    if plan.unserved_w > 0.0 or abs(plan.power_planned_w) < 500.0:
        return
    sign = 1.0 if plan.power_planned_w > 0 else -1.0
    estimate, envelope = asked.estimate, asked.envelope
    now = envelope.discharge_now_a if sign > 0 else envelope.charge_now_a
    for command in play(site, asked, plan, 20)[0]:
        inserted = command.inserted
        emf = float((estimate.ocv_v - estimate.r0_ohm * command.trim_current_a) @ inserted)
        ohm = float(estimate.r0_ohm @ inserted) + float(site.topology.r_on_ohm.sum())
        current = float(command.current_limit_a[0])
        # at any current up to the converter's limit, hence at whatever flows
        for a in (0.0, min(current, 2.0 * abs(float(plan.string_current_a[0])))):
            volts = emf - sign * ohm * a
            assert volts >= envelope.string_voltage_min_v[0] - 1e-6
            assert volts <= envelope.string_voltage_max_v[0] + 1e-6
        assert current <= now[inserted].min() + 1e-9
        assert not inserted[envelope.insertion == Insertion.FORBIDDEN].any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(1, 10_000))
def test_deviation_stays_bounded_and_does_not_grow(seed: int) -> None:
    site, asked = draw_case(24, 1, seed)
    envelope = asked.envelope
    plenty = np.full(24, 90.0)
    free = replace(
        envelope,
        discharge_now_a=plenty,
        charge_now_a=plenty,
        discharge_avg_a=plenty,
        charge_avg_a=plenty,
        insertion=np.zeros(24, dtype=np.uint8),
    )
    asked = replace(asked, envelope=free)
    plan = answer(site, asked)
    if plan.unserved_w > 0.0 or abs(float(plan.string_current_a[0])) < 2.0:
        return
    commands, scheduler = play(site, asked, plan, 120)
    inserted = np.array([c.inserted for c in commands])
    for upto in (40, 80, 120):
        deviation = np.abs(inserted[:upto].sum(axis=0) - upto * plan.duty_frac)
        # the band and what the window may force, about one slot for each module that shares the rounding
        assert deviation.max() <= BAND_MAX_SLOTS + 6.0
    assert np.abs(scheduler.residual_slots).max() <= BAND_MAX_SLOTS + 6.0


def test_switches_at_most_a_third_of_largest_first() -> None:
    site, asked = draw_case(24, 1, 5)
    plenty = np.full(24, 90.0)
    envelope = replace(
        asked.envelope,
        discharge_now_a=plenty,
        discharge_avg_a=plenty,
        insertion=np.zeros(24, dtype=np.uint8),
    )
    power_w = float(asked.estimate.capacity_ah @ asked.estimate.ocv_v) / 3.0
    asked = replace(asked, envelope=envelope, request=replace(asked.request, power_w=power_w))
    plan = answer(site, asked)
    commands, _ = play(site, asked, plan, 120)
    ours = sum(int((a.inserted != b.inserted).sum()) for a, b in pairwise(commands))
    count = round(float(plan.duty_frac.sum()))
    # the rule sorts anew every slot; counted from where the modules' charges have met
    left, theirs, last = np.full(24, float(asked.estimate.remaining_ah.mean())), 0, None
    slot_ah = abs(float(plan.string_current_a[0])) * 10.0 / 3600.0
    for _ in range(120):
        chosen = np.zeros(24, dtype=np.bool_)
        chosen[np.argsort(-left)[:count]] = True
        left -= slot_ah * chosen
        theirs += 0 if last is None else int((chosen != last).sum())
        last = chosen
    assert ours <= theirs / 3.0


def test_a_forbidden_module_leaves_at_once_and_a_weaker_one_lowers_the_limit() -> None:
    site, asked = draw_case(24, 1, 5)
    asked = replace(asked, request=replace(asked.request, power_w=8000.0))
    plan = answer(site, asked)
    commands, scheduler = play(site, asked, plan, 5)
    victim = int(np.flatnonzero(commands[-1].inserted)[0])
    insertion = asked.envelope.insertion.copy()
    insertion[victim] = Insertion.FORBIDDEN
    envelope = replace(asked.envelope, insertion=insertion)
    after = scheduler.slot(50.0, asked.estimate, envelope, commands[-1], asked.request.connected)
    assert not after.inserted[victim]
    assert after.current_limit_a[0] == pytest.approx(
        min(envelope.discharge_now_a[after.inserted].min(), after.current_limit_a[0])
    )


def test_strings_that_are_not_connected_are_left_to_the_sequencer() -> None:
    site, asked = draw_case(48, 2, 5)
    asked = replace(asked, request=replace(asked.request, power_w=8000.0, connected=np.array([True, False])))
    plan = answer(site, asked)
    held = standing(site, asked)
    scheduler = Scheduler(site)
    scheduler.accept(plan, 0.0)
    command = scheduler.slot(0.0, asked.estimate, asked.envelope, held, asked.request.connected)
    where = site.topology.slice_of(1)
    assert (command.inserted[where] == held.inserted[where]).all()
    assert command.power_w[1] == 0.0
    assert (command.mode == held.mode).all()
    assert (command.contactor == held.contactor).all()


def test_duty_nodes_run_by_themselves_only_where_the_window_allows_it() -> None:
    site, asked = draw_case(24, 1, 5)
    asked = replace(asked, request=replace(asked.request, power_w=8000.0))
    plan = answer(site, asked)
    partly = np.flatnonzero((plan.duty_frac > 0.01) & (plan.duty_frac < 0.99))
    few, every = np.zeros(24, dtype=np.bool_), np.ones(24, dtype=np.bool_)
    few[partly[:1]] = True
    for nodes, expected in ((few, True), (every, False)):
        scheduler = Scheduler(site, nodes)
        scheduler.accept(plan, 0.0)
        held = standing(site, asked)
        command = scheduler.slot(0.0, asked.estimate, asked.envelope, held, asked.request.connected)
        assert bool(command.duty_mode.any()) is expected
        assert (command.duty_frac[command.duty_mode] == plan.duty_frac[command.duty_mode]).all()
        without = command.inserted & ~command.duty_mode
        volts = float((asked.estimate.ocv_v - asked.estimate.r0_ohm * command.trim_current_a) @ without)
        assert volts >= asked.envelope.string_voltage_min_v[0]


def test_at_the_knee_more_modules_at_less_current_serve_on() -> None:
    site, asked = draw_case(24, 1, 5)
    plenty = np.full(24, 90.0)
    estimate = asked.estimate
    power_w = float(estimate.capacity_ah @ estimate.ocv_v) / 3.0
    envelope = replace(
        asked.envelope, discharge_now_a=plenty, discharge_avg_a=plenty, insertion=np.zeros(24, dtype=np.uint8)
    )
    asked = replace(asked, envelope=envelope, request=replace(asked.request, power_w=power_w))
    plan = answer(site, asked)
    assert float(plan.duty_frac.sum()) < 23.0
    # an instant later nearly nothing is left, and every limit stands at 95 % of the planned current
    current = abs(float(plan.string_current_a[0]))
    empty = replace(estimate, remaining_ah=np.full(24, current * 30.0 / 3600.0))
    tight = replace(envelope, discharge_now_a=np.linspace(0.95, 1.0, 24) * current)
    for left, expected in ((empty, 24), (estimate, 23)):
        scheduler = Scheduler(site)
        scheduler.accept(plan, 0.0)
        command = scheduler.slot(0.0, left, tight, standing(site, asked), asked.request.connected)
        inside = int(command.inserted.sum())
        assert inside == expected if expected == 24 else inside <= expected
