"""Reaction on the wire: a few strikes here, a thousand and their times in the benchmark."""

from __future__ import annotations

import pytest

from edge.bench.reaction import measure


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_every_safety_tier_value_is_answered_on_the_wire():
    result = await measure(4, strings=4, tick_s=0.4)
    assert result["trials"] >= 4
    assert result["unanswered"] == 0
    worst = result["worst"][0]
    stages = ("waited_ms", "read_ms", "decided_ms", "latches_ms", "written_ms")
    assert sum(worst[name] for name in stages) == pytest.approx(worst["reaction_ms"], abs=1.0)
