"""Lies of sensors on a working site: when each is found, and by what.

96 modules in four strings follow a droop on grid frequency (measured at 10 s where the data folder is given,
else a first-order Gauss-Markov frequency of the same deviation and correlation) at up to half of their
rating. After `learn_s` of operation every lie starts at the same moment, each on a module of its own;
`found_s` counts from there to the first latched finding of that module, None if there was none within
`lies_s`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.integrity_scene import MODULES, move, scene
from reconf.arrays import FloatArray
from reconf.readings import Channel, ModuleReadings, SiteImage

START_DEGC = 25.0

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


def ambient_degc(time_s: float) -> float:
    """A day that swings by 8 K about 22 degC."""
    return float(22.0 + 8.0 * np.sin(2.0 * np.pi * time_s / 86400.0))


def lies(
    seed: int = 1,
    learn_s: float = 3600.0,
    lies_s: float = 7200.0,
    dt_s: float = 2.0,
    data: Path | None = None,
) -> list[dict[str, Any]]:
    """When each lie was found, by what, and how far temperature bounds were wrong until then."""
    drive, duty = scene(seed, dt_s, data, ambient_degc=START_DEGC)
    adversary = Adversary(learn_s, dt_s)
    drive.spoil = adversary
    while drive.plant.time_s < learn_s:
        move(drive, duty, ambient_degc(drive.plant.time_s))
    worst = np.zeros(MODULES)
    for _ in range(round(lies_s / dt_s)):
        move(drive, duty, ambient_degc(drive.plant.time_s))
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
