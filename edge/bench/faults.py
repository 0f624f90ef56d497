"""The fault catalogue on the twin, in closed loop with the control core: single faults and pairs.

Every case runs the same site at the same power from the same truth; at `STRIKE_S` the fault strikes and
control goes on until `END_S`. Energy lost is against the very same run without a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    TimingSpec,
)
from reconf.twin.plant import Plant
from reconf.twin.truth import Truth, draw_truth

POSITIONS = 8
STRUCK = (2, 5)
STRIKE_S = 90.0
END_S = 240.0
POWER_W = 10_000.0
J_PER_KWH = 3.6e6


def fault_site() -> Site:
    """Two strings of eight 12-cell NMC modules, a quarter of which may rest; ticks of 1 s."""
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
        timing=TimingSpec(1.0, 2.0, 30.0),
        twin_soh_cv=0.1,
    )


@dataclass(slots=True)
class _Watch:
    """Notes when what happened."""

    cases: Sequence[FaultCase]
    detected_s: float | None = None
    seen_tick: int | None = None
    """Tick whose image showed the fault first."""
    reacted_tick: int | None = None
    ticks: int = 0
    known: frozenset[tuple[str, str]] = frozenset()
    sensors: frozenset[int] = frozenset()

    def look(self, outcome: TickOutcome, plant: Plant) -> None:
        """After one tick."""
        self.ticks += 1
        view = outcome.view
        faults = frozenset((f.fault, f.subject) for f in view.envelope.faults)
        doubted = frozenset(int(m) for m in np.flatnonzero(~view.estimate.trusted | view.out_of_service))
        noted = {e.kind for e in outcome.events} & {"rung", "verify", "refused", "fault_raised"}
        news = bool(faults - self.known) or bool(doubted - self.sensors) or bool(noted)
        now_s = view.input.now_s
        if now_s < STRIKE_S:
            self.known |= faults
            self.sensors |= doubted
            return
        if self.detected_s is None and news:
            self.detected_s = now_s - STRIKE_S
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


def run_case(site: Site, truth: Truth, cases: Sequence[FaultCase], seed: int) -> dict[str, Any]:
    """One run; `cases` empty for the run without a fault."""
    nodes = FaultyNodes.sound(site)
    watch = _Watch(cases)
    plant = WatchedPlant(site, truth)

    def on_tick(outcome: TickOutcome, true_plant: Plant, core: ControlCore) -> None:
        watch.look(outcome, true_plant)
        nodes.on_tick(outcome, true_plant, core)

    def allocate(site_: Site, question: AllocationInput) -> AllocationResult:
        honest = default_allocate(site_, question)
        return nodes.answers(question, honest) if nodes.answers is not None else honest

    loop = Loop(
        site, truth, lambda _: POWER_W, seed=seed, plant=plant, allocate=allocate,
        hooks=Hooks(on_image=nodes.on_image, on_write=nodes.on_write, on_tick=on_tick),
    )  # fmt: skip
    loop.start()
    struck = False
    while plant.time_s < END_S:
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
        "fault": "+".join(case.fault for case in cases) or "none",
        "detected_s": watch.detected_s,
        "reaction_ticks": reacted,
        "worst": {
            "cell_voltage_min_v": float(plant.extremes.lowest_v.min()),
            "cell_voltage_max_v": float(plant.extremes.highest_v.max()),
            "temperature_max_degc": float(plant.extremes.hottest_degc.max()),
            "current_max_a": float(max(plant.extremes.most_a.max(), -plant.extremes.least_a.min())),
        },
        "delivered_kwh": float(plant.energy.bus_out_j.sum()) / J_PER_KWH,
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
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The catalogue, and all pairs of the common faults; `only` picks single faults by name."""
    site = fault_site()
    truth = draw_truth(site, np.random.default_rng(seed), soc_frac=0.6, soc_std_frac=0.03)
    sound = run_case(site, truth, (), seed)
    chosen: list[tuple[FaultCase, ...]] = [(c,) for c in CATALOGUE if not only or c.fault in only]
    if pairs and not only:
        chosen += list(combinations([c for c in CATALOGUE if c.common], 2))
    cases = []
    for group in chosen:
        result = run_case(site, truth, group, seed)
        result["energy_lost_kwh"] = max(sound["delivered_kwh"] - result.pop("delivered_kwh"), 0.0)
        cases.append(result)
        if note is not None:
            note(result["fault"])
    return {
        "cases": cases,
        "safety_violations": sum(c["safety_violations"] + c["shorted"] for c in [*cases, sound]),
        "energy_without_fault_kwh": sound["delivered_kwh"],
    }
