"""Time and memory of the state filter."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import psutil

from edge.bench.estimation_drive import NOISE
from edge.bench.protect_site import bench_site
from reconf.estimation.filter import estimate, initial_state
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth


def run(modules: int, ticks: int = 100) -> dict[str, Any]:
    """Filter `ticks` images of a working site of `modules` modules, one second apart.

    Returns:
        `modules`, `ms_per_tick` (best tenth of the ticks: other processes only ever add), `ms_median`,
        `ms_worst`, `us_per_module_tick` and `rss_mib` of the whole process. `processor_ms_per_tick` and
        `processor_ms_median` count the time of this thread alone: on a shared core the clock on the wall
        counts the others too.
    """
    site = bench_site(modules)
    rng = np.random.default_rng(1)
    plant = Plant(site, draw_truth(site, rng, soc_frac=0.7))
    m, s = site.topology.n_modules, site.topology.n_strings
    images = []
    for k in range(ticks + 10):
        inputs = PlantInputs.safe(m, s)
        inputs.inserted[:] = np.arange(m) % 12 != (k // 2) % 12
        inputs.duty_frac[:] = 1.0
        inputs.mode[:] = 1
        inputs.power_setpoint_w[:] = 300.0 * m / s
        inputs.current_limit_a[:] = 60.0
        inputs.contactor_closed[:] = True
        plant.apply(inputs)
        plant.step(1.0)
        images.append(observe(plant, rng, k, plant.time_s, NOISE))
    state = initial_state(site, images[0])
    spent, own = [], []
    for image in images:
        before, before_own = time.perf_counter(), time.thread_time()
        state, _ = estimate(site, state, image, 1.0)
        own.append(1e3 * (time.thread_time() - before_own))
        spent.append(1e3 * (time.perf_counter() - before))
    timed, timed_own = np.sort(spent[10:]), np.sort(own[10:])
    tenth = max(1, ticks // 10)
    best = float(np.mean(timed[:tenth]))
    return {
        "modules": m,
        "ms_per_tick": round(best, 3),
        "ms_median": round(float(np.median(timed)), 3),
        "ms_worst": round(float(timed[-1]), 3),
        "processor_ms_per_tick": round(float(np.mean(timed_own[:tenth])), 3),
        "processor_ms_median": round(float(np.median(timed_own)), 3),
        "us_per_module_tick": round(1e3 * best / m, 3),
        "ticks": ticks,
        "rss_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
        "wanted_ms_per_tick": 5.0,
    }
