"""Measured cells and modules as image streams, with the sensor errors of a real module added.

The data lie beside the project (`../shared/data`); none of them is part of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.bank import CellBank
from reconf.cells.model import SOC_NODES, soc_grid
from reconf.errors import DataFileError
from reconf.estimation.constants import Constants, constants_of
from reconf.protection.limits import default_limits
from reconf.readings import Channel, ModuleReadings, Quality, SiteImage, SiteInputs, StringReadings
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
)


@dataclass(frozen=True, slots=True)
class CellLog:
    """One measured run. N samples, C cell groups in series."""

    name: str
    time_s: FloatArray
    """(N,)"""
    current_a: FloatArray
    """(N,) discharge positive."""
    voltage_v: FloatArray
    """(N, C)"""
    temperature_degc: FloatArray
    """(N,)"""
    out_ah: FloatArray
    """(N,) charge counted by the laboratory, discharge positive."""
    reference_soc_frac: FloatArray
    """(N,) of the group that ends the run, by its own charge count."""
    capacity_ah: float
    """What the reference SOC is counted in."""

    def part(self, first: int, last: int) -> CellLog:
        """Samples first..last-1."""
        cut = slice(first, last)
        return replace(
            self,
            time_s=self.time_s[cut],
            current_a=self.current_a[cut],
            voltage_v=self.voltage_v[cut],
            temperature_degc=self.temperature_degc[cut],
            out_ah=self.out_ah[cut],
            reference_soc_frac=self.reference_soc_frac[cut],
        )


@dataclass(frozen=True, slots=True)
class SensorErrors:
    """Errors added to a log: the currents scale with the module (60 Ah is the module scale)."""

    gain_frac: float = 0.005
    offset_a_at_60_ah: float = 0.030
    voltage_noise_v: float = 0.002
    temperature_noise_k: float = 0.5


def one_module_site(
    chemistry: Chemistry, cell_model: str, n_cells: int, rated_ah: float, soh_frac: float, soh_std_frac: float
) -> Site:
    """A site of one module, for logs of one."""
    module = ModuleSpec(
        serial="LOG-1",
        chemistry=chemistry,
        cell_model=cell_model,
        n_cells=n_cells,
        n_parallel=1,
        rated_capacity_ah=rated_ah,
        soh_frac=soh_frac,
        soh_std_frac=soh_std_frac,
        resistance_scale=1.0,
        trim_rating_a=0.0,
        trim_efficiency_frac=0.92,
    )
    converter = ConverterSpec("g", 201, 1e4, 100.0, 1.0, 100.0, 0.0, 0.0, 0.0)
    position = PositionSpec(label="1", gateway="g", unit_id=1, module=module, r_on_ohm=0.0005)
    return Site(
        name="log",
        gateways=(GatewaySpec(name="g", kind="tcp"),),
        strings=(StringSpec(name="A", converter=converter, positions=(position,)),),
        bus=BusSpec("pcs", 50.0, 40.0, 60.0),
        limits={chemistry: default_limits(chemistry.value)},
    )


def images(
    log: CellLog, errors: SensorErrors, rng: np.random.Generator, every: int = 1
) -> Iterator[tuple[SiteImage, float]]:
    """Image and time step of each `every`-th sample, as a node with these sensor errors shows them."""
    n, c = log.voltage_v.shape
    scale = log.capacity_ah / 60.0
    offset = errors.offset_a_at_60_ah * scale
    sensed = log.current_a * (1.0 + errors.gain_frac) + offset
    counter = log.out_ah * (1.0 + errors.gain_frac) + offset * log.time_s / 3600.0
    cells = log.voltage_v + errors.voltage_noise_v * rng.standard_normal((n, c))
    whole = log.voltage_v.sum(axis=1) + errors.voltage_noise_v * np.sqrt(c) * rng.standard_normal(n)
    warm = log.temperature_degc[:, None] + errors.temperature_noise_k * rng.standard_normal((n, 2))
    last = 0
    for k in range(every, n, every):
        passed = float(log.time_s[k] - log.time_s[last])
        if passed > 0.0:
            one = {"cells_v": cells[k], "whole_v": whole[k], "current_a": sensed[k], "counter_ah": counter[k]}
            seen = {name: value[None] for name, value in one.items()}
            yield modules_image(k, log, warm_degc=warm[k][None], **seen), passed
            last = k


def modules_image(
    k: int,
    log: CellLog,
    *,
    cells_v: FloatArray,
    whole_v: FloatArray,
    current_a: FloatArray,
    warm_degc: FloatArray,
    counter_ah: FloatArray,
) -> SiteImage:
    """Sample `k` of `log` as seen by M modules, each a string of its own.

    Args:
        k: number of the sample.
        log: for its time, and the ambient temperature.
        cells_v: (M, C)
        whole_v: (M,)
        current_a: (M,)
        warm_degc: (M, 2)
        counter_ah: (M,)
    """
    m = whole_v.size
    one = np.ones(m)
    integers = np.zeros(m, dtype=np.int64)
    nothing = Channel.of(np.full(m, np.nan), Quality.NO_ANSWER)
    fine = np.ones(m, dtype=np.bool_)
    modules = ModuleReadings(
        answered=fine,
        age_s=np.zeros(m),
        status=np.ones(m, dtype=np.int64),
        voltage_v=Channel.of(whole_v),
        current_a=Channel.of(current_a),
        temperature_degc=Channel.of(warm_degc),
        cell_voltage_v=Channel.of(cells_v),
        trim_current_a=Channel.of(np.zeros(m)),
        charge_counter_ah=Channel.of(counter_ah),
        duty_frac=Channel.of(one),
        sample_counter=integers + k,
        heartbeat_echo=integers,
        uptime_s=integers + int(log.time_s[k]),
        insert_count=integers,
    )
    names = ["voltage_v", "current_a", "bus_voltage_v", "bus_current_a", "power_w", "link_voltage_v"]
    names += ["heatsink_temperature_degc", "energy_out_kwh", "energy_in_kwh"]
    strings = StringReadings(
        answered=~fine,
        age_s=np.full(m, np.inf),
        status=integers + 2,
        sample_counter=integers,
        heartbeat_echo=integers,
        **dict.fromkeys(names, nothing),
    )
    ambient = float(np.median(log.temperature_degc))
    return SiteImage(k, float(log.time_s[k]), modules, strings, SiteInputs(ambient_degc=ambient))


# ---- files -----------------------------------------------------------------------------------------


def _bitrode(path: Path) -> FloatArray:
    """Columns time [s], step, time in step [s], current [A, out positive], voltage [V] of a cell log."""
    if not path.is_file():
        raise DataFileError(f"{path.name} is not in {path.parent}")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[0] == "No"]
    return np.array([[float(r[1]), float(r[6]), float(r[7]), -float(r[8]), float(r[9])] for r in rows])


def _counted(table: FloatArray) -> FloatArray:
    """Cumulative charge [Ah]: a row that begins a step counts its own current since the step began only."""
    time_s, step, in_step_s, current = table[:, 0], table[:, 1], table[:, 2], table[:, 3]
    passed = np.diff(time_s, prepend=time_s[0])
    before = np.concatenate([current[:1], current[:-1]])
    begins = np.diff(step, prepend=step[0]) != 0.0
    own = np.where(begins, np.minimum(in_step_s, passed), 0.0)
    moved = np.where(begins, own * current + (passed - own) * before, 0.5 * (current + before) * passed)
    charge: FloatArray = np.cumsum(moved) / 3600.0
    return charge


LEAF_HPPC = {
    10.0: "NissanLeaf-cell-Low-Current-HPPC-10C.csv",
    25.0: "NissanLeaf-cell-Low-Current-HPPC-25C-2.csv",
    40.0: "NissanLeaf-cell-Low-Current-HPPC-40C-1.csv",
}
LEAF_CELL_AH = 30.6
"""Charge between the cut-offs of the cell of those logs: 30.51 Ah from full to 3.0 V at C/3 in the 25 degC
log, and the 0.3 % that the drop at that current leaves behind."""
LEAF_CELL_RATED_AH = 32.5


def leaf_hppc(folder: Path, temperature_degc: float) -> CellLog:
    """The cell's charge, pulses and discharge; SOC counted from the full charge."""
    name = LEAF_HPPC[temperature_degc]
    table = _bitrode(folder / "nissan_leaf_cell_module" / name)
    out_ah = _counted(table)
    full = int(np.argmin(out_ah))
    return CellLog(
        name=name,
        time_s=table[:, 0],
        current_a=table[:, 3],
        voltage_v=table[:, 4:5],
        temperature_degc=np.full(len(table), temperature_degc),
        out_ah=out_ah,
        reference_soc_frac=1.0 - (out_ah - out_ah[full]) / LEAF_CELL_AH,
        capacity_ah=LEAF_CELL_AH,
    )


