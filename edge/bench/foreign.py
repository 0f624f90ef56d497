"""The state filter beside cells that are not ours.

Every module is a string of its own with its own cell: another open-circuit curve (smooth, up to `ocv_error_v`
off), other resistances (30 % over SOC, 25 % in each part, 20 % as a whole), other time constants (30 %), a
capacity between 0.5 and 1.1 of the rated one while 0.8 +-0.03 is believed, sensors off by 0.5 % and 30 mA.
It was loaded at C/2 for ten minutes before the start and rested for `rest_s`; none of that is known. Then
it works through one of the duties: `cycle` between 4 and 96 % SOC, `mid` between 35 and 65 %, `fcr` (a random
power of C/4 with a memory of two minutes), or `rest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from edge.bench.estimation_drive import NOISE, true_values
from edge.bench.protect_site import bench_site
from reconf.arrays import BoolArray, FloatArray
from reconf.cells.bank import CellBank
from reconf.cells.model import CURVES, SOC_NODES, soc_grid
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.filter import estimate, initial_state
from reconf.estimation.health import SIGMAS_90
from reconf.estimation.memory import FilterState
from reconf.estimation.state import Estimate
from reconf.estimation.told import told_soc_std_frac
from reconf.readings import Channel, SiteImage
from reconf.site import Chemistry, Site
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

Duty = Literal["cycle", "mid", "fcr", "rest"]
DUTIES: Final[tuple[Duty, ...]] = ("cycle", "mid", "fcr", "rest")
RATED_AH: Final = 60.0
RESISTANCES: Final = tuple(CURVES.index(name) for name in ("r0_ohm_ah", "r1_ohm_ah", "r2_ohm_ah"))


@dataclass(slots=True)
class ForeignRun:
    """Modules with foreign cells, and what the filter has said of them so far. All arrays (M,)."""

    site: Site
    plant: Plant
    rng: np.random.Generator
    dt_s: float
    state: FilterState
    estimate: Estimate
    tick: int
    lowest_ah: FloatArray
    """Smallest capacity of any group ever believed."""
    highest_ah: FloatArray
    direction: FloatArray
    """1 while a module discharges, -1 while it charges."""
    share: float = 0.0
    """Of the random power."""

    def step(self, duty: Duty) -> None:
        """One tick of `duty`."""
        m = self.site.topology.n_modules
        amps = self._current_a(duty)
        # one in twelve rests in turn
        inserted = (np.arange(m) % 12) != (self.tick // 2) % 12 if duty != "rest" else np.zeros(m, np.bool_)
        self.plant.step_alone(np.where(inserted, amps, 0.0), self.dt_s)
        self.tick += 1
        image = _seen(observe(self.plant, self.rng, self.tick, self.plant.time_s, NOISE), inserted)
        self.state, self.estimate = estimate(self.site, self.state, image, self.dt_s)
        capacity = self.state.groups.capacity_ah
        self.lowest_ah = np.minimum(self.lowest_ah, capacity.min(axis=1))
        self.highest_ah = np.maximum(self.highest_ah, capacity.max(axis=1))

    def _current_a(self, duty: Duty) -> FloatArray:
        soc = self.plant.cells.soc_frac
        low, high = soc.min(axis=1), soc.max(axis=1)
        if duty in {"cycle", "mid"}:
            ends = (0.04, 0.96) if duty == "cycle" else (0.35, 0.65)
            self.direction = np.where(low < ends[0], -1.0, np.where(high > ends[1], 1.0, self.direction))
            return 0.3 * RATED_AH * self.direction
        keep = np.exp(-self.dt_s / 120.0)
        self.share = keep * self.share + np.sqrt(1.0 - keep * keep) * self.rng.standard_normal()
        steered = 0.3 * RATED_AH * np.clip(soc.mean(axis=1) - 0.5, -0.4, 0.4)
        amps = 0.25 * RATED_AH * np.clip(self.share, -2.0, 2.0) + steered
        full: BoolArray = ((low < 0.05) & (amps > 0.0)) | ((high > 0.97) & (amps < 0.0))
        return np.where(full, 0.0, amps)

    def errors(self) -> tuple[FloatArray, FloatArray]:
        """Errors of SOC and of capacity, the latter over rated capacity."""
        soc, capacity, _ = true_values(self.plant)
        return self.estimate.soc_frac - soc, (self.estimate.capacity_ah - capacity) / RATED_AH


def start(
    chemistry: Chemistry,
    seed: int,
    *,
    modules: int = 24,
    ocv_error_v: float = 0.015,
    rest_s: float = 60.0,
    dt_s: float = 10.0,
) -> ForeignRun:
    """Draw the cells, load them, let them rest, and start the filter."""
    rng = np.random.default_rng(seed)
    site = _alone(bench_site(modules, chemistry=chemistry))
    plant = _plant(site, rng, ocv_error_v)
    mean = plant.cells.soc_frac.mean(axis=1)
    way = np.where(mean > 0.8, 1.0, np.where(mean < 0.25, -1.0, rng.choice((-1.0, 1.0), modules)))
    for _ in range(60):
        plant.step_alone(0.5 * RATED_AH * way, 10.0)
    if rest_s > 0.0:
        plant.step_alone(np.zeros(modules), rest_s)
    image = _seen(observe(plant, rng, 0, plant.time_s, NOISE), np.zeros(modules, dtype=np.bool_))
    state, first = estimate(site, initial_state(site, image), image, dt_s)
    capacity = state.groups.capacity_ah
    return ForeignRun(
        site, plant, rng, dt_s, state, first, 0, capacity.min(axis=1), capacity.max(axis=1), way
    )  # fmt: skip


def _alone(site: Site) -> Site:
    """Every position of `site` as a string of its own."""
    strings = tuple(
        replace(s, name=f"{s.name}-{p.label}", positions=(p,)) for s in site.strings for p in s.positions
    )
    return replace(site, strings=strings)


def _plant(site: Site, rng: np.random.Generator, ocv_error_v: float) -> Plant:
    m = site.topology.n_modules
    truth = draw_truth(site, rng, soc_frac=0.6)
    weakest = RATED_AH * rng.uniform(0.5, 1.1, m)
    capacity = weakest[:, None] * truth.capacity_ah / truth.capacity_ah.min(axis=1, keepdims=True)
    soc = rng.uniform(0.15, 0.9, m)[:, None] + 0.005 * rng.standard_normal(capacity.shape)
    truth = replace(
        truth,
        soh_frac=weakest / RATED_AH,
        capacity_ah=capacity,
        soc_frac=np.clip(soc, 0.02, 0.98),
        current_gain_frac=0.005 * rng.choice((-1.0, 1.0), m),
        current_offset_a=0.030 * rng.choice((-1.0, 1.0), m),
        resistance_scale=truth.resistance_scale * np.exp(0.2 * rng.standard_normal((m, 1))),
    )
    plant = Plant(site, truth, 25.0)
    plant.bank = foreign_bank(plant.bank, rng, ocv_error_v)
    return plant


def foreign_bank(bank: CellBank, rng: np.random.Generator, ocv_error_v: float) -> CellBank:
    """`bank` with a cell of its own for every module."""
    m = bank.n_modules
    tables = [_foreign_table(bank.table[r : r + SOC_NODES].copy(), rng, ocv_error_v) for r in bank.row]
    return replace(
        bank,
        table=np.vstack(tables),
        row=np.arange(m) * SOC_NODES,
        tau1_s=bank.tau1_s * np.exp(0.3 * rng.standard_normal(m)),
        tau2_s=bank.tau2_s * np.exp(0.3 * rng.standard_normal(m)),
    )


def _foreign_table(table: FloatArray, rng: np.random.Generator, ocv_error_v: float) -> FloatArray:
    """Curves of one cell, bent."""
    grid = soc_grid()
    inside = (grid > 0.05) & (grid < 0.95)
    weight, phase = rng.uniform(-1.0, 1.0, 4), rng.uniform(0.0, 2.0 * np.pi, 3)
    waves = [np.sin(2.0 * np.pi * k * grid + p) for k, p in zip((1, 2, 4), phase, strict=True)]
    error = weight[0] + sum(w * wave for w, wave in zip(weight[1:], waves, strict=True))
    error *= ocv_error_v / np.abs(error[inside]).max()
    # a plateau may not fall
    curves = {0: np.maximum.accumulate(table[:, 0] + error + 1e-6 * np.arange(grid.size))}
    for column in RESISTANCES:
        shape = 1.0 + 0.3 * np.sin(2.0 * np.pi * rng.uniform(0.5, 1.5) * grid + rng.uniform(0.0, 2.0 * np.pi))
        curves[column] = table[:, column] * shape * np.exp(0.25 * rng.standard_normal())
    last = len(CURVES) - 1
    curves[last] = table[:, last] * rng.uniform(0.6, 1.4)
    for column, curve in curves.items():
        rise = np.diff(curve)
        table[:, column] = curve
        table[:, len(CURVES) + column] = np.append(rise, rise[-1])
    return table


def _seen(image: SiteImage, inserted: BoolArray) -> SiteImage:
    """The image as if the current were that of a string that does not answer itself."""
    m = inserted.size
    status = np.where(inserted, int(Rm1Status.INSERTED), 0).astype(np.int64)
    modules = replace(
        image.modules,
        status=status,
        duty_frac=Channel.of(inserted.astype(np.float64)),
        trim_current_a=Channel.of(np.zeros(m)),
    )
    strings = replace(image.strings, answered=np.zeros_like(image.strings.answered))
    return replace(image, modules=modules, strings=strings)


@dataclass(slots=True)
class Late:
    """Errors of SOC in the last two fifths of a run, and what was told of them."""

    error: list[FloatArray]
    std: list[FloatArray]
    """The filter's own deviation."""
    told: list[FloatArray]
    """What it is told as."""
    drive: ForeignRun
    prior: FloatArray
    """Error of the capacity believed at the start, over the rated one."""


