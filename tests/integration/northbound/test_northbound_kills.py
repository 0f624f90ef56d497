"""A seeded sample of the campaign of kills: nothing acknowledged is lost, nothing is left unanswered."""

from __future__ import annotations

import pytest

from edge.bench.kills import run

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.timeout(240)]


def test_nothing_acknowledged_is_lost() -> None:
    found = run(kills=6, seed=20)
    assert found["kills_edge"] >= 2
    assert found["kills_broker"] >= 2
    assert found["acknowledged"] == found["commands"] >= 6
    troubles = ("lost_acknowledged", "reply_changed", "refused", "unanswered", "bad_audit_chains")
    assert {name: found[name] for name in troubles} == dict.fromkeys(troubles, 0), found["told"]
