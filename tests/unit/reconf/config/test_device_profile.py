"""Device profiles are strict data."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconf.devices.profile import RegisterType, load_profile
from reconf.errors import ConfigError
from reconf.shipped import find_site_file


def test_shipped_profiles_are_whole() -> None:
    rm1, rc1 = load_profile("rm1"), load_profile("rc1")
    assert len(rm1.of_table("input")) + len(rm1.of_table("holding")) == len(rm1.registers) == 34
    assert rm1.register("input", "CELL_VOLTAGE").end == 35
    assert rc1.register("input", "LINK_VOLTAGE").end == 17
    assert rc1.register("holding", "POWER_SETPOINT").words == 2
    assert rm1.register("holding", "SERIAL").type is RegisterType.STRING16
    assert dict(rm1.register("input", "STATUS").bits)[2].startswith("watchdog expired")


@pytest.mark.parametrize("name", ["rm1", "rc1"])
def test_not_available_applies_to_all_but_counters(name: str) -> None:
    exempt = {r.name for r in load_profile(name).registers if not r.na_applies}
    assert exempt <= {"HEARTBEAT", "HEARTBEAT_ECHO", "SAMPLE_COUNTER", "INSERT_COUNT", "UPTIME", "SERIAL"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("address: 1, name: MAP_VERSION", "address: 0, name: MAP_VERSION", "overlaps MAGIC"),
        ("name: MAP_VERSION", "name: MAGIC", "defined twice"),
        ("type: uint32", "type: uint23", "uint32"),
        ("max_read_registers: 60", "max_read: 60", "max_read"),
    ],
)
def test_broken_profiles_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = find_site_file("profiles/rm1.yaml").read_text()
    assert old in text
    broken = tmp_path / "rm1.yaml"
    broken.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        load_profile(broken)
