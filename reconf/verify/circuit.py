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

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.compiled import engine_for
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
        # wider whatever the sign: one that stands reversed pulls its string down, and counts as it does
        u_low_v=np.where(known, np.minimum(low, low * (1.0 - SOURCE_MARGIN_FRAC)), 0.0),
        u_high_v=np.where(known, np.maximum(high, high * (1.0 + SOURCE_MARGIN_FRAC)), ceiling),
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


@dataclass(frozen=True, slots=True)
class Case:
    """One state to expose: who is in, and which of the commands at hand may stand in a register."""

    surely: BoolArray
    maybe: BoolArray
    commands: tuple[int, ...]
    """Places in the list of commands, the newest last."""


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
    return exposures(tables, source, (Case(surely, maybe, tuple(range(len(commands)))),), commands)[0]


def exposures(
    tables: Tables, source: Sources, cases: tuple[Case, ...], commands: tuple[SlotCommand, ...]
) -> tuple[Exposure, ...]:
    """`exposure` of K cases at once: on small sites the time goes into calls, not into numbers.

    Letters in shapes: K cases, C commands; 2 for the two resistances, or for low and high.
    """
    surely, maybe = np.array([c.surely for c in cases]), np.array([c.maybe for c in cases])
    takes = np.array([[i in c.commands for i in range(len(commands))] for c in cases])[
        :, :, None
    ]  # (K, C, 1)
    trims = np.array([c.trim_current_a for c in commands])
    limits = np.array([c.current_limit_a for c in commands])
    loop = compiled_bounds()
    if loop is not None:
        return _told(
            cases,
            commands,
            loop(
                tables.string_of, tables.string_r_on_ohm, tables.loss_linear_frac, tables.loss_fixed_w,
                tables.loss_quadratic_w_per_a2, source.u_low_v, source.u_high_v, source.r_low_ohm,
                source.r_high_ohm, surely, maybe, takes[:, :, 0], trims, limits,
                np.array([c.power_w for c in commands]), np.array([c.mode for c in commands], dtype=np.int64),
            ),
        )  # fmt: skip
    limit = np.where(takes, limits, -np.inf).max(axis=1)
    trim = np.array(
        (np.where(takes, trims, np.inf).min(axis=1), np.where(takes, trims, -np.inf).max(axis=1))
    )  # (2, K, M): low, high
    drop = np.where(trim[1] > 0.0, source.r_high_ohm, source.r_low_ohm) * trim[1]
    emf, r_high, r_low = _sums(
        tables,
        np.array(
            (
                np.where(surely, source.u_low_v - drop, 0.0),
                np.where(maybe, source.r_high_ohm, 0.0),
                np.where(surely, source.r_low_ohm, 0.0),
            )
        ),
    )
    ohm = np.stack((r_high, r_low), axis=1) + tables.string_r_on_ohm  # (K, 2, S)
    low, high = _flows(tables, np.maximum(emf, 0.0), ohm, limit, takes, commands)
    volts = _string_voltages(tables, source, surely, maybe, np.array((high, low)), trim[::-1])
    return _told(cases, commands, (trim[1], limit, low, high, volts[0], volts[1]))


@lru_cache(maxsize=1)
def compiled_bounds() -> Callable[..., tuple[FloatArray, ...]] | None:
    """The compiled steps of `exposures`, None without numba; loaded before the first tick."""
    if engine_for("auto") == "numpy":
        return None
    from reconf.verify.kernels_circuit import bounds

    return bounds


def _told(
    cases: tuple[Case, ...], commands: tuple[SlotCommand, ...], found: tuple[FloatArray, ...]
) -> tuple[Exposure, ...]:
    """An `Exposure` of each case from what was `found`, each with the cases along axis 0."""
    trim, limit, low, high, volts_low, volts_high = found
    return tuple(
        Exposure(
            surely=case.surely,
            maybe=case.maybe,
            trim_a=trim[k],
            mode=np.maximum.reduce([commands[i].mode for i in case.commands]).astype(np.float64),
            power_w=commands[case.commands[-1]].power_w,
            limit_a=limit[k],
            current_low_a=low[k],
            current_high_a=high[k],
            voltage_low_v=volts_low[k],
            voltage_high_v=volts_high[k],
        )
        for k, case in enumerate(cases)
    )


def _sums(tables: Tables, values: FloatArray) -> FloatArray:
    """Sum (..., M) over each string -> (..., S), each in site order."""
    rows = values.size // tables.n_modules
    place = np.arange(rows)[:, None] * tables.n_strings + tables.string_of
    sums = np.bincount(place.ravel(), weights=values.ravel(), minlength=rows * tables.n_strings)
    return sums.astype(np.float64).reshape(*values.shape[:-1], tables.n_strings)


def _flows(
    tables: Tables,
    emf_v: FloatArray,
    resistance_ohm: FloatArray,
    limit_a: FloatArray,
    takes: BoolArray,
    commands: tuple[SlotCommand, ...],
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest string current (K, S) [A] over the commands of each case, 0 among them.

    Most current flows from the lowest voltage: discharging over the highest resistance (it pulls the voltage
    down), charging over the lowest (it lifts it least). `emf_v` and `limit_a` (K, S), `resistance_ohm`
    (K, 2, S), `takes` (K, C, 1).
    """
    power = np.array([c.power_w for c in commands])
    mode = np.array([c.mode for c in commands])
    limit = limit_a[:, None, None, :]
    flow = solve_current_a(tables, emf_v[:, None, None, :], resistance_ohm[:, :, None, :], power)
    running = takes & (mode != int(ConverterMode.OFF))
    flow = np.where(running[:, None], np.minimum(np.maximum(flow, -limit), limit), 0.0)
    free = takes & (mode == int(ConverterMode.BUS_VOLTAGE))
    low = np.where(free[:, None], -limit, flow).min(axis=(1, 2))
    high = np.where(free[:, None], limit, flow).max(axis=(1, 2))
    return np.minimum(low, 0.0), np.maximum(high, 0.0)


def _string_voltages(
    tables: Tables,
    source: Sources,
    surely: BoolArray,
    maybe: BoolArray,
    current_a: FloatArray,
    trim_a: FloatArray,
) -> FloatArray:
    """Lowest and highest string voltage (2, K, S) [V] over all subsets.

    The lowest comes with the highest string current and trims, the highest with the lowest: both (2, K, ...)
    in that order.
    """
    module_current = current_a[:, :, tables.string_of] + trim_a
    out = module_current > 0.0
    low = source.u_low_v - module_current[0] * np.where(out[0], source.r_high_ohm, source.r_low_ohm)
    high = source.u_high_v - module_current[1] * np.where(out[1], source.r_low_ohm, source.r_high_ohm)
    each = np.array(
        (
            np.where(np.where(low > 0.0, surely, maybe), low, 0.0),
            np.where(np.where(high > 0.0, maybe, surely), high, 0.0),
        )
    )
    return _sums(tables, each) - current_a * tables.string_r_on_ohm
