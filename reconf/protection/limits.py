"""Limits as data: one row per quantity and side, three tiers each, checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from reconf.errors import ConfigError


class Tier(IntEnum):
    """How far a limit is from harm."""

    OPERATING = 0
    """Where the allocator plans."""
    RECOMMENDED = 1
    """Where derating ends and an alarm begins."""
    SAFETY = 2
    """Never to be passed; passing it raises a fault."""


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limited quantity on one side."""

    quantity: str
    """Name with its unit, e.g. `cell_voltage_v`, `temperature_degc`, `charge_current_c`."""
    side: Literal["max", "min"]
    operating: float
    recommended: float
    safety: float
    hysteresis: float
    """In the quantity's unit; how far back inside before it counts as gone."""
    debounce_s: float
    consequence: str
    """What follows when the safety tier is passed, in words."""

    def tier(self, tier: Tier) -> float:
        """Value of `tier`."""
        return (self.operating, self.recommended, self.safety)[tier]


LimitTable = Mapping[tuple[str, str], LimitRow]
"""Rows by (quantity, side)."""

MODULE_ROWS: tuple[tuple[str, str], ...] = (
    ("cell_voltage_v", "max"),
    ("cell_voltage_v", "min"),
    ("cell_voltage_spread_v", "max"),
    ("temperature_degc", "max"),
    ("temperature_degc", "min"),
    ("charge_temperature_degc", "max"),
    ("charge_temperature_degc", "min"),
    ("temperature_difference_k", "max"),
    ("discharge_current_c", "max"),
    ("charge_current_c", "max"),
    ("soc_frac", "max"),
    ("soc_frac", "min"),
)
"""Rows that every chemistry's table must have."""


@cache
def limits_data() -> dict[str, Any]:
    """The whole of data/limits.yaml as read (callers must not write into it)."""
    from ruamel.yaml import YAML

    text = files("reconf.protection").joinpath("data/limits.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return data


def _rows(*blocks: Mapping[str, Mapping[str, list[Any]]]) -> dict[tuple[str, str], LimitRow]:
    """Flatten blocks of the data file; a later block replaces rows of an earlier one."""
    table: dict[tuple[str, str], LimitRow] = {}
    for block in blocks:
        for quantity, sides in block.items():
            for side, columns in sides.items():
                *numbers, consequence = columns
                operating, recommended, safety, hysteresis, debounce_s = map(float, numbers)
                table[quantity, side] = LimitRow(
                    quantity,
                    "max" if side == "max" else "min",
                    operating,
                    recommended,
                    safety,
                    hysteresis,
                    debounce_s,
                    str(consequence),
                )
    return table


@cache
def default_limits(chemistry: str) -> LimitTable:
    """Limits of a module of `chemistry` (`LMO`, `NMC`, `LFP`, `NCA`); sources stand in the data file.

    Raises:
        ConfigError: the chemistry has no table.
    """
    data = limits_data()
    block = data.get(str(chemistry))
    if block is None or str(chemistry) in {"sources", "common", "site"}:
        raise ConfigError(f"no limits for chemistry {chemistry!r}; add a block to reconf/protection/data")
    return _rows(data["common"], block)


@cache
def site_limits() -> LimitTable:
    """Limits of strings, converters and the site as a whole."""
    return _rows(limits_data()["site"])


def loosened(own: LimitTable, table: LimitTable) -> list[str]:
    """What is looser in `table` than in `own`, the limits of the chemistry itself.

    The safety tier and its debounce are what cells bear and what lies inside the hardware's trips: a site may
    tighten them. Cells that bear more are a chemistry of their own, with sources.
    """
    found = []
    for (quantity, side), row in table.items():
        least = own[quantity, side]
        name = f"{quantity} {side}"
        if (row.safety > least.safety) if side == "max" else (row.safety < least.safety):
            found.append(f"{name}: safety {row.safety:g} is looser than {least.safety:g}")
        if row.debounce_s > least.debounce_s:
            found.append(f"{name}: debounce_s {row.debounce_s:g} is longer than {least.debounce_s:g}")
    return found


def check_tiers(table: LimitTable) -> list[str]:
    """Contradictions inside a table of module limits, one sentence each; empty when it is sound.

    Operating must lie inside recommended, recommended strictly inside safety; hysteresis must fit between
    the two sides; charge temperatures must lie inside those for being used at all.
    """
    findings = [
        f"{quantity} {side}: row is missing"
        for quantity, side in MODULE_ROWS
        if (quantity, side) not in table
    ]
    for key, row in table.items():
        findings += _check_row(key, row)
    findings += [line for quantity in sorted({q for q, _ in table}) for line in _check_pair(table, quantity)]
    for side in ("max", "min"):
        findings += _check_charge_window(table, side)
    return findings


def _check_row(key: tuple[str, str], row: LimitRow) -> list[str]:
    """What is wrong with one row by itself."""
    name = f"{key[0]} {key[1]}"
    found: list[str] = []
    if key != (row.quantity, row.side):
        found.append(f"{name}: the row calls itself {row.quantity} {row.side}")
    if not all(
        map(math.isfinite, (row.operating, row.recommended, row.safety, row.hysteresis, row.debounce_s))
    ):
        return [*found, f"{name}: every number must be finite"]
    sign = 1.0 if row.side == "max" else -1.0
    if sign * row.operating > sign * row.recommended:
        found.append(
            f"{name}: operating {row.operating:g} must not lie outside recommended {row.recommended:g}"
        )
    if sign * row.recommended >= sign * row.safety:
        found.append(f"{name}: recommended {row.recommended:g} must lie inside safety {row.safety:g}")
    if row.hysteresis < 0.0:
        found.append(f"{name}: hysteresis {row.hysteresis:g} must not be negative")
    if row.debounce_s < 0.0:
        found.append(f"{name}: debounce_s {row.debounce_s:g} must not be negative")
    return found


def _check_pair(table: LimitTable, quantity: str) -> list[str]:
    """Whether the two sides of `quantity` leave room between them."""
    low, high = table.get((quantity, "min")), table.get((quantity, "max"))
    if low is None or high is None:
        return []
    if low.operating >= high.operating:
        return [
            f"{quantity}: operating min {low.operating:g} must lie below operating max {high.operating:g}"
        ]
    room = high.operating - low.operating
    if low.hysteresis + high.hysteresis >= room:
        both = low.hysteresis + high.hysteresis
        return [f"{quantity}: hysteresis of both sides, {both:g}, must be below the operating span {room:g}"]
    return []


def _check_charge_window(table: LimitTable, side: str) -> list[str]:
    """Charging may not be allowed at temperatures at which the module may not be used."""
    use, charge = table.get(("temperature_degc", side)), table.get(("charge_temperature_degc", side))
    if use is None or charge is None:
        return []
    sign = 1.0 if side == "max" else -1.0
    names = ("operating", "recommended", "safety")
    return [
        f"charge_temperature_degc {side}: {names[tier]} {charge.tier(tier):g} must lie inside"
        f" temperature_degc {side} {use.tier(tier):g}"
        for tier in Tier
        if sign * charge.tier(tier) > sign * use.tier(tier)
    ]