LEAF_MODULES = {
    "0.3C": "module123-irdischarge-65ah-0_3c.csv",
    "1C": "module123-irdischarge-65ah-1_0c.csv",
}


def leaf_modules(folder: Path, rate: str) -> CellLog:
    """Three modules in series (six groups), discharged until group A1 stands at 3.0 V.

    `capacity_ah` is the charge of the run and the reference SOC is what of it is left: the truth that
    such a log holds is *remaining charge*, its SOC at the start has to come from its rest voltage.
    """
    path = folder / "nissan_leaf_cell_module" / LEAF_MODULES[rate]
    if not path.is_file():
        raise DataFileError(f"{path.name} is not in {path.parent}")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(file))
    head = next(k for k, row in enumerate(rows) if row and row[0] == "Total Time")
    data = [r for r in rows[head + 1 :] if len(r) > 29]
    table = np.array([[float(x) for x in (r[0], r[7], r[10], *r[20:29])] for r in data])
    keep = np.concatenate([[True], np.diff(table[:, 0]) > 0.0])
    table = table[keep]
    # the Ah column has two decimals and the true sampling; between its steps the current is integrated
    step = np.diff(table[:, 0], prepend=table[0, 0])
    out_ah = np.cumsum(-table[:, 1] * step) / 3600.0
    out_ah *= -table[-1, 2] / out_ah[-1]
    run = float(out_ah[-1])
    return CellLog(
        name=path.name,
        time_s=table[:, 0],
        current_a=-table[:, 1],
        voltage_v=table[:, 3:9],
        temperature_degc=table[:, 9:12].mean(axis=1),
        out_ah=out_ah,
        reference_soc_frac=(run - out_ah) / run,
        capacity_ah=run,
    )


