"""Lies of sensors found, and false alarms, while a site serves frequency containment.

96 modules in four strings follow a droop on grid frequency (measured at 10 s where the data folder is
given, else a first-order Gauss-Markov frequency of the same deviation and correlation) at up to half of
their rating, under an ambient that swings by 8 K a day. After `learn_s` of operation every lie starts at
the same moment, each on a module of its own; `found_s` counts from there to the first latched finding of
that module, None if there was none within `lies_s`. False alarms are counted over `hours` without lies;
the upper bound is that of a Poisson rate at 95 %, per year of such a site. A year takes many hours of
computing: several sites side by side, each with a frequency, modules and noise of its own and the
thresholds of one site, give their hours together, and a budget ends a run with the hours it has reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.estimation_drive import Drive
from edge.bench.protect_site import bench_site
from reconf.arrays import FloatArray
from reconf.errors import DataFileError
from reconf.estimation.integrity_state import threshold_of
from reconf.readings import Channel, ModuleReadings, SiteImage
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULES = 96
FULL_POWER_HZ = 0.030
"""Deviation of the frequency at which full power is given."""
POWER_C = 0.5
FREQUENCY_STD_HZ = 0.0164
"""Of `grid_frequency_6h`; used where the measurement is absent."""
FREQUENCY_MEMORY_S = 120.0

Lie = Callable[["Scene"], None]


@dataclass(slots=True)
class Scene:
    """What an adversary sees and may change: readings of module `m`, time since the lie began."""

    m: int
    since_s: float
    temperature_degc: FloatArray
    """(M, 2)"""
    current_a: FloatArray
    voltage_v: FloatArray
    cell_voltage_v: FloatArray
    """(M, C)"""
    old: ModuleReadings
    """Readings of half an hour before."""


def _offset(kelvin: float, sensors: slice) -> Lie:
    def lie(scene: Scene) -> None:
        scene.temperature_degc[scene.m, sensors] += kelvin

    return lie


def _ramp(kelvin_per_min: float, sensors: slice) -> Lie:
    def lie(scene: Scene) -> None:
        scene.temperature_degc[scene.m, sensors] += kelvin_per_min * scene.since_s / 60.0

    return lie


def _replay(scene: Scene) -> None:
    m, old = scene.m, scene.old
    scene.temperature_degc[m] = old.temperature_degc.value[m]
    scene.current_a[m] = old.current_a.value[m]
    scene.voltage_v[m] = old.voltage_v.value[m]
    scene.cell_voltage_v[m] = old.cell_voltage_v.value[m]


def _current_offset(scene: Scene) -> None:
    scene.current_a[scene.m] += 2.0


def _current_gain(scene: Scene) -> None:
    scene.current_a[scene.m] *= 1.15


def _cell_drift(scene: Scene) -> None:
    scene.cell_voltage_v[scene.m, 3] += 0.002 * scene.since_s / 60.0


def _voltage_offset(scene: Scene) -> None:
    scene.voltage_v[scene.m] += 0.25


def _voltages_stuck(scene: Scene) -> None:
    scene.voltage_v[scene.m] = scene.old.voltage_v.value[scene.m]
    scene.cell_voltage_v[scene.m] = scene.old.cell_voltage_v.value[scene.m]


def _swapped(scene: Scene) -> None:
    # a hot spot behind one sensor, its wires changed over with those of the module beside
    scene.temperature_degc[scene.m, 0] = 45.0


def _quantised(scene: Scene) -> None:
    scene.temperature_degc[scene.m, 0] = 15.0 * np.round(scene.temperature_degc[scene.m, 0] / 15.0)


FIRST, BOTH = slice(0, 1), slice(0, 2)
LIES: dict[str, Lie] = {
    "one_sensor_plus_15_k": _offset(15.0, FIRST),
    "one_sensor_minus_15_k": _offset(-15.0, FIRST),
    "both_sensors_plus_15_k": _offset(15.0, BOTH),
    "both_sensors_minus_15_k": _offset(-15.0, BOTH),
    "one_sensor_ramp_0.1_k_per_min": _ramp(0.1, FIRST),
    "both_sensors_ramp_0.1_k_per_min": _ramp(0.1, BOTH),
    "both_sensors_ramp_minus_0.1_k_per_min": _ramp(-0.1, BOTH),
    "replay_of_all_readings": _replay,
    "current_plus_2_a": _current_offset,
    "current_gain_15_percent": _current_gain,
    "cell_voltage_drift_2_mv_per_min": _cell_drift,
    "module_voltage_plus_0.25_v": _voltage_offset,
    "voltages_stuck": _voltages_stuck,
    "temperature_swapped": _swapped,
    "temperature_quantised_15_k": _quantised,
}


class Adversary:
    """Spoils images from `begin_s` on, lie k on module 5 k + 2."""

    def __init__(self, begin_s: float, dt_s: float) -> None:
        self.begin_s = begin_s
        self.kept: list[ModuleReadings] = []
        self.depth = max(1, round(1800.0 / dt_s))
        self.where = {name: 5 * k + 2 for k, name in enumerate(LIES)}

    def __call__(self, image: SiteImage) -> SiteImage:
        """The image as the edge gets it."""
        self.kept = [*self.kept[-self.depth :], image.modules]
        if image.time_s < self.begin_s:
            return image
        seen = image.modules
        scene = Scene(
            m=0,
            since_s=image.time_s - self.begin_s,
            temperature_degc=seen.temperature_degc.value.copy(),
            current_a=seen.current_a.value.copy(),
            voltage_v=seen.voltage_v.value.copy(),
            cell_voltage_v=seen.cell_voltage_v.value.copy(),
            old=self.kept[0],
        )
        for name, lie in LIES.items():
            scene.m = self.where[name]
            lie(scene)
        return replace(
            image,
            modules=replace(
                seen,
                temperature_degc=Channel.of(np.round(scene.temperature_degc, 1)),
                current_a=Channel.of(scene.current_a),
                voltage_v=Channel.of(scene.voltage_v),
                cell_voltage_v=Channel.of(scene.cell_voltage_v),
            ),
        )


class Duty:
    """Power of every string over time from the grid's frequency."""

    def __init__(self, site: Site, data: Path | None, rng: np.random.Generator, sites: int = 1) -> None:
        self.rng = rng
        self.site_of = np.arange(site.topology.n_strings) * sites // site.topology.n_strings
        """(S,) of the sites side by side."""
        self.deviation_hz = _measured(data) if data is not None else None
        energy = 3.7 * site.topology.n_cells * site.topology.rated_capacity_ah
        self.full_w = POWER_C * site.topology.sum_by_string(energy.astype(np.float64))
        self.now_hz = np.zeros(sites)
        self.offset = np.zeros(sites, dtype=np.int64)

    def power_w(self, time_s: float, dt_s: float, soc_frac: FloatArray) -> FloatArray:
        """(S,) power, discharge positive; a slow correction keeps the SOC (S,) near one half."""
        sites = self.now_hz.size
        if self.deviation_hz is None:
            keep = np.exp(-dt_s / FREQUENCY_MEMORY_S)
            self.now_hz *= keep
            self.now_hz += FREQUENCY_STD_HZ * np.sqrt(1.0 - keep * keep) * self.rng.standard_normal(sites)
        else:
            # each pass of the six hours begins somewhere else, and at every site elsewhere
            sample = int(time_s / 10.0)
            if sample % self.deviation_hz.size == 0:
                self.offset = self.rng.integers(self.deviation_hz.size, size=sites)
            self.now_hz = self.deviation_hz[(sample + self.offset) % self.deviation_hz.size]
        wanted = -self.now_hz[self.site_of] / FULL_POWER_HZ + 2.0 * (soc_frac - 0.5)
        power: FloatArray = self.full_w * np.clip(wanted, -1.0, 1.0)
        return power


