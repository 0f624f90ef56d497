"""Time of one tick of protect and verify on a site of any size, one core."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge.bench.protect_site import bench_site, true_estimate
from reconf.actuation import ConverterMode, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray
from reconf.protection.protect import initial_protection, protect
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth
from reconf.verify.verify import verify

SCENES = 20
"""Different images that are gone through in turn."""


def run(modules: int, ticks: int = 200, seed: int = 1) -> dict[str, Any]:
    """Drive a site at half its power and time protect and verify on every tick.

    Returns:
        `ms_per_tick`: median of protect and verify together; `protect_ms`, `verify_ms`: medians of each;
        `ms_per_tick_p99`, `ms_per_tick_best`; `cpu_ms_per_tick`: processor time alone, which a busy machine
        does not lengthen; `refused`: ticks whose command verify did not let through.
    """
    site = bench_site(modules)
    rng = np.random.default_rng(seed)
    plant = Plant(site, draw_truth(site, rng))
    command = _command(site)
    plant.apply(
        PlantInputs(
            inserted=command.inserted,
            duty_frac=command.inserted.astype(np.float64),
            trim_setpoint_a=command.trim_current_a,
            mode=command.mode,
            power_setpoint_w=command.power_w,
            bus_voltage_setpoint_v=command.bus_voltage_v,
            current_limit_a=command.current_limit_a,
            contactor_closed=command.contactor,
        )
    )
    plant.step(30.0)
    scenes = []
    for tick in range(SCENES):
        plant.step(1.0)
        scenes.append((plant.observe(rng, tick), true_estimate(plant)))
    state = initial_protection(site)
    spent, refused = [], 0
    cpu_s = 0.0
    for tick in range(ticks):
        image, estimate = scenes[tick % SCENES]
        cpu_s -= time.thread_time()
        start = time.perf_counter()
        state, envelope = protect(site, state, image, estimate, 1.0)
        middle = time.perf_counter()
        outcome = verify(site, image, estimate, envelope, command, command, dt_s=1.0)
        spent.append((middle - start, time.perf_counter() - middle))
        cpu_s += time.thread_time()
        refused += not isinstance(outcome, VerifiedCommand)
    protect_ms, verify_ms = 1000.0 * np.array(spent[min(5, ticks - 1) :]).T
    both = protect_ms + verify_ms
    return {
        "modules": modules,
        "ticks": ticks,
        "ms_per_tick": float(np.median(both)),
        "ms_per_tick_best": float(both.min()),
        "ms_per_tick_p99": float(np.quantile(both, 0.99)),
        "cpu_ms_per_tick": 1000.0 * cpu_s / ticks,
        "protect_ms": float(np.median(protect_ms)),
        "verify_ms": float(np.median(verify_ms)),
        "refused": refused,
    }


def _command(site: Site) -> SlotCommand:
    """All modules inserted, every string at half its rating, no trim."""
    m, s = site.topology.n_modules, len(site.strings)
    inserted: BoolArray = np.ones(m, dtype=np.bool_)
    rating = np.array([string.converter.power_rating_w for string in site.strings])
    return SlotCommand(
        inserted=inserted,
        duty_mode=np.zeros(m, dtype=np.bool_),
        duty_frac=np.zeros(m),
        trim_current_a=np.zeros(m),
        mode=np.full(s, int(ConverterMode.POWER), dtype=np.int64),
        power_w=0.5 * rating,
        bus_voltage_v=np.zeros(s),
        current_limit_a=np.full(s, 40.0),
        contactor=np.ones(s, dtype=np.bool_),
    )
