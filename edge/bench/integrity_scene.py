"""A working site for the tests of its sensors: duty from the grid's frequency, modules, noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.estimation_drive import Drive
from edge.bench.protect_site import bench_site
from reconf.arrays import FloatArray
from reconf.errors import DataFileError
from reconf.estimation.integrity_budget import thresholds_of
from reconf.site import Site, ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

MODULES = 96
FULL_POWER_HZ = 0.030
"""Deviation of the frequency at which full power is given."""
POWER_C = 0.5
FREQUENCY_STD_HZ = 0.0164
"""Of `grid_frequency_6h`; used where the measurement is absent."""
FREQUENCY_MEMORY_S = 120.0


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


def scene(
    seed: int,
    dt_s: float,
    data: Path | None,
    sites: int = 1,
    *,
    ambient_degc: float = 22.0,
    thermal: ThermalSpec | None = None,
) -> tuple[Drive, Duty]:
    """`sites` of `MODULES` side by side, as warm as `ambient_degc`, with the thresholds of one site."""
    rng = np.random.default_rng(seed)
    site = bench_site(MODULES * sites, thermal=thermal)
    truth = draw_truth(site, rng, soc_frac=0.5)
    truth = replace(truth, temperature_degc=np.full(site.topology.n_modules, ambient_degc))
    drive = Drive.start(site, Plant(site, truth, ambient_degc), rng, dt_s)
    watched = replace(drive.state.integrity, threshold=thresholds_of(MODULES))
    drive.state = replace(drive.state, integrity=watched)
    return drive, Duty(site, data, np.random.default_rng(seed + 1), sites)


def move(drive: Drive, duty: Duty, ambient_degc: float, *, balance: bool = False) -> None:
    """One tick of the duty in surroundings of `ambient_degc`.

    With `balance` those modules rest that have the least to give or take, else all in turn: without it for
    weeks the weakest run empty, as no site lets them.
    """
    drive.plant.ambient_degc = ambient_degc
    topology = drive.site.topology
    counts = topology.sum_by_string(np.ones(topology.n_modules))
    soc = topology.sum_by_string(drive.estimate.soc_frac) / counts
    drive.step(duty.power_w(drive.plant.time_s, drive.dt_s, soc), by_remaining=balance)
