"""The string as a circuit, recomputed from the image and the estimate alone.

Of every module: an interval for its source voltage (what its terminals would show without current), from
two independent views. The measured one is terminal voltage + r0 * current of the same second; the believed
one is open-circuit voltage - polarisation. Their hull, widened, is used: neither alone is trusted.

Kirchhoff for a string at current I (discharge positive), with w = 1 inserted, 0 bypassed:

    V(I) = sum_i w_i * (u_i - r_i * (I + t_i)) - I * sum_i R_on,i

and the converter's balance for P at the bus:  V(I) * I = P + fixed + linear * |P| + quadratic * I^2,
a quadratic in I whose stable root (the one that goes to 0 with P) is  2A / (E + sqrt(E^2 - 4 A (R + q))).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.state import Estimate
from reconf.readings import SiteImage
from reconf.verify.tables import Tables

SOURCE_MARGIN_FRAC = 0.002
"""Widening of a module's source voltage: 1 mV resolution and the sensor's gain error of RM1."""
RESISTANCE_MARGIN_FRAC = 0.15
"""Doubt in a tracked resistance."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Every module as an interval of source voltages behind an interval of resistances. All (M,)."""

    u_low_v: FloatArray
    u_high_v: FloatArray
    r_low_ohm: FloatArray
    r_high_ohm: FloatArray
    known: BoolArray
    """At least one of the two views has a number."""


