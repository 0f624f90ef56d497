"""`reconf bench binning`: time and gap of the binning of many modules, and the gain on real cells."""

from __future__ import annotations

import csv
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from time import perf_counter, process_time
from typing import Any

import numpy as np

from edge.files import read_table_lines
from reconf.arrays import FloatArray
from reconf.binning.assign import (
    Layout,
    Objective,
    assign,
    compatible,
    group_bound_frac,
    group_gap_frac,
    sort_key,
)
from reconf.binning.compare import plan_energy_wh
from reconf.binning.lot import Lot, ModuleKind
from reconf.binning.study import cell_study
from reconf.errors import DataFileError
from reconf.site import Chemistry

LENGTH, SPARES = 12, 2
EASY = (ModuleKind(Chemistry.NMC, "nmc_generic", 12, 1, 60.0),)
HARD = (
    *EASY,
    ModuleKind(Chemistry.LFP, "lfp_generic", 12, 1, 50.0),
    ModuleKind(Chemistry.LMO, "leaf_lmo", 2, 2, 65.0),
    ModuleKind(Chemistry.NCA, "nca_generic", 8, 1, 45.0),
)
"""Four makes that may not share a string, in unequal numbers."""
HARD_SHARES = (0.4, 0.3, 0.2, 0.1)
CONFIDENCE = 0.9


def drawn_lot(modules: int, seed: int, kinds: Sequence[ModuleKind] = EASY) -> Lot:
    """A lot with a mean SOH of 0.8 and 13 % spread.

    One kind: graded within 3 %, resistances within 15 %. Several: from a fully tested module (1 %) to one
    that nobody has measured (10 %), resistances within 30 %, and a tail of nearly dead modules.
    """
    rng = np.random.default_rng(seed)
    hard = len(kinds) > 1
    shares = HARD_SHARES if hard else (1.0,)
    kind_of = rng.choice(len(kinds), modules, p=shares).astype(np.int64)
    rated = np.array([k.rated_capacity_ah for k in kinds])[kind_of]
    soh = np.maximum(rng.normal(0.8, 0.8 * 0.13, modules), 0.3)
    soh = np.where(rng.random(modules) < (0.03 if hard else 0.0), rng.uniform(0.3, 0.6, modules), soh)
    std = rng.uniform(0.01, 0.10, modules) if hard else np.full(modules, 0.03)
    scale = rng.lognormal(np.log(1.3), 0.30 if hard else 0.15, modules)
    return Lot(
        serials=tuple(map(str, range(modules))),
        kinds=tuple(kinds),
        kind_of=kind_of,
        capacity_ah=soh * rated,
        capacity_std_ah=std * rated,
        resistance_ohm=scale * np.array([k.resistance_new_ohm() for k in kinds])[kind_of],
        voltage_v=np.array([k.voltage_v() for k in kinds])[kind_of],
        rated_capacity_ah=rated,
        resistance_scale=scale,
    )


def run(modules: int, seed: int, parallel: int = 1, case: str = "hard") -> dict[str, Any]:
    """Bin `modules` into strings of 12 of which 10 are inserted; energy, bound and gap in kWh.

    The hard case sorts by the capacity that is met with 90 % probability; `promised` is the energy and the
    bound at those capacities.
    """
    lot = drawn_lot(modules, seed, HARD if case == "hard" else EASY)
    per_string = LENGTH * parallel
    strings = sum(len(members) // per_string for members in compatible(lot))
    layout = Layout(strings, LENGTH, parallel, SPARES, current_a=10.0 * parallel)
    deviations = NormalDist().inv_cdf(CONFIDENCE) if case == "hard" else 0.0
    begin, begin_cpu = perf_counter(), process_time()
    key = sort_key(lot, Objective.ENERGY, deviations, 0.02, 10)
    plan = assign(lot, layout, key)
    objective, bound = plan_energy_wh(lot, layout, plan)
    seconds, cpu = perf_counter() - begin, process_time() - begin_cpu
    sure = replace(lot, capacity_ah=np.maximum(key, 0.0))
    promised, promised_bound = plan_energy_wh(sure, layout, plan)
    groups = lot.capacity_ah[plan.index]
    return {
        "case": case,
        "modules": modules,
        "kinds": len(lot.kinds),
        "strings": layout.strings,
        "length": LENGTH,
        "parallel": parallel,
        "spares": SPARES,
        "confidence": CONFIDENCE if case == "hard" else 0.5,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "objective": objective / 1e3,
        "bound": bound / 1e3,
        "gap": (bound - objective) / bound,
        "promised": promised / 1e3,
        "promised_gap": (promised_bound - promised) / promised_bound,
        "group_gap": group_gap_frac(groups) if parallel > 1 else 0.0,
        "group_bound": group_bound_frac(groups) if parallel > 1 else 0.0,
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
