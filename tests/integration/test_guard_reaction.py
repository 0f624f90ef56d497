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
