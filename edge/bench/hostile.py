"""Hostile plans against verify and the twin.

A *plan* is one string's command. It is staged and every step verified, exactly as the control line does it,
against an estimate whose R and Q (and the twin's R_th) are up to 15 % off. Then the twin runs it for a whole
interval without anybody looking again, accepted or not, and its true extremes are taken:

* **harmful**: a safety-tier limit was passed in the twin;
* **harmless**: the true worst values stayed 5 % inside the limits, that is inside 95 % of every current,
  power and trim limit that full knowledge would give, and 5 % of the span inside both ends of cell voltage
  (operating tier), temperature (operating tier) and converter window.

The share of harmless plans that were refused is taken over the drawn plans; the searched ones crowd at the
very edge on purpose, to find harm. Some rounds run a change of which a random part of the writes never
arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from edge.bench.hostile_plans import AXES, KINDS, draw_plans, mixed, mutate, stretched
from edge.bench.hostile_site import Scene, WatchedPlant, draw_scene, hostile_site, inputs_of
from reconf.actuation import Refused, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.protection.limits import Tier
from reconf.site import Site
from reconf.switching import stage
from reconf.verify import History, verify

STRINGS = 48
STEPS = 6
INSIDE_FRAC = 0.05
DRAWS = 2
SEARCH_ROUNDS = 8
GRADIENT_ROUNDS = 3
PROBE = 0.02
"""Relative change by which the slope of the severity is measured."""
GRADIENT_STEP = 0.08
PART = 20_000
"""Plans of one part of a campaign."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the plans of one round; (S,)."""

    accepted: BoolArray
    harmful: BoolArray
    harmless: BoolArray
    severity: FloatArray
    """How near the true worst value came to the safety tier: 0 at operating, 1 at safety."""
    rules: tuple[frozenset[str], ...]
    """Rules that refused each plan."""


@dataclass(slots=True)
class Tally:
    """Counts so far."""

    plans: int = 0
    accepted: int = 0
    accepted_harmful: int = 0
    refused_harmful: int = 0
    harmless: int = 0
    refused_harmless: int = 0
    unfinished: int = 0
    searched: int = 0
    scenes: int = 0
    worst_accepted: float = -np.inf
    walls: Counter[str] = field(default_factory=Counter)
    """Rules that refused harmless plans."""

    def add(self, verdict: Verdict, kind: str) -> None:
        """Count one round: `drawn`, `unfinished` (some writes never arrived) or `searched`."""
        self.plans += verdict.accepted.size
        self.accepted += int(verdict.accepted.sum())
        self.accepted_harmful += int((verdict.accepted & verdict.harmful).sum())
        self.refused_harmful += int((~verdict.accepted & verdict.harmful).sum())
        if verdict.accepted.any():
            self.worst_accepted = max(self.worst_accepted, float(verdict.severity[verdict.accepted].max()))
        self.unfinished += verdict.accepted.size * (kind == "unfinished")
        self.searched += verdict.accepted.size * (kind == "searched")
        if kind != "drawn":
            return
        wall = verdict.harmless & ~verdict.accepted
        self.harmless += int(verdict.harmless.sum())
        self.refused_harmless += int(wall.sum())
        for index in np.flatnonzero(wall):
            self.walls.update(verdict.rules[index])

    def join(self, other: Tally) -> None:
        """Add the counts of another part."""
        for name in (
            "plans",
            "accepted",
            "accepted_harmful",
            "refused_harmful",
            "harmless",
            "refused_harmless",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unfinished += other.unfinished
        self.searched += other.searched
        self.scenes += other.scenes
        self.worst_accepted = max(self.worst_accepted, other.worst_accepted)
        self.walls.update(other.walls)

    def result(self) -> dict[str, Any]:
        """The figures."""
        return {
            "plans": self.plans,
            "accepted": self.accepted,
            "accepted_harmful": self.accepted_harmful,
            "refused_harmful": self.refused_harmful,
            "harmless": self.harmless,
            "refused_harmless": self.refused_harmless,
            "refused_harmless_share": self.refused_harmless / max(self.harmless, 1),
            "unfinished": self.unfinished,
            "searched": self.searched,
            "scenes": self.scenes,
            "worst_accepted_severity": self.worst_accepted if np.isfinite(self.worst_accepted) else 0.0,
            "rules_refusing_harmless": dict(self.walls.most_common()),
        }


def run(
    plans: int, seed: int = 1, note: Callable[[int], None] | None = None, *, jobs: int = 1
) -> dict[str, Any]:
    """Judge at least `plans` plans; a third are drawn, the others searched from the drawn ones.

    The work is cut into parts of `PART` plans, each with a seed of its own, so that the result does not
    depend on `jobs`, the number of processes.
    """
    sizes = [PART] * (plans // PART) + ([plans % PART] if plans % PART else [])
    tally = Tally()
    for part in _parts([(size, seed, k) for k, size in enumerate(sizes)], jobs):
        tally.join(part)
        if note is not None:
            note(tally.plans)
    return tally.result()


def _parts(tasks: Sequence[tuple[int, int, int]], jobs: int) -> Iterator[Tally]:
    """Every part's tally, in order."""
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_part, tasks)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_part, tasks)


