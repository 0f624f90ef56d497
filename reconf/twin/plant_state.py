"""What goes into the plant, what is read from it, and the books it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.protection.limits import LimitTable, Tier
from reconf.site import Chemistry, Site

RULES = (
    "cell_voltage_max",
    "cell_voltage_min",
    "temperature_max",
    "temperature_min",
    "discharge_current",
    "charge_current",
)
"""Names in `ViolationCounter`, in the order they are watched."""
MOVING_A = 0.05
"""Below it a module rests, and cold alone does not hurt it."""


@dataclass(frozen=True, slots=True)
class PlantInputs:
    """State of every actuator, as the nodes really drive it."""

    inserted: BoolArray
    """(M,) the half bridge inserts (with PWM: duty above 0)."""
    duty_frac: FloatArray
    """(M,) share of the time it inserts; 1 where the host switches."""
    trim_setpoint_a: FloatArray
    """(M,) out of the module positive."""
    mode: IntArray
    """(S,) `ConverterMode`."""
    power_setpoint_w: FloatArray
    """(S,) at the bus."""
    bus_voltage_setpoint_v: FloatArray
    """(S,) used in mode BUS_VOLTAGE."""
    current_limit_a: FloatArray
    """(S,) magnitude."""
    contactor_closed: BoolArray
    """(S,)"""
    pcs_power_w: float = float("nan")
    """Power the PCS draws from the bus when a string holds it; NaN: the PCS holds the bus and takes all."""
    cooling_frac: float = 0.0
    """Asked of the cooling system, 0 off .. 1 full; without effect where the site has none."""

    @classmethod
    def safe(cls, n_modules: int, n_strings: int) -> PlantInputs:
        """Everything bypassed, off and open; no limit below the rating."""
        return cls(
            inserted=np.zeros(n_modules, dtype=np.bool_),
            duty_frac=np.ones(n_modules),
            trim_setpoint_a=np.zeros(n_modules),
            mode=np.zeros(n_strings, dtype=np.int64),
            power_setpoint_w=np.zeros(n_strings),
            bus_voltage_setpoint_v=np.zeros(n_strings),
            current_limit_a=np.full(n_strings, np.inf),
            contactor_closed=np.zeros(n_strings, dtype=np.bool_),
        )


@dataclass(slots=True)
class PlantMeasures:
    """True values at the end of the last step, as an ideal sensor would show them."""

    module_voltage_v: FloatArray
    """(M,) at the module's terminals, mean over the PWM period."""
    module_current_a: FloatArray
    """(M,) through the cells, string and trim together, mean over the step."""
    cell_voltage_v: FloatArray
    """(M, C) mean over the PWM period; NaN beyond a module's groups."""
    core_degc: FloatArray
    """(M,)"""
    surface_degc: FloatArray
    """(M,)"""
    trim_current_a: FloatArray
    """(M,)"""
    duty_frac: FloatArray
    """(M,)"""
    string_voltage_v: FloatArray
    """(S,) on the string's side of the contactor."""
    string_current_a: FloatArray
    bus_power_w: FloatArray
    bus_voltage_v: float
    limiting: BoolArray
    """(S,)"""
    outside_window: BoolArray
    """(S,)"""

    @staticmethod
    def at_rest(
        ocv_v: FloatArray,
        mask: BoolArray,
        degc: tuple[FloatArray, FloatArray],
        n_strings: int,
        bus_voltage_v: float,
    ) -> PlantMeasures:
        """Nothing flows: `ocv_v` (M, C) of the groups, `mask` (M, C): there is one; core, surface."""
        m, s = len(ocv_v), n_strings
        return PlantMeasures(
            module_voltage_v=np.where(mask, ocv_v, 0.0).sum(axis=1),
            module_current_a=np.zeros(m),
            cell_voltage_v=np.where(mask, ocv_v, np.nan),
            core_degc=degc[0],
            surface_degc=degc[1],
            trim_current_a=np.zeros(m),
            duty_frac=np.zeros(m),
            string_voltage_v=np.zeros(s),
            string_current_a=np.zeros(s),
            bus_power_w=np.zeros(s),
            bus_voltage_v=bus_voltage_v,
            limiting=np.zeros(s, dtype=np.bool_),
            outside_window=np.zeros(s, dtype=np.bool_),
        )


@dataclass(slots=True)
class EnergyLedger:
    """Energy since the start [J]; out of the cells minus everything below is 0."""

    bus_j: float = 0.0
    """Net energy the converters gave to the DC bus."""
    cell_heat_j: float = 0.0
    """All heat in the cells: overpotential, reversible, charge lost."""
    switch_loss_j: float = 0.0
    trim_loss_j: float = 0.0
    converter_loss_j: float = 0.0
    string_out_j: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(S,) string-side energy while discharging: after R_on and trim, before RC1."""
    string_in_j: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(S,) the same while charging, positive."""
    bus_out_j: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(S,) at the bus, discharging."""
    bus_in_j: FloatArray = field(default_factory=lambda: np.zeros(0))
    auxiliary_j: float = 0.0
    """Taken by the cooling system from elsewhere; not part of the balance."""

    @property
    def out_j(self) -> float:
        """Everything that left the cells' chemistry by these books."""
        return self.bus_j + self.cell_heat_j + self.switch_loss_j + self.trim_loss_j + self.converter_loss_j

    @property
    def string_energy_out_kwh(self) -> float:
        """String-side energy delivered [kWh]."""
        return float(self.string_out_j.sum()) / 3.6e6

    @property
    def string_energy_in_kwh(self) -> float:
        """String-side energy taken while charging [kWh]."""
        return float(self.string_in_j.sum()) / 3.6e6


