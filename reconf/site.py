"""What a site is: strings, positions, modules, converters, gateways. Built by `reconf.config`.

Frozen and already validated: nothing here is checked again by its users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.protection.limits import LimitTable
from reconf.site_links import MqttSpec, SparkplugSpec, SunSpecSpec

T = TypeVar("T")


class Chemistry(StrEnum):
    """Cell chemistry; the order is that of RM1's CHEMISTRY register (1..4)."""

    LMO = "LMO"
    NMC = "NMC"
    LFP = "LFP"
    NCA = "NCA"

    @property
    def code(self) -> int:
        """RM1 CHEMISTRY register value."""
        return list(Chemistry).index(self) + 1


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A salvaged module as the site file and its passport describe it (a belief, not the truth)."""

    serial: str
    chemistry: Chemistry
    cell_model: str
    """Name of a parameter file in reconf/cells/data, without its ending."""
    n_cells: int
    """Cell groups in series, 1..15."""
    n_parallel: int
    """Cells in parallel in each group."""
    rated_capacity_ah: float
    """Capacity of the module when new."""
    soh_frac: float
    """Graded capacity over rated capacity."""
    soh_std_frac: float
    """Standard deviation of `soh_frac`."""
    resistance_scale: float
    """Graded resistance over that of the cell model when new."""
    trim_rating_a: float
    """Rating of the trim converter, 0 where none is fitted."""
    trim_efficiency_frac: float
    """Module to trim bus to module, both ways together: givers' v*t times this is takers' v*|t|."""


@dataclass(frozen=True, slots=True)
class PositionSpec:
    """A place in a string with a Modbus unit id."""

    label: str
    gateway: str
    unit_id: int
    module: ModuleSpec
    r_on_ohm: float
    """Resistance of the conducting switch, inserted or bypassed alike."""


@dataclass(frozen=True, slots=True)
class ConverterSpec:
    """A string's bidirectional DC-DC converter (RC1)."""

    gateway: str
    unit_id: int
    power_rating_w: float
    current_rating_a: float
    voltage_min_v: float
    voltage_max_v: float
    loss_fixed_w: float
    loss_linear_frac: float
    """Loss per watt at the bus [W/W]."""
    loss_quadratic_w_per_a2: float
    """Loss per string ampere squared."""


@dataclass(frozen=True, slots=True)
class StringSpec:
    """Positions in series behind one converter."""

    name: str
    converter: ConverterSpec
    positions: tuple[PositionSpec, ...]


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """One Modbus line: a TCP endpoint or a serial bus."""

    name: str
    kind: Literal["tcp", "rtu"]
    host: str = "127.0.0.1"
    port: int = 502
    connections: int = 4
    """TCP connections opened in parallel."""
    device: str = ""
    baudrate: int = 115200
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: int = 1
    timeout_s: float = 0.3
    """Time to wait for one answer, wall time."""


@dataclass(frozen=True, slots=True)
class TimingSpec:
    """Periods in control time."""

    tick_s: float = 1.0
    slot_s: float = 2.0
    interval_s: float = 30.0


@dataclass(frozen=True, slots=True)
class BusSpec:
    """The site's DC bus and who holds it."""

    master: str
    """`pcs`, or the name of the string whose RC1 runs MODE 2."""
    nominal_v: float
    min_v: float
    max_v: float


@dataclass(frozen=True, slots=True)
class EconomicsSpec:
    """One currency for everything the allocator weighs."""

    currency: str = "EUR"
    energy_price_per_kwh: float = 0.10
    """Price of a lost kWh; 1 W of loss costs this / 1000 per hour."""
    wear_price_per_kwh: float = 0.03
    """Wear of a kWh through a module at SOH 1 and 25 degC."""
    switching_price_per_event: float = 0.0001
    unserved_price_per_kwh: float = 10.0


@dataclass(frozen=True, slots=True)
class AllocatorSpec:
    """Knobs of the allocator and its schedule."""

    solver: Literal["structured", "reference"] = "structured"
    deadline_s: float = 0.5
    """Wall time the worker has for one answer."""
    gap_limit_frac: float = 0.25
    """A certified gap above this share of the plan's own losses counts as inaccurate."""
    min_dwell_slots: int = 1
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    aux_load_w: float = 0.0


@dataclass(frozen=True, slots=True)
class FallbackSpec:
    """What follows when the last command has expired or the SCADA heartbeat is missing."""

    action: Literal["zero", "hold", "schedule"] = "zero"
    heartbeat_timeout_s: float = 0.0
    """0: no SCADA heartbeat is expected."""
    ramp_w_per_s: float = 0.0
    """On the way to the fallback; 0: the ramp of the last command, or at once."""
    schedule: tuple[tuple[float, float], ...] = ()
    """(second of the day UTC, power_w) steps of the local schedule."""


@dataclass(frozen=True, slots=True)
class ThermalSpec:
    """Surroundings of the racks."""

    ambient_degc: float = 25.0
    """Used where no ambient sensor is fitted."""
    cooling: Literal["off", "fan", "liquid"] = "off"
    """Cooling system that the site can ask for."""
    cooling_resistance_factor_frac: float = 0.5
    """Thermal resistance to the surroundings at full cooling over that without."""
    cooling_min_run_s: float = 300.0
    cooling_ramp_s: float = 30.0
    """Time from off to full."""
    cooling_power_w: float = 0.0
    """Auxiliary power at full cooling."""
    neighbour_conductance_frac: float = 0.0
    """Heat conductance to each neighbouring position over that to the surroundings."""