def _part(task: tuple[int, int, int]) -> Tally:
    """One part: (plans, seed, number)."""
    plans, seed, number = task
    site = hostile_site(STRINGS)
    rng = np.random.default_rng([seed, number])
    tally = Tally()
    while tally.plans < plans:
        scene = draw_scene(site, rng)
        tally.scenes += 1
        for verdict, kind in _rounds(scene, rng):
            tally.add(verdict, kind)
            if tally.plans >= plans:
                break
    return tally


def _rounds(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[Verdict, str]]:
    """All rounds of one scene: every kind drawn, some unfinished, then a search for the worst accepted."""
    best, height = scene.in_force, np.full(STRINGS, -np.inf)
    for kind in KINDS:
        for _ in range(DRAWS):
            plan = draw_plans(scene, rng, kind)
            verdict = judge(scene, plan, None)
            best, height = _climb(scene, best, height, plan, verdict)
            yield verdict, "drawn"
        yield judge(scene, draw_plans(scene, rng, kind), rng), "unfinished"
    for number in range(SEARCH_ROUNDS):
        plan = mutate(scene, rng, best, 0.3 * 0.8**number)
        verdict = judge(scene, plan, None)
        best, height = _climb(scene, best, height, plan, verdict)
        yield verdict, "searched"
    for _ in range(GRADIENT_ROUNDS):
        slopes = []
        for axis in range(AXES):
            verdict = judge(scene, stretched(best, axis, np.full(STRINGS, PROBE)), None)
            slopes.append(verdict.severity - np.where(np.isfinite(height), height, verdict.severity))
            yield verdict, "searched"
        steep = np.sqrt(np.sum(np.square(slopes), axis=0))
        plan = best
        for axis, slope in enumerate(slopes):
            plan = stretched(plan, axis, GRADIENT_STEP * slope / np.maximum(steep, 1e-12))
        verdict = judge(scene, plan, None)
        best, height = _climb(scene, best, height, plan, verdict)
        yield verdict, "searched"


def _climb(
    scene: Scene, best: SlotCommand, height: FloatArray, plan: SlotCommand, verdict: Verdict
) -> tuple[SlotCommand, FloatArray]:
    """Keep, string by string, the accepted plan that came nearest to harm."""
    better = verdict.accepted & (verdict.severity > height)
    modules = better[scene.site.topology.string_of]
    kept = replace(
        best,
        inserted=np.where(modules, plan.inserted, best.inserted),
        trim_current_a=np.where(modules, plan.trim_current_a, best.trim_current_a),
        power_w=np.where(better, plan.power_w, best.power_w),
        current_limit_a=np.where(better, plan.current_limit_a, best.current_limit_a),
    )
    return kept, np.where(better, verdict.severity, height)


def judge(scene: Scene, plan: SlotCommand, lost_writes: np.random.Generator | None) -> Verdict:
    """Stage, verify, and let the twin run it."""
    site = scene.site
    steps = stage(site, scene.image, scene.estimate, scene.envelope, scene.in_force, plan) or (plan,)
    broken = _refusals(scene, steps)
    accepted = np.array([not rules for rules in broken])
    final = steps[-1]
    if lost_writes is not None:
        last = int(lost_writes.integers(len(steps)))
        before = steps[last - 1] if last else scene.in_force
        final = mixed(lost_writes, before, steps[last], site.topology.string_of)
    plant = scene.plant.twin()
    plant.apply(inputs_of(final))
    inside = np.full(STRINGS, np.inf)
    for _ in range(STEPS):
        plant.step(site.timing.interval_s / STEPS)
        inside = np.minimum(inside, _window_inside(site, plant))
    severity = _severity(site, plant)
    harmless = (_inside(scene, plant, final) >= INSIDE_FRAC) & (inside >= INSIDE_FRAC)
    return Verdict(accepted, _harm(site, plant), harmless, severity, broken)


def _refusals(scene: Scene, steps: tuple[SlotCommand, ...]) -> tuple[frozenset[str], ...]:
    """Rules that refuse each string in any step; strings are independent, so one pass judges them all."""
    topology = scene.site.topology
    of_subject = {s.name: k for k, s in enumerate(scene.site.strings)}
    of_subject |= {serial: int(topology.string_of[m]) for m, serial in enumerate(topology.serials)}
    broken: list[set[str]] = [set() for _ in range(topology.n_strings)]
    history = History(hold_s=scene.site.timing.interval_s)
    in_force = scene.in_force
    for step in steps:
        answer = verify(
            scene.site, scene.image, scene.estimate, scene.envelope, in_force, step,
            dt_s=scene.site.timing.tick_s, history=history,
        )  # fmt: skip
        if isinstance(answer, Refused):
            for violation in answer.violations:
                if violation.subject == "site":
                    for rules in broken:
                        rules.add(violation.rule)
                else:
                    broken[of_subject[violation.subject]].add(violation.rule)
        history = history.after_step(in_force, step)
        in_force = step
    return tuple(frozenset(rules) for rules in broken)


