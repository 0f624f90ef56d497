"""Hours in which nobody lies: how often is a true sensor accused?

Sites of 96 modules side by side, each with modules, sensors, frequency and noise of its own, in surroundings
that go through day and night, weather and all seasons of a year within the hours of each site (the year is
run through faster than a real one, its days are not). What a real site has besides noise is there as well:

* the ambient sensor is off by up to 1 K and noisy, the air at a module differs from it by its place in the
  rack, racks warm their neighbours, cooling differs from module to module by 10 %;
* current, cell voltage and temperature sensors have the gains and offsets that `draw_truth` gives them;
* one answer in a thousand is missed, some modules are out for a quarter of an hour, strings trim at
  times.

A run writes a checkpoint every `PIECE_S` of each site's time and goes on from it to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench import checkpoint
from edge.bench.estimation_drive import Drive
from edge.bench.integrity_scene import Duty, move, scene
from reconf.readings import Channel, ModuleReadings, Quality, SiteImage, SiteInputs
from reconf.site import ThermalSpec

DAY_S = 86_400.0
YEAR_DAYS = 365.25
PIECE_S = 900.0
AIR_STD_K = 0.5
"""Air at a module against the mean of its hall, bounded at 2.5 deviations as all draws of the twin are."""
AMBIENT_OFFSET_STD_K = 0.4
AMBIENT_NOISE_K = 0.1
MISSED_FRAC = 1e-3
"""Answers that do not come."""
BALANCING_FRAC = 0.3
"""Of the time in which charge is evened out, as an allocator does."""
AWAY_FRAC = 0.25
"""Strings with a module out, at any time."""
TRIMMING_FRAC = 0.25
"""Of the time in which half the strings trim."""
TRIM_A = 2.0
NEIGHBOUR_FRAC = 0.1
"""Heat conductance between neighbours over that to the air."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Air in the hall by time: a function, so that a checkpoint need not keep it."""

    year_s: float
    """Time in which all seasons pass."""
    phase: tuple[float, float, float]
    """Of the fronts [rad]."""
    start_frac: float = 0.0
    """Of the year at time 0."""

    def degc(self, time_s: float) -> float:
        """14 degC in the mean, 9 K between mean and summer, 4 K between mean and afternoon, fronts of 2 K."""
        turn = 2.0 * np.pi
        season = -9.0 * np.cos(turn * (time_s / self.year_s + self.start_frac))
        day = 4.0 * np.cos(turn * (time_s - 15.0 * 3600.0) / DAY_S)
        days = time_s / DAY_S
        fronts = sum(
            2.0 * np.sin(turn * days / period + phase)
            for period, phase in zip((2.3, 4.1, 7.7), self.phase, strict=True)
        )
        # doors and fans
        gusts = 0.4 * np.sin(turn * time_s / 1020.0) * np.sin(turn * time_s / 7700.0)
        return float(14.0 + season + day + fronts + gusts)


@dataclass(slots=True)
class Reading:
    """What the edge gets of an image: answers missed, the air as its own sensor shows it."""

    rng: np.random.Generator
    ambient_offset_k: float
    last: ModuleReadings | None = None

    def __call__(self, image: SiteImage) -> SiteImage:
        """The image as read."""
        modules = image.modules
        missed = np.flatnonzero(self.rng.random(modules.answered.size) < MISSED_FRAC)
        if self.last is not None and missed.size:
            modules = _missed(modules, self.last, missed)
        self.last = modules
        shown = (
            image.inputs.ambient_degc + self.ambient_offset_k + AMBIENT_NOISE_K * self.rng.standard_normal()
        )
        return replace(image, modules=modules, inputs=SiteInputs(ambient_degc=round(float(shown), 1)))


def _missed(now: ModuleReadings, last: ModuleReadings, rows: np.ndarray) -> ModuleReadings:
    """`now`, with `rows` as they stood in `last`."""
    changes: dict[str, Any] = {}
    for f in fields(now):
        new, old = getattr(now, f.name), getattr(last, f.name)
        if isinstance(new, Channel):
            value, quality = new.value.copy(), new.quality.copy()
            value[rows] = old.value[rows]
            quality[rows] = np.maximum(old.quality[rows], np.uint8(Quality.STALE))
            changes[f.name] = replace(new, value=value, quality=quality)
        else:
            kept = new.copy()
            kept[rows] = old[rows]
            changes[f.name] = kept
    changes["answered"][rows] = False
    return replace(now, **changes)


@dataclass(slots=True)
class Campaign:
    """Honest hours on their way."""

    key: str
    drive: Drive
    duty: Duty
    weather: Weather
    rng: np.random.Generator
    told: int = 0
    """Findings already told."""
    coldest_degc: float = float("inf")
    hottest_degc: float = float("-inf")
    """Of all cores."""
    emptiest_frac: float = float("inf")
    fullest_frac: float = float("-inf")
    """True SOC of all cells: outside 0..1 nothing that is found is a false alarm."""
    cpu_s: float = 0.0
    cooling_told: set[str] = field(default_factory=set)
    """Serials of modules whose cooling was told as lost, though it never was."""


@dataclass(frozen=True, slots=True)
class Honest:
    """What was found where nobody lied."""

    hours: float
    """Of one site; those of sites side by side together."""
    findings: list[str]
    complete: bool
    coldest_degc: float
    hottest_degc: float
    emptiest_frac: float
    fullest_frac: float
    cpu_s: float
    cooling_told: int
    """Modules whose cooling was told as lost."""