def sources(tables: Tables, image: SiteImage, estimate: Estimate) -> Sources:
    """Hull of the measured and the believed source voltage of every module."""
    readings = image.modules
    resistance = np.where(np.isfinite(estimate.r0_ohm) & (estimate.r0_ohm >= 0.0), estimate.r0_ohm, 0.0)
    sane = readings.voltage_v.good & readings.current_a.good
    measured = np.where(sane, readings.voltage_v.value + resistance * readings.current_a.value, np.nan)
    believed = estimate.ocv_v - estimate.polarisation_v
    low, high = np.fmin(measured, believed), np.fmax(measured, believed)
    known = np.isfinite(low) & np.isfinite(high)
    ceiling = tables.n_cells * tables.cell_voltage_max_v
    return Sources(
        u_low_v=np.where(known, np.maximum(low, 0.0) * (1.0 - SOURCE_MARGIN_FRAC), 0.0),
        u_high_v=np.where(known, high * (1.0 + SOURCE_MARGIN_FRAC), ceiling),
        r_low_ohm=resistance * (1.0 - RESISTANCE_MARGIN_FRAC),
        r_high_ohm=resistance * (1.0 + RESISTANCE_MARGIN_FRAC),
        known=known,
    )


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one commanded state may do: who is in, and which currents may flow."""

    surely: BoolArray
    """(M,) inserted whatever happens."""
    maybe: BoolArray
    """(M,) inserted in at least one of the cases."""
    trim_a: FloatArray
    mode: FloatArray
    power_w: FloatArray
    limit_a: FloatArray
    current_low_a: FloatArray
    """(S,) most negative (charging) string current that may flow."""
    current_high_a: FloatArray
    """(S,) most positive."""
    voltage_low_v: FloatArray
    """(S,) lowest string voltage at those currents."""
    voltage_high_v: FloatArray


def inserted_bounds(command: SlotCommand, image: SiteImage, unsure: BoolArray) -> tuple[BoolArray, BoolArray]:
    """(M,) surely and maybe inserted under `command`.

    A node that runs DUTY by itself is not synchronised with the others: for 0 < d < 1 it is either. So is a
    module whose switch nobody can vouch for, and one that shows another state than commanded.
    """
    on = np.where(command.duty_mode, command.duty_frac >= 1.0, command.inserted)
    on_at_times = np.where(command.duty_mode, command.duty_frac > 0.0, command.inserted)
    stuck = image.modules.answered & ((image.modules.status & int(Rm1Status.SWITCH_FAULT)) != 0)
    shown = (image.modules.status & int(Rm1Status.INSERTED)) != 0
    surely = np.where(stuck, shown, on & ~unsure)
    maybe = np.where(stuck, shown, on_at_times | unsure)
    return surely.astype(np.bool_), maybe.astype(np.bool_)


def solve_current_a(
    tables: Tables, emf_v: FloatArray, resistance_ohm: FloatArray, power_w: FloatArray
) -> FloatArray:
    """String current for a power at the bus (S,) [A]; +-inf where the string cannot give or take it."""
    power_string_w = power_w + tables.loss_linear_frac * np.abs(power_w) + tables.loss_fixed_w
    stiff = resistance_ohm + tables.loss_quadratic_w_per_a2
    root = emf_v**2 - 4.0 * power_string_w * stiff
    denominator = emf_v + np.sqrt(np.maximum(root, 0.0))
    possible = (root >= 0.0) & (denominator > 0.0)
    current = 2.0 * power_string_w / np.where(possible, denominator, 1.0)
    return np.where(possible, current, np.where(power_string_w > 0.0, np.inf, -np.inf))


def exposure(
    tables: Tables,
    source: Sources,
    surely: BoolArray,
    maybe: BoolArray,
    commands: tuple[SlotCommand, ...],
) -> Exposure:
    """Worst case over all subsets in which each register stands as in any one of `commands`.

    Every bound is a sum of each module's own extreme, so the 2^M subsets need no enumeration.
    """
    limit = np.maximum.reduce([c.current_limit_a for c in commands])
    trim_high = np.maximum.reduce([c.trim_current_a for c in commands])
    trim_low = np.minimum.reduce([c.trim_current_a for c in commands])
    drop = np.where(trim_high > 0.0, source.r_high_ohm, source.r_low_ohm) * trim_high
    emf_low = np.maximum(tables.sum_by_string(np.where(surely, source.u_low_v - drop, 0.0)), 0.0)
    r_high = tables.sum_by_string(np.where(maybe, source.r_high_ohm, 0.0)) + tables.string_r_on_ohm
    r_low = tables.sum_by_string(np.where(surely, source.r_low_ohm, 0.0)) + tables.string_r_on_ohm
    lows, highs = [np.zeros(tables.n_strings)], [np.zeros(tables.n_strings)]
    for command in commands:
        running = command.mode != ConverterMode.OFF
        free = command.mode == ConverterMode.BUS_VOLTAGE
        # most current flows from the lowest voltage: discharging over the highest resistance (it pulls the
        # voltage down), charging over the lowest (it lifts it least)
        for resistance in (r_high, r_low):
            flow = solve_current_a(tables, emf_low, resistance, command.power_w)
            flow = np.where(running, np.clip(flow, -limit, limit), 0.0)
            lows.append(np.where(free, -limit, flow))
            highs.append(np.where(free, limit, flow))
    current_low, current_high = np.minimum.reduce(lows), np.maximum.reduce(highs)
    return Exposure(
        surely=surely,
        maybe=maybe,
        trim_a=trim_high,
        mode=np.maximum.reduce([c.mode for c in commands]).astype(np.float64),
        power_w=commands[-1].power_w,
        limit_a=limit,
        current_low_a=current_low,
        current_high_a=current_high,
        voltage_low_v=_string_voltage(tables, source, surely, maybe, current_high, trim_high, low=True),
        voltage_high_v=_string_voltage(tables, source, surely, maybe, current_low, trim_low, low=False),
    )


def _string_voltage(
    tables: Tables,
    source: Sources,
    surely: BoolArray,
    maybe: BoolArray,
    current_a: FloatArray,
    trim_a: FloatArray,
    *,
    low: bool,
) -> FloatArray:
    """Lowest or highest string voltage (S,) [V] at a string current, over all subsets."""
    module_current = current_a[tables.string_of] + trim_a
    if low:
        drop = module_current * np.where(module_current > 0.0, source.r_high_ohm, source.r_low_ohm)
        each = source.u_low_v - drop
        taken = np.where(each > 0.0, surely, maybe)
    else:
        drop = module_current * np.where(module_current > 0.0, source.r_low_ohm, source.r_high_ohm)
        each = source.u_high_v - drop
        taken = np.where(each > 0.0, maybe, surely)
    return tables.sum_by_string(np.where(taken, each, 0.0)) - current_a * tables.string_r_on_ohm
