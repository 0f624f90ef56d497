"""The DC bus while an RC1 in MODE 2 holds it: slot changes, load steps, and the master lost.

The daemon's core runs against the plant in physics steps of 5 ms, so that the bus is seen between ticks. The
load is what the PCS draws; the site is asked for what it draws at first, so that the step falls on the master
alone. In the end the master dies in the middle of a tick: its converter stops and its contactor opens, as a
hardware fault does it, and it takes no further write.

A master must be ready for both directions at once: its current limit is the lesser of what its modules may
give and take, which at 25 degC is the plating limit. So the load is chosen well below the converters' rating.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.closed_loop import Hooks, Loop
from edge.bench.energy_site import energy_site
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.site import Chemistry, Site, TimingSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import Truth, draw_truth

MODULES = 12
SPARES = 2
CV = 0.13
SOC = 0.3
PHYSICS_S = 0.005
LOAD_FRAC = 0.15
"""Load before the step, share of the rating of all converters."""
RAMP_S = 10
"""Time in which the load comes up, in steps of a second with the request."""
SETTLE_S = 10.0
CALM_S = 40.0
"""Time in which only slots change."""
AFTER_STEP_S = 6.0
RETURN_FRAC = 0.002
"""The bus is back when it stays within this share of its set point."""
SLOT_WATCH_S = 0.3
JOIN_S = 40.0
LOST_TICKS_MAX = 6


@dataclass(slots=True)
class BusLog:
    """Every physics step."""

    time_s: list[float] = field(default_factory=list)
    volts: list[float] = field(default_factory=list)
    switched_s: list[float] = field(default_factory=list)
    """When the master's own modules were switched."""


