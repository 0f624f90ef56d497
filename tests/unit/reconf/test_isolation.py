"""The maintenance lock and the gate before hands go inside."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconf.isolation import (
    RELEASED,
    SAFE_VOLTAGE_V,
    Maintenance,
    Statement,
    StringIsolation,
    broken_isolation,
    grant,
    hand_back,
    hands_inside_refusals,
    release_refusal,
    take,
)

HELD = take(RELEASED, "ana", "2026-01-01T00:00:00Z")
DEAD = StringIsolation("S1", read=True, contactor_open=True, voltage_v=0.4)
OTHER = StringIsolation("S2", read=True, contactor_open=True, voltage_v=1.0)
SAYS = Statement("ana", disconnect_locked=True, measured_v=0.2)


def refusals(lock=HELD, strings=(DEAD, OTHER), says=SAYS, *, fresh=True):
    return hands_inside_refusals(lock, strings, says, fresh=fresh)


def test_everything_right_lets_hands_in() -> None:
    assert refusals() == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lock": RELEASED}, "not taken"),
        ({"fresh": False}, "too old"),
        ({"strings": (replace(DEAD, read=False), OTHER)}, "S1: its converter does not answer"),
        ({"strings": (DEAD, replace(OTHER, contactor_open=False))}, "S2: the contactor reads closed"),
        ({"strings": (replace(DEAD, voltage_v=60.0), OTHER)}, "S1: 60.0 V at the string"),
        ({"strings": (replace(DEAD, voltage_v=-61.0), OTHER)}, "S1: -61.0 V"),
        ({"strings": (replace(DEAD, voltage_v=math.nan), OTHER)}, "S1: the string voltage is not known"),
        ({"strings": (replace(DEAD, link_v=75.0), OTHER)}, "S1: 75.0 V behind the contactor"),
        ({"strings": (replace(DEAD, link_v=math.nan), OTHER)}, "S1: an unknown voltage behind the contactor"),
        ({"says": replace(SAYS, disconnect_locked=False)}, "disconnect"),
        ({"says": replace(SAYS, measured_v=-75.0)}, "-75 V were measured"),
        ({"says": replace(SAYS, measured_v=math.nan)}, "missing"),
        ({"says": replace(SAYS, strings=("S9",))}, "no string 'S9'"),
    ],
)
def test_each_thing_that_is_missing_refuses_and_is_named(change, word) -> None:
    said = refusals(**change)
    assert len(said) == 1, said
    assert word in said[0]


def test_work_on_one_string_does_not_ask_for_the_other() -> None:
    live = replace(OTHER, contactor_open=False, voltage_v=400.0)
    assert refusals(strings=(DEAD, live), says=replace(SAYS, strings=("S1",))) == ()
    assert len(refusals(strings=(DEAD, live))) == 2


@given(
    read=st.booleans(), opened=st.booleans(), locked=st.booleans(), held=st.booleans(), fresh=st.booleans(),
    voltage_v=st.one_of(st.just(math.nan), st.floats(-1e3, 1e3)),
    measured_v=st.floats(allow_nan=True, allow_infinity=True),
)  # fmt: skip
def test_hands_go_in_only_when_everything_speaks_for_it(
    read, opened, locked, held, fresh, voltage_v, measured_v
) -> None:
    said = refusals(
        HELD if held else RELEASED, (StringIsolation("S1", read, opened, voltage_v),),
        Statement("x", locked, measured_v), fresh=fresh,
    )  # fmt: skip
    right = (
        read and opened and locked and held and fresh
        and abs(voltage_v) < SAFE_VOLTAGE_V and abs(measured_v) < SAFE_VOLTAGE_V
    )  # fmt: skip
    assert (said == ()) == right


def test_the_lock_stays_with_who_has_it_and_waits_for_every_hand() -> None:
    assert take(HELD, "ben", "later").by == "ana"
    both = grant(grant(HELD, SAYS, "t"), replace(SAYS, by="ben"), "t")
    assert grant(both, SAYS, "t2").permits[-1].since_utc == "t2"
    assert len(grant(both, SAYS, "t2").permits) == 2
    assert "ana, ben" in release_refusal(both)
    one = hand_back(both, "ana")
    assert one is not None
    assert "ben" in release_refusal(one)
    assert hand_back(one, "ana") is None
    none = hand_back(one, "ben")
    assert none is not None
    assert release_refusal(none) == ""
    assert release_refusal(RELEASED) == "maintenance is not taken"


def test_readings_that_turn_against_somebody_inside_are_noticed_where_the_work_is() -> None:
    lock = grant(HELD, replace(SAYS, strings=("S1",)), "t")
    seen = {"S1": DEAD, "S2": replace(OTHER, contactor_open=False)}
    assert broken_isolation(lock, seen) == ()
    assert broken_isolation(lock, {**seen, "S1": replace(DEAD, voltage_v=80.0)}) == ("S1",)
    assert broken_isolation(grant(HELD, SAYS, "t"), seen) == ("S2",)
    assert broken_isolation(HELD, seen) == ()


@pytest.mark.parametrize(
    ("first", "second", "watched"),
    [
        (("S1",), ("S2",), ("S1", "S2")),
        (("S1",), ("S1",), ("S1",)),
        (("S1",), (), ("S1", "S2")),
        ((), ("S2",), ("S1", "S2")),
    ],
)
def test_who_goes_on_to_another_string_stays_watched_on_the_first(first, second, watched):
    live = {name: StringIsolation(name, True, False, 380.0) for name in ("S1", "S2")}
    lock = grant(HELD, replace(SAYS, strings=first), "t")
    lock = grant(lock, replace(SAYS, strings=second), "t2")
    assert broken_isolation(lock, live) == watched
    assert len(lock.permits) == 1
    out = hand_back(lock, SAYS.by)
    assert out is not None
    assert broken_isolation(out, live) == ()


def test_what_the_store_kept_comes_back_and_garbage_counts_as_held() -> None:
    lock = grant(HELD, replace(SAYS, strings=("S1",)), "t")
    assert Maintenance.from_json(asdict(lock)) == lock
    assert Maintenance.from_json(None) == RELEASED
    assert Maintenance.from_json({"held": False}).held
    assert Maintenance.from_json("?").held
