"""Hostile plans: a seeded sample here, the million in the long campaign."""

from __future__ import annotations

import pytest

from edge.bench.hostile import run


def figures(plans: int, seed: int) -> dict:
    result = run(plans, seed)
    assert result["plans"] >= plans
    assert result["accepted"] > 0.2 * plans  # no wall
    assert result["searched"] > 0.3 * plans
    assert result["unfinished"] > 0.1 * plans
    assert result["refused_harmful"] > 0.004 * plans  # the campaign does hold harm
    return result


def test_no_hostile_plan_that_is_accepted_harms_the_twin():
    result = figures(4000, 7)
    assert result["accepted_harmful"] == 0
    assert result["harmless"] > 200
    assert result["refused_harmless_share"] <= 0.08  # of a small sample; the campaign holds 0.05


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_none_of_a_million_hostile_plans_that_is_accepted_harms_the_twin():
    result = figures(1_000_000, 1)
    assert result["accepted_harmful"] == 0
    assert result["refused_harmless_share"] <= 0.05
