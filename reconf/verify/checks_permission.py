"""Rules about what may be used at all: shape, numbers, open orders, insertion, staleness, the bus."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.devices.rc1 import Rc1Status
from reconf.protection.envelope import Insertion
from reconf.verify.context import Context
from reconf.verify.findings import Findings
from reconf.verify.tables import Tables

BY_MODULE = ("inserted", "duty_mode", "duty_frac", "trim_current_a")
KINDS = {"inserted": "b", "duty_mode": "b", "contactor": "b", "mode": "i"}
"""Kinds of numbers (numpy's `dtype.kind`) of what is no floating-point number."""
STALE_TICKS = 1.5
"""A converter's readings older than this many ticks only allow less to be asked of it."""
MODES = np.array([int(mode) for mode in ConverterMode])
LATCHES = int(Rc1Status.WATCHDOG_EXPIRED | Rc1Status.HARDWARE_FAULT | Rc1Status.EMERGENCY_STOP)


def check_shape(found: Findings, tables: Tables, command: SlotCommand) -> None:
    """Arrays of the right size and kind, and finite numbers; no other rule can be computed without them.

    Types are promises of whoever made the command: here they are looked at.
    """
    for field in fields(command):
        values: object = getattr(command, field.name)
        size = tables.n_modules if field.name in BY_MODULE else tables.n_strings
        if not isinstance(values, np.ndarray) or values.dtype.kind not in KINDS.get(field.name, "f"):
            found.site("shape", 0.0, float(size))
        elif values.shape != (size,):
            found.site("shape", float(values.size), float(size))
        elif not np.isfinite(values).all():
            found.site("not_finite", float(np.count_nonzero(~np.isfinite(values))), 0.0)


def check_values(found: Findings, tables: Tables, command: SlotCommand) -> None:
    """Values that no image can make right."""
    duty = command.duty_frac
    odd = (duty < 0.0) | (duty > 1.0) | (command.duty_mode & (command.inserted != (duty > 0.0)))
    found.flags("duty_range", odd, tables.serials)
    known = (command.mode[:, None] == MODES).any(axis=1)
    found.flags("mode_value", ~known, tables.names)
    found.flags("negative_limit", command.current_limit_a < 0.0, tables.names)


def check_permission(found: Findings, c: Context) -> None:
    """Open orders, forbidden and forced modules, stale readings, latches."""
    t, p = c.tables, c.proposed
    active = ~c.resting & (c.running | p.contactor)
    inputs = c.image.inputs
    alarm = inputs.emergency_stop or inputs.gas_alarm or inputs.smoke_alarm or inputs.fire_alarm
    if c.envelope.site_open or alarm:
        found.flags("site_open", active, t.names)
    found.flags("string_unusable", active & ~c.envelope.string_usable, t.names)
    strict = ~c.resting[t.string_of]
    wanted = np.where(p.duty_mode, p.duty_frac > 0.0, p.inserted)
    before = np.where(c.in_force.duty_mode, c.in_force.duty_frac > 0.0, c.in_force.inserted)
    insertion = c.envelope.insertion
    # one that is in already may stay while nothing may flow: on its way out, or at power 0
    spared = before & (p.current_limit_a == 0.0)[t.string_of]
    forbidden = wanted & ~spared & (insertion == int(Insertion.FORBIDDEN))
    found.flags("insertion_forbidden", strict & forbidden, t.serials)
    found.flags("insertion_forced", strict & ~wanted & (insertion == int(Insertion.FORCED)), t.serials)
    silent = ~c.image.modules.answered
    age = c.image.modules.age_s
    found.at_most("stale_module", age, np.zeros_like(age), strict & wanted & ~before & silent, t.serials)
    stale = active & ~c.fresh
    limit = np.full(t.n_strings, STALE_TICKS * c.dt_s)
    found.at_most("stale_string", c.image.strings.age_s, limit, stale, t.names)
    # the last status that was read: one that fell silent latched is latched until it says otherwise
    latched = (c.image.strings.status & LATCHES) != 0
    found.flags("converter_latched", active & latched, t.names)


def check_bus(found: Findings, c: Context) -> None:
    """One master of the DC bus, inside its window, and nobody running without one."""
    t, p = c.tables, c.proposed
    holds = p.mode == int(ConverterMode.BUS_VOLTAGE)
    strict = ~c.resting & c.running
    found.flags("bus_master", strict & holds & ~t.is_master, t.names)
    low, high = np.full(t.n_strings, t.bus_min_v), np.full(t.n_strings, t.bus_max_v)
    found.at_least("bus_setpoint", p.bus_voltage_v, low, strict & holds, t.names)
    found.at_most("bus_setpoint", p.bus_voltage_v, high, strict & holds, t.names)
    follows = strict & ~holds
    if t.is_master.any():
        master_runs = bool(np.any(t.is_master & holds & c.read_closed))
        found.flags("bus_lost", follows & (not master_runs), t.names)
    bus = c.image.strings.bus_voltage_v
    seen = follows & bus.good
    found.at_least("bus_lost", bus.value, low, seen, t.names)
    found.at_most("bus_lost", bus.value, high, seen, t.names)