def _measured(data: Path) -> FloatArray:
    from scipy.io import loadmat

    path = data / "grid_frequency_6h" / "FreqData.mat"
    if not path.is_file():
        raise DataFileError(f"FreqData.mat is not in {path.parent}")
    table: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["FreqData"]
    frequency = np.asarray(table.Freq, dtype=np.float64)
    deviation: FloatArray = frequency - 60.0
    return deviation


def _scene(seed: int, dt_s: float, data: Path | None, sites: int = 1) -> tuple[Drive, Duty]:
    rng = np.random.default_rng(seed)
    site = bench_site(MODULES * sites)
    plant = Plant(site, draw_truth(site, rng, soc_frac=0.5), 22.0)
    drive = Drive.start(site, plant, rng, dt_s)
    watched = replace(drive.state.integrity, threshold=threshold_of(MODULES))
    drive.state = replace(drive.state, integrity=watched)
    return drive, Duty(site, data, np.random.default_rng(seed + 1), sites)


def _operate(drive: Drive, duty: Duty, seconds: float) -> None:
    end = drive.plant.time_s + seconds
    while drive.plant.time_s < end:
        now = drive.plant.time_s
        drive.plant.ambient_degc = 22.0 + 8.0 * np.sin(2.0 * np.pi * now / 86400.0)
        topology = drive.site.topology
        counts = topology.sum_by_string(np.ones(topology.n_modules))
        soc = topology.sum_by_string(drive.estimate.soc_frac) / counts
        drive.step(duty.power_w(now, drive.dt_s, soc), by_remaining=False)


