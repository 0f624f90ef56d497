"""A module node's own trips against the limits that the software works by.

They are the hardware's last resort and belong to a chemistry; nothing relies on them. Two things are worth a
word all the same. A trip inside a tier acts before the software does: inside the safety tier it takes the
module out where a fault should have told first, inside the operating tier in normal service. And a trip far
beyond the safety tier is none: it belongs to another chemistry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reconf.protection.limits import LimitTable, default_limits
from reconf.site import Chemistry

Side = Literal["max", "min"]

FAR: Final = {
    ("cell_voltage_v", "max"): 0.2,
    ("cell_voltage_v", "min"): 0.7,
    ("temperature_degc", "max"): 30.0,
}
"""How far beyond the chemistry's own safety tier a trip may lie and still be a backstop: this keeps the trips
of one chemistry apart from another's. RM1's lie 0.1 V above, 0.4 to 0.5 V below and 20 to 25 K above it; at
80 degC the film of the anode begins to heat by itself (Feng et al. 2018, doi 10.1016/j.ensm.2017.05.013)."""
QUANTITIES: Final[dict[str, tuple[str, Side, str]]] = {
    "TRIP_CELL_MAX": ("cell_voltage_v", "max", "V"),
    "TRIP_CELL_MIN": ("cell_voltage_v", "min", "V"),
    "TRIP_TEMPERATURE_MAX": ("temperature_degc", "max", "degC"),
}
"""Limited quantity, side and unit by register."""


@dataclass(frozen=True, slots=True)
class TripRemark:
    """A trip that does not fit the limits."""

    register: str
    expected: str
    found: str
    remedy: str


def trip_remarks(
    chemistry: Chemistry, limits: LimitTable, trips: Mapping[str, float]
) -> tuple[TripRemark, ...]:
    """What is odd about the trips of one node; nothing of a value that it does not tell (NaN).

    Args:
        chemistry: of the module, by the site file.
        limits: of the site for it; they may be tighter than the chemistry's own.
        trips: value by register, of `QUANTITIES`.
    """
    own = default_limits(chemistry)
    found: list[TripRemark] = []
    for register, (quantity, side, unit) in QUANTITIES.items():
        value, row = trips.get(register, math.nan), limits[quantity, side]
        sign = 1.0 if side == "max" else -1.0
        far = own[quantity, side].safety + sign * FAR[quantity, side]
        if sign * value < sign * row.operating:
            told = f"{value:g} {unit}, inside the operating limit of {row.operating:g} {unit}"
            remedy = (
                "the node bypasses the module by itself in normal service: set its trip, or its chemistry"
            )
        elif sign * value <= sign * row.safety:
            told = f"{value:g} {unit}, inside the safety limit of {row.safety:g} {unit}"
            remedy = "the node acts before the software does: set its trip, or its chemistry"
        elif sign * value > sign * far:
            told = f"{value:g} {unit}, far beyond the safety limit of {row.safety:g} {unit}"
            remedy = "for this chemistry that is no backstop: set the node's trip, or its chemistry"
        else:
            continue
        beyond = "above" if side == "max" else "below"
        expected = f"{register} {beyond} {row.safety:g} {unit} and not {beyond} {far:g} {unit}"
        found.append(TripRemark(register, expected, told, remedy))
    return tuple(found)