@dataclass(frozen=True, slots=True)
class IoPointSpec:
    """A signal of the site wired to a point of a site I/O unit."""

    signal: str
    """`emergency_stop`, `gas_alarm`, ...; outputs `alarm`, `ventilate`, `cooling`."""
    point: str
    """Name in the unit's profile."""
    bits: tuple[int, ...] = ()
    """Bits of a register, where the point is one: the signal is there when any of them is set."""
    active_low: bool = False
    """The signal is there when the point reads 0 (a loop that opens); an output is inverted."""
    full: float = 1.0
    """Value at full of an output that is a number, in the point's unit."""


@dataclass(frozen=True, slots=True)
class IoUnitSpec:
    """A site I/O unit on a gateway."""

    name: str
    gateway: str
    unit_id: int
    profile: str
    """Name of a shipped profile, or a file."""
    inputs: tuple[IoPointSpec, ...] = ()
    outputs: tuple[IoPointSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class InputsSpec:
    """Site I/O that is fitted."""

    insulation_monitor: bool = False
    """An unknown insulation resistance then refuses closing above 60 V."""


@dataclass(frozen=True)
class Site:
    """Everything the control knows of the site before it has read a register."""

    name: str
    gateways: tuple[GatewaySpec, ...]
    strings: tuple[StringSpec, ...]
    bus: BusSpec
    limits: Mapping[Chemistry, LimitTable]
    """Cell and module limits by chemistry."""
    timing: TimingSpec = TimingSpec()
    economics: EconomicsSpec = EconomicsSpec()
    allocator: AllocatorSpec = AllocatorSpec()
    mqtt: MqttSpec = field(default_factory=MqttSpec)
    sunspec: SunSpecSpec = field(default_factory=SunSpecSpec)
    sparkplug: SparkplugSpec = field(default_factory=SparkplugSpec)
    fallback: FallbackSpec = FallbackSpec()
    thermal: ThermalSpec = ThermalSpec()
    inputs: InputsSpec = InputsSpec()
    io: tuple[IoUnitSpec, ...] = ()
    """Site I/O units."""
    twin_seed: int = 1
    twin_soh_cv: float = 0.0
    """Spread of SOH the twin draws its truth from (only `reconf twin` and the demo use it)."""
    source_file: str = field(default="", compare=False)

    @cached_property
    def topology(self) -> Topology:
        """Flat index of modules and strings."""
        return Topology.of(self)

    @cached_property
    def _derived(self) -> dict[Callable[[Site], object], object]:
        """Tables of other modules, by the function that builds them."""
        return {}

    def derived(self, build: Callable[[Site], T]) -> T:
        """`build(self)`, computed once per site: for tables that depend on the site alone.

        `build` is a pure module-level function (its result is shared and pickled with the site).
        """
        if build not in self._derived:
            self._derived[build] = build(self)
        return self._derived[build]  # type: ignore[return-value]  # the entry under `build` is its result

    @property
    def derived_tables(self) -> Mapping[Callable[[Site], object], object]:
        """All tables made so far, by the function that builds them (records refer to them by name)."""
        return MappingProxyType(self._derived)

    @property
    def modules(self) -> tuple[ModuleSpec, ...]:
        """Modules in site order."""
        return tuple(p.module for s in self.strings for p in s.positions)

    @property
    def positions(self) -> tuple[PositionSpec, ...]:
        """Positions in site order."""
        return tuple(p for s in self.strings for p in s.positions)


@dataclass(frozen=True, slots=True)
class Topology:
    """Where each module sits, as arrays."""

    n_modules: int
    n_strings: int
    n_cells_max: int
    string_of: IntArray
    """(M,) index of each module's string."""
    start: IntArray
    """(S+1,) modules of string s are start[s]:start[s+1]."""
    n_cells: IntArray
    """(M,) cell groups in series."""
    rated_capacity_ah: FloatArray
    """(M,)"""
    r_on_ohm: FloatArray
    """(M,)"""
    serials: tuple[str, ...]

    @classmethod
    def of(cls, site: Site) -> Topology:
        """Index `site`."""
        counts = [len(s.positions) for s in site.strings]
        modules = site.modules
        return cls(
            n_modules=len(modules),
            n_strings=len(counts),
            n_cells_max=max((m.n_cells for m in modules), default=1),
            string_of=np.repeat(np.arange(len(counts)), counts).astype(np.int64),
            start=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            n_cells=np.array([m.n_cells for m in modules], dtype=np.int64),
            rated_capacity_ah=np.array([m.rated_capacity_ah for m in modules], dtype=np.float64),
            r_on_ohm=np.array([p.r_on_ohm for p in site.positions], dtype=np.float64),
            serials=tuple(m.serial for m in modules),
        )

    def slice_of(self, string: int) -> slice:
        """Slice of the modules of `string` in any (M,) array."""
        return slice(int(self.start[string]), int(self.start[string + 1]))

    def sum_by_string(self, values: FloatArray) -> FloatArray:
        """Sum an (M,) array over each string -> (S,)."""
        sums: FloatArray = np.bincount(self.string_of, weights=values, minlength=self.n_strings).astype(
            np.float64
        )
        return sums
