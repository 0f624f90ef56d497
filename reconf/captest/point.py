"""Two points of known SOC and the charge between them: capacity with its doubt.

At rest the terminal voltage is the open-circuit voltage but for what is left of polarisation, so the SOC of
every cell group follows from its curve; the charge between two such points over the difference of SOC is the
group's capacity, Q = dq / (z1 - z2). The module's capacity is what its weakest group can still give and
its strongest can still take. One sigma of a point is that of the curve over its slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.cells.bank import CellBank
from reconf.estimation.constants import constants_of
from reconf.estimation.tuning import TUNING
from reconf.readings import SiteImage
from reconf.site import Site

FLAT_SLOPE_V = 1e-3
"""Slope of the open-circuit curve below which it says nothing [V per unit SOC]."""
POINT_CORRELATION = 0.3
"""Share of the curve's error (sensor offset, maker) that both points have in common and that cancels."""
GAIN_STD_FRAC = 0.002
"""Of the charge counted, after it was corrected by the consensus of the string's sensors."""
REST_LEFT_STD_FRAC = 0.25
"""Of the polarisation that the model says is left at the end of the rest."""


@dataclass(frozen=True, slots=True)
class Point:
    """A module at rest."""

    time_s: float
    soc_frac: tuple[float, ...]
    """Of each cell group."""
    soc_std_frac: tuple[float, ...]
    counter_ah: float
    """CHARGE_COUNTER of the node."""
    uptime_s: int
    temperature_degc: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a test gave."""

    serial: str
    time_s: float
    """Control time of its end."""
    capacity_ah: float
    std_ah: float
    soc_frac: tuple[float, float]
    """Mean SOC of the groups at both points."""
    charge_ah: float
    """Between them, discharge positive, corrected."""
    hours: float
    temperature_degc: float


def point_at(
    site: Site, m: int, image: SiteImage, polarisation_v: float, temperature_degc: float, soh: float
) -> Point | None:
    """The point at which module `m` rests now; None where a reading is missing.

    Args:
        site: of the module.
        m: index in site order.
        image: of this tick.
        polarisation_v: what the model says is left of polarisation and hysteresis, whole module.
        temperature_degc: of its core.
        soh: present capacity over rated, for the drift of the curve with age.
    """
    constants = site.derived(constants_of)
    n, modules = int(constants.bank.n_cells[m]), image.modules
    cells, counter = modules.cell_voltage_v, modules.charge_counter_ah
    if not (modules.answered[m] and cells.good[m, :n].all() and counter.good[m]):
        return None
    one = CellBank.of([site.modules[m]])
    left_v = polarisation_v / n
    ocv = (cells.value[m, :n] + left_v)[None, :]
    soc = one.soc_of_ocv(ocv, temperature_degc, soh)
    slope = np.maximum(one.docv_dsoc_v(soc), FLAT_SLOPE_V)
    doubt_v = np.hypot(constants.ocv_std_v[m], REST_LEFT_STD_FRAC * left_v)
    loop_v = TUNING.hysteresis_error_frac * one.at(soc).hysteresis_v
    std = np.hypot(doubt_v, loop_v) / slope
    return Point(
        time_s=image.time_s,
        soc_frac=tuple(map(float, soc[0])),
        soc_std_frac=tuple(map(float, std[0])),
        counter_ah=float(counter.value[m]),
        uptime_s=int(modules.uptime_s[m]),
        temperature_degc=temperature_degc,
    )


def capacity_between(
    serial: str, first: Point, second: Point, *, bias_a: float, gain_frac: float
) -> Capacity | str:
    """Capacity from two points, or why there is none.

    Args:
        serial: of the module.
        first: earlier point.
        second: later point.
        bias_a: offset of its current sensor [A], discharge positive.
        gain_frac: gain of that sensor over the consensus of its string, less one.
    """
    if second.uptime_s < first.uptime_s:
        return "its node was restarted in between: the charge counter began anew"
    seconds = second.time_s - first.time_s
    charge = (second.counter_ah - first.counter_ah - bias_a * seconds / 3600.0) / (1.0 + gain_frac)
    fall = np.array(first.soc_frac) - np.array(second.soc_frac)
    if np.abs(fall).min() < 0.1 or charge * float(fall.mean()) <= 0.0:
        return f"only {float(np.abs(fall).min()):.0%} of SOC lie between the points"
    each = charge / fall
    held = np.array(second.soc_frac) * each
    room = (1.0 - np.array(second.soc_frac)) * each
    weakest, strongest = int(held.argmin()), int(room.argmin())
    capacity = float(held[weakest] + room[strongest])
    ends = np.hypot(np.array(first.soc_std_frac), np.array(second.soc_std_frac))
    relative = float((ends / np.abs(fall))[[weakest, strongest]].mean()) * np.sqrt(1.0 - POINT_CORRELATION)
    return Capacity(
        serial=serial,
        time_s=second.time_s,
        capacity_ah=capacity,
        std_ah=capacity * float(np.hypot(relative, GAIN_STD_FRAC)),
        soc_frac=(float(np.mean(first.soc_frac)), float(np.mean(second.soc_frac))),
        charge_ah=float(charge),
        hours=seconds / 3600.0,
        temperature_degc=0.5 * (first.temperature_degc + second.temperature_degc),
    )