def false_alarms(
    hours: float,
    seed: int = 3,
    dt_s: float = 5.0,
    data: Path | None = None,
    *,
    sites: int = 1,
    budget_s: float = float("inf"),
    file: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Honest:
    """Findings in `hours` of honest operation of all `sites`, or in what `budget_s` of CPU allows.

    Args:
        hours: of all sites together; in those of one site all seasons pass.
        seed: of modules, frequency, weather and noise.
        dt_s: tick.
        data: folder with the measured grid frequency.
        sites: side by side.
        budget_s: CPU seconds after which this call ends with its piece.
        file: checkpoint to go on from and to write to.
        say: told of the progress.

    Raises:
        DataFileError: `file` holds something else.
    """
    key = f"hours {hours:g} seed {seed} tick {dt_s:g} sites {sites} data {data is not None}"
    campaign = checkpoint.load(file, Campaign, key) or _begin(key, hours, seed, dt_s, data, sites)
    began, cpu_before = time.process_time(), campaign.cpu_s
    end_s = 3600.0 * hours / sites
    while campaign.drive.plant.time_s < end_s - 0.5 * dt_s:
        _piece(campaign, min(PIECE_S, end_s - campaign.drive.plant.time_s))
        campaign.cpu_s = cpu_before + time.process_time() - began
        _tell(campaign, sites, say)
        if file is not None:
            checkpoint.write(file, campaign)
        if time.process_time() - began >= budget_s:
            break
    found, done_s = campaign.drive.estimate.findings, campaign.drive.plant.time_s
    return Honest(
        hours=done_s / 3600.0 * sites,
        findings=[f"{f.serial} {f.subject} {f.test} at {f.since_s:.0f} s: {f.evidence}" for f in found],
        complete=done_s >= end_s - 0.5 * dt_s,
        coldest_degc=campaign.coldest_degc,
        hottest_degc=campaign.hottest_degc,
        emptiest_frac=campaign.emptiest_frac,
        fullest_frac=campaign.fullest_frac,
        cpu_s=campaign.cpu_s,
        cooling_told=len(campaign.cooling_told),
    )


def _begin(key: str, hours: float, seed: int, dt_s: float, data: Path | None, sites: int) -> Campaign:
    """New sites in the middle of winter."""
    rng = np.random.default_rng([seed, 1])
    a, b, c = rng.uniform(0.0, 2.0 * np.pi, 3)
    weather = Weather(year_s=3600.0 * hours / sites, phase=(float(a), float(b), float(c)))
    thermal = ThermalSpec(neighbour_conductance_frac=NEIGHBOUR_FRAC)
    drive, duty = scene(seed, dt_s, data, sites, ambient_degc=weather.degc(0.0), thermal=thermal)
    air_k = AIR_STD_K * np.clip(rng.standard_normal(drive.site.topology.n_modules), -2.5, 2.5)
    plant = drive.plant
    # warmer air at a module, as the heat that it leaves in it
    plant.faults.extra_heat_w[:] = air_k * plant.bank.conductance_surface_ambient_w_per_k
    offset_k = AMBIENT_OFFSET_STD_K * float(np.clip(rng.standard_normal(), -2.5, 2.5))
    drive.spoil = Reading(rng, offset_k)
    return Campaign(key, drive, duty, weather, rng)


def _piece(campaign: Campaign, seconds: float) -> None:
    """Operate for `seconds`, with modules out and trims drawn anew."""
    drive, rng = campaign.drive, campaign.rng
    topology = drive.site.topology
    strings = topology.n_strings
    away = np.zeros(topology.n_modules, dtype=np.bool_)
    chosen = topology.start[:-1] + rng.integers(topology.n_modules // strings, size=strings)
    away[chosen[rng.random(strings) < AWAY_FRAC]] = True
    trim = TRIM_A * rng.uniform(-1.0, 1.0, topology.n_modules)
    trimming = (rng.random(strings) < 0.5)[topology.string_of] & (rng.random() < TRIMMING_FRAC)
    drive.away, drive.trim_a = away, np.where(trimming & ~away, trim, 0.0)
    balance = bool(rng.random() < BALANCING_FRAC)
    end_s = drive.plant.time_s + seconds - 0.5 * drive.dt_s
    while drive.plant.time_s < end_s:
        move(drive, campaign.duty, campaign.weather.degc(drive.plant.time_s), balance=balance)
    cooling = drive.estimate.cooling
    if cooling is not None and cooling.lost.any():
        campaign.cooling_told.update(topology.serials[m] for m in np.flatnonzero(cooling.lost))
    campaign.coldest_degc = min(campaign.coldest_degc, float(drive.plant.core_degc.min()))
    campaign.hottest_degc = max(campaign.hottest_degc, float(drive.plant.core_degc.max()))
    campaign.emptiest_frac = min(campaign.emptiest_frac, float(drive.plant.cells.soc_frac.min()))
    campaign.fullest_frac = max(campaign.fullest_frac, float(drive.plant.cells.soc_frac.max()))


def _tell(campaign: Campaign, sites: int, say: Callable[[str], None]) -> None:
    """Every finding as it comes, the hours once a day."""
    found = campaign.drive.estimate.findings
    now_s = campaign.drive.plant.time_s
    for f in found[campaign.told :]:
        say(f"false alarm: {f.serial} {f.subject} {f.test} at {f.since_s:.0f} s: {f.evidence}")
    campaign.told = len(found)
    if now_s % DAY_S < PIECE_S:
        say(
            f"{now_s / 3600.0 * sites:.0f} hours, {len(found)} false alarms, "
            f"cells at {campaign.emptiest_frac:.2f}..{campaign.fullest_frac:.2f}, "
            f"{campaign.weather.degc(now_s):.1f} degC outside, {campaign.cpu_s:.0f} s of CPU"
        )


def upper95(count: int, years: float) -> float:
    """Upper 95 % bound of a Poisson rate (Garwood 1936, doi 10.1093/biomet/28.3-4.437)."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.95, 2 * (count + 1)) / 2.0 / years)
