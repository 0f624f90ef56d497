"""Long duties in closed loop on the twin: violations, and the energy given against a clairvoyant's.

A year is hours of work: with a checkpoint file a run stops when its budget of processor time is used up, and
the next call goes on from there to the last bit as if it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.duty_checkpoint import Campaign, resume, store
from edge.bench.duty_clairvoyant import best_wh, mean_module
from edge.bench.duty_profiles import DAY_S, Duty, cold, desert, frequency, frequency_trace, peak_shaving
from edge.bench.protect_site import bench_site, true_estimate
from edge.rubbish import Rubbish
from reconf.errors import DataFileError
from reconf.protection.limits import site_limits
from reconf.site import Site, ThermalSpec, TimingSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import Truth, draw_truth

DUTIES: Final = ("desert", "cold", "peak_shaving", "frequency", "frequency_year")
START_DAY: Final = {"winter": 15.0, "spring": 105.0, "summer": 196.0, "autumn": 288.0}
"""Day of the year a season's sample starts on."""
CLAIRVOYANT_STEP_S: Final = 300.0
SAMPLE_S: Final = 10.0
"""Of the duty within a step of the clairvoyant's."""
PHYSICS_STEP_S: Final = 20.0
"""Longest step of the twin."""
CHECKPOINT_FORM: Final = 2
SAY_EVERY_S: Final = 30.0
"""Of processor time; a day at ticks of one second takes many minutes."""
PIECE_S: Final = DAY_S
"""Control time of a piece: each is compared with a clairvoyant who starts from the state the pack is really
in, and a checkpoint is written at its end."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be run."""

    name: str
    """Of `DUTIES`."""
    data: Path | None = None
    """Folder with the recorded duties, for those that need it."""
    days: float | None = None
    """Length; None: all of it (a year for the recorded ones)."""
    season: str | None = None
    """Start in this season instead of at the turn of the year."""
    hour: float = 0.0
    """Of the first day to start at."""
    tick_s: float = 60.0
    modules: int = 24
    """In one string of up to 24."""
    cooling: bool = False
    """Whether the site has a fan to ask."""
    seed: int = 1
    """Of truth and noise."""

    @property
    def start_s(self) -> float:
        """Time of the year at the first tick."""
        return (START_DAY[self.season] * DAY_S if self.season is not None else 0.0) + 3600.0 * self.hour


