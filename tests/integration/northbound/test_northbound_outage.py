"""Half an hour of telemetry without a broker, with an outbox that holds it and one that does not."""

from __future__ import annotations

import pytest

from edge.bench.outage import run

pytestmark = pytest.mark.needs_mosquitto


@pytest.mark.parametrize("outbox_rows", [10_000, 700])
def test_everything_arrives_or_the_gap_says_so(outbox_rows: int) -> None:
    found = run(hours=0.5, outbox_rows=outbox_rows)
    assert found["messages"] > 1_000
    assert found["out_of_order"] == 0
    assert found["not_marked_late"] == 0
    assert found["live_meanwhile"] >= 1
    assert found["missing"] == found["gap_told"] == max(0, found["messages"] - outbox_rows)
    assert found["gap_covers_missing"]