def lies(
    seed: int = 1,
    learn_s: float = 3600.0,
    lies_s: float = 7200.0,
    dt_s: float = 2.0,
    data: Path | None = None,
) -> list[dict[str, Any]]:
    """When each lie was found, by what, and how far temperature bounds were wrong until then."""
    drive, duty = _scene(seed, dt_s, data)
    adversary = Adversary(learn_s, dt_s)
    drive.spoil = adversary
    _operate(drive, duty, learn_s)
    worst = np.zeros(MODULES)
    for _ in range(round(lies_s / dt_s)):
        _operate(drive, duty, dt_s)
        core, now = drive.plant.core_degc, drive.estimate
        outside = np.maximum(core - now.temperature_high_degc, now.temperature_low_degc - core)
        worst = np.maximum(worst, outside)
    serials = drive.state.serials
    result: list[dict[str, Any]] = []
    for name, m in adversary.where.items():
        mine = [f for f in drive.estimate.findings if f.serial == serials[m]]
        true = [f for f in mine if f.since_s >= learn_s - dt_s]
        first = min(true, key=lambda f: f.since_s, default=None)
        result.append(
            {
                "kind": name,
                "found_s": None if first is None else round(max(first.since_s - learn_s, 0.0), 1),
                "subject": None if first is None else first.subject,
                "test": None if first is None else first.test,
                "bound_missed_by_k": round(float(worst[m]), 2),
            }
        )
    liars = {serials[m] for m in adversary.where.values()}
    honest = [f for f in drive.estimate.findings if f.serial not in liars]
    texts = [f"{f.serial} {f.subject} {f.test} at {f.since_s:.0f} s: {f.evidence}" for f in honest]
    result.append({"kind": "honest_neighbours_accused", "count": len(honest), "findings": texts})
    return result


@dataclass(frozen=True, slots=True)
class Honest:
    """What was found where nobody lied."""

    hours: float
    """Of one site; those of sites side by side together."""
    findings: list[str]


def false_alarms(
    hours: float,
    seed: int = 3,
    dt_s: float = 5.0,
    data: Path | None = None,
    *,
    sites: int = 1,
    budget_s: float = float("inf"),
    say: Callable[[str], None] = lambda _: None,
) -> Honest:
    """Findings in `hours` of honest operation of all `sites`, or in what `budget_s` of CPU allows."""
    drive, duty = _scene(seed, dt_s, data, sites)
    began, done, told = time.process_time(), 0.0, 0.0
    while done < hours and time.process_time() - began < budget_s:
        part = min(hours - done, 0.25 * sites)
        _operate(drive, duty, part * 3600.0 / sites)
        done += part
        if done - told >= 24.0 * sites:
            told = done
            say(f"{done:.0f} hours, {len(drive.estimate.findings)} false alarms")
    found = drive.estimate.findings
    return Honest(done, [f"{f.serial} {f.subject} {f.test}: {f.evidence}" for f in found])


def upper95(count: int, years: float) -> float:
    """Upper 95 % bound of a Poisson rate (Garwood 1936, doi 10.1093/biomet/28.3-4.437)."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.95, 2 * (count + 1)) / 2.0 / years)


def run(
    hours: float,
    data: Path | None,
    say: Callable[[str], None],
    *,
    sites: int = 1,
    dt_s: float = 5.0,
    budget_s: float = float("inf"),
) -> dict[str, Any]:
    """Lies first, then `hours` of honest operation."""
    found = lies(data=data)
    for row in found:
        say(str(row))
    honest = false_alarms(hours, dt_s=dt_s, data=data, sites=sites, budget_s=budget_s, say=say)
    for text in honest.findings:
        say(f"false alarm: {text}")
    count, years = len(honest.findings), honest.hours / 8766.0
    return {
        "lies": [row for row in found if "found_s" in row],
        "honest_neighbours_accused": found[-1]["count"],
        "false_alarms": count,
        "hours": round(honest.hours, 2),
        "sites_side_by_side": sites,
        "modules": MODULES,
        "false_alarms_per_year_upper95": round(upper95(count, years), 3),
        "wanted": {"found_s": 600.0, "ramp_found_s": 6000.0, "false_alarms": 0},
    }
