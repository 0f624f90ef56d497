"""The fault machine by itself: debounce, release, latching, no chatter, missing values."""

import numpy as np
import pytest

from reconf.protection.faults import (
    SCOPES,
    Conditions,
    Machine,
    Timing,
    evidence,
    fault_rows,
    row_of,
    step_machine,
)


def timing(debounce=0.0, release=10.0, latches=True):
    return Timing(
        debounce_s=np.array([[debounce]]), release_s=np.array([[release]]), latches=np.array([[latches]])
    )


def told(raised, released=None):
    released = (not raised) if released is None else released
    return Conditions(
        raised=np.array([[raised]]),
        released=np.array([[released]]),
        value=np.array([[7.0]]),
        bound=np.array([[5.0]]),
    )


def drive(clock, pattern, dt=1.0):
    machine, story = Machine.quiet(1, 1), []
    for tick, raised in enumerate(pattern):
        now = told(False, False) if raised is None else told(raised)
        machine, onset, end = step_machine(machine, clock, now, dt, tick * dt)
        story.append(("up" if onset[0, 0] else "") + ("down" if end[0, 0] else ""))
    return machine, story


def test_zero_debounce_acts_in_the_same_tick():
    machine, story = drive(timing(), [True])
    assert story == ["up"]
    assert machine.active[0, 0]
    assert machine.latched[0, 0]
    assert machine.value[0, 0] == 7.0
    assert machine.bound[0, 0] == 5.0


def test_debounce_counts_elapsed_time_only():
    _, story = drive(timing(debounce=2.0), [True, True, True])
    assert story == ["", "", "up"]


def test_an_interruption_starts_the_debounce_again():
    _, story = drive(timing(debounce=2.0), [True, True, False, True, True, True])
    assert story == ["", "", "", "", "", "up"]


def test_release_needs_its_time_and_leaves_the_latch():
    machine, story = drive(timing(release=2.0), [True, False, False, False])
    assert story == ["up", "", "", "down"]
    assert not machine.active[0, 0]
    assert machine.latched[0, 0]


def test_a_row_that_does_not_latch_goes_quiet():
    machine, _ = drive(timing(release=0.0, latches=False), [True, False])
    assert not machine.present[0, 0]


def test_unknown_neither_raises_nor_releases():
    machine, story = drive(timing(release=0.0), [None, None, True, None, None])
    assert story == ["", "", "up", "", ""]
    assert machine.active[0, 0]


def test_chattering_condition_gives_one_event():
    _, story = drive(timing(debounce=0.0, release=5.0, latches=False), [True, False] * 50)
    assert [s for s in story if s] == ["up"]


@pytest.mark.parametrize("dt", [0.2, 1.0, 5.0])
def test_elapsed_time_counts_not_ticks(dt):
    _, story = drive(timing(debounce=5.0), [True] * 40, dt)
    assert story.index("up") == round(5.0 / dt)


def test_every_row_is_complete():
    seen = set()
    for scope in SCOPES:
        for row in fault_rows(scope):
            assert row.fault not in seen
            seen.add(row.fault)
            assert row.meaning
            assert row.clear
            assert row.text.endswith(".")
            assert row.action.endswith(".")
            assert row.release_s >= 0.0
            if row.severity == "open_site":
                assert row.latching != "none", f"{row.fault}: what opens the site must latch"
            if row.limit is not None and row.limit[2] == "safety":
                assert row.severity in ("bypass", "open_string", "open_site")


@pytest.mark.parametrize(
    "fault",
    [
        "insulation_unknown",
        "emergency_stop_unknown",
        "site_output_failed",
        "isolation_lost",
        "contactor_opened",
    ],
)
def test_what_no_device_reports_does_not_say_that_one_had(fault):
    """A monitor that is silent has reported nothing."""
    told = evidence(fault, float("nan"), float("nan"), row_of(fault).unit)
    assert told
    assert "reported by the device" not in told
    assert evidence("gas_alarm", float("nan"), float("nan"), "") == "reported by the device"