def lfp_flat_zone(folder: Path) -> CellLog:
    """25 h of an LFP cell between 20 and 80 % SOC; SOC from the laboratory's own charge count."""
    from scipy.io import loadmat

    path = folder / "lfp_flat_zone" / "Long_flat_zone_data_25_degree.mat"
    if not path.is_file():
        raise DataFileError(f"{path.name} is not in {path.parent}")
    tests: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["battery_tests"]
    return CellLog(
        name=path.name,
        time_s=np.asarray(tests.time, dtype=np.float64),
        current_a=np.asarray(tests.Current, dtype=np.float64),
        voltage_v=np.asarray(tests.VT, dtype=np.float64)[:, None],
        temperature_degc=np.full(len(tests.time), 25.0),
        # the laboratory's SOC is its charge count over the 1.2 Ah
        out_ah=-float(tests.Cp) * np.asarray(tests.SOC, dtype=np.float64),
        reference_soc_frac=np.asarray(tests.SOC, dtype=np.float64),
        capacity_ah=float(tests.Cp),
    )


LFP_HYSTERESIS_RATE = 10.0
"""Plett's gamma of that cell, from a least-squares fit of its log (rates 10..300 tried); its resistances
are not fitted but those of the generic model, corrected by what the filter learns."""


def lfp_constants(folder: Path, site: Site) -> Constants:
    """Constants of `site` with the measured OCV and hysteresis curves of that very cell in its bank."""
    from scipy.io import loadmat

    path = folder / "lfp_flat_zone" / "Real_SOC_OCV_Curve.mat"
    data = loadmat(path, squeeze_me=True)
    constants = site.derived(constants_of)
    soc = np.asarray(data["SOC_OCV"], dtype=np.float64) / 100.0
    middle = 0.5 * (np.asarray(data["OCV_charge"]) + np.asarray(data["OCV_discharge"]))
    half = 0.5 * (np.asarray(data["OCV_charge"]) - np.asarray(data["OCV_discharge"]))
    bank = with_curves(constants.bank, soc, middle, half)
    return replace(constants, bank=replace(bank, hysteresis_rate=np.full(1, LFP_HYSTERESIS_RATE)))


def with_curves(bank: CellBank, soc: FloatArray, ocv_v: FloatArray, half_width_v: FloatArray) -> CellBank:
    """`bank` (of one cell model) with another OCV and hysteresis half width over SOC."""
    grid = soc_grid()
    table = bank.table.copy()
    columns = table.shape[1] // 2
    for column, values in ((0, ocv_v), (columns - 1, half_width_v)):
        curve = np.interp(grid, soc, values)
        if column == 0:
            # steep straight ends, as the cell dives below empty and climbs above full
            curve += 5.0 * np.minimum(grid, 0.0) + 5.0 * np.maximum(grid - 1.0, 0.0)
        rise = np.diff(curve)
        table[:SOC_NODES, column] = curve
        table[:SOC_NODES, columns + column] = np.append(rise, rise[-1])
    return replace(bank, table=table)
