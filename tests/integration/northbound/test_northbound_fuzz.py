"""A seeded sample of the campaign of hostile commands, in process and over a real broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bench.fuzz import judged, run
from edge.bench.hostile_commands import EXAMPLES, NOW, SITE, Attack
from edge.northbound.actions import ARGS
from edge.northbound.contract import Accept, judge
from edge.northbound.shedding import Screen, Sieve


def test_the_attack_knows_every_action_and_changes_good_commands() -> None:
    assert set(EXAMPLES) == set(ARGS)
    attack = Attack()
    for action in ARGS:
        verdict = judge(json.dumps(attack.honest(action)).encode(), retained=False, known=attack.known())
        allowed = action != "start_capacity_test"  # an engineer's
        assert isinstance(verdict, Accept) is allowed, verdict


def test_nothing_hostile_is_accepted() -> None:
    found = judged(Attack(), 6_000, seed=11)
    assert found["accepted_in_process"] == 0, found["examples"]
    # the sample reaches most of what the contract refuses
    assert len(found["reasons"]) >= 14


@pytest.mark.needs_mosquitto
def test_nothing_hostile_is_accepted_over_a_broker() -> None:
    found = run(count=0, over_broker=1_200, seed=12)
    assert found["published"] == 1_200
    assert found["accepted_over_broker"] == 0
    assert found["looked_at_over_broker"] >= 20
    assert found["honest_accepted"]


COMMANDS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(sorted(ARGS)),
        "issuer": st.sampled_from(["scada", "watch"]),
        "sequence": st.integers(1_000_001, 2**53 - 1),
        "life_s": st.floats(1.0, 1e5),
        "site": st.sampled_from([SITE, None]),
        "spaces": st.text(" \t\r\n", max_size=3),
        "indent": st.none() | st.integers(0, 4),
        "zone": st.sampled_from(["Z", "z", "+00:00", "+05:30", "-11:00"]),
    }
)


@given(COMMANDS)
def test_the_screen_lets_through_what_the_contract_accepts(given_: dict[str, Any]) -> None:
    issued = NOW - timedelta(seconds=1)
    expires = issued + timedelta(seconds=1.0 + given_["life_s"])
    command = {
        "id": "6f1c2d3e-0000-4000-8000-000000000001",
        "issuer": given_["issuer"], "sequence": given_["sequence"],
        "issued_at": issued.isoformat(), "expires_at": _written(expires, given_["zone"]),
        "action": given_["action"], "args": EXAMPLES[given_["action"]],
    }  # fmt: skip
    if given_["site"]:
        command["site"] = given_["site"]
    payload = (given_["spaces"] + json.dumps(command, indent=given_["indent"]) + given_["spaces"]).encode()
    known = Attack().known()
    unsigned = type(known)(known.site, known.utc, issuers=known.issuers, sequences=known.sequences)
    verdict = judge(payload, retained=False, known=unsigned)
    screen = Screen(SITE, frozenset(known.issuers))
    if isinstance(verdict, Accept):
        assert screen.look(payload, NOW) is not None
        assert Sieve(screen).passes(payload, 0.0, NOW)
    else:
        assert verdict.reason == "role_not_allowed"  # type: ignore[union-attr]


def _written(moment: datetime, zone: str) -> str:
    """RFC 3339 in one of its forms."""
    if zone in "Zz":
        return moment.astimezone(UTC).isoformat().replace("+00:00", zone)
    hours, minutes = int(zone[:3]), int(zone[0] + zone[4:])
    shifted = moment + timedelta(hours=hours, minutes=minutes)
    return shifted.replace(tzinfo=None).isoformat() + zone


def test_lanes_of_a_sieve() -> None:
    sieve = Sieve(Screen(SITE, frozenset({"scada", "watch"})))
    attack = Attack()

    def count(payload: dict[str, Any], times: int) -> int:
        return sum(sieve.passes(json.dumps(payload).encode(), 0.0, NOW) for _ in range(times))

    assert count({"a": 1}, 1_000) == 20
    assert count(attack.honest("set_power", {"issuer": "stranger"}), 1_000) == 0
    assert count(attack.honest("set_power", {"expires_at": "2026-01-31T11:00:00Z"}), 1_000) == 0
    assert count(attack.honest("set_power"), 1_000) == 200
    assert count(attack.honest("set_power", {"issuer": "watch"}), 1_000) == 200
    assert count(attack.honest("emergency_stop", {"expires_at": "2020-01-01T00:00:00Z"}), 1_000) == 20
    assert sieve.passes(json.dumps(attack.honest("set_power")).encode(), 1.0, NOW)


def test_lanes_without_a_list_of_issuers() -> None:
    """One that floods with good commands takes nobody else's turn; made-up names without end share a lane."""
    sieve = Sieve(Screen(SITE))
    attack = Attack()

    def passes(issuer: str) -> bool:
        return sieve.passes(json.dumps(attack.honest("set_power", {"issuer": issuer})).encode(), 0.0, NOW)

    assert sum(passes("mad") for _ in range(1_000)) == 200
    assert passes("operator")
    assert sum(passes(f"name-{k}") for k in range(400)) < 400
    assert len(sieve._lanes) <= 34
    assert passes("operator")
