"""Scenes for hostile plans: states of many strings side by side, what is seen and believed of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.bench.hostile_belief import blind, doubted
from edge.bench.hostile_families import Family
from edge.bench.hostile_site import DOUBT_FRAC, WatchedPlant
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.protection.protect import initial_protection, protect
from reconf.readings import Channel, ModuleReadings, Quality, SiteImage, StringReadings
from reconf.site import Site
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import Truth, draw_truth

AROUND_K = 10.0
"""The air is within so much of the middle of the temperatures drawn."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Nodes that do not do what they are told."""

    silent: BoolArray
    """(M,) no answer, no write arrives; the watchdog has bypassed it, or will, or not."""
    stuck: BoolArray
    """(M,) the switch stays as it is."""
    shown: BoolArray
    """(M,) as it is."""
    mute: BoolArray
    """(S,) the converter does not answer, and nothing arrives."""
    closed: BoolArray
    """(S,) contacts welded."""
    live: BoolArray
    """(S,) the link has a voltage although the contactor is open."""

    @classmethod
    def none(cls, command: SlotCommand) -> Broken:
        """Nothing is broken under `command`."""
        modules = np.zeros(command.inserted.size, dtype=np.bool_)
        strings = np.zeros(command.mode.size, dtype=np.bool_)
        return cls(modules, modules, command.inserted, strings, strings, strings)


@dataclass(frozen=True, slots=True)
class Scene:
    """One state of all strings: what is seen, what is believed, what full knowledge would allow."""

    family: Family
    site: Site
    plant: WatchedPlant
    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    true_envelope: Envelope
    in_force: SlotCommand
    broken: Broken


def inputs_of(command: SlotCommand) -> PlantInputs:
    """Nodes that do at once what they are told."""
    return PlantInputs(
        inserted=command.inserted,
        duty_frac=np.where(command.duty_mode, command.duty_frac, 1.0),
        trim_setpoint_a=command.trim_current_a,
        mode=command.mode,
        power_setpoint_w=command.power_w,
        bus_voltage_setpoint_v=command.bus_voltage_v,
        current_limit_a=command.current_limit_a,
        contactor_closed=command.contactor,
    )


def fate(scene: Scene, command: SlotCommand, rng: np.random.Generator) -> SlotCommand:
    """What the nodes really do under `command`: one of all that they may do.

    A string that holds the bus carries whatever its current limit lets through, either way.
    """
    broken, before = scene.broken, scene.in_force
    quiet = rng.random(command.inserted.size) < 0.5
    inserted = np.where(broken.silent, before.inserted & quiet, command.inserted)
    trim = np.where(broken.silent, before.trim_current_a * quiet, command.trim_current_a)
    mute = broken.mute
    told = replace(
        command,
        inserted=np.where(broken.stuck, broken.shown, inserted),
        trim_current_a=trim,
        mode=np.where(mute, before.mode, command.mode),
        power_w=np.where(mute, before.power_w, command.power_w),
        current_limit_a=np.where(mute, before.current_limit_a, command.current_limit_a),
        contactor=np.where(mute, before.contactor, command.contactor) | broken.closed,
    )
    holds = told.mode == int(ConverterMode.BUS_VOLTAGE)
    if not holds.any():
        return told
    spec = [s.converter for s in scene.site.strings]
    most_w = np.array([c.voltage_max_v for c in spec]) * told.current_limit_a
    rating_w = np.array([c.power_rating_w for c in spec])
    either = np.minimum(most_w, 0.9 * rating_w) * rng.choice([-1.0, 1.0], holds.size)
    return replace(
        told,
        mode=np.where(holds, int(ConverterMode.POWER), told.mode),
        power_w=np.where(holds, either, told.power_w),
    )


def switched(command: SlotCommand, rng: np.random.Generator) -> SlotCommand:
    """One moment of nodes that switch by themselves: in or out, by chance and each alone."""
    now_in = rng.random(command.inserted.size) < command.duty_frac
    return replace(
        command,
        inserted=np.where(command.duty_mode, now_in, command.inserted),
        duty_mode=np.zeros_like(command.duty_mode),
    )


