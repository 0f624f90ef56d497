"""The site file as pydantic models: what may stand in it, key by key. Units stand in the keys' names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from reconf.config.model_links import Mqtt, Sparkplug, SunSpec
from reconf.config.model_parts import (
    SECONDS_PER_DAY,
    ChemistryName,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Section,
)


class TcpGateway(Section):
    """A Modbus TCP endpoint with units behind it."""

    name: Name = Field(description="name by which positions and converters refer to it")
    kind: Literal["tcp"] = Field(description="'tcp' or 'rtu'")
    host: str = Field(description="host name or address")
    port: int = Field(default=502, ge=1, le=65535)
    connections: int = Field(default=4, ge=1, le=32, description="TCP connections opened in parallel")
    timeout_s: float = Field(default=0.3, gt=0.0, le=10.0, description="wait for one answer, wall time")


class RtuGateway(Section):
    """A serial bus (RS-485) with units on it."""

    name: Name = Field(description="name by which positions and converters refer to it")
    kind: Literal["rtu"] = Field(description="'tcp' or 'rtu'")
    device: str = Field(description="serial device")
    baudrate: Literal[9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] = 115200
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    timeout_s: float = Field(default=0.3, gt=0.0, le=10.0, description="wait for one answer, wall time")


def _gateway_kind(value: Any) -> str:
    """Tag of a gateway entry; an unknown kind is read as TCP so that `kind` itself is complained about."""
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "<rtu>" if kind == "rtu" else "<tcp>"


Gateway = Annotated[
    Annotated[TcpGateway, Tag("<tcp>")] | Annotated[RtuGateway, Tag("<rtu>")], Discriminator(_gateway_kind)
]


class ModuleFields(Section):
    """What can be said of a module; a position may override anything its module type says."""

    chemistry: ChemistryName | None = None
    cell_model: Name | None = Field(
        default=None, description="parameter file of the cell, without its ending"
    )
    n_cells: int | None = Field(default=None, ge=1, le=15, description="cell groups in series")
    n_parallel: int | None = Field(default=None, ge=1, le=1000, description="cells in parallel in each group")
    rated_capacity_ah: Positive | None = Field(default=None, description="capacity when new [Ah]")
    soh_frac: float | None = Field(default=None, gt=0.1, le=1.2, description="graded over rated capacity")
    soh_std_frac: float | None = Field(default=None, gt=0.0, le=0.5, description="its standard deviation")
    resistance_scale: float | None = Field(
        default=None, gt=0.1, le=20.0, description="graded resistance over that of the cell model when new"
    )
    trim_rating_a: NotNegative | None = Field(
        default=None, description="0 where no trim converter is fitted [A]"
    )
    trim_efficiency_frac: float | None = Field(
        default=None, gt=0.3, le=1.0, description="module to bus to module"
    )


class ModuleType(Section):
    """A kind of module, complete."""

    chemistry: ChemistryName
    cell_model: Name = Field(description="parameter file of the cell, without its ending")
    n_cells: int = Field(ge=1, le=15, description="cell groups in series")
    n_parallel: int = Field(default=1, ge=1, le=1000, description="cells in parallel in each group")
    rated_capacity_ah: Positive = Field(description="capacity when new [Ah]")
    soh_frac: float = Field(default=0.8, gt=0.1, le=1.2, description="graded over rated capacity")
    soh_std_frac: float = Field(default=0.1, gt=0.0, le=0.5, description="its standard deviation")
    resistance_scale: float = Field(
        default=1.0, gt=0.1, le=20.0, description="graded resistance over that of the cell model when new"
    )
    trim_rating_a: NotNegative = Field(default=0.0, description="0 where no trim converter is fitted [A]")
    trim_efficiency_frac: float = Field(default=0.92, gt=0.3, le=1.0, description="module to bus to module")


class SinglePosition(ModuleFields):
    """One position with its module."""

    label: str = Field(min_length=1, description="what is written on the rack")
    gateway: Name
    unit_id: int = Field(ge=1, le=200, description="Modbus unit id of the RM1 node")
    serial: str = Field(min_length=1, max_length=16, pattern=r"^[\x21-\x7e]+$", description="of the module")
    module_type: Name
    r_on_ohm: NotNegative | None = Field(
        default=None, description="resistance of the conducting switch [ohm]"
    )


class PositionException(ModuleFields):
    """What is different at one position of a group."""

    serial: str | None = Field(default=None, min_length=1, max_length=16, pattern=r"^[\x21-\x7e]+$")
    label: str | None = Field(default=None, min_length=1)
    module_type: Name | None = None
    r_on_ohm: NotNegative | None = None


class PositionGroup(ModuleFields):
    """A run of positions with consecutive unit ids; `{n}` in label and serial is 1, 2, 3 ..."""

    count: int = Field(ge=1, le=200)
    gateway: Name
    first_unit_id: int = Field(ge=1, le=200, description="Modbus unit id of the first RM1 node")
    label: str = Field(description="pattern, for example A{n:02d}")
    serial: str = Field(
        pattern=r"^[\x21-\x7e]+$", description="pattern of the modules' serials, for example LEAF-A{n:02d}"
    )
    module_type: Name
    r_on_ohm: NotNegative | None = Field(
        default=None, description="resistance of the conducting switch [ohm]"
    )
    exceptions: dict[int, PositionException] = Field(
        default={}, description="by position in the group, from 1"
    )


def _position_kind(value: Any) -> str:
    """Tag of an entry of `positions`: it is a group when it counts."""
    grouped = "count" in value if isinstance(value, dict) else isinstance(value, PositionGroup)
    return "<group>" if grouped else "<single>"


Position = Annotated[
    Annotated[PositionGroup, Tag("<group>")] | Annotated[SinglePosition, Tag("<single>")],
    Discriminator(_position_kind),
]


class Converter(Section):
    """The string's bidirectional DC-DC converter (RC1)."""

    gateway: Name
    unit_id: int = Field(ge=201, le=247, description="Modbus unit id of the RC1")
    power_rating_w: Positive
    current_rating_a: Positive
    voltage_min_v: Positive = Field(description="window of the string side [V]")
    voltage_max_v: Positive
    loss_fixed_w: NotNegative = Field(default=0.0, description="loss while running at no load [W]")
    loss_linear_frac: float = Field(default=0.0, ge=0.0, lt=0.5, description="loss per watt at the bus [W/W]")
    loss_quadratic_w_per_a2: NotNegative = Field(default=0.0, description="loss per string ampere squared")


