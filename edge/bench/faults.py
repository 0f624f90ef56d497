"""The fault catalogue on the twin, in closed loop with the control core: single faults and pairs.

A case has a scene (charge, temperature, power asked); its fault strikes at `STRIKE_S` and control goes on for
`run_s`. Energy lost is against the very same run without a fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from edge.bench.closed_loop import Hooks, Loop, default_allocate
from edge.bench.fault_cases import CATALOGUE, FaultCase
from edge.bench.fault_nodes import FaultyNodes
from edge.bench.hostile_site import WatchedPlant
from edge.core import ControlCore
from edge.core_values import BypassModule, TickOutcome
from optimizer.result import AllocationInput, AllocationResult
from reconf.protection.limits import default_limits
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
    ThermalSpec,
    TimingSpec,
)
from reconf.twin.plant import Plant
from reconf.twin.truth import Truth, draw_truth

POSITIONS = 8
STRUCK = (2, 5)
STRIKE_S = 70.0
J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Scene:
    """A state in which faults strike."""

    soc_frac: float
    ambient_degc: float
    power_w: float
    module_degc: float | None = None
    """Of the modules at the start; None: as warm as their surroundings."""
    cooling: bool = False
    """The site has a fan."""
    tick_s: float = 1.0


SCENES = {
    "usual": Scene(0.6, 25.0, 10_000.0),
    "empty": Scene(0.09, 25.0, 14_000.0),
    "hot": Scene(0.6, 45.0, 20_000.0),
    "charging": Scene(0.6, 5.0, -5_000.0),
    "warm": Scene(0.8, 36.0, 20_000.0, module_degc=46.0, cooling=True),
    "warmed": Scene(0.8, 30.0, 12_000.0, module_degc=42.0, tick_s=5.0),
    "resting": Scene(0.6, 25.0, 0.0, tick_s=10.0),
}
"""States by name."""


def fault_site(scene: Scene = SCENES["usual"]) -> Site:
    """Two strings of eight 12-cell NMC modules, a quarter of which may rest."""
    module = ModuleSpec(
        serial="", chemistry=Chemistry.NMC, cell_model="nmc_generic", n_cells=12, n_parallel=1,
        rated_capacity_ah=60.0, soh_frac=0.8, soh_std_frac=0.05, resistance_scale=1.3,
        trim_rating_a=5.0, trim_efficiency_frac=0.92,
    )  # fmt: skip
    converter = ConverterSpec(
        gateway="twin", unit_id=201, power_rating_w=15_000.0, current_rating_a=60.0,
        voltage_min_v=6 * 12 * 2.9, voltage_max_v=8 * 12 * 4.25,
        loss_fixed_w=30.0, loss_linear_frac=0.012, loss_quadratic_w_per_a2=0.02,
    )  # fmt: skip
    strings = tuple(
        StringSpec(
            name,
            converter,
            tuple(
                PositionSpec(f"{name}{k}", "twin", k + 1, replace(module, serial=f"{name}-{k}"), 0.0005)
                for k in range(POSITIONS)
            ),
        )
        for name in ("A", "B")
    )
    return Site(
        name="faults",
        gateways=(GatewaySpec("twin", "tcp"),),
        strings=strings,
        bus=BusSpec("pcs", 800.0, 720.0, 880.0),
        limits={Chemistry.NMC: default_limits(Chemistry.NMC)},
        timing=TimingSpec(scene.tick_s, 2.0 * scene.tick_s, 30.0 * max(scene.tick_s / 5.0, 1.0)),
        thermal=ThermalSpec(cooling="fan", cooling_power_w=150.0) if scene.cooling else ThermalSpec(),
        twin_soh_cv=0.1,
    )


Sign = tuple[str, str, str]
"""What tells of a fault: kind, subject, and which one."""


@dataclass(slots=True)
class _Watch:
    """Notes when what happened."""

    cases: Sequence[FaultCase]
    sound: Mapping[Sign, float]
    """When the very same run without a fault showed a sign first: that tells of no fault."""
    signs: dict[Sign, float] = field(default_factory=dict)
    """By sign: when it was seen first [s]."""
    detected_s: float | None = None
    detected_by: str = ""
    seen_tick: int | None = None
    """Tick whose image showed the fault first."""
    reacted_tick: int | None = None
    ticks: int = 0

    def look(self, outcome: TickOutcome, plant: Plant) -> None:
        """After one tick."""
        self.ticks += 1
        now_s = outcome.view.input.now_s
        news = [sign for sign in _signs(outcome) if sign not in self.signs]
        self.signs.update(dict.fromkeys(news, now_s))
        if now_s < STRIKE_S:
            return
        told = [sign for sign in news if self.sound.get(sign, math.inf) > now_s]
        if self.detected_s is None and told:
            self.detected_s = now_s - STRIKE_S
            self.detected_by = " ".join(told[0])
            self.seen_tick = self.ticks
        if self.seen_tick is not None and self.reacted_tick is None and self._safe(plant):
            self.reacted_tick = self.ticks

    def _safe(self, plant: Plant) -> bool:
        """Every case's reaction stands in the actuators."""
        held = plant.inputs
        quiet = held.power_setpoint_w == 0.0
        out = [not held.inserted[m] or bool(quiet[0]) for m in STRUCK]
        done = {
            "none": [True, True],
            "bypass": out,
            "zero": [bool(quiet[0])] * 2,
            "open": [bool(quiet[0])] * 2,
            "open_site": [bool(quiet.all())] * 2,
        }
        return all(done[case.reaction][k] for k, case in enumerate(self.cases))


