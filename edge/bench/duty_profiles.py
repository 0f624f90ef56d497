"""Long duties: power asked and weather by time of the year.

Peak shaving follows a published year of state of charge (Kucevic et al., J. Energy Storage 27 (2020) 101077,
doi 10.1016/j.est.2019.101077, as shipped with NREL's BLAST-Lite), frequency service a recorded grid
frequency with a droop; both are read from the folder given and are not part of this project. The desert day
and the cold morning need no data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import DataFileError

DAY_S: Final = 86_400.0
YEAR_S: Final = 365.0 * DAY_S
SIZING_FRAC: Final = 0.8
"""A state-of-charge trace is scaled so that its whole swing is this share of the pack's energy, as an
operator would size it with losses and ageing in mind."""
DROOP_HZ: Final = 0.036
"""Deviation at which the frequency service asks for its full power."""


@dataclass(frozen=True, slots=True)
class Duty:
    """One duty: what is asked of a pack by time."""

    name: str
    days: float
    soc_frac: float
    """At the start."""
    power_w: Callable[[float], float]
    """At the bus by time [s], discharge positive."""
    ambient_degc: Callable[[float], float]


def season_degc(time_s: float) -> float:
    """Continental year: 10 degC mean, 13 K between winter and summer, 5 K between night and day."""
    year = np.cos(2.0 * np.pi * (time_s - 20.0 * DAY_S) / YEAR_S)
    day = np.cos(2.0 * np.pi * (time_s - 15.0 * 3600.0) / DAY_S)
    return float(10.0 - 13.0 * year + 5.0 * day)


def desert_degc(time_s: float) -> float:
    """30 degC before dawn, 45 degC in the afternoon."""
    return float(37.5 + 7.5 * np.cos(2.0 * np.pi * (time_s - 15.0 * 3600.0) / DAY_S))


def cold_degc(time_s: float) -> float:
    """-10 degC in the morning, 0 degC in the afternoon."""
    return float(-5.0 + 5.0 * np.cos(2.0 * np.pi * (time_s - 15.0 * 3600.0) / DAY_S))


def desert(energy_wh: float) -> Duty:
    """A day at up to 45 degC: fifty minutes at 0.95 C in the heat, C/6 in the evening, charged at night."""

    def power_w(time_s: float) -> float:
        hour = (time_s % DAY_S) / 3600.0
        if 14.5 <= hour < 14.5 + 5.0 / 6.0:
            return 0.95 * energy_wh
        if 19.0 <= hour < 20.5:
            return energy_wh / 6.0
        return -0.15 * energy_wh if hour >= 22.0 or hour < 4.0 else 0.0

    return Duty("desert", 1.0, 0.97, power_w, desert_degc)


def cold(energy_wh: float) -> Duty:
    """A day that starts at -10 degC: discharge at C/3 at seven, charging asked for at nine and at noon."""

    def power_w(time_s: float) -> float:
        hour = (time_s % DAY_S) / 3600.0
        if 7.0 <= hour < 9.0:
            return energy_wh / 3.0
        return -energy_wh / 5.0 if 9.0 <= hour < 10.0 or 12.0 <= hour < 15.0 else 0.0

    return Duty("cold", 1.0, 0.9, power_w, cold_degc)


def peak_shaving(energy_wh: float, folder: Path) -> Duty:
    """A year of commercial peak shaving."""
    time_s, soc = _trace(folder / "grid_duty" / "commercial_peak_shaving.csv")
    return Duty("peak_shaving", time_s[-1] / DAY_S, 0.97, _power_of(time_s, soc, energy_wh), season_degc)


def frequency_trace(energy_wh: float, folder: Path) -> Duty:
    """A year of frequency containment as a simulated battery answered it."""
    time_s, soc = _trace(folder / "grid_duty" / "frequency_containment_reserve.csv")
    return Duty("frequency_year", time_s[-1] / DAY_S, 0.5, _power_of(time_s, soc, energy_wh), season_degc)


def frequency(energy_wh: float, folder: Path) -> Duty:
    """Droop on a recorded frequency at up to 0.5 C, the record repeated; its mean is taken off."""
    from scipy.io import loadmat

    path = folder / "grid_frequency_6h" / "FreqData.mat"
    try:
        record = loadmat(str(path))["FreqData"][0, 0]
        time_s, hz = record["Time"].ravel().astype(float), record["Freq"].ravel().astype(float)
    except (OSError, KeyError, ValueError) as error:
        raise DataFileError(f"{path}: no grid frequency can be read here: {error}") from error
    share = np.clip((hz.mean() - hz) / DROOP_HZ, -1.0, 1.0)
    at_s = time_s - time_s[0]
    length = at_s[-1] + 10.0

    def power_w(now_s: float) -> float:
        # held from sample to sample, as a meter at that pace would report it
        sample = int(np.searchsorted(at_s, now_s % length, side="right")) - 1
        return 0.5 * energy_wh * float(share[sample])

    return Duty("frequency", 365.0, 0.5, power_w, season_degc)


def _trace(path: Path) -> tuple[FloatArray, FloatArray]:
    """Times [s] and states of charge of a published trace."""
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: no trace of a duty can be read here: {error}") from error
    return table[:, 1], table[:, 2]


def _power_of(time_s: FloatArray, soc: FloatArray, energy_wh: float) -> Callable[[float], float]:
    """Power that makes a pack of `energy_wh` follow the trace, step by step."""
    power = -np.diff(soc) / np.diff(time_s) * 3600.0 * SIZING_FRAC * energy_wh

    def power_w(now_s: float) -> float:
        step = int(np.searchsorted(time_s, now_s % time_s[-1], side="right")) - 1
        return float(power[min(step, power.size - 1)])

    return power_w
