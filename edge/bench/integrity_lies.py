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
from edge.bench.protect_site import POSITIONS
from reconf.arrays import BoolArray, FloatArray
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
    string_current_a: FloatArray
    """(S,) as the converters measure it."""
    old: ModuleReadings
    """Readings of half an hour before."""
    frozen: ModuleReadings
    """The last readings before the lie began."""


def _offset(kelvin: float, sensors: slice) -> Lie:
    def lie(scene: Scene) -> None:
        scene.temperature_degc[scene.m, sensors] += kelvin

    return lie


def _ramp(kelvin_per_min: float, sensors: slice) -> Lie:
    def lie(scene: Scene) -> None:
        scene.temperature_degc[scene.m, sensors] += kelvin_per_min * scene.since_s / 60.0

    return lie


def _creep(kelvin: float, within_s: float) -> Lie:
    """Both sensors, slowly enough that nothing jumps."""

    def lie(scene: Scene) -> None:
        scene.temperature_degc[scene.m] += kelvin * min(scene.since_s / within_s, 1.0)

    return lie


def _temperature_frozen(scene: Scene) -> None:
    scene.temperature_degc[scene.m, 0] = scene.frozen.temperature_degc.value[scene.m, 0]


def _temperatures_frozen(scene: Scene) -> None:
    scene.temperature_degc[scene.m] = scene.frozen.temperature_degc.value[scene.m]


def _cell_frozen(scene: Scene) -> None:
    scene.cell_voltage_v[scene.m, 3] = scene.frozen.cell_voltage_v.value[scene.m, 3]


def _module_voltage_frozen(scene: Scene) -> None:
    scene.voltage_v[scene.m] = scene.frozen.voltage_v.value[scene.m]


def _current_frozen(scene: Scene) -> None:
    scene.current_a[scene.m] = scene.frozen.current_a.value[scene.m]


def _out_of_range(scene: Scene) -> None:
    scene.temperature_degc[scene.m, 0] = -60.0


def _current_quantised(scene: Scene) -> None:
    scene.current_a[scene.m] = 10.0 * np.round(scene.current_a[scene.m] / 10.0)


def _cell_quantised(scene: Scene) -> None:
    scene.cell_voltage_v[scene.m, 3] = 0.2 * np.round(scene.cell_voltage_v[scene.m, 3] / 0.2)


def _modules_swapped(scene: Scene) -> None:
    # the wires of two modules of a string changed over
    pair, turned = [scene.m, scene.m + 1], [scene.m + 1, scene.m]
    for values in (scene.temperature_degc, scene.current_a, scene.voltage_v, scene.cell_voltage_v):
        values[pair] = values[turned]


def _converter_offset(scene: Scene) -> None:
    scene.string_current_a[-1] += 3.0


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
    "both_sensors_creep_15_k_in_5_min": _creep(15.0, 300.0),
    "both_sensors_creep_minus_15_k_in_5_min": _creep(-15.0, 300.0),
    "temperature_frozen": _temperature_frozen,
    "both_temperatures_frozen": _temperatures_frozen,
    "cell_voltage_frozen": _cell_frozen,
    "module_voltage_frozen": _module_voltage_frozen,
    "current_frozen": _current_frozen,
    "temperature_out_of_range": _out_of_range,
    "current_quantised_10_a": _current_quantised,
    "cell_voltage_quantised_0.2_v": _cell_quantised,
    "modules_swapped": _modules_swapped,
    "converter_current_plus_3_a": _converter_offset,
}
SPACING = 3
WARM_FROM_S = 1800.0
"""After the lies begin the hall's cooling fails: what stands still is then seen to."""
RESTS_S = (600.0, 1200.0)
"""After the lies begin, one of the two swapped modules is out."""


class Adversary:
    """Spoils images from `begin_s` on, lie k on module 3 k + 2."""

    def __init__(self, begin_s: float, dt_s: float) -> None:
        self.begin_s = begin_s
        self.kept: list[ModuleReadings] = []
        self.depth = max(1, round(1800.0 / dt_s))
        self.where = {name: SPACING * k + 2 for k, name in enumerate(LIES)}
        self.frozen: ModuleReadings | None = None

    def __call__(self, image: SiteImage) -> SiteImage:
        """The image as the edge gets it."""
        self.kept = [*self.kept[-self.depth :], image.modules]
        if image.time_s < self.begin_s or self.frozen is None:
            self.frozen = image.modules
            return image
        seen = image.modules
        scene = Scene(
            m=0,
            since_s=image.time_s - self.begin_s,
            temperature_degc=seen.temperature_degc.value.copy(),
            current_a=seen.current_a.value.copy(),
            voltage_v=seen.voltage_v.value.copy(),
            cell_voltage_v=seen.cell_voltage_v.value.copy(),
            string_current_a=image.strings.current_a.value.copy(),
            old=self.kept[0],
            frozen=self.frozen,
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
            strings=replace(image.strings, current_a=Channel.of(scene.string_current_a)),
        )


def _resting(adversary: Adversary, since_s: float) -> BoolArray:
    """(M,) modules that stay bypassed now."""
    away = np.zeros(MODULES, dtype=np.bool_)
    away[adversary.where["modules_swapped"] + 1] = RESTS_S[0] <= since_s < RESTS_S[1]
    return away


def touched(name: str, m: int) -> range:
    """Modules that the lie `name` on module `m` is told of."""
    if name == "converter_current_plus_3_a":
        return range(MODULES - POSITIONS, MODULES)
    return range(m, m + 2) if name == "modules_swapped" else range(m, m + 1)


def ambient_degc(time_s: float, warm_from_s: float = np.inf) -> float:
    """A day that swings by 8 K about 22 degC, and 10 K more within the hour after `warm_from_s`."""
    warmer = 10.0 * min(max((time_s - warm_from_s) / 3600.0, 0.0), 1.0)
    return float(22.0 + 8.0 * np.sin(2.0 * np.pi * time_s / 86400.0) + warmer)


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
        move(drive, duty, ambient_degc(drive.plant.time_s, learn_s + WARM_FROM_S))
    worst = np.zeros(MODULES)
    for _ in range(round(lies_s / dt_s)):
        drive.away = _resting(adversary, drive.plant.time_s - learn_s)
        move(drive, duty, ambient_degc(drive.plant.time_s, learn_s + WARM_FROM_S))
        core, now = drive.plant.core_degc, drive.estimate
        outside = np.maximum(core - now.temperature_high_degc, now.temperature_low_degc - core)
        worst = np.maximum(worst, outside)
    serials = drive.state.serials
    result: list[dict[str, Any]] = []
    for name, m in adversary.where.items():
        mine = [f for f in drive.estimate.findings if f.serial in {serials[i] for i in touched(name, m)}]
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
    liars = {serials[i] for name, m in adversary.where.items() for i in touched(name, m)}
    honest = [f for f in drive.estimate.findings if f.serial not in liars]
    texts = [f"{f.serial} {f.subject} {f.test} at {f.since_s:.0f} s: {f.evidence}" for f in honest]
    result.append({"kind": "honest_neighbours_accused", "count": len(honest), "findings": texts})
    return result
