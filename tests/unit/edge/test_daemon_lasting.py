"""What orders leave behind comes back as it was, on other clocks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core_orders import handle
from edge.core_state import SavedCore, fresh_state
from edge.core_values import (
    BypassModule,
    CoreState,
    EmergencyStop,
    SetBalancing,
    SetLimits,
    SetMode,
    SetSocWindow,
)
from edge.lasting import Lasting, Moment, documents, lasting, watched
from edge.setpoint import PowerCommand
from reconf.config import load_site
from reconf.protection.protect import SavedFault
from reconf.sequences import SiteMode

SITE = load_site("demo")
BEFORE = Moment(datetime(2026, 1, 31, 12, 0, tzinfo=UTC), wall_s=5_000.0, control_s=50_000.0, scale=10.0)
AFTER = Moment(BEFORE.utc + timedelta(seconds=60), wall_s=7.0, control_s=70.0, scale=10.0)
"""A minute later in a new process."""


def ordered(*orders: object) -> CoreState:
    state = fresh_state(SITE, SavedCore())
    for order in orders:
        state, answer = handle(SITE, state, None, order, BEFORE.wall_s)  # type: ignore[arg-type]
        assert answer.accepted
    return state


def after_restart(state: CoreState, now: Moment = AFTER, **saved: object) -> CoreState:
    stored = json.loads(json.dumps(documents(state, None, BEFORE), allow_nan=False))
    return fresh_state(SITE, SavedCore(lasting=lasting(stored, now), **saved))  # type: ignore[arg-type]


def test_operators_orders_hold_after_a_restart() -> None:
    serial = SITE.topology.serials[3]
    state = ordered(
        BypassModule(serial),
        SetSocWindow(0.1, 0.8),
        SetLimits(2_000.0, math.inf, BEFORE.wall_s + 100.0),
        SetBalancing(active=True),
    )
    again = after_restart(state)
    assert again.operator == replace(state.operator)
    assert again.balancing
    assert again.limits.discharge_max_w == 2_000.0
    assert again.limits.deadline_wall_s == pytest.approx(AFTER.wall_s + 40.0)


@given(
    power_w=st.floats(-1e9, 1e9),
    ramp=st.none() | st.floats(1e-3, 1e9),
    life_s=st.floats(-100.0, 172_800.0),
    revert_s=st.none() | st.floats(1.0, 172_800.0),
    steps=st.lists(st.floats(-1e9, 1e9), max_size=5),
)
def test_set_points_keep_their_ends(
    power_w: float, ramp: float | None, life_s: float, revert_s: float | None, steps: list[float]
) -> None:
    command = PowerCommand(
        power_w,
        math.inf if ramp is None else ramp,
        BEFORE.wall_s + life_s,
        math.inf if revert_s is None else BEFORE.control_s + revert_s,
        "an-id",
        tuple((BEFORE.wall_s + 900.0 * k, p) for k, p in enumerate(steps)),
    )
    again = after_restart(ordered(command)).setpoint
    assert again.power_w == 0.0  # power flows only when the site runs again
    kept = again.command
    assert kept is not None
    assert (kept.power_w, kept.ramp_w_per_s, kept.command_id) == (
        command.power_w, command.ramp_w_per_s, "an-id",
    )  # fmt: skip
    shift_s = AFTER.wall_s - 60.0 - BEFORE.wall_s
    assert kept.deadline_wall_s == pytest.approx(command.deadline_wall_s + shift_s, abs=1e-3)
    left_s = command.revert_at_s - BEFORE.control_s - 600.0  # a minute away is ten control minutes
    assert kept.revert_at_s - AFTER.control_s == pytest.approx(left_s, abs=1e-2)
    assert [p for _, p in kept.schedule] == steps
    for (was_s, _), (is_s, _) in zip(command.schedule, kept.schedule, strict=True):
        assert is_s == pytest.approx(was_s + shift_s, abs=1e-3)


def test_without_a_date_set_points_have_expired_and_limits_hold() -> None:
    state = ordered(
        PowerCommand(1_000.0, deadline_wall_s=BEFORE.wall_s + 1e4),
        SetLimits(500.0, 500.0, BEFORE.wall_s + 1.0),
    )
    again = after_restart(state, replace(AFTER, trusted=False))
    assert again.setpoint.command is not None
    assert again.setpoint.command.deadline_wall_s < AFTER.wall_s
    assert again.limits.deadline_wall_s == math.inf


def test_a_stop_that_no_tick_has_seen_is_asked_for_again() -> None:
    state = ordered(PowerCommand(1_000.0), EmergencyStop())
    assert documents(state, None, BEFORE)["mode"] == "emergency_stop"
    again = after_restart(state)
    assert again.pending.emergency_stop
    assert again.setpoint.command is None
    # once a tick has latched it, the latch lives on and is not set anew
    latched = after_restart(state, faults=(SavedFault("emergency_stop", "site", 1.0, 1.0),))
    assert not latched.pending.emergency_stop
    # nothing leads out of it but a clear
    _, answer = handle(SITE, again, None, SetMode(SiteMode.RUN), AFTER.wall_s)
    assert not answer.accepted


def test_only_changes_show() -> None:
    state = ordered(PowerCommand(1_000.0, deadline_wall_s=1e6))
    assert watched(state, None) == watched(state, None)
    assert watched(state, None) != watched(ordered(), None)


def test_nothing_stored_and_nonsense_stored() -> None:
    assert lasting({}, AFTER) == Lasting()
    with pytest.raises(ValueError, match="cannot be read"):
        lasting({"setpoint": {"power_w": "all"}}, AFTER)