class StringBase(Section):
    """What a string is called and rated."""

    name: Name
    fuse_a: Positive | None = Field(default=None, description="rating of the string's fuse [A]")
    r_on_ohm: NotNegative = Field(
        default=0.0005, description="switch resistance where a position says nothing"
    )


class String(StringBase):
    """Positions in series behind one converter, in the order of the wiring."""

    converter: Converter
    positions: list[Position] = Field(min_length=1)


class Bus(Section):
    """The site's DC bus."""

    master: Name = Field(default="pcs", description="`pcs`, or the string whose RC1 holds the bus (MODE 2)")
    nominal_v: Positive
    min_v: Positive
    max_v: Positive


class Timing(Section):
    """Periods in control time."""

    tick_s: float = Field(default=1.0, ge=0.1, le=60.0, description="period of reading and verifying")
    slot_s: float = Field(default=2.0, ge=0.1, le=600.0, description="period of switching")
    interval_s: float = Field(default=30.0, ge=1.0, le=3600.0, description="period of allocating")


class Economics(Section):
    """Prices in one currency."""

    currency: str = "EUR"
    energy_price_per_kwh: NotNegative = Field(default=0.10, description="price of a lost kWh")
    wear_price_per_kwh: NotNegative = Field(default=0.03, description="wear of a kWh at SOH 1 and 25 degC")
    switching_price_per_event: NotNegative = 0.0001
    unserved_price_per_kwh: NotNegative = 10.0


class Allocator(Section):
    """The allocator and its schedule."""

    solver: Literal["structured", "reference"] = "structured"
    deadline_s: float = Field(default=0.5, gt=0.0, le=60.0, description="wall time for one answer")
    gap_limit_frac: float = Field(
        default=0.25, gt=0.0, le=10.0, description="largest gap that is still accurate"
    )
    min_dwell_slots: int = Field(default=1, ge=1, le=100)
    soc_min_frac: Fraction = 0.0
    soc_max_frac: Fraction = 1.0
    aux_load_w: NotNegative = 0.0


class ScheduleStep(Section):
    """One step of the local schedule."""

    from_s: float = Field(ge=0.0, lt=SECONDS_PER_DAY, description="second of the day, UTC")
    power_w: float


class Fallback(Section):
    """What follows when the last command has expired or SCADA's heartbeat is missing."""

    action: Literal["zero", "hold", "schedule"] = "zero"
    heartbeat_timeout_s: NotNegative = Field(
        default=0.0, description="0: no heartbeat from SCADA is expected"
    )
    ramp_w_per_s: NotNegative = Field(
        default=0.0, description="on the way to the fallback; 0: the ramp of the last command, or at once"
    )
    schedule: list[ScheduleStep] = Field(default=[])


