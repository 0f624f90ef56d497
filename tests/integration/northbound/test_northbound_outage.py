"""Half an hour of telemetry without a broker, with an outbox that holds half of it."""

from __future__ import annotations

import pytest

from edge.bench.outage import run

pytestmark = pytest.mark.needs_mosquitto


def test_everything_that_is_kept_arrives_and_the_gap_says_what_is_not() -> None:
    outbox_rows = 700
    found = run(hours=0.5, outbox_rows=outbox_rows)
    assert found["messages"] > 1_000
    assert found["arrived"] == outbox_rows
    assert found["out_of_order"] == 0
    assert found["not_marked_late"] == 0
    assert found["live_meanwhile"] >= 1
    assert found["missing"] == found["gap_told"] == max(0, found["messages"] - outbox_rows)
    assert found["gap_covers_missing"]
