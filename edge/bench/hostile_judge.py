"""The judge of hostile plans: staged and verified as the control line does it, then run on the twin."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from edge.bench.hostile_harm import harms, inside_share, rig_v, severity_of
from edge.bench.hostile_plans import mixed
from edge.bench.hostile_scene import Scene, fate, inputs_of, switched
from edge.bench.hostile_verify import refusals
from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.switching import stage

STEPS = 6
"""Least steps of the twin over an interval."""
STEP_S = 10.0
"""None is longer."""
INSIDE_FRAC = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the plans of one round; (S,)."""

    accepted: BoolArray
    harms: dict[str, BoolArray]
    """By what is harmed."""
    harmless: BoolArray
    severity: FloatArray
    """How near the true worst value came to the safety tier: 0 at operating, 1 at safety."""
    rules: tuple[frozenset[str], ...]
    """Rules that refused each plan."""

    @property
    def harmful(self) -> BoolArray:
        """(S,) harmed in any way."""
        any_way: BoolArray = np.logical_or.reduce(list(self.harms.values()))
        return any_way


def judge(scene: Scene, plan: SlotCommand, rng: np.random.Generator, *, unfinished: bool = False) -> Verdict:
    """Stage, verify, and let the twin run it; `unfinished`: a random part of the writes never arrived.

    What is unfinished may stand as badly as the command in force, never worse: harm that this does by itself
    is not the plan's.
    """
    site = scene.site
    steps = stage(site, scene.image, scene.estimate, scene.envelope, scene.in_force, plan) or (plan,)
    broken = refusals(scene, steps)
    accepted = np.array([not rules for rules in broken])
    final = steps[-1]
    if unfinished:
        last = int(rng.integers(len(steps)))
        final = mixed(rng, steps[last - 1] if last else scene.in_force, steps[last])
    chance = deepcopy(rng)
    found, harmless, severity = _run(scene, final, rng)
    if unfinished and np.logical_or.reduce(list(found.values())).any():
        # the same chance: a string that holds the bus has to bear the same surplus
        before, _, _ = _run(scene, scene.in_force, chance)
        found = {name: harmed & ~before[name] for name, harmed in found.items()}
    return Verdict(accepted, found, harmless, severity, broken)


def _run(
    scene: Scene, command: SlotCommand, rng: np.random.Generator
) -> tuple[dict[str, BoolArray], BoolArray, FloatArray]:
    """Harms, harmlessness and severity (S,) of an interval under `command` that nobody looks at."""
    site, topology = scene.site, scene.site.topology
    really = fate(scene, command, rng)
    plant = scene.plant.twin()
    inside = np.full(topology.n_strings, np.inf)
    highest_v, fewest = -inside, inside
    number = max(STEPS, int(np.ceil(site.timing.interval_s / STEP_S)))
    for _ in range(number):
        now = switched(really, rng)
        plant.apply(inputs_of(now))
        plant.step(site.timing.interval_s / number)
        volts, share = rig_v(scene, plant, now)
        highest_v, inside = np.maximum(highest_v, volts), np.minimum(inside, share)
        fewest = np.minimum(fewest, topology.sum_by_string(now.inserted.astype(np.float64)))
    found = harms(scene, plant, really, highest_v, fewest)
    harmless = (inside_share(scene, plant, really) >= INSIDE_FRAC) & (inside >= INSIDE_FRAC)
    harmless &= ~np.logical_or.reduce(list(found.values()))
    return found, harmless, severity_of(site, plant)
