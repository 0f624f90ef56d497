"""Long duties in closed loop on the twin: violations, and the energy given against a clairvoyant's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.duty_clairvoyant import best_wh, mean_module
from edge.bench.duty_profiles import DAY_S, Duty, cold, desert, frequency, frequency_trace, peak_shaving
from edge.bench.protect_site import bench_site, true_estimate
from reconf.errors import DataFileError
from reconf.protection.limits import site_limits
from reconf.site import Site, ThermalSpec, TimingSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

DUTIES: Final = ("desert", "cold", "peak_shaving", "frequency", "frequency_year")
START_DAY: Final = {"winter": 15.0, "spring": 105.0, "summer": 196.0, "autumn": 288.0}
"""Day of the year a season's sample starts on."""
CLAIRVOYANT_STEP_S: Final = 300.0
CLAIRVOYANT_DAYS: Final = 8.0
"""Longer duties are compared piece by piece, each from the state the pack is really in."""


@dataclass(slots=True)
class _Books:
    """Energy given and bound, piece by piece."""

    given_wh: float = 0.0
    bound_wh: float = 0.0


def run(
    name: str,
    *,
    data: Path | None = None,
    days: float | None = None,
    season: str | None = None,
    hour: float = 0.0,
    tick_s: float = 60.0,
    modules: int = 24,
    cooling: bool = False,
    seed: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """One duty on one string of `modules`.

    Args:
        name: of `DUTIES`.
        data: folder with the recorded duties, for those that need it.
        days: length; None: all of it (a year for the recorded ones).
        season: start in this season instead of at the turn of the year.
        hour: of the first day to start at.
        tick_s: control tick.
        modules: in one string of up to 24.
        cooling: whether the site has a fan to ask.
        seed: of truth and noise.
        log: told of each day's end.

    Returns:
        `violations` (steps in which the true state passed a safety tier), `energy_ratio_to_clairvoyant`, and
        what they come from.
    """
    site = _site(modules, tick_s, cooling=cooling)
    truth = draw_truth(site, np.random.default_rng(seed))
    pack = Plant(site, truth)
    pack.cells.soc_frac[:] = 1.0
    estimate = true_estimate(pack)
    energy_wh = float((estimate.remaining_ah * estimate.ocv_v).sum()) * 0.9
    duty = _duty(name, energy_wh, data)
    start_s = (START_DAY[season] * DAY_S if season is not None else 0.0) + 3600.0 * hour
    plant = Plant(site, truth, duty.ambient_degc(start_s))
    plant.cells.soc_frac[:] = duty.soc_frac
    plant.core_degc[:] = plant.surface_degc[:] = duty.ambient_degc(start_s)
    loop = Loop(
        site,
        truth,
        lambda now_s: duty.power_w(start_s + now_s),
        seed=seed,
        plant=plant,
        physics_step_s=min(tick_s, 20.0),
    )
    loop.start()
    end_s = DAY_S * min(duty.days if days is None else days, duty.days)
    books, hottest = _Books(), -np.inf
    while plant.time_s < end_s - 0.5 * tick_s:
        until_s = min(end_s, plant.time_s + CLAIRVOYANT_DAYS * DAY_S)
        hottest = max(hottest, _piece(loop, duty, start_s, until_s, books))
        log(f"{duty.name}: day {plant.time_s / DAY_S:.2f}, violations {plant.violations.steps}")
    ratio = books.given_wh / books.bound_wh if books.bound_wh > 0.0 else 1.0
    return {
        "duty": duty.name,
        "days": end_s / DAY_S,
        "tick_s": tick_s,
        "modules": modules,
        "violations": plant.violations.steps,
        "worst": dict(plant.violations.worst),
        "energy_ratio_to_clairvoyant": ratio,
        "delivered_kwh": books.given_wh / 1000.0,
        "clairvoyant_kwh": books.bound_wh / 1000.0,
        "hottest_core_degc": hottest,
        "ticks": len(loop.tick_ms),
        "ms_per_tick": float(np.median(loop.tick_ms)),
    }


def _piece(loop: Loop, duty: Duty, start_s: float, until_s: float, books: _Books) -> float:
    """Run up to `until_s` and book the clairvoyant's energy for the same piece; returns the hottest core."""
    plant = loop.plant
    from_s = plant.time_s
    limit = min(table["temperature_degc", "max"].operating for table in plant.site.limits.values())
    module = mean_module(plant, limit)
    before_j = float(plant.energy.bus_out_j.sum())
    hottest = -np.inf
    while plant.time_s < until_s - 1e-6:
        plant.ambient_degc = duty.ambient_degc(start_s + plant.time_s)
        outcome = loop.step()
        asked = outcome.view.envelope.outputs.cooling_frac
        plant.apply(replace(plant.inputs, cooling_frac=asked))
        hottest = max(hottest, float(plant.core_degc.max()))
    books.given_wh += (float(plant.energy.bus_out_j.sum()) - before_j) / 3600.0
    grid = np.arange(from_s, until_s - 1e-6, CLAIRVOYANT_STEP_S)
    n = plant.topology.n_modules
    # he has the same converters
    most_w = site_limits()["string_power_frac", "max"].operating * float(
        plant.converters.power_rating_w.sum()
    )
    asked_w = np.clip([duty.power_w(start_s + t) for t in grid], -most_w, most_w) / n
    if (asked_w > 0.0).any():
        ambient = np.array([duty.ambient_degc(start_s + t) for t in grid])
        books.bound_wh += n * best_wh(module, asked_w, ambient, CLAIRVOYANT_STEP_S)
    return hottest


def _site(modules: int, tick_s: float, *, cooling: bool) -> Site:
    """One string; at long ticks a slot is one tick and an interval is one slot."""
    thermal = ThermalSpec(cooling="fan", cooling_power_w=150.0) if cooling else ThermalSpec()
    site = bench_site(modules, thermal=thermal)
    slot_s = tick_s if tick_s >= 15.0 else 2.0 * tick_s
    interval_s = slot_s * max(1, round(60.0 / slot_s))
    return replace(site, timing=TimingSpec(tick_s=tick_s, slot_s=slot_s, interval_s=interval_s))


def _duty(name: str, energy_wh: float, data: Path | None) -> Duty:
    """The duty called `name`."""
    if name == "desert":
        return desert(energy_wh)
    if name == "cold":
        return cold(energy_wh)
    recorded = {"peak_shaving": peak_shaving, "frequency": frequency, "frequency_year": frequency_trace}
    if name not in recorded:
        raise DataFileError(f"no duty {name!r}; there are {', '.join(DUTIES)}")
    if data is None:
        raise DataFileError(f"duty {name} needs --data, the folder with the recorded duties")
    return recorded[name](energy_wh, data)
