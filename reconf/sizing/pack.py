"""Sizing of a pack from uniform stock by exact enumeration.

Series count times parallel count times spares is a small grid of whole numbers: all of it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from reconf.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Unit:
    """A cell or a module, as it is today."""

    voltage_v: float
    """Mean voltage."""
    capacity_ah: float
    mass_kg: float
    volume_l: float
    cost: float

    @property
    def energy_wh(self) -> float:
        """Energy of one."""
        return self.voltage_v * self.capacity_ah


@dataclass(frozen=True, slots=True)
class Overheads:
    """What comes on top of the units, as shares of their mass and volume, and prices.

    Together 0.54 of the units' mass: a share of the cells of 0.65, in the middle of what Löbberding et al.,
    World Electr. Veh. J. 11 (2020) 77, doi 10.3390/wevj11040077, find for car packs.
    """

    casing_mass_frac: float = 0.30
    cooling_mass_frac: float = 0.10
    wiring_mass_frac: float = 0.08
    bms_mass_frac: float = 0.06
    volume_frac: float = 1.0
    """Air, casing and wiring over the units' volume."""
    cost_per_unit: float = 15.0
    """Node, switch and wiring of a module."""
    cost_per_kw: float = 60.0
    """Converter."""

    @property
    def mass_frac(self) -> float:
        """All of them."""
        return self.casing_mass_frac + self.cooling_mass_frac + self.wiring_mass_frac + self.bms_mass_frac


@dataclass(frozen=True, slots=True)
class Need:
    """What the pack is to give."""

    voltage_v: float
    """Least mean voltage with the spares resting."""
    energy_wh: float = 0.0
    charge_ah: float = 0.0
    power_w: float = 0.0
    """0: a C/3 discharge."""
    spares: int = 0
    """Positions in series that may rest."""
    voltage_max_v: float | None = None
    """Most mean voltage with all inserted; None: 25 % above the least."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One answer."""

    series: int
    """Positions that must be inserted."""
    spares: int
    parallel: int
    voltage_v: float
    """With the spares resting."""
    charge_ah: float
    energy_wh: float
    """Of all positions: with spares all of it comes out by time-sharing."""
    converter_w: float
    mass_kg: float
    volume_l: float
    specific_wh_per_kg: float
    cost: float

    @property
    def units(self) -> int:
        """Cells or modules in it."""
        return (self.series + self.spares) * self.parallel


def describe(unit: Unit, need: Need, over: Overheads, series: int, parallel: int) -> Pack:
    """Everything that follows from the counts."""
    count = (series + need.spares) * parallel
    energy = count * unit.energy_wh
    power = need.power_w or energy / 3.0
    mass = count * unit.mass_kg * (1.0 + over.mass_frac)
    return Pack(
        series=series,
        spares=need.spares,
        parallel=parallel,
        voltage_v=series * unit.voltage_v,
        charge_ah=parallel * unit.capacity_ah,
        energy_wh=energy,
        converter_w=power,
        mass_kg=mass,
        volume_l=count * unit.volume_l * (1.0 + over.volume_frac),
        specific_wh_per_kg=energy / mass,
        cost=count * (unit.cost + over.cost_per_unit) + over.cost_per_kw * power / 1e3,
    )


def enumerate_packs(
    unit: Unit, need: Need, over: Overheads, available: int | None = None
) -> tuple[Pack, ...]:
    """All packs that meet the need with the least parallel count for their series count, fewest units first.

    Args:
        unit: what there is.
        need: what is wanted; energy or charge, or both.
        over: overheads.
        available: how many units there are; None: any number.

    Raises:
        ParameterError: nothing fits, with what is missing.
    """
    if need.energy_wh <= 0.0 and need.charge_ah <= 0.0:
        raise ParameterError("neither energy nor charge is asked for")
    least = ceil(need.voltage_v / unit.voltage_v - 1e-9)
    most_v = need.voltage_max_v or 1.25 * need.voltage_v
    most = int(np.floor(most_v / unit.voltage_v + 1e-9)) - need.spares
    series = np.arange(least, max(most, least) + 1)
    by_charge = np.ceil(need.charge_ah / unit.capacity_ah - 1e-9)
    by_energy = np.ceil(need.energy_wh / (unit.energy_wh * (series + need.spares)) - 1e-9)
    parallel = np.maximum(np.maximum(by_charge, by_energy), 1).astype(np.int64)
    packs = [describe(unit, need, over, int(s), int(p)) for s, p in zip(series, parallel, strict=True)]
    fitting = [p for p in packs if available is None or p.units <= available]
    if not fitting:
        fewest = min(p.units for p in packs)
        raise ParameterError(f"needs {fewest} units at least; there are {available}")
    return tuple(sorted(fitting, key=lambda p: (p.units, p.series)))
