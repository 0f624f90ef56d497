"""Hostile plans: a seeded sample of every family here, the million in the long campaign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.hostile import rounds, run
from edge.bench.hostile_families import BY_NAME, FAMILIES, Family
from edge.bench.hostile_judge import judge
from edge.bench.hostile_plans import KINDS, draw_plans, draw_scene
from reconf.actuation import SlotCommand

ROUNDS = 32
"""Of one scene: 8 drawn, 4 unfinished, 20 searched."""


def figures(plans: int, seed: int, **options) -> dict:
    result = run(plans, seed, **options)
    assert result["plans"] >= plans
    assert result["accepted"] > 0.2 * plans  # no wall
    assert result["searched"] > 0.3 * plans
    assert result["unfinished"] > 0.1 * plans
    assert result["refused_harmful"] > 0.004 * plans  # the campaign does hold harm
    for told in result["families"].values():
        assert told["accepted"] > 0.05 * told["plans"]
        assert told["harmless"] > 0
        assert told["refused_harmful"] > 0
    return result


def test_no_hostile_plan_of_any_family_that_is_accepted_harms_the_twin():
    strings = 8
    result = figures(len(FAMILIES) * ROUNDS * strings, 7, strings=strings)
    assert set(result["families"]) == set(BY_NAME)
    harmed = {name: told["accepted_harms"] for name, told in result["families"].items()}
    assert not any(harmed.values()), harmed
    assert result["accepted_harmful"] == 0


def test_usual_plans_that_stay_inside_the_limits_are_let_through():
    result = run(4000, 7, families=("usual",))
    assert result["accepted_harmful"] == 0
    assert result["harmless"] > 200
    assert result["refused_harmless_share"] <= 0.08  # of a small sample; the campaign holds 0.05


def test_families_in_which_verify_cannot_know_do_not_count_as_walls():
    result = run(400, 3, families=("duty", "usual"), strings=6)
    of_all, usual = result["harmless"], result["families"]["usual"]["harmless"]
    assert result["families"]["duty"]["harmless"] > 0
    assert of_all == usual
    assert result["plans"] == sum(told["plans"] for told in result["families"].values())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_doing_nothing_harms_nobody_in_any_scene(family: Family):
    """Else harm found later would be the scene's, not the plan's."""
    rng = np.random.default_rng(11)
    scene = draw_scene(family, family.site(8, rng), rng)
    idle = SlotCommand.safe(scene.site.topology.n_modules, 8)
    verdict = judge(scene, idle, rng)
    if not family.joining:  # behind a contactor that is closed a string may not be bypassed at once
        assert {k for k, harmed in verdict.harms.items() if harmed.any()} <= {"string_shorted"}
    if family.warm_degc[0] < -30.0:
        return  # the little power in force is too much below the lowest temperature
    still = judge(scene, scene.in_force, rng)
    assert not still.harmful.any(), {k: v for k, v in still.harms.items() if v.any()}


def test_what_the_command_in_force_does_by_itself_is_not_the_plans(monkeypatch: pytest.MonkeyPatch):
    """A string that holds the bus may have to bear any surplus: both runs have to meet the same one."""
    rng = np.random.default_rng(3)
    family = BY_NAME["master"]
    scene = draw_scene(family, family.site(4, rng), rng)
    wide = replace(scene.in_force, current_limit_a=scene.in_force.current_limit_a * 12.0)
    scene = replace(scene, in_force=wide)
    by_itself = [judge(scene, wide, rng).harmful.any() for _ in range(20)]
    assert 0 < sum(by_itself) < 20  # by chance
    monkeypatch.setattr("edge.bench.hostile_judge.mixed", lambda _rng, _before, _after: scene.in_force)
    plans = (draw_plans(scene, rng, kind) for kind in KINDS * 5)
    assert not any(judge(scene, plan, rng, unfinished=True).harmful.any() for plan in plans)


@pytest.mark.parametrize("name", ["lost", "joining", "weak", "blind"])
def test_the_families_hold_what_they_promise(name: str):
    rng = np.random.default_rng(5)
    family = BY_NAME[name]
    scene = draw_scene(family, family.site(48, rng), rng)
    broken, image = scene.broken, scene.image
    if name == "lost":
        assert all(mask.any() for mask in (broken.silent, broken.stuck, broken.mute))
        assert np.array_equal(image.modules.answered, ~broken.silent)
        assert not image.modules.voltage_v.good[broken.silent].any()
    elif name == "joining":
        assert all(mask.any() for mask in (broken.closed, broken.live))
        assert not scene.in_force.contactor.any()
    elif name == "weak":
        capacity = scene.plant.truth.capacity_ah
        assert (capacity.min(axis=1) < 0.9 * np.median(capacity, axis=1)).any()
    else:
        assert (scene.envelope.discharge_now_a > 1.2 * scene.true_envelope.discharge_now_a).any()
        assert (scene.envelope.insertion == 0).all()
    kinds = [kind for _, kind in rounds(scene, rng)]
    assert len(kinds) == ROUNDS
    assert kinds.count("unfinished") == 4


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_none_of_a_million_hostile_plans_that_is_accepted_harms_the_twin():
    result = figures(1_000_000, 1)
    assert result["accepted_harmful"] == 0
    assert result["refused_harmless_share"] <= 0.05