def run(
    asked: Asked,
    *,
    checkpoint: Path | None = None,
    cpu_budget_s: float = float("inf"),
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """One duty on one string.

    Args:
        asked: what is to be run.
        checkpoint: file to go on from, and to write to; without one the run is in memory only.
        cpu_budget_s: processor time after which the run stops at the end of a piece (a day).
        log: told at each piece's end, and meanwhile every half minute of processor time.

    Returns:
        `violations` (steps in which the true state passed a safety tier), `energy_ratio_to_clairvoyant`, and
        what they come from; `complete` says whether the duty was run to its end.
    """
    began_s = time.process_time()
    site = _site(asked.modules, asked.tick_s, cooling=asked.cooling)
    truth = draw_truth(site, np.random.default_rng(asked.seed))
    duty = _duty(asked.name, _energy_wh(site, truth), asked.data)
    campaign = resume(checkpoint, checkpoint_key(asked)) or _begin(site, truth, asked, duty)
    loop = campaign.loop
    loop.profile = lambda now_s: duty.power_w(asked.start_s + now_s)
    end_s = DAY_S * min(duty.days if asked.days is None else asked.days, duty.days)
    rubbish = Rubbish()  # as in the daemon: by itself the collector comes several times a tick
    while loop.plant.time_s < end_s - 0.5 * asked.tick_s:
        until_s = min(end_s, loop.plant.time_s + PIECE_S)
        with rubbish.held():
            _piece(
                campaign, duty, asked.start_s, until_s, lambda: log(_standing(campaign, duty, end_s)), rubbish
            )
        campaign.put_by()
        if checkpoint is not None:
            store(checkpoint, campaign)
        log(_standing(campaign, duty, end_s))
        if time.process_time() - began_s >= cpu_budget_s:
            break
    return _told(campaign, asked, duty, end_s)


def _begin(site: Site, truth: Truth, asked: Asked, duty: Duty) -> Campaign:
    """A pack at the duty's first state of charge, as warm as its surroundings."""
    ambient = duty.ambient_degc(asked.start_s)
    plant = Plant(site, truth, ambient)
    plant.cells.soc_frac[:] = duty.soc_frac
    plant.core_degc[:] = plant.surface_degc[:] = ambient
    plant.measure_at_rest()
    step_s = min(asked.tick_s, PHYSICS_STEP_S)
    loop = Loop(site, truth, lambda _: 0.0, seed=asked.seed, plant=plant, physics_step_s=step_s)
    loop.start()
    return Campaign(key=checkpoint_key(asked), loop=loop)


def checkpoint_key(asked: Asked) -> str:
    """What a checkpoint is of, and in which form it is written."""
    return f"{CHECKPOINT_FORM} {asked!r}"


def _standing(campaign: Campaign, duty: Duty, end_s: float) -> str:
    """Where the run stands, in a line."""
    plant, ticks = campaign.loop.plant, campaign.ticks + len(campaign.loop.tick_ms)
    return (
        f"{duty.name}: day {plant.time_s / DAY_S:.2f} of {end_s / DAY_S:.2f}, {ticks} ticks, "
        f"violations {plant.violations.steps}"
    )


def _energy_wh(site: Site, truth: Truth) -> float:
    """What the full pack gives, less a tenth for losses: what duties are scaled by."""
    pack = Plant(site, truth)
    pack.cells.soc_frac[:] = 1.0
    estimate = true_estimate(pack)
    return float((estimate.remaining_ah * estimate.ocv_v).sum()) * 0.9


def _told(campaign: Campaign, asked: Asked, duty: Duty, end_s: float) -> dict[str, Any]:
    """The figures so far."""
    plant = campaign.loop.plant
    ratio = campaign.given_wh / campaign.bound_wh if campaign.bound_wh > 0.0 else 1.0
    return {
        "duty": duty.name,
        "complete": plant.time_s >= end_s - 0.5 * asked.tick_s,
        "hours": plant.time_s / 3600.0,
        "days": plant.time_s / DAY_S,
        "tick_s": asked.tick_s,
        "modules": asked.modules,
        "violations": plant.violations.steps,
        "worst": dict(plant.violations.worst),
        "energy_ratio_to_clairvoyant": ratio,
        "delivered_kwh": campaign.given_wh / 1000.0,
        "clairvoyant_kwh": campaign.bound_wh / 1000.0,
        "hottest_core_degc": campaign.hottest_degc,
        "coldest_core_degc": campaign.coldest_degc,
        "cooling_switches": campaign.cooling_switches,
        "ticks": campaign.ticks,
        "ms_per_tick": float(np.median(campaign.piece_ms)),
        "events": dict(campaign.events),
        "rungs": dict(campaign.rungs),
    }


def _piece(
    campaign: Campaign, duty: Duty, start_s: float, until_s: float, say: Callable[[], None], rubbish: Rubbish
) -> None:
    """Run up to `until_s` and book the clairvoyant's energy for the same piece."""
    loop, plant = campaign.loop, campaign.loop.plant
    from_s = plant.time_s
    limit = min(table["temperature_degc", "max"].operating for table in plant.site.limits.values())
    module = mean_module(plant, limit)
    before_j = float(plant.energy.bus_out_j.sum())
    said_s = time.process_time()
    while plant.time_s < until_s - 1e-6:
        if time.process_time() - said_s >= SAY_EVERY_S:
            said_s = time.process_time()
            say()
        plant.ambient_degc = duty.ambient_degc(start_s + plant.time_s)
        outcome = loop.step()
        campaign.rungs[outcome.view.rung.name.lower()] += 1
        fan = outcome.view.envelope.outputs.cooling_frac
        campaign.cooling_switches += fan != plant.inputs.cooling_frac
        plant.apply(replace(plant.inputs, cooling_frac=fan))
        campaign.hottest_degc = max(campaign.hottest_degc, float(plant.core_degc.max()))
        campaign.coldest_degc = min(campaign.coldest_degc, float(plant.core_degc.min()))
        rubbish.after_tick()
    campaign.given_wh += (float(plant.energy.bus_out_j.sum()) - before_j) / 3600.0
    grid = np.arange(from_s, until_s - 1e-6, CLAIRVOYANT_STEP_S)
    n = plant.topology.n_modules
    # he has the same converters
    most_w = site_limits()["string_power_frac", "max"].operating * float(
        plant.converters.power_rating_w.sum()
    )
    inside = np.arange(0.5 * SAMPLE_S, CLAIRVOYANT_STEP_S, SAMPLE_S)
    wanted = np.array([[duty.power_w(start_s + t + s) for s in inside] for t in grid])
    wanted = np.clip(wanted, -most_w, most_w) / n
    if (wanted > 0.0).any():
        ambient = np.array([duty.ambient_degc(start_s + t) for t in grid])
        give, take = np.maximum(wanted, 0.0).mean(axis=1), np.maximum(-wanted, 0.0).mean(axis=1)
        campaign.bound_wh += n * best_wh(module, give, take, ambient, CLAIRVOYANT_STEP_S)


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
