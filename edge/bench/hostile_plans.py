"""Hostile plans: drawn at random, and searched by coordinates towards harm. One plan per string."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.bench.hostile_families import Family
from edge.bench.hostile_scene import Scene, inputs_of, look, quiet_scene
from edge.bench.hostile_verify import refusals
from edge.core_steps import merged
from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.site import Site
from reconf.switching import stage

KINDS = ("gentle", "edge", "trim", "wild")
BARE = Family("bare", "nothing is asked of a plan")
LOADED_S = (5.0, 20.0)
"""A third of how long the command in force has stood in the family `loaded`."""


def draw_scene(family: Family, site: Site, rng: np.random.Generator) -> Scene:
    """A scene of `family`, its command in force a quiet one or, where the family says so, one at power."""
    scene = quiet_scene(family, site, rng)
    if not family.loaded:
        return scene
    running = draw_plans(replace(scene, family=BARE), rng, "gentle")
    steps = stage(site, scene.image, scene.estimate, scene.envelope, scene.in_force, running)
    refused = np.array([bool(rules) for rules in refusals(scene, steps)])
    running = merged(running, scene.in_force, refused, refused[site.topology.string_of])
    plant = scene.plant.twin()
    plant.apply(inputs_of(running))
    for _ in range(3):
        plant.step(float(rng.uniform(*LOADED_S)))
    plant.forget()
    return look(family, site, plant, running, replace(scene.broken, shown=running.inserted), rng)


def _limits(scene: Scene, inserted: BoolArray, sign: FloatArray) -> FloatArray:
    """(S,) smallest believed instantaneous limit of the inserted modules, in the direction of `sign`."""
    topology = scene.site.topology
    each = np.where(
        sign[topology.string_of] >= 0.0, scene.envelope.discharge_now_a, scene.envelope.charge_now_a
    )
    smallest = np.full(topology.n_strings, np.inf)
    np.minimum.at(smallest, topology.string_of[inserted], each[inserted])
    return np.where(np.isfinite(smallest), smallest, 0.0)


def power_for(scene: Scene, inserted: BoolArray, current_a: FloatArray) -> FloatArray:
    """(S,) bus power at which about `current_a` flows."""
    topology = scene.site.topology
    e = scene.estimate
    loss = np.array(
        [
            [c.loss_fixed_w, c.loss_linear_frac, c.loss_quadratic_w_per_a2]
            for c in (s.converter for s in scene.site.strings)
        ]
    )
    emf = topology.sum_by_string(np.where(inserted, e.ocv_v - e.polarisation_v, 0.0))
    ohm = topology.sum_by_string(np.where(inserted, e.r0_ohm, 0.0) + topology.r_on_ohm)
    before = (emf - ohm * current_a) * current_a - loss[:, 0] - loss[:, 2] * current_a**2
    power: FloatArray = before / (1.0 + np.sign(before) * loss[:, 1])
    return power


def _swapped(scene: Scene, rng: np.random.Generator, chance: float) -> BoolArray:
    """The switches in force with a few moved."""
    moved = rng.random(scene.in_force.inserted.size) < chance
    return scene.in_force.inserted ^ moved


def draw_plans(scene: Scene, rng: np.random.Generator, kind: str) -> SlotCommand:
    """A command whose every string is a plan of `kind`, dressed as the scene's family is."""
    return _dressed(scene, rng, _plain_plans(scene, rng, kind))


def _dressed(scene: Scene, rng: np.random.Generator, plan: SlotCommand) -> SlotCommand:
    """What the family asks of every plan."""
    family, strings = scene.family, plan.mode.size
    if family.trims:
        plan = _with_trims(scene, rng, plan)
        stopped = rng.random(strings) < 0.3
        plan = replace(
            plan,
            mode=np.where(stopped & (rng.random(strings) < 0.5), int(ConverterMode.OFF), plan.mode),
            power_w=np.where(stopped, 0.0, plan.power_w),
        )
    if family.duty:
        by_itself = rng.random(plan.inserted.size) < 0.4
        duty = np.clip(rng.uniform(-0.2, 1.3, plan.inserted.size), 0.0, 1.0)
        inserted = np.where(by_itself, duty > 0.0, plan.inserted)
        plan = replace(
            plan, inserted=inserted, duty_mode=by_itself, duty_frac=np.where(by_itself, duty, plan.duty_frac)
        )
    if family.joining:
        runs = rng.random(strings) < 0.15
        as_before = (rng.random(strings) < 0.6)[scene.site.topology.string_of]
        plan = replace(
            plan,
            inserted=np.where(as_before, scene.in_force.inserted, plan.inserted),
            contactor=rng.random(strings) < 0.8,
            mode=np.where(runs, int(ConverterMode.POWER), int(ConverterMode.OFF)),
            power_w=np.where(runs, plan.power_w, 0.0),
        )
    if family.master:
        both = np.minimum(*(_limits(scene, plan.inserted, np.full(strings, s)) for s in (1.0, -1.0)))
        span = np.where(rng.random(strings) < 0.5, 1.0, rng.uniform(0.1, 1.1, strings))
        holds = plan.mode == int(ConverterMode.BUS_VOLTAGE)
        plan = replace(
            plan,
            current_limit_a=np.where(holds, both * span, plan.current_limit_a),
            power_w=np.where(holds & (rng.random(strings) < 0.7), 0.0, plan.power_w),
        )
    return plan