@dataclass(frozen=True, slots=True)
class SafetyLimits:
    """SAFETY tiers of every module, (M,); infinite where the site names none."""

    cell_voltage_max_v: FloatArray
    cell_voltage_min_v: FloatArray
    temperature_max_degc: FloatArray
    temperature_min_degc: FloatArray
    discharge_current_a: FloatArray
    charge_current_a: FloatArray

    @classmethod
    def of(cls, site: Site) -> SafetyLimits:
        """From the limit tables of `site`; C-rates times rated capacity."""
        tables: Mapping[Chemistry, LimitTable] = site.limits
        rated = site.topology.rated_capacity_ah

        def row(quantity: str, side: str, missing: float) -> FloatArray:
            values = []
            for module in site.modules:
                found = tables.get(module.chemistry, {}).get((quantity, side))
                values.append(missing if found is None else found.tier(Tier.SAFETY))
            return np.array(values)

        return cls(
            cell_voltage_max_v=row("cell_voltage_v", "max", np.inf),
            cell_voltage_min_v=row("cell_voltage_v", "min", -np.inf),
            temperature_max_degc=row("temperature_degc", "max", np.inf),
            temperature_min_degc=row("temperature_degc", "min", -np.inf),
            discharge_current_a=row("discharge_current_c", "max", np.inf) * rated,
            charge_current_a=row("charge_current_c", "max", np.inf) * rated,
        )


@dataclass(slots=True)
class ViolationCounter:
    """Steps in which the true state passed a SAFETY limit, and by how much at worst."""

    steps: int = 0
    """Steps with any violation."""
    by_rule: dict[str, int] = field(default_factory=dict)
    """Module-steps (string-steps) by rule."""
    worst: dict[str, float] = field(default_factory=dict)
    """Largest excess by rule, in the rule's unit."""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All counts together."""
        return sum(self.by_rule.values())

    def note(self, rule: str, excess: FloatArray, dt_s: float) -> bool:
        """Count every positive `excess`; whether there was one."""
        high = float(excess.max(initial=-np.inf))
        if high <= 0.0:
            return False
        self.by_rule[rule] = self.by_rule.get(rule, 0) + int((excess > 0.0).sum())
        self.worst[rule] = max(self.worst.get(rule, 0.0), high)
        self.seconds[rule] = self.seconds.get(rule, 0.0) + dt_s
        return True

    def watch(
        self,
        limits: SafetyLimits,
        mask: BoolArray,
        cell_v: FloatArray,
        core_and_surface_degc: tuple[FloatArray, FloatArray],
        current_a: FloatArray,
        dt_s: float,
    ) -> None:
        """Count what lies beyond the SAFETY tiers; `cell_v` (M, C), the others (M,)."""
        core, surface = core_and_surface_degc
        excess = np.empty((len(RULES), len(current_a)))
        excess[0] = np.where(mask, cell_v, -np.inf).max(axis=1) - limits.cell_voltage_max_v
        excess[1] = limits.cell_voltage_min_v - np.where(mask, cell_v, np.inf).min(axis=1)
        excess[2] = np.maximum(core, surface) - limits.temperature_max_degc
        cold = limits.temperature_min_degc - np.minimum(core, surface)
        excess[3] = np.where(np.abs(current_a) > MOVING_A, cold, -1.0)
        excess[4] = current_a - limits.discharge_current_a
        excess[5] = -current_a - limits.charge_current_a
        if excess.max() > 0.0:
            found = [self.note(rule, excess[k], dt_s) for k, rule in enumerate(RULES)]
            self.steps += any(found)


@dataclass(slots=True)
class PlantFaults:
    """Hooks for scenarios; all neutral at first. Arrays may be written to at any time."""

    leakage_ohm: FloatArray
    """(M, C) internal short across a group; inf for none."""
    resistance_factor: FloatArray
    """(M, C) multiplies the group's R0 and RC resistances."""
    cooling_factor: FloatArray
    """(M,) multiplies the surface-to-ambient conductance (a failed or running fan)."""
    extra_heat_w: FloatArray
    """(M,) heat from outside the books of the cells (a neighbour, a fire)."""
    sense_open: BoolArray
    """(M, C) the sense wire of the group is open: its reading is 0."""
    temperature_offset_k: FloatArray
    """(M, 2) added to the sensors."""
    current_offset_a: FloatArray
    """(M,)"""
    cell_voltage_offset_v: FloatArray
    """(M, C)"""
    polarity: FloatArray
    """(M,) -1 where a module's leads are crossed in its string, so that it counts against the others."""
    sense_polarity: FloatArray
    """(M,) -1 where the module is reversed at its node: what is measured there is negative."""
    string_sense: FloatArray
    """(S,) multiplies STRING_VOLTAGE: 0 for an open string, -1 for crossed leads at the converter."""

    @classmethod
    def none(cls, n_modules: int, n_cells_max: int, n_strings: int) -> PlantFaults:
        """Nothing is wrong."""
        m, c = n_modules, n_cells_max
        return cls(
            leakage_ohm=np.full((m, c), np.inf),
            resistance_factor=np.ones((m, c)),
            cooling_factor=np.ones(m),
            extra_heat_w=np.zeros(m),
            sense_open=np.zeros((m, c), dtype=np.bool_),
            temperature_offset_k=np.zeros((m, 2)),
            current_offset_a=np.zeros(m),
            cell_voltage_offset_v=np.zeros((m, c)),
            polarity=np.ones(m),
            sense_polarity=np.ones(m),
            string_sense=np.ones(n_strings),
        )
