"""Errors of SOC, capacity and remaining charge on the twin and on measured cells.

Protocol. Every run starts 20 points of SOC wrong (and says so: its deviation is 20 points), with a current
sensor 0.5 % and 30 mA (at 60 Ah) off, 2 mV of noise on every cell voltage and 0.5 K on every temperature.
*twin*: 24 modules of 12 cells, SOH spread 10 %, a smooth error of the open-circuit curve of 3 mV between
twin and filter, temperatures 10, 25 and 40 degC; one partial cycle 80 % - 40 % - 70 % at about C/5 with
rotating insertions, then the RMSE over the next partial discharge. *life*: SOH spread 13 %, belief 0.8
+-0.10 for all; three cycles, then capacity, and remaining charge whenever a module passes 10 % SOC.
*leaf*: HPPC logs of a cell at 10, 25, 40 degC, scored after the first 40 % of SOC moved, and the three-module
logs, scored in remaining charge of the group that ends the run. *lfp*: 25 h between 20 and 80 %, scored
after the first cycle; started right it is held against plain counting of the same current, and so it is for
many draws of the sensor errors (`edge/bench/lfp_draws.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench import estimation_logs as logs
from edge.bench import lfp_draws
from edge.bench.estimation_drive import Drive, true_values, with_soc_error
from edge.bench.protect_site import bench_site
from reconf.arrays import FloatArray
from reconf.cells.model import SOC_NODES, soc_grid
from reconf.estimation.constants import Constants
from reconf.estimation.filter import estimate, initial_state
from reconf.site import Chemistry, Site, ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

Say = Callable[[str], None]
WANTED = {
    "soc_rmse_percent": 1.5,
    "capacity_error_percent": 1.5,
    "remaining_error_percent": 2.0,
    "lfp_wrong_start_percent": 4.0,
}
OCV_ERROR_V = 0.003
"""Amplitude of the smooth difference between the twin's open-circuit curve and the filter's."""


def rms(values: FloatArray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _wrong_curves(plant: Plant, rng: np.random.Generator) -> None:
    """Give the twin an open-circuit curve that the filter does not know."""
    grid = soc_grid()
    table = plant.bank.table.copy()
    columns = table.shape[1] // 2
    for first in range(0, table.shape[0], SOC_NODES):
        phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        shape = np.sin(2.0 * np.pi * grid + phase[0]) + np.sin(5.0 * np.pi * grid + phase[1])
        curve = table[first : first + SOC_NODES, 0] + 0.7 * OCV_ERROR_V * shape
        rise = np.diff(curve)
        table[first : first + SOC_NODES, 0] = curve
        table[first : first + SOC_NODES, columns] = np.append(rise, rise[-1])
    plant.bank = replace(plant.bank, table=table)


def _plant(site: Site, rng: np.random.Generator, soc_frac: float, ambient_degc: float) -> Plant:
    """A plant whose sensors err as the protocol says, each in a random direction."""
    truth = draw_truth(site, rng, soc_frac=soc_frac)
    m = site.topology.n_modules
    sign = rng.choice((-1.0, 1.0), m)
    truth = replace(
        truth,
        current_gain_frac=0.005 * sign,
        current_offset_a=0.030 * rng.choice((-1.0, 1.0), m),
        temperature_degc=np.full(m, ambient_degc),
    )
    plant = Plant(site, truth, ambient_degc)
    _wrong_curves(plant, rng)
    return plant


def _power(site: Site, c_rate: float) -> FloatArray:
    """(S,) power of a string at `c_rate` of the rated capacity."""
    ocv = 3.7 * site.topology.n_cells * site.topology.rated_capacity_ah
    return c_rate * site.topology.sum_by_string(ocv.astype(np.float64))


def _until(drive: Drive, power_w: FloatArray, soc_frac: float) -> list[FloatArray]:
    """Run until the mean true SOC reaches `soc_frac`; SOC errors of every tick."""
    errors = []
    falling = power_w[0] > 0.0
    for _ in range(20_000):
        drive.step(power_w)
        soc, _, _ = true_values(drive.plant)
        errors.append(drive.estimate.soc_frac - soc)
        if (soc.mean() <= soc_frac) == falling:
            break
    return errors


def twin_case(chemistry: Chemistry, ambient_degc: float, seed: int = 1) -> dict[str, float]:
    """SOC after a partial cycle from a start 20 points wrong."""
    rng = np.random.default_rng(seed)
    site = bench_site(24, chemistry=chemistry, thermal=ThermalSpec(ambient_degc=ambient_degc))
    plant = _plant(site, rng, 0.8, ambient_degc)
    drive = Drive.start(site, plant, rng, 5.0, soc_error_frac=-0.2)
    power = _power(site, 0.2)
    _until(drive, power, 0.4)
    _until(drive, -power, 0.7)
    errors = np.array(_until(drive, power, 0.45))
    inside = np.abs(errors[-1]) <= 2.0 * drive.estimate.soc_std_frac
    return {
        "rmse_percent": round(100.0 * rms(errors), 3),
        "worst_percent": round(100.0 * float(np.abs(errors).max()), 3),
        "inside_two_sigma": round(float(inside.mean()), 3),
    }


def life_case(seed: int = 2, cycles: int = 3, modules: int = 24) -> dict[str, Any]:
    """Capacity after `cycles` cycles and remaining charge at 10 % SOC, beliefs 0.8 +-0.10, truth CV 0.13."""
    rng = np.random.default_rng(seed)
    site = replace(bench_site(modules), twin_soh_cv=0.13)
    site = _with_belief_std(site, 0.10)
    plant = _plant(site, rng, 0.95, 25.0)
    drive = Drive.start(site, plant, rng, 5.0)
    power = _power(site, 0.25)
    at_ten: list[FloatArray] = []
    first: FloatArray = np.zeros(0)
    for cycle in range(cycles):
        passed = np.zeros(modules, dtype=np.bool_)
        found: list[float] = []
        for _ in range(6000):
            drive.step(power)
            soc, capacity, left = true_values(plant)
            new = (soc < 0.10) & ~passed
            passed |= new
            error = (drive.estimate.remaining_ah + _cut_ah(drive) - left) / capacity
            found += list(error[new])
            low = np.where(plant.inputs.inserted, drive.estimate.cell_voltage_min_v, 9.0).min()
            if low < 3.05 or soc.mean() < 0.04:
                break
        at_ten.append(np.array(found))
        if cycle == 0:
            first = _capacity_error(drive)
        for _ in range(6000):
            drive.step(-power)
            soc, _, _ = true_values(plant)
            high = np.where(plant.inputs.inserted, drive.estimate.cell_voltage_max_v, 0.0).max()
            if high > 4.19 or soc.mean() > 0.93:
                break
    last = _capacity_error(drive)
    prior = (0.8 * 60.0 - true_values(plant)[1]) / true_values(plant)[1]
    return {
        "prior_capacity_rms_percent": round(100.0 * rms(prior), 2),
        "capacity_rms_percent_after_one": round(100.0 * rms(first), 3),
        "capacity_rms_percent": round(100.0 * rms(last), 3),
        "capacity_worst_percent": round(100.0 * float(np.abs(last).max()), 3),
        "remaining_at_10_percent_rms_percent": [round(100.0 * rms(x), 3) for x in at_ten],
        "remaining_at_10_percent_worst_percent": [
            round(100.0 * float(np.abs(x).max()), 3) for x in at_ten if x.size
        ],
        "modules_seen_at_10_percent": [int(x.size) for x in at_ten],
    }


def _cut_ah(drive: Drive) -> FloatArray:
    """Charge below the cut-off under load, so that remaining charge is compared from SOC 0."""
    return drive.state.cut_soc_frac * drive.estimate.capacity_ah


def _capacity_error(drive: Drive) -> FloatArray:
    _, capacity, _ = true_values(drive.plant)
    error: FloatArray = (drive.estimate.capacity_ah - capacity) / capacity
    return error


def _with_belief_std(site: Site, std_frac: float) -> Site:
    """`site` whose modules are believed with a deviation of `std_frac`."""
    strings = tuple(
        replace(
            s,
            positions=tuple(replace(p, module=replace(p.module, soh_std_frac=std_frac)) for p in s.positions),
        )
        for s in site.strings
    )
    return replace(site, strings=strings)


# ---- measured cells --------------------------------------------------------------------------------


def replay(
    log: logs.CellLog,
    site: Site,
    *,
    constants: Constants | None = None,
    start: tuple[float, float] | None = None,
    every: int = 1,
    seed: int = 0,
) -> FloatArray:
    """Run the filter over a log: columns time, SOC, its deviation, remaining [Ah], capacity [Ah].

    Args:
        log: the run.
        site: one module.
        constants: with the cell's own curves, where there are any.
        start: (SOC, deviation) instead of the rest voltage.
        every: use every so-many-th sample.
        seed: of the sensor noise.
    """
    rows = []
    state = None
    rng = np.random.default_rng(seed)
    for image, dt_s in logs.images(log, logs.SensorErrors(), rng, every):
        if state is None:
            state = initial_state(site, image, constants=constants)
            if start is not None:
                state = with_soc_error(state, np.full((1, 1), start[0]), start[1])
        state, now = estimate(site, state, image, dt_s)
        left = now.remaining_ah[0]
        rows.append((image.time_s, now.soc_weakest_frac[0], now.soc_std_frac[0], left, now.capacity_ah[0]))
    return np.array(rows)


def leaf_cell(folder: Path, temperature_degc: float) -> dict[str, float]:
    """HPPC log of the Leaf cell from a start 20 points wrong."""
    log = logs.leaf_hppc(folder, temperature_degc)
    site = logs.one_module_site(Chemistry.LMO, "leaf_lmo", 1, logs.LEAF_CELL_RATED_AH, 0.95, 0.05)
    begin = float(log.reference_soc_frac[0])
    wrong = begin + 0.2 if begin < 0.5 else begin - 0.2
    out = replay(log, site, start=(wrong, 0.2), every=2)
    reference = np.interp(out[:, 0], log.time_s, log.reference_soc_frac)
    first = int(np.argmax(np.abs(reference - reference[0]) > 0.4))
    error = out[first:, 1] - reference[first:]
    return {
        "rmse_percent": round(100.0 * rms(error), 3),
        "worst_percent": round(100.0 * float(np.abs(error).max()), 3),
    }


def leaf_pack(folder: Path, rate: str) -> dict[str, float]:
    """Three modules in series: remaining charge of the group that ends the run."""
    log = logs.leaf_modules(folder, rate)
    site = logs.one_module_site(Chemistry.LMO, "leaf_lmo", 6, 65.0, 0.85, 0.05)
    out = replay(log, site, every=3)
    left = np.interp(out[:, 0], log.time_s, log.reference_soc_frac) * log.capacity_ah
    error = (out[:, 3] - left) / log.capacity_ah
    share = left / log.capacity_ah
    ten = int(np.argmax(share < 0.10))
    late = share < 0.6
    return {
        "rmse_percent": round(100.0 * rms(error[late]), 3),
        "at_start_percent": round(100.0 * float(error[5]), 3),
        "at_10_percent_percent": round(100.0 * float(error[ten]), 3),
        "at_end_percent": round(100.0 * float(error[-1]), 3),
    }


def lfp(folder: Path, every: int = 10) -> dict[str, Any]:
    """The plateau: started right against plain counting, and started 20 points wrong either way."""
    log = logs.lfp_flat_zone(folder)
    site = logs.one_module_site(Chemistry.LFP, "lfp_generic", 1, 1.2, 1.0, 0.02)
    constants = logs.lfp_constants(folder, site)
    # the filter and the counter it is held against both begin with the first image
    begin = float(log.reference_soc_frac[every])
    result: dict[str, Any] = {"every": every}
    first_cycle_s = 5.45 * 3600.0
    for name, offset, std in (("right", 0.0, 0.005), ("high", 0.2, 0.2), ("low", -0.15, 0.2)):
        out = replay(log, site, constants=constants, start=(begin + offset, std), every=every)
        reference = np.interp(out[:, 0], log.time_s, log.reference_soc_frac)
        error = out[:, 1] - reference
        after = out[:, 0] > first_cycle_s
        result[name] = {
            "rmse_percent": round(100.0 * rms(error), 3),
            "after_cycle_rmse_percent": round(100.0 * rms(error[after]), 3),
            "after_cycle_first_percent": round(100.0 * float(error[after][0]), 3),
        }
    result["counting_rmse_percent"] = round(100.0 * rms(_counting_error(log, every)), 3)
    return result


def _counting_error(log: logs.CellLog, every: int) -> FloatArray:
    """SOC error of a plain counter of the very same erring current."""
    rng = np.random.default_rng(0)
    counted, times = [], []
    for image, _ in logs.images(log, logs.SensorErrors(), rng, every):
        counted.append(float(image.modules.charge_counter_ah.value[0]))
        times.append(image.time_s)
    reference = np.interp(times, log.time_s, log.reference_soc_frac)
    soc = reference[0] - (np.array(counted) - counted[0]) / log.capacity_ah
    error: FloatArray = soc - reference
    return error


def run(data: Path | None, say: Say) -> dict[str, Any]:
    """Everything; parts that need measurements are left out without `data`."""
    result: dict[str, Any] = {"wanted": WANTED, "twin": {}}
    for chemistry in (Chemistry.NMC, Chemistry.LMO):
        for ambient in (10.0, 25.0, 40.0):
            found = twin_case(chemistry, ambient)
            result["twin"][f"{chemistry}_{ambient:.0f}_degc"] = found
            say(f"twin {chemistry} {ambient:.0f} degC: SOC RMSE {found['rmse_percent']} %")
    result["life"] = life_case()
    say(f"three cycles: {result['life']}")
    if data is not None:
        result["leaf_cell"] = {f"{t:.0f}_degc": leaf_cell(data, t) for t in logs.LEAF_HPPC}
        say(f"Leaf cell: {result['leaf_cell']}")
        result["leaf_modules"] = {rate: leaf_pack(data, rate) for rate in logs.LEAF_MODULES}
        say(f"Leaf modules: {result['leaf_modules']}")
        result["lfp"] = lfp(data)
        say(f"LFP plateau: {result['lfp']}")
        result["lfp_draws"] = lfp_draws.run(data)
        say(f"LFP plateau, draws of sensor errors: {result['lfp_draws']}")
    return result