def _plain_plans(scene: Scene, rng: np.random.Generator, kind: str) -> SlotCommand:
    """A command whose every string is a plan of `kind`."""
    topology, in_force = scene.site.topology, scene.in_force
    strings = topology.n_strings
    rating_w = np.array([s.converter.power_rating_w for s in scene.site.strings])
    rating_a = np.array([s.converter.current_rating_a for s in scene.site.strings])
    sign = rng.choice([-1.0, 1.0], strings)
    if kind == "wild":
        inserted = rng.random(topology.n_modules) < rng.random(strings)[topology.string_of]
        return replace(
            in_force,
            inserted=inserted,
            power_w=rng.uniform(-1.3, 1.3, strings) * rating_w,
            current_limit_a=rng.uniform(0.0, 1.3, strings) * rating_a,
        )
    inserted = _swapped(scene, rng, 0.12)
    allowed = (scene.envelope.insertion != 1) | (rng.random(topology.n_modules) < 0.02)
    inserted &= allowed
    limit = np.minimum(_limits(scene, inserted, sign), rating_a)
    span = (0.85, 1.15) if kind == "edge" else (0.1, 1.0)
    # half keep to what a scheduler does: the limit set point is the smallest limit believed
    limit = limit * np.where(rng.random(strings) < 0.5, 1.0, rng.uniform(*span, strings))
    share = rng.uniform(0.9, 1.3, strings) if kind == "edge" else rng.uniform(0.2, 1.0, strings)
    plan = replace(
        in_force,
        inserted=inserted,
        power_w=power_for(scene, inserted, sign * limit * share),
        current_limit_a=limit,
    )
    return _with_trims(scene, rng, plan) if kind == "trim" else plan


def _with_trims(scene: Scene, rng: np.random.Generator, plan: SlotCommand) -> SlotCommand:
    """Random trims, balanced on every bus, now and then beyond what is allowed."""
    topology, envelope = scene.site.topology, scene.envelope
    wish = rng.uniform(-1.1, 1.1, topology.n_modules)
    trim = np.where(wish > 0.0, wish * envelope.trim_give_a, wish * envelope.trim_take_a)
    trim *= rng.random(topology.n_modules) < 0.5
    volts = scene.image.modules.voltage_v.value
    given = topology.sum_by_string(np.where(trim > 0.0, trim * volts * 0.92, 0.0))
    taken = topology.sum_by_string(np.where(trim < 0.0, -trim * volts, 0.0))
    less = np.minimum(given, taken)
    give = np.where(given > 0.0, less / np.maximum(given, 1e-9), 0.0)[topology.string_of]
    take = np.where(taken > 0.0, less / np.maximum(taken, 1e-9), 0.0)[topology.string_of]
    return replace(plan, trim_current_a=np.where(trim > 0.0, trim * give, trim * take))


def mutate(scene: Scene, rng: np.random.Generator, best: SlotCommand, reach: float) -> SlotCommand:
    """Every string's best plan, moved along one coordinate: power, limit, a switch, or trims."""
    topology = scene.site.topology
    strings, of = topology.n_strings, topology.string_of
    which = rng.integers(0, 4, strings)
    power = best.power_w * np.where(which == 0, 1.0 + reach * rng.normal(size=strings), 1.0)
    limit = best.current_limit_a * np.where(which <= 1, 1.0 + reach * np.abs(rng.normal(size=strings)), 1.0)
    pick = topology.start[:-1] + rng.integers(0, np.diff(topology.start))
    flip = np.zeros(topology.n_modules, dtype=np.bool_)
    flip[pick[which == 2]] = True
    trimmed = (which == 3)[of] & (rng.random(topology.n_modules) < 0.3)
    trim = best.trim_current_a + np.where(trimmed, rng.normal(0.0, 1.0, topology.n_modules), 0.0)
    flip &= ~best.duty_mode
    return replace(
        best,
        inserted=best.inserted ^ flip,
        power_w=power,
        current_limit_a=limit,
        trim_current_a=trim,
    )


AXES = 3
"""Continuous directions of the search along the slope: power, current limit, trims."""


def stretched(plan: SlotCommand, axis: int, share: FloatArray, string_of: IntArray) -> SlotCommand:
    """`plan` with one direction made larger by `share` (S,) in every string."""
    factor = 1.0 + share
    if axis == 0:
        return replace(plan, power_w=plan.power_w * factor)
    if axis == 1:
        return replace(plan, current_limit_a=plan.current_limit_a * np.maximum(factor, 0.0))
    return replace(plan, trim_current_a=plan.trim_current_a * factor[string_of])


def mixed(rng: np.random.Generator, before: SlotCommand, after: SlotCommand) -> SlotCommand:
    """A change of which only some writes arrived, each register by itself."""
    modules, strings = before.inserted.size, before.mode.size

    def half(size: int) -> BoolArray:
        return rng.random(size) < 0.5

    by_itself = half(modules)
    return replace(
        after,
        # INSERT, INSERT_MODE and DUTY of a node lie side by side and are written together
        inserted=np.where(by_itself, before.inserted, after.inserted),
        duty_mode=np.where(by_itself, before.duty_mode, after.duty_mode),
        duty_frac=np.where(by_itself, before.duty_frac, after.duty_frac),
        trim_current_a=np.where(half(modules), before.trim_current_a, after.trim_current_a),
        mode=np.where(half(strings), before.mode, after.mode),
        power_w=np.where(half(strings), before.power_w, after.power_w),
        current_limit_a=np.where(half(strings), before.current_limit_a, after.current_limit_a),
        contactor=np.where(half(strings), before.contactor, after.contactor),
    )