def _signs(outcome: TickOutcome) -> list[Sign]:
    """What an operator could see in this tick: faults, modules doubted or out, transitions told."""
    view = outcome.view
    doubted = np.flatnonzero(~view.estimate.trusted | view.out_of_service)
    return [
        *(("fault", f.subject, f.fault) for f in view.envelope.faults),
        *(("module", str(int(m)), "doubted") for m in doubted),
        *(("rung", e.subject, view.rung.name.lower()) for e in outcome.events if e.kind == "rung"),
        *(
            (e.kind, e.subject, e.text.split(":")[0])
            for e in outcome.events
            if e.kind in {"verify", "sequence"}
        ),
    ]


def run_case(
    site: Site,
    truth: Truth,
    scene: Scene,
    cases: Sequence[FaultCase],
    seed: int,
    sound: Mapping[Sign, float] | None = None,
) -> dict[str, Any]:
    """One run of one or two faults; `sound` is what the same run showed without any."""
    nodes = FaultyNodes.sound(site)
    watch = _Watch(cases, sound or {})
    plant = WatchedPlant(site, truth, scene.ambient_degc)

    def on_tick(outcome: TickOutcome, true_plant: Plant, core: ControlCore) -> None:
        watch.look(outcome, true_plant)
        cooling_frac = 0.0 if nodes.fan_dead else outcome.view.envelope.outputs.cooling_frac
        true_plant.apply(replace(true_plant.inputs, cooling_frac=cooling_frac))
        nodes.on_tick(outcome, true_plant, core)

    def allocate(site_: Site, question: AllocationInput) -> AllocationResult:
        honest = default_allocate(site_, question)
        return nodes.answers(question, honest) if nodes.answers is not None else honest

    loop = Loop(
        site, truth, lambda _: scene.power_w, seed=seed, plant=plant, allocate=allocate,
        hooks=Hooks(on_image=nodes.on_image, on_write=nodes.on_write, on_tick=on_tick),
    )  # fmt: skip
    loop.start()
    struck = False
    end_s = STRIKE_S + max((case.run_s for case in cases), default=0.0)
    while plant.time_s < end_s:
        if not struck and plant.time_s >= STRIKE_S:
            struck = True
            plant.forget()
            for number, case in enumerate(cases):
                case.strike(nodes, plant, STRUCK[number])
            for m in np.flatnonzero(nodes.taken_out):
                loop.core.order(BypassModule(site.topology.serials[m]), plant.time_s, plant.time_s)
        loop.step()
    reacted = None
    if watch.reacted_tick is not None and watch.seen_tick is not None:
        reacted = watch.reacted_tick - watch.seen_tick + 1
    return {
        "fault": "+".join(case.fault for case in cases),
        "detected_s": watch.detected_s,
        "detected_by": watch.detected_by,
        "faults": sorted(
            {which for (kind, _, which), at in watch.signs.items() if kind == "fault" and at >= STRIKE_S}
        ),
        "reaction_ticks": reacted,
        "worst": {
            "cell_voltage_min_v": float(plant.extremes.lowest_v.min()),
            "cell_voltage_max_v": float(plant.extremes.highest_v.max()),
            "temperature_max_degc": float(plant.extremes.hottest_degc.max()),
            "current_max_a": float(max(plant.extremes.most_a.max(), -plant.extremes.least_a.min())),
        },
        "delivered_kwh": float((plant.energy.bus_out_j + plant.energy.bus_in_j).sum()) / J_PER_KWH,
        "signs": watch.signs,
        "shorted": _shorted(plant),
        "safety_violations": plant.violations.total,
    }


def _shorted(plant: Plant) -> int:
    """Strings that stand wholly bypassed behind a closed contactor at the end."""
    held = plant.inputs
    kept = plant.topology.sum_by_string(held.inserted.astype(np.float64))
    return int(np.count_nonzero((kept == 0.0) & held.contactor_closed))


def run(
    seed: int = 1,
    *,
    pairs: bool = True,
    only: Sequence[str] = (),
    at_most_s: float = math.inf,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The catalogue, and all pairs of the common faults.

    Args:
        seed: of the truth and the sensors' noise.
        pairs: all pairs of the common faults as well.
        only: single faults by name.
        at_most_s: cuts the runs short, for samples.
        note: told of each case that is done.
    """
    catalogue = [replace(case, run_s=min(case.run_s, at_most_s)) for case in CATALOGUE]
    chosen: list[tuple[FaultCase, ...]] = [(c,) for c in catalogue if not only or c.fault in only]
    if pairs and not only:
        chosen += list(combinations([c for c in catalogue if c.common], 2))
    sound: dict[tuple[str, float], dict[str, Any]] = {}
    cases = []
    for group in chosen:
        # a pair strikes in the scene of its first fault, for as long as the longer one
        name, run_s = group[0].scene, max(case.run_s for case in group)
        scene = SCENES[name]
        site = fault_site(scene)
        truth = draw_truth(site, np.random.default_rng(seed), soc_frac=scene.soc_frac, soc_std_frac=0.02)
        warm_degc = scene.ambient_degc if scene.module_degc is None else scene.module_degc
        truth = replace(truth, temperature_degc=np.full(site.topology.n_modules, warm_degc))
        if (name, run_s) not in sound:
            nothing = FaultCase("none", lambda _nodes, _plant, _m: None, "none", run_s=run_s)
            sound[name, run_s] = run_case(site, truth, scene, (nothing,), seed)
        result = run_case(site, truth, scene, group, seed, sound[name, run_s]["signs"])
        moved = result.pop("delivered_kwh")
        del result["signs"]
        result["scene"] = name
        result["energy_lost_kwh"] = max(sound[name, run_s]["delivered_kwh"] - moved, 0.0)
        cases.append(result)
        if note is not None:
            note(result["fault"])
    every = [*cases, *sound.values()]
    return {
        "cases": cases,
        "safety_violations": sum(case["safety_violations"] + case["shorted"] for case in every),
    }
