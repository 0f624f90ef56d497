from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.clock import ScaledClock, date_trusted, has_real_time_clock, wall_deadline_s
from reconf.errors import ConfigError


def test_control_time_runs_scaled_and_wall_time_does_not() -> None:
    now = [100.0]
    clock = ScaledClock(scale=240.0, monotonic=lambda: now[0], started_s=100.0)
    now[0] = 101.5
    assert clock.control_s() == pytest.approx(360.0)
    assert clock.wall_s() == pytest.approx(101.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e6, float("nan")])
def test_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match="time scale"):
        ScaledClock(scale=scale)


def test_a_jump_of_the_date_moves_neither_monotonic_clock_nor_a_deadline() -> None:
    date = [datetime(2026, 5, 1, tzinfo=UTC)]
    clock = ScaledClock(monotonic=lambda: 5.0, date=lambda: date[0], started_s=0.0)
    deadline_s = wall_deadline_s(date[0] + timedelta(seconds=30), clock.utc(), clock.wall_s())
    date[0] += timedelta(days=1)
    assert clock.control_s() == 5.0
    assert deadline_s == pytest.approx(35.0)


def test_date_is_trusted_by_setting_or_for_local_commands(tmp_path: Path) -> None:
    assert date_trusted("trusted", commands_local=False)
    assert not date_trusted("untrusted", commands_local=True)
    assert date_trusted("auto", commands_local=True)
    with pytest.raises(ConfigError, match="clock"):
        date_trusted("maybe", commands_local=True)
    assert not has_real_time_clock(tmp_path)
    (tmp_path / "rtc0").mkdir()
    assert has_real_time_clock(tmp_path)