def follow(chemistry: Chemistry, duty: Duty, seed: int, hours: float = 5.0, **how: Any) -> Late:
    """One run of `hours`."""
    drive = start(chemistry, seed, **how)
    steps = round(hours * 3600.0 / drive.dt_s)
    late = Late([], [], [], drive, drive.errors()[1])
    for k in range(steps):
        drive.step(duty)
        if k >= 0.6 * steps:
            late.error.append(drive.errors()[0])
            late.std.append(drive.estimate.soc_std_frac)
            late.told.append(told_soc_std_frac(drive.site, drive.estimate.soc_std_frac))
    return late


def case(chemistry: Chemistry, duty: Duty, seeds: Iterable[int] = (0,), **how: Any) -> dict[str, Any]:
    """Errors of the last two fifths, share of them in the intervals, bounds that no capacity passed."""
    runs = [follow(chemistry, duty, seed, **how) for seed in seeds]
    soc, std, told = (
        np.concatenate([np.array(getattr(r, name)).ravel() for r in runs])
        for name in ("error", "std", "told")
    )
    prior = np.concatenate([r.prior for r in runs])
    capacity = np.concatenate([r.drive.errors()[1] for r in runs])
    sigma = np.concatenate([r.drive.estimate.capacity_std_ah for r in runs]) / RATED_AH
    lowest = [(r.drive.lowest_ah / true_values(r.drive.plant)[1]).min() for r in runs]
    highest = [(r.drive.highest_ah / RATED_AH).max() for r in runs]

    def percent(values: FloatArray) -> float:
        return round(100.0 * float(np.sqrt(np.mean(values**2))), 2)

    def inside(deviation: FloatArray) -> float:
        return round(float((np.abs(soc) <= SIGMAS_90 * deviation).mean()), 3)

    return {
        "soc_rmse_percent": percent(soc),
        "soc_worst_percent": round(100.0 * float(np.abs(soc).max()), 2),
        "soc_std_percent": round(100.0 * float(std.mean()), 2),
        "soc_coverage90_own": inside(std),
        "soc_coverage90_told": inside(told),
        "soc_std_told_percent": round(100.0 * float(told.mean()), 2),
        "capacity_rms_percent_before": percent(prior),
        "capacity_rms_percent": percent(capacity),
        "capacity_error_over_sigma": round(float(np.sqrt(np.mean((capacity / sigma) ** 2))), 2),
        "capacity_lowest_of_true": round(float(min(lowest)), 3),
        "capacity_highest_of_rated": round(float(max(highest)), 3),
    }


def run(
    say: Callable[[str], None],
    chemistries: tuple[Chemistry, ...],
    seeds: Iterable[int] = (0,),
    tick_s: float = 10.0,
) -> dict[str, Any]:
    """All duties after a minute of rest."""
    drawn = tuple(seeds)
    result: dict[str, Any] = {"seeds": list(drawn), "tick_s": tick_s, "wanted_coverage90": 0.85}
    for chemistry in chemistries:
        for duty in DUTIES:
            found = case(chemistry, duty, drawn, dt_s=tick_s)
            result[f"{chemistry}_{duty}"] = found
            say(f"foreign {chemistry} {duty}: {found}")
    return result