def drawn_truth(family: Family, site: Site, rng: np.random.Generator) -> Truth:
    """True parameters and the state at the start, each string at a charge and temperature of its own."""
    topology = site.topology
    strings, of = topology.n_strings, topology.string_of
    truth = draw_truth(site, rng)
    level = rng.uniform(*family.soc_frac, strings)[of]
    apart = 0.04 if family.soc_frac[1] - family.soc_frac[0] > 0.5 else 0.01
    level = level + rng.normal(0.0, apart, topology.n_modules)
    soc = np.clip(level, 0.02 if apart > 0.01 else 0.01, 0.99)[:, None]
    soc = soc + rng.normal(0.0, 0.004, truth.soc_frac.shape)
    warm = rng.uniform(*family.warm_degc, strings)[of] + rng.normal(0.0, 1.0, topology.n_modules)
    low, high = family.warm_degc
    truth = replace(
        truth,
        soc_frac=np.clip(soc, 0.01, 0.995),
        temperature_degc=np.clip(warm, low - 2.0, high + 1.5),
        cooling_scale=rng.uniform(1.0 - DOUBT_FRAC, 1.0 + DOUBT_FRAC, topology.n_modules),
    )
    if family.soh is not None:
        truth = _aged(truth, topology.rated_capacity_ah, rng.uniform(*family.soh, topology.n_modules))
    return _weakened(truth, site, rng) if family.weak else truth


def _aged(truth: Truth, rated_ah: FloatArray, soh: FloatArray) -> Truth:
    """`truth` at other states of health."""
    scale = soh * rated_ah / truth.capacity_ah.min(axis=1)
    return replace(truth, soh_frac=soh, capacity_ah=truth.capacity_ah * scale[:, None])


def _weakened(truth: Truth, site: Site, rng: np.random.Generator) -> Truth:
    """One group in every other module has aged apart from its neighbours."""
    size = site.topology.n_modules
    rows = np.flatnonzero(rng.random(size) < 0.5)
    group = (rng.random(rows.size) * site.topology.n_cells[rows]).astype(np.int64)
    capacity, ohm, soc = (x.copy() for x in (truth.capacity_ah, truth.resistance_scale, truth.soc_frac))
    capacity[rows, group] *= rng.uniform(0.65, 0.97, rows.size)
    ohm[rows, group] *= rng.uniform(1.0, 1.5, rows.size)
    soc[rows, group] = np.clip(soc[rows, group] + rng.normal(0.0, 0.05, rows.size), 0.01, 0.99)
    weakest = np.where(np.arange(capacity.shape[1]) < site.topology.n_cells[:, None], capacity, np.inf)
    soh = weakest.min(axis=1) / site.topology.rated_capacity_ah
    return replace(truth, soh_frac=soh, capacity_ah=capacity, resistance_scale=ohm, soc_frac=soc)


def quiet_scene(family: Family, site: Site, rng: np.random.Generator) -> Scene:
    """Strings at little power (open where they are to be joined), some nodes broken where the family says."""
    plant = WatchedPlant(site, drawn_truth(family, site, rng), _ambient_degc(family, rng))
    in_force = _quiet_command(site, plant, rng)
    if family.joining:
        off = np.zeros(in_force.mode.size, dtype=np.bool_)
        in_force = replace(
            in_force, mode=np.zeros_like(in_force.mode), power_w=np.zeros(off.size), contactor=off
        )
    broken = _broken(family, in_force, rng)
    plant.apply(
        inputs_of(replace(in_force, inserted=broken.shown, contactor=in_force.contactor | broken.closed))
    )
    for _ in range(3):
        plant.step(10.0)
    if family.master:
        mode = in_force.mode.copy()
        mode[0] = int(ConverterMode.BUS_VOLTAGE)
        volts = np.full(mode.size, site.bus.nominal_v)
        in_force = replace(in_force, mode=mode, bus_voltage_v=volts)
    return look(family, site, plant, in_force, broken, rng)


def look(
    family: Family,
    site: Site,
    plant: WatchedPlant,
    in_force: SlotCommand,
    broken: Broken,
    rng: np.random.Generator,
) -> Scene:
    """What is seen and believed of `plant` under `in_force`."""
    image = _seen(site, plant, broken, rng)
    believed, known = plant.believed(rng), plant.believed(None)
    if family.doubtful:
        believed = doubted(plant, believed, image, rng)
    late = site.timing.tick_s * 1.5
    believed = replace(believed, trusted=image.modules.age_s < late)
    _, envelope = protect(site, initial_protection(site), image, believed, site.timing.tick_s)
    _, true_envelope = protect(site, initial_protection(site), image, known, site.timing.tick_s)
    if family.blind:
        envelope = blind(site, envelope, believed)
    return Scene(family, site, plant, image, believed, envelope, true_envelope, in_force, broken)


