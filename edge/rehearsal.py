"""Everything that a compiler has to see, seen before the first device is.

Compiled loops are built, or loaded from their cache, when they are first called. In a daemon that was once
the first rule-based plan, with the contactors just closed: where nothing was cached it stood for nine
seconds, and the converter's watchdog opened the string. A rehearsal plays a few minutes of a small site in
memory: joining, discharge and charge, a plan, none, and one of a wide gap. Types, not sizes, are what is
compiled, so that one small site does for all. The optimizer has a process and a warm-up of its own; the plans
here are those of the rule.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.protect_site import bench_site
from edge.interval import Rung
from optimizer.fallback import largest_remaining
from optimizer.result import AllocationInput, AllocationResult, Inaccurate, Late, Plan
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULES = 4
TICK_S = 10.0
TICKS = 30
POWER_W = 2_000.0
TURN_S = 150.0
"""Discharge before, charge after."""
PHYSICS_STEP_S = 5.0


@cache
def rehearse() -> frozenset[Rung]:
    """Play it, once in a process; touches nothing but memory.

    Returns:
        The rungs of the failure ladder that were played.
    """
    site = bench_site(MODULES, tick_s=TICK_S)
    truth = draw_truth(site, np.random.default_rng(0), soc_frac=0.6)
    loop = Loop(
        site,
        truth,
        lambda now_s: POWER_W if now_s < TURN_S else -POWER_W,
        allocate=_Answers(),
        physics_step_s=PHYSICS_STEP_S,
    )
    loop.start()
    return frozenset(loop.step().view.rung for _ in range(TICKS))


@cache
def rehearse_physics() -> None:
    """The same for a twin alone: its own loops are compiled before its nodes count the time."""
    site = bench_site(MODULES)
    plant = Plant(site, draw_truth(site, np.random.default_rng(0)))
    plant.step(PHYSICS_STEP_S)


class _Answers:
    """No answer until the rule has to plan, then in turn a plan and one of a wide gap."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, site: Site, question: AllocationInput) -> AllocationResult:
        """The next answer."""
        self._asked += 1
        plan = largest_remaining(site, question)
        if self._asked == 1:
            return Late(question.interval, 0.0)
        if self._asked % 2 and isinstance(plan, Plan):
            return Inaccurate(question.interval, "rehearsed", plan)
        return plan