def _by_string(site: Site, values: FloatArray) -> FloatArray:
    """Largest value of each string."""
    most = np.full(site.topology.n_strings, -np.inf)
    np.maximum.at(most, site.topology.string_of, values)
    return most


def _harm(site: Site, plant: WatchedPlant) -> BoolArray:
    """(S,) a safety tier was passed."""
    limits = plant.limits
    excess = np.maximum.reduce(
        [
            plant.extremes.highest_v - limits.cell_voltage_max_v,
            limits.cell_voltage_min_v - plant.extremes.lowest_v,
            plant.extremes.hottest_degc - limits.temperature_max_degc,
            plant.extremes.most_a - limits.discharge_current_a,
            -plant.extremes.least_a - limits.charge_current_a,
        ]
    )
    harmed: BoolArray = _by_string(site, excess) > 0.0
    return harmed


def _tier(site: Site, quantity: str, side: str, tier: Tier) -> FloatArray:
    """(M,) a tier of a limit."""
    rows = {c: table[quantity, side].tier(tier) for c, table in site.limits.items()}
    return np.array([rows[m.chemistry] for m in site.modules])


def _severity(site: Site, plant: WatchedPlant) -> FloatArray:
    """(S,) largest way from the operating to the safety tier, over all quantities."""
    ways = []
    for quantity, side, value, sign in (
        ("cell_voltage_v", "max", plant.extremes.highest_v, 1.0),
        ("cell_voltage_v", "min", plant.extremes.lowest_v, -1.0),
        ("temperature_degc", "max", plant.extremes.hottest_degc, 1.0),
    ):
        low = _tier(site, quantity, side, Tier.OPERATING)
        high = _tier(site, quantity, side, Tier.SAFETY)
        ways.append(sign * (value - low) / np.abs(high - low))
    rated = site.topology.rated_capacity_ah
    ways.append(plant.extremes.most_a / (rated * _tier(site, "discharge_current_c", "max", Tier.SAFETY)))
    ways.append(-plant.extremes.least_a / (rated * _tier(site, "charge_current_c", "max", Tier.SAFETY)))
    return _by_string(site, np.maximum.reduce(ways))


def _window_inside(site: Site, plant: WatchedPlant) -> FloatArray:
    """(S,) distance of the string voltage from the nearer end of the window, as a share of its span."""
    low = np.array([s.converter.voltage_min_v for s in site.strings])
    high = np.array([s.converter.voltage_max_v for s in site.strings])
    volts = plant.true.string_voltage_v
    inside: FloatArray = np.minimum(volts - low, high - volts) / (high - low)
    return inside


def _inside(scene: Scene, plant: WatchedPlant, plan: SlotCommand) -> FloatArray:
    """(S,) smallest distance to any limit of full knowledge, as a share; negative: passed."""
    site, known = scene.site, scene.true_envelope
    shares = []
    for quantity, low_v, high_v in (
        ("cell_voltage_v", plant.extremes.lowest_v, plant.extremes.highest_v),
        ("temperature_degc", plant.extremes.coldest_degc, plant.extremes.hottest_degc),
    ):
        low = _tier(site, quantity, "min", Tier.OPERATING)
        high = _tier(site, quantity, "max", Tier.OPERATING)
        shares.append(np.minimum(low_v - low, high - high_v) / (high - low))
    of = site.topology.string_of
    limit = plan.current_limit_a[of]
    out, into = (plan.power_w > 0.0)[of], (plan.power_w < 0.0)[of]
    for asked, allowed in (
        (np.where(plan.inserted & out, limit, 0.0), known.discharge_now_a),
        (np.where(plan.inserted & into, limit, 0.0), known.charge_now_a),
        (np.maximum(plan.trim_current_a, 0.0), known.trim_give_a),
        (np.maximum(-plan.trim_current_a, 0.0), known.trim_take_a),
    ):
        shares.append(np.where(asked > 0.0, 1.0 - asked / np.maximum(allowed, 1e-9), 1.0))
    shares.append(np.where(plan.inserted & (known.insertion == 1), -1.0, 1.0))
    module = -_by_string(site, -np.minimum.reduce(shares))
    rating_w = np.array([s.converter.power_rating_w for s in site.strings])
    rating_a = np.array([s.converter.current_rating_a for s in site.strings])
    inside: FloatArray = np.minimum.reduce(
        [
            module,
            1.0 - np.abs(plan.power_w) / rating_w,
            1.0 - plan.current_limit_a / rating_a,
            _trim_inside(scene, plant, plan),
        ]
    )
    return inside


def _trim_inside(scene: Scene, plant: WatchedPlant, plan: SlotCommand) -> FloatArray:
    """(S,) how far the trims asked are from the imbalance that verify allows (10 % and 5 W)."""
    topology = scene.site.topology
    watts = plant.true.module_voltage_v * plan.trim_current_a
    efficiency = np.array([m.trim_efficiency_frac for m in scene.site.modules])
    given = topology.sum_by_string(np.maximum(watts, 0.0) * efficiency)
    taken = topology.sum_by_string(np.maximum(-watts, 0.0))
    return 1.0 - np.abs(given - taken) / (0.10 * np.maximum(given, taken) + 5.0)
