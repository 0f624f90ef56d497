"""Hostile plans against verify and the twin.

A *plan* is one string's command. It is staged and every step verified, exactly as the control line does it,
against an estimate whose R and Q (and the twin's R_th) are up to 15 % off. Then the twin runs it for a whole
interval without anybody looking again, accepted or not, and its true extremes are taken:

* **harmful**: a safety-tier limit was passed in the twin, a string shorted, a contactor closed onto more than
  the modules bear (`edge/bench/hostile_harm.py`);
* **harmless**: the true worst values stayed 5 % inside the limits, that is inside 95 % of every current,
  power and trim limit that full knowledge would give, and 5 % of the span inside both ends of cell voltage
  (operating tier), temperature (operating tier) and converter window.

The share of harmless plans that were refused is taken over the drawn plans; the searched ones crowd at the
very edge on purpose, to find harm. Some rounds run a change of which a random part of the writes never
arrived. Plans come in families (`edge/bench/hostile_families.py`), an equal number of each; the share of the
whole is that of the families in which all is known that verify asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from edge.bench.hostile_families import BY_NAME, FAMILIES
from edge.bench.hostile_judge import Verdict, judge
from edge.bench.hostile_plans import AXES, KINDS, draw_plans, draw_scene, mutate, stretched
from edge.bench.hostile_scene import Scene
from edge.bench.hostile_tally import Tally
from edge.core_steps import merged
from reconf.actuation import SlotCommand
from reconf.arrays import FloatArray

STRINGS = 48
MASTER_STRINGS = 4
"""Only one of them can hold the bus."""
DRAWS = 2
SEARCH_ROUNDS = 8
GRADIENT_ROUNDS = 3
PROBE = 0.02
"""Relative change by which the slope of the severity is measured."""
GRADIENT_STEP = 0.08
PART = 20_000
"""Plans of one part of a campaign."""


def run(
    plans: int,
    seed: int = 1,
    note: Callable[[int], None] | None = None,
    *,
    jobs: int = 1,
    families: Sequence[str] = tuple(BY_NAME),
    strings: int = STRINGS,
) -> dict[str, Any]:
    """Judge at least `plans` plans; a third are drawn, the others searched from the drawn ones.

    The work is cut into parts of `PART` plans, each with a seed of its own, so that the result does not
    depend on `jobs`, the number of processes. `strings` strings stand side by side in a scene.
    """
    each = -(-plans // len(families))
    tasks = [
        (min(PART, each - begin), seed, name, begin // PART, strings)
        for begin in range(0, each, PART)
        for name in families
    ]
    by_family = {name: Tally() for name in families}
    total = Tally()
    for task, part in zip(tasks, _parts(tasks, jobs), strict=True):
        by_family[task[2]].join(part)
        total.join(part, walls=BY_NAME[task[2]].walls)
        if note is not None:
            note(total.plans)
    return total.result() | {"families": {name: tally.result() for name, tally in by_family.items()}}


def _parts(tasks: Sequence[tuple[int, int, str, int, int]], jobs: int) -> Iterator[Tally]:
    """Every part's tally, in order."""
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_part, tasks)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_part, tasks)


def _part(task: tuple[int, int, str, int, int]) -> Tally:
    """One part: (plans, seed, family, number, strings)."""
    plans, seed, name, number, strings = task
    family = BY_NAME[name]
    rng = np.random.default_rng([seed, FAMILIES.index(family), number])
    tally = Tally()
    while tally.plans < plans:
        site = family.site(min(strings, MASTER_STRINGS) if family.master else strings, rng)
        scene = draw_scene(family, site, rng)
        tally.scenes += 1
        for verdict, kind in rounds(scene, rng):
            tally.add(verdict, kind)
            if tally.plans >= plans:
                break
    return tally


def rounds(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[Verdict, str]]:
    """All rounds of one scene: every kind drawn, some unfinished, then a search for the worst accepted."""
    of, size = scene.site.topology.string_of, len(scene.site.strings)
    best, height = scene.in_force, np.full(size, -np.inf)
    for kind in KINDS:
        for _ in range(DRAWS):
            plan = draw_plans(scene, rng, kind)
            verdict = judge(scene, plan, rng)
            best, height = _climb(scene, best, height, plan, verdict)
            yield verdict, "drawn"
        yield judge(scene, draw_plans(scene, rng, kind), rng, unfinished=True), "unfinished"
    for number in range(SEARCH_ROUNDS):
        plan = mutate(scene, rng, best, 0.3 * 0.8**number)
        verdict = judge(scene, plan, rng)
        best, height = _climb(scene, best, height, plan, verdict)
        yield verdict, "searched"
    for _ in range(GRADIENT_ROUNDS):
        slopes = []
        for axis in range(AXES):
            verdict = judge(scene, stretched(best, axis, np.full(size, PROBE), of), rng)
            slopes.append(verdict.severity - np.where(np.isfinite(height), height, verdict.severity))
            yield verdict, "searched"
        steep = np.sqrt(np.sum(np.square(slopes), axis=0))
        plan = best
        for axis, slope in enumerate(slopes):
            plan = stretched(plan, axis, GRADIENT_STEP * slope / np.maximum(steep, 1e-12), of)
        verdict = judge(scene, plan, rng)
        best, height = _climb(scene, best, height, plan, verdict)
        yield verdict, "searched"


def _climb(
    scene: Scene, best: SlotCommand, height: FloatArray, plan: SlotCommand, verdict: Verdict
) -> tuple[SlotCommand, FloatArray]:
    """Keep, string by string, the accepted plan that came nearest to harm."""
    better = verdict.accepted & (verdict.severity > height)
    kept = merged(best, plan, better, better[scene.site.topology.string_of])
    return kept, np.where(better, verdict.severity, height)