class Thermal(Section):
    """Surroundings of the racks."""

    ambient_degc: float = Field(default=25.0, ge=-40.0, le=60.0, description="used where no sensor is fitted")

    cooling: Literal["off", "fan", "liquid"] = Field(
        default="off", description="cooling system that the output `cooling` of site_io asks"
    )
    cooling_resistance_factor_frac: float = Field(
        default=0.5, gt=0.0, le=1.0, description="thermal resistance at full cooling over that without"
    )
    cooling_min_run_s: NotNegative = Field(default=300.0, description="it runs, or rests, at least so long")
    cooling_ramp_s: NotNegative = Field(default=30.0, description="from off to full")
    cooling_power_w: NotNegative = Field(default=0.0, description="its own power at full")
    neighbour_conductance_frac: NotNegative = Field(
        default=0.0,
        description="heat conductance to each neighbouring position over that to the surroundings",
    )


Bit = Annotated[int, Field(ge=0, le=31)]


class IoPoint(Section):
    """A signal wired to a point of a site I/O unit."""

    point: str = Field(min_length=1, max_length=32, description="name in the unit's profile")
    bit: Bit | list[Bit] | None = Field(
        default=None, description="bit of a register, or several: the signal is there when any of them is set"
    )
    active: Literal["high", "low"] = Field(
        default="high", description="'low': the signal is there when the point reads 0, as a loop that opens"
    )
    full: Positive = Field(default=1.0, description="value at full of an output that is a number")

    @property
    def bits(self) -> tuple[int, ...]:
        """`bit` as the numbers it stands for."""
        if self.bit is None:
            return ()
        return tuple(self.bit) if isinstance(self.bit, list) else (self.bit,)


class IoInputs(Section):
    """What a site I/O unit reports; several points may carry one signal in several units."""

    emergency_stop: IoPoint | None = None
    gas_alarm: IoPoint | None = None
    smoke_alarm: IoPoint | None = None
    fire_alarm: IoPoint | None = None
    door_open: IoPoint | None = None
    ventilation_failed: IoPoint | None = None
    cooling_failed: IoPoint | None = None
    insulation_ohm: IoPoint | None = None
    insulation_device_fault: IoPoint | None = None
    ambient_degc: IoPoint | None = None


class IoOutputs(Section):
    """What a site I/O unit switches; written only with a verified command."""

    alarm: IoPoint | None = Field(default=None, description="sounder and lamp")
    ventilate: IoPoint | None = Field(default=None, description="gas extraction; not in a fire")
    cooling: IoPoint | None = Field(default=None, description="fan or liquid cooling of the racks")


class IoUnit(Section):
    """A site I/O unit: alarms, emergency-stop loop, insulation monitor, sounder, ventilation, cooling."""

    name: Name
    gateway: Name
    unit_id: int = Field(ge=1, le=247)
    profile: str = Field(description="name of a shipped profile (io16, imd), or a file")
    inputs: IoInputs = IoInputs()
    outputs: IoOutputs = IoOutputs()


class LimitOverride(Section):
    """Replaces numbers of one row of the chemistry's limit table."""

    quantity: str
    side: Literal["max", "min"]
    operating: float | None = None
    recommended: float | None = None
    safety: float | None = None
    hysteresis: NotNegative | None = None
    debounce_s: NotNegative | None = None
    consequence: str | None = None


class Twin(Section):
    """What `reconf twin` draws its truth from."""

    seed: int = Field(default=1, ge=0)
    soh_cv: float = Field(
        default=0.0, ge=0.0, le=0.4, description="coefficient of variation of the modules' SOH"
    )


class SiteFile(Section):
    """A whole site file."""

    site: Name = Field(description="name of the site; part of every topic")
    gateways: list[Gateway] = Field(min_length=1)
    bus: Bus
    module_types: dict[Name, ModuleType] = Field(min_length=1)
    strings: list[String] = Field(min_length=1)
    limits: dict[ChemistryName, list[LimitOverride]] = Field(default={})
    timing: Timing = Timing()
    economics: Economics = Economics()
    allocator: Allocator = Allocator()
    mqtt: Mqtt = Mqtt()
    sunspec: SunSpec = SunSpec()
    sparkplug: Sparkplug = Sparkplug()
    fallback: Fallback = Fallback()
    thermal: Thermal = Thermal()
    site_io: list[IoUnit] = Field(default=[])
    twin: Twin = Twin()
