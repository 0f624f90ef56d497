"""Lying temperature sensors while a cold pack is charged with all it lets in: what the lie lets through.

One case lies by its site file instead: `graded_wrongly` has capacities that scatter by 10 % where the file
admits 3 %, and watches all modules.

Twelve modules in closed loop at -4 degC, asked to be charged with more than they may take; sensors of four
lie. `limit_over_honest` compares their charge limits, tick by tick, with a run of the same noise in which
nobody lies, while the two runs are not apart in charge; `minute_over_honest` their means over a minute, so
that the noise of single readings of the sensor that lies is not counted. `limit_over_true` compares them
with the plating table at the true SOC, temperature and capacity (which keeps 10 mV in hand), and `plating_s`
counts the time in which the anode of any cell was below 0 V against lithium by the same table at the true
state and current.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.bench.closed_loop import Hooks, Loop
from edge.bench.protect_site import bench_site
from reconf.arrays import BoolArray, FloatArray
from reconf.protection import plating
from reconf.readings import Channel, SiteImage
from reconf.site import ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

LIARS = slice(2, 6)
"""Modules whose sensors lie."""
ALL = slice(0, 12)
SCATTER_CV = 0.1
"""Of the capacities of the pack that was graded wrongly; its file says 3 points of SOH."""
FROM_S = 300.0
AMBIENT_DEGC = -4.0
SOC_FRAC = 0.4
CHARGE_W = -30_000.0
"""More than the pack may take."""
TICK_S = 10.0
FIRST, BOTH = slice(0, 1), slice(0, 2)


@dataclass(frozen=True, slots=True)
class Lie:
    """An offset of temperature sensors from FROM_S on."""

    kelvin: float
    sensors: slice
    within_s: float = 0.0
    """Time in which it grows to that; 0 at once."""

    def __call__(self, image: SiteImage, plant: Plant) -> SiteImage:
        """The image with the lie."""
        since_s = plant.time_s - FROM_S
        if since_s < 0.0:
            return image
        value = image.modules.temperature_degc.value.copy()
        value[LIARS, self.sensors] += self.kelvin * min(since_s / max(self.within_s, 1e-9), 1.0)
        return replace(image, modules=replace(image.modules, temperature_degc=Channel.of(value)))


LIES: dict[str, Lie] = {
    "one_sensor_plus_15_k": Lie(15.0, FIRST),
    "both_sensors_plus_15_k": Lie(15.0, BOTH),
    "both_sensors_creep_15_k_in_5_min": Lie(15.0, BOTH, 300.0),
    "one_sensor_ramp_0.1_k_per_min": Lie(12.0, FIRST, 7200.0),
    "both_sensors_ramp_0.1_k_per_min": Lie(12.0, BOTH, 7200.0),
}


@dataclass(frozen=True, slots=True)
class Run:
    """(T, L) of the lying modules at every tick."""

    limit_a: FloatArray
    true_limit_a: FloatArray
    soc_frac: FloatArray
    plating_s: float
    """Of the worst cell."""
    safety_violations: int
    found_s: float | None


def charge(
    lie: Callable[[SiteImage, Plant], SiteImage] | None,
    seconds: float,
    *,
    scatter_cv: float = 0.0,
    watched: slice = LIARS,
) -> Run:
    """Charge the pack for `seconds` under `lie`.

    Args:
        lie: what is read, changed.
        seconds: of control time.
        scatter_cv: of the true capacities; 0: as the site file says.
        watched: modules that are judged.
    """
    site = bench_site(12, tick_s=TICK_S, thermal=ThermalSpec(ambient_degc=AMBIENT_DEGC))
    site = replace(site, twin_soh_cv=scatter_cv)
    truth = draw_truth(site, np.random.default_rng(4), soc_frac=SOC_FRAC)
    truth = replace(truth, temperature_degc=np.full(12, AMBIENT_DEGC))
    loop = Loop(site, truth, lambda _: CHARGE_W, seed=1, hooks=Hooks(on_image=lie), ambient_degc=AMBIENT_DEGC)
    loop.start()
    limits, true_limits, socs = [], [], []
    below_s = np.zeros(truth.soc_frac[watched].shape)
    for _ in range(round(seconds / TICK_S)):
        outcome = loop.step()
        plant = loop.plant
        soc, capacity = plant.cells.soc_frac[watched], truth.capacity_ah[watched]
        soh = np.minimum(capacity / plant.bank.rated_capacity_ah[watched, None], 1.0)
        cold = np.broadcast_to(plant.core_degc[watched, None], soc.shape)
        most = plating.charge_limit_a(soc.ravel(), cold.ravel(), capacity.ravel(), soh.ravel())
        now_a = np.broadcast_to(-plant.true.module_current_a[watched, None], soc.shape)
        margin = plating.margin_v(soc.ravel(), cold.ravel(), now_a.ravel(), most)
        below_s += np.where(margin.reshape(soc.shape) < 0.0, TICK_S, 0.0)
        limits.append(outcome.view.envelope.charge_now_a[watched])
        true_limits.append(most.reshape(soc.shape).min(axis=1))
        socs.append(soc.mean(axis=1))
    liars = {x.serial for x in site.modules[watched]}
    found = [f.since_s - FROM_S for f in outcome.view.estimate.findings if f.serial in liars]
    return Run(
        np.array(limits),
        np.array(true_limits),
        np.array(socs),
        float(below_s.max()),
        loop.plant.violations.steps,
        min(found, default=None),
    )


SAME_SOC_FRAC = 0.002
"""Two runs further apart in charge have other limits for that reason."""


def cold_lies(seconds: float = 3600.0) -> list[dict[str, Any]]:
    """One row for each of `LIES`, the honest run first."""
    honest = charge(None, seconds)
    rows = [_row("honest", honest, honest)]
    rows += [_row(name, charge(lie, seconds), honest) for name, lie in LIES.items()]
    return [*rows, graded_wrongly(seconds)]


def graded_wrongly(seconds: float = 3600.0) -> dict[str, Any]:
    """The pack whose capacities scatter more than its site file says, nobody else lying."""
    run = charge(None, seconds, scatter_cv=SCATTER_CV, watched=ALL)
    return _row("graded_wrongly", run, run)


def _row(name: str, run: Run, honest: Run) -> dict[str, Any]:
    same = np.abs(run.soc_frac - honest.soc_frac) < SAME_SOC_FRAC
    return {
        "kind": name,
        "found_s": run.found_s,
        "limit_over_honest": _most(run.limit_a, honest.limit_a, same),
        "minute_over_honest": _most(_minutes(run.limit_a), _minutes(honest.limit_a), _minutes(same) > 0.999),
        "limit_over_true": _most(run.limit_a, run.true_limit_a, np.ones(same.shape, dtype=np.bool_)),
        "plating_s": run.plating_s,
        "safety_violations": run.safety_violations,
    }


def _minutes(values: BoolArray | FloatArray) -> FloatArray:
    """(T - 5, L) running means over a minute."""
    ticks = round(60.0 / TICK_S)
    mean: FloatArray = np.lib.stride_tricks.sliding_window_view(values, ticks, axis=0).mean(axis=-1)
    return mean


def _most(limit_a: FloatArray, against_a: FloatArray, where: BoolArray) -> float:
    """Largest ratio, where there is a limit to compare with."""
    fits = where & (against_a > 0.0)
    return round(float(np.where(fits, limit_a / np.maximum(against_a, 1e-9), 0.0).max()), 4)
