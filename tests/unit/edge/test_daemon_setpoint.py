from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.setpoint import PowerCommand, SetPoint, advance, command_power, scheduled_w, withdraw
from reconf.site import FallbackSpec

ZERO = FallbackSpec(action="zero")


def step(
    state: SetPoint,
    fallback: FallbackSpec = ZERO,
    *,
    now: float = 0.0,
    wall: float = 0.0,
    dt: float = 1.0,
    day: float = 0.0,
) -> SetPoint:
    return advance(state, fallback, now_s=now, wall_s=wall, dt_s=dt, second_of_day=day)


def test_nothing_is_asked_before_the_first_command() -> None:
    schedule = FallbackSpec(action="schedule", schedule=((0.0, 5e3),))
    assert step(SetPoint(), schedule).power_w == 0.0


def test_ramp_limits_both_directions() -> None:
    state = step(command_power(SetPoint(), PowerCommand(1000.0, ramp_w_per_s=100.0)), dt=3.0)
    assert state.power_w == pytest.approx(300.0)
    state = step(command_power(state, PowerCommand(-1000.0, ramp_w_per_s=100.0)), dt=5.0)
    assert state.power_w == pytest.approx(-200.0)


@pytest.mark.parametrize(
    ("fallback", "expected_w"),
    [
        (ZERO, 0.0),
        (FallbackSpec(action="hold"), 1000.0),
        (FallbackSpec(action="schedule", schedule=((0.0, 10.0), (3600.0, 20.0))), 20.0),
    ],
)
def test_expiry_hands_over_to_the_fallback(fallback: FallbackSpec, expected_w: float) -> None:
    state = step(command_power(SetPoint(), PowerCommand(1000.0, deadline_wall_s=10.0)), fallback, wall=9.9)
    assert (state.power_w, state.source) == (1000.0, "command")
    state = step(state, fallback, wall=10.0, day=7200.0)
    assert state.power_w == expected_w
    assert state.source == f"fallback_{fallback.action}"


def test_revert_counts_in_control_time() -> None:
    state = command_power(SetPoint(), PowerCommand(1000.0, revert_at_s=60.0))
    assert step(state, now=59.0, wall=1e6).power_w == 1000.0
    assert step(state, now=60.0, wall=0.0).power_w == 0.0


def test_schedule_wraps_over_midnight() -> None:
    fallback = FallbackSpec(action="schedule", schedule=((3600.0, 20.0), (7200.0, 30.0)))
    assert scheduled_w(fallback, 0.0) == 30.0
    assert scheduled_w(fallback, 3600.0) == 20.0
    assert scheduled_w(FallbackSpec(action="schedule"), 0.0) == 0.0


def test_withdraw_forgets_at_once() -> None:
    state = step(command_power(SetPoint(), PowerCommand(1000.0)))
    assert step(withdraw(state)).power_w == 0.0


@given(st.floats(-1e6, 1e6), st.floats(0.0, 1e5), st.lists(st.floats(0.0, 60.0), max_size=20))
def test_set_point_never_moves_faster_than_its_ramp_nor_past_its_target(
    target: float, ramp: float, dts: list[float]
) -> None:
    state = command_power(SetPoint(), PowerCommand(target, ramp_w_per_s=ramp))
    for dt in dts:
        after = step(state, dt=dt)
        assert abs(after.power_w - state.power_w) <= ramp * dt * (1 + 1e-9) + 1e-9
        assert abs(after.power_w) <= abs(target) + 1e-9
        state = after


@pytest.mark.parametrize(
    ("fallback_ramp", "command_ramp", "expected_w"),
    [(0.0, math.inf, 0.0), (0.0, 50.0, 950.0), (100.0, math.inf, 900.0), (100.0, 1.0, 900.0)],
)
def test_the_way_to_the_fallback_has_its_own_ramp(
    fallback_ramp: float, command_ramp: float, expected_w: float
) -> None:
    """One second after the heartbeat is missed: the site file's ramp, whatever that of the command was."""
    command = PowerCommand(1000.0, ramp_w_per_s=command_ramp)
    state = SetPoint(asked_w=1000.0, power_w=1000.0, source="command", command=command)
    after = advance(
        state, FallbackSpec("zero", ramp_w_per_s=fallback_ramp), now_s=1.0, wall_s=1.0, dt_s=1.0,
        second_of_day=0.0, scada_lost=True,
    )  # fmt: skip
    assert after.power_w == expected_w
