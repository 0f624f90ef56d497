"""`reconf bench binning`: time and gap of the binning of many modules, and the gain on real cells."""

from __future__ import annotations

import csv
import resource
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge.files import read_table_lines
from reconf.arrays import FloatArray
from reconf.binning.assign import Layout, Objective, assign, sort_key
from reconf.binning.compare import plan_energy_wh
from reconf.binning.lot import Lot, ModuleKind
from reconf.binning.study import cell_study
from reconf.errors import DataFileError
from reconf.site import Chemistry

LENGTH, SPARES = 12, 2
KIND = ModuleKind(Chemistry.NMC, "nmc_generic", 12, 1, 60.0)


def drawn_lot(modules: int, seed: int) -> Lot:
    """A lot with a mean SOH of 0.8, 13 % spread, 3 % grading error and resistances within 15 %."""
    rng = np.random.default_rng(seed)
    rated = np.full(modules, KIND.rated_capacity_ah)
    capacity = rated * np.maximum(rng.normal(0.8, 0.8 * 0.13, modules), 0.3)
    scale = rng.lognormal(np.log(1.3), 0.15, modules)
    return Lot(
        serials=tuple(map(str, range(modules))),
        kinds=(KIND,),
        kind_of=np.zeros(modules, dtype=np.int64),
        capacity_ah=capacity,
        capacity_std_ah=np.full(modules, 0.03) * rated,
        resistance_ohm=scale * KIND.resistance_new_ohm(),
        voltage_v=np.full(modules, KIND.voltage_v()),
        rated_capacity_ah=rated,
        resistance_scale=scale,
    )


def run(modules: int, seed: int, parallel: int = 1) -> dict[str, Any]:
    """Bin `modules` into strings of 12 of which 10 are inserted; energy, bound and gap in kWh."""
    lot = drawn_lot(modules, seed)
    layout = Layout(modules // (LENGTH * parallel), LENGTH, parallel, SPARES, current_a=20.0 * parallel)
    begin = perf_counter()
    key = sort_key(lot, Objective.ENERGY, 0.0, 0.02, 10)
    plan = assign(lot, layout, key)
    objective, bound = plan_energy_wh(lot, layout, plan)
    seconds = perf_counter() - begin
    return {
        "modules": modules,
        "strings": layout.strings,
        "length": LENGTH,
        "parallel": parallel,
        "spares": SPARES,
        "seconds": seconds,
        "objective": objective / 1e3,
        "bound": bound / 1e3,
        "gap": (bound - objective) / bound,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    }


def cell_capacities_ah(path: Path) -> FloatArray:
    """Measured capacity of each physical cell of a pulse table (columns ID and Q) [Ah].

    Raises:
        DataFileError: no such columns, or not numbers.
    """
    reader = csv.DictReader(read_table_lines(path))
    if not {"ID", "Q"} <= set(reader.fieldnames or ()):
        raise DataFileError(f"{path}:1: needs the columns ID and Q [Ah]; found {reader.fieldnames}")
    cells: dict[str, float] = {}
    for row in reader:
        try:
            cells[row["ID"]] = float(row["Q"])
        except (TypeError, ValueError) as error:
            raise DataFileError(
                f"{path}:{reader.line_num}: column Q: {row['Q']!r} is not a number"
            ) from error
    return np.array(list(cells.values()))


def run_cells(path: Path, strings: int, length: int, draws: int, seed: int) -> dict[str, Any]:
    """Binning and time-sharing on real cells, with 90 % intervals."""
    capacity = cell_capacities_ah(path)
    study = cell_study(capacity, strings, length, (1, 2), draws, np.random.default_rng(seed))
    return {
        "cells": len(capacity),
        "capacity_cv": float(capacity.std(ddof=1) / capacity.mean()),
        "strings": strings,
        "length": length,
        "draws": draws,
        "utilisation": study,
    }