def _ambient_degc(family: Family, rng: np.random.Generator) -> float | None:
    """Air around the racks; None: as the site file says."""
    if not family.doubtful:
        return None
    return float(np.clip(np.mean(family.warm_degc) + rng.uniform(-AROUND_K, AROUND_K), -30.0, 45.0))


def _broken(family: Family, in_force: SlotCommand, rng: np.random.Generator) -> Broken:
    """What does not work in a scene of `family`."""
    sound = Broken.none(in_force)
    modules, strings = in_force.inserted.size, in_force.mode.size
    if family.joining:
        kind = rng.random(strings)
        return replace(sound, closed=kind < 0.1, live=(kind >= 0.1) & (kind < 0.25))
    if not family.lost:
        return sound
    stuck = rng.random(modules) < 0.04
    return replace(
        sound,
        silent=(rng.random(modules) < 0.1) & ~stuck,
        stuck=stuck,
        shown=np.where(stuck, rng.random(modules) < 0.5, in_force.inserted),
        mute=rng.random(strings) < 0.1,
    )


def _seen(site: Site, plant: Plant, broken: Broken, rng: np.random.Generator) -> SiteImage:
    """What the nodes that answer show; the others' last values stand, marked."""
    image = plant.observe(rng, 1)
    modules, strings = image.modules, image.strings
    silent, mute, tick_s = broken.silent, broken.mute, site.timing.tick_s
    shown = np.where(broken.shown, int(Rm1Status.INSERTED), 0)
    status = (modules.status & ~int(Rm1Status.INSERTED)) | shown
    status = status | np.where(broken.stuck, int(Rm1Status.SWITCH_FAULT), 0)
    volts = strings.voltage_v.value
    wrong = np.where(rng.random(mute.size) < 0.3, rng.normal(0.0, 4.0, mute.size), 0.0)
    closed = (strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0
    told = np.where(closed, volts, volts + wrong)
    link = np.where(broken.live, volts * rng.uniform(0.02, 1.0, mute.size), strings.link_voltage_v.value)

    modules = replace(
        modules,
        status=status,
        answered=~silent,
        age_s=np.where(silent, tick_s * rng.uniform(1.0, 3.0, silent.size), 0.0),
    )
    strings = replace(
        strings,
        voltage_v=replace(strings.voltage_v, value=told),
        link_voltage_v=replace(strings.link_voltage_v, value=link),
        answered=~mute,
        age_s=np.where(mute, tick_s * rng.uniform(0.2, 3.0, mute.size), 0.0),
    )
    return replace(
        image,
        modules=replace(modules, **_stale(modules, silent)),
        strings=replace(strings, **_stale(strings, mute)),
    )


def _stale(readings: ModuleReadings | StringReadings, where: BoolArray) -> dict[str, Any]:
    """Every channel of `readings`, marked as old `where` (N,)."""
    found = {}
    for name in readings.__dataclass_fields__:
        channel = getattr(readings, name)
        if isinstance(channel, Channel):
            rows = where.reshape(where.shape + (1,) * (channel.value.ndim - 1))
            marks = np.where(rows, np.uint8(Quality.STALE), channel.quality).astype(np.uint8)
            found[name] = replace(channel, quality=marks)
    return found


def _quiet_command(site: Site, plant: Plant, rng: np.random.Generator) -> SlotCommand:
    """Random modules inserted, inside the window, at two percent of the power either way."""
    topology = site.topology
    strings = topology.n_strings
    low = np.array([s.converter.voltage_min_v for s in site.strings]) * 1.05
    aim = low + rng.uniform(0.0, 1.0, strings) * 0.2 * low
    volts = plant.true.module_voltage_v
    order = np.lexsort((rng.random(topology.n_modules), topology.string_of))
    total = np.cumsum(volts[order])
    start = np.concatenate(([0.0], total))[topology.start[:-1]]
    before = total - volts[order] - start[topology.string_of]
    inserted: BoolArray = np.zeros(topology.n_modules, dtype=np.bool_)
    inserted[order] = before < aim[topology.string_of]
    power = 0.02 * np.array([s.converter.power_rating_w for s in site.strings])
    limit = 0.1 * np.array([s.converter.current_rating_a for s in site.strings])
    return replace(
        SlotCommand.safe(topology.n_modules, strings),
        inserted=inserted,
        mode=np.ones(strings, dtype=np.int64),
        power_w=power * rng.choice([-1.0, 0.0, 1.0], strings),
        current_limit_a=np.minimum(limit, 10.0),
        contactor=np.ones(strings, dtype=np.bool_),
    )