class WatchedPlant(Plant):
    """A plant whose load steps and whose master dies at set times, with every bus voltage noted."""

    def __init__(self, site: Site, truth: Truth) -> None:
        super().__init__(site, truth)
        self.log = BusLog()
        self.load_w = 0.0
        self.full_load_w = full_load_w(site)
        self.changes: list[tuple[float, float]] = []
        """(time, load) to come."""
        self.dies_at_s = np.inf
        self._where = self.topology.slice_of(0)
        self._seen = self.inputs.inserted[self._where].copy()

    @property
    def asked_w(self) -> float:
        """What the site is asked for: the load, without the step."""
        return min(self.load_w, self.full_load_w)

    @property
    def dead(self) -> bool:
        """The master's converter is lost."""
        return self.time_s >= self.dies_at_s - 1e-9

    def step(self, dt_s: float) -> None:
        """One step of the physics under the load of this moment."""
        while self.changes and self.changes[0][0] <= self.time_s + 1e-9:
            self.load_w = self.changes.pop(0)[1]
        inputs = replace(self.inputs, pcs_power_w=self.load_w)
        if self.dead:
            mode, closed = inputs.mode.copy(), inputs.contactor_closed.copy()
            mode[0], closed[0] = int(ConverterMode.OFF), False
            inputs = replace(inputs, mode=mode, contactor_closed=closed)
        self.inputs = inputs
        super().step(dt_s)
        self.log.time_s.append(self.time_s)
        self.log.volts.append(self.bus_voltage_v)
        now = self.inputs.inserted[self._where]
        if (now != self._seen).any():
            self.log.switched_s.append(self.time_s - dt_s)
            self._seen = now.copy()


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One draw of modules."""

    slot_changes: int
    slot_max_frac: float
    step_max_frac: float
    return_s: float
    lost_ticks: int
    violations: int
    time_s: FloatArray
    volts: FloatArray


def bus_site(strings: int) -> Site:
    """Strings on one bus; the first holds it."""
    site = energy_site(MODULES, SPARES, CV, Chemistry.NMC, strings)
    timing = TimingSpec(tick_s=1.0, slot_s=2.0, interval_s=30.0)
    return replace(site, name="bus", bus=replace(site.bus, master=site.strings[0].name), timing=timing)


def full_load_w(site: Site) -> float:
    """Load before the step [W]."""
    return LOAD_FRAC * sum(s.converter.power_rating_w for s in site.strings)


def run(
    seeds: int,
    strings: int,
    step_frac: float,
    plot: Path | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> dict[str, Any]:
    """The table of `reconf bench bus`: the worst over seeds.

    Args:
        seeds: draws of modules.
        strings: on the bus, the first as its master.
        step_frac: load step, share of the load.
        plot: where a picture goes.
        say: progress.
    """
    site, results = bus_site(strings), []
    for seed in range(1, seeds + 1):
        results.append(one_seed(site, seed, step_frac))
        done = results[-1]
        say(f"seed {seed}: slots {done.slot_max_frac:.4f}, step {done.step_max_frac:.4f}")
    table: dict[str, Any] = {
        "strings": strings,
        "seeds": seeds,
        "bus_nominal_v": site.bus.nominal_v,
        "slot_changes": sum(r.slot_changes for r in results),
        "slot_change_max_frac": max(r.slot_max_frac for r in results),
        "load_step_w": step_frac * full_load_w(site),
        "load_step_max_frac": max(r.step_max_frac for r in results),
        "load_step_return_s": max(r.return_s for r in results),
        "master_lost_ticks": max(r.lost_ticks for r in results),
        "violations": sum(r.violations for r in results),
    }
    if plot is not None:
        draw(results[0], site, plot)
    return table


def one_seed(
    site: Site, seed: int, step_frac: float, calm_s: float = CALM_S, after_s: float = AFTER_STEP_S
) -> SeedResult:
    """Join, load, calm, step up and down, lose the master."""
    truth = draw_truth(site, np.random.default_rng(seed), soc_frac=SOC)
    plant = WatchedPlant(site, truth)
    load = full_load_w(site)

    def written(_command: SlotCommand, _plant: Plant) -> tuple[BoolArray, BoolArray]:
        strings = np.ones(len(site.strings), dtype=np.bool_)
        strings[0] = not plant.dead
        return np.ones(len(site.modules), dtype=np.bool_), strings

    loop = Loop(
        site, truth, lambda _t: plant.asked_w, seed=seed, plant=plant, hooks=Hooks(on_write=written),
        physics_step_s=0.05,
    )  # fmt: skip
    loop.start()
    _until(loop, lambda: plant.inputs.mode[0] == ConverterMode.BUS_VOLTAGE, JOIN_S)
    loop.physics_step_s = PHYSICS_S
    began = plant.time_s + RAMP_S
    plant.changes = [(plant.time_s + k, load * k / RAMP_S) for k in range(RAMP_S + 1)]
    calm = (began + SETTLE_S, began + SETTLE_S + calm_s)
    steps = (calm[1] + 0.4, calm[1] + after_s + 0.4)
    plant.changes += [(steps[0], (1.0 + step_frac) * load), (steps[1], load)]
    end = steps[1] + after_s
    _until(loop, lambda: plant.time_s >= end, end)
    plant.dies_at_s = plant.time_s + 0.5
    ticks = _until(loop, lambda: plant.dead and not _any_runs(loop), LOST_TICKS_MAX) - 1
    volts, time_s = np.array(plant.log.volts), np.array(plant.log.time_s)
    away = np.abs(volts / site.bus.nominal_v - 1.0)
    changes = [t for t in plant.log.switched_s if calm[0] <= t < calm[1]]
    after = [away[(time_s > t) & (time_s <= t + SLOT_WATCH_S)].max() for t in changes]
    windows = [(time_s > t) & (time_s <= t + after_s) for t in steps]
    return SeedResult(
        slot_changes=len(changes),
        slot_max_frac=float(max(after, default=np.nan)),
        step_max_frac=float(max(away[w].max() for w in windows)),
        return_s=max(_returned_s(time_s[w], away[w]) for w in windows),
        lost_ticks=ticks,
        violations=plant.violations.steps,
        time_s=time_s,
        volts=volts,
    )


def _until(loop: Loop, done: Callable[[], bool], seconds: float) -> int:
    """Ticks until `done`, at most for `seconds`."""
    ticks, end = 0, loop.plant.time_s + seconds
    while not done() and loop.plant.time_s < end:
        loop.step()
        ticks += 1
    return ticks


def _any_runs(loop: Loop) -> bool:
    """A converter is commanded to carry power."""
    return bool((loop.plant.inputs.mode != ConverterMode.OFF).any())


def _returned_s(time_s: FloatArray, away: FloatArray) -> float:
    """Time from the first sample until the bus stays within RETURN_FRAC."""
    outside = np.flatnonzero(away > RETURN_FRAC)
    return float(time_s[outside[-1]] - time_s[0]) if outside.size else 0.0


def draw(result: SeedResult, site: Site, path: Path) -> None:
    """Bus voltage over the run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 3.2), layout="constrained")
    axes.plot(result.time_s, result.volts, color="#1b6ca8", linewidth=0.8)
    axes.axhline(site.bus.nominal_v, color="#b8c4ce", linewidth=0.8)
    axes.set_ylim(0.9 * site.bus.nominal_v, 1.1 * site.bus.nominal_v)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("bus voltage [V]")
    axes.set_title("bus held by an RC1: slots, load steps, master lost")
    figure.savefig(path, dpi=150)
    plt.close(figure)
