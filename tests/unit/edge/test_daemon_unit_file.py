"""The systemd unit: understood to the last key, and hardened."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[3] / "deploy" / "systemd" / "reconf.service"
TOOL = shutil.which("systemd-analyze")

pytestmark = pytest.mark.skipif(TOOL is None, reason="systemd-analyze is not installed")


def test_systemd_understands_every_key() -> None:
    # unknown keys do not change the exit code: anything on stderr is a failure
    done = subprocess.run([TOOL, "verify", str(UNIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_exposure_stays_below_two() -> None:
    command = [TOOL, "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_watchdog_and_stop_leave_room_for_the_leaving_sequence() -> None:
    from edge.supervisor import LEAVING_MAX_S

    text = UNIT.read_text(encoding="utf-8")
    assert "Type=notify\n" in text
    assert "WatchdogSec=10\n" in text
    assert f"TimeoutStopSec={30}" in text
    assert LEAVING_MAX_S < 30.0
