"""Site I/O: alarms, emergency-stop loop, insulation monitor, sounder, ventilation, cooling, as data. Pure.

A profile (`site_configs/profiles/io16.yaml`, `imd.yaml`) says where a device has its points; the site file
says which signal is wired to which point. Several points may carry one signal: any alarm counts, and the
lowest insulation resistance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reconf.devices.profile import RegisterType
from reconf.errors import ConfigError
from reconf.protection.envelope import SiteOutputs
from reconf.readings import SiteInputs
from reconf.registers import na_pattern, raw_range
from reconf.shipped import find_site_file
from reconf.site import IoPointSpec, IoUnitSpec, Site

IoTable = Literal["discrete", "coil", "input", "holding"]
BitTable = Literal["discrete", "coil"]
BIT_TABLES: Final = ("discrete", "coil")
WRITABLE: Final = ("coil", "holding")

BIT_SIGNALS: Final = (
    "emergency_stop",
    "gas_alarm",
    "smoke_alarm",
    "fire_alarm",
    "door_open",
    "ventilation_failed",
    "cooling_failed",
    "insulation_device_fault",
)
NUMBER_SIGNALS: Final[dict[str, dict[str, float]]] = {
    "insulation_ohm": {"ohm": 1.0, "kohm": 1e3, "Mohm": 1e6},
    "ambient_degc": {"degC": 1.0},
}
"""Signals that are numbers: units a point may have, and what turns them into the signal's own."""
AIR_DEGC: Final = (-45.0, 85.0)
"""What the air around a battery can be; beyond it the sensor or its wire is broken. A shorted or open
resistance thermometer reads -200 or 850 degC; every module would be held against that."""
INPUT_SIGNALS: Final = (*BIT_SIGNALS, *NUMBER_SIGNALS)
OUTPUT_SIGNALS: Final = ("alarm", "ventilate", "cooling")


@dataclass(frozen=True, slots=True)
class IoPoint:
    """One point of a device."""

    name: str
    table: IoTable
    address: int
    type: RegisterType
    scale: float
    unit: str
    meaning: str
    minimum: float | None
    maximum: float | None

    @property
    def is_bit(self) -> bool:
        """A coil or a discrete input."""
        return self.table in BIT_TABLES

    @property
    def words(self) -> int:
        """Bits or registers taken."""
        return 1 if self.is_bit else self.type.words


@dataclass(frozen=True)
class IoProfile:
    """A kind of site I/O device."""

    name: str
    title: str
    source: str
    max_read: int
    points: tuple[IoPoint, ...]

    @cached_property
    def by_name(self) -> dict[str, IoPoint]:
        """Points by name."""
        return {p.name: p for p in self.points}


class _PointModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    table: IoTable
    address: int = Field(ge=0, le=0xFFFF)
    type: RegisterType = RegisterType.UINT16
    scale: float = Field(default=1.0, gt=0.0)
    unit: str = ""
    meaning: str = ""
    minimum: float | None = None
    maximum: float | None = None


class _ProfileModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["site_io"]
    name: str
    title: str
    source: str
    max_read: int = Field(ge=1, le=125)
    points: list[_PointModel] = Field(min_length=1)


def load_io_profile(path_or_name: str | Path) -> IoProfile:
    """Read a profile of a site I/O device.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    path = Path(path_or_name)
    if path.suffix not in {".yaml", ".yml"}:
        path = find_site_file(f"profiles/{path_or_name}.yaml")
    try:
        raw: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        model = _ProfileModel.model_validate(raw)
    except (OSError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a site I/O profile: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from error
    points = tuple(IoPoint(**p.model_dump()) for p in model.points)
    names = [p.name for p in points]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"{path}: {', '.join(twice)} defined twice")
    return IoProfile(model.name, model.title, model.source, model.max_read, points)


def wiring_errors(unit: IoUnitSpec, profile: IoProfile) -> list[tuple[str, str, str, str]]:
    """(`inputs` or `outputs`, signal, found, allowed) of everything that does not fit the profile."""
    found: list[tuple[str, str, str, str]] = []
    for section, wired in (("inputs", unit.inputs), ("outputs", unit.outputs)):
        for spec in wired:
            point = profile.by_name.get(spec.point)
            if point is None:
                allowed = f"one of {', '.join(profile.by_name)}"
                found.append((section, spec.signal, f"point {spec.point!r}", allowed))
                continue
            wrong = _misfit(section, spec, point)
            if wrong:
                found.append((section, spec.signal, f"point {spec.point!r}, {point.table}", wrong))
    return found


def _misfit(section: str, spec: IoPointSpec, point: IoPoint) -> str:
    """What the point would have to be; empty where it fits."""
    if section == "outputs":
        if point.table not in WRITABLE:
            return "a coil or a holding register"
        return "a whole register" if spec.bits else ""
    if spec.signal in NUMBER_SIGNALS:
        units = NUMBER_SIGNALS[spec.signal]
        fits = not point.is_bit and not spec.bits and point.unit in units
        return "" if fits else f"a register in {' or '.join(units)}"
    if point.is_bit:
        return "no bit number" if spec.bits else ""
    return "" if spec.bits else "a bit number of the register"


@dataclass(frozen=True, slots=True)
class IoBlock:
    """One read request."""

    table: IoTable
    address: int
    count: int

    @property
    def size(self) -> int:
        """Bytes of its answer."""
        return (self.count + 7) // 8 if self.table in BIT_TABLES else 2 * self.count


@dataclass(frozen=True, slots=True)
class OutputWrite:
    """What one output has to hold."""

    signal: str
    point: IoPoint
    words: tuple[int, ...]
    """0 or 1 for a coil."""


@dataclass(frozen=True, slots=True)
class UnitReading:
    """What is known of one unit at the end of a tick."""

    values: tuple[tuple[str, float], ...]
    """(signal, value) of every wired input, 0 or 1 for a bit; NaN where the device gives none."""
    age_s: float
    """Control time since it was asked for; inf before the first answer."""


class UnitCodec:
    """Requests, inputs and outputs of one site I/O unit."""

    def __init__(self, spec: IoUnitSpec, profile: IoProfile) -> None:
        self.spec, self.profile = spec, profile
        used = [profile.by_name[p.point] for p in (*spec.inputs, *spec.outputs)]
        self.blocks = plan_io_reads(used, profile.max_read)

    def raw(self, payloads: Sequence[bytes], point: IoPoint) -> int:
        """The point's integer (two's complement applied) in the answers to `blocks`."""
        for block, payload in zip(self.blocks, payloads, strict=True):
            at = point.address - block.address
            if block.table != point.table or not 0 <= at <= block.count - point.words:
                continue
            if point.is_bit:
                return payload[at // 8] >> at % 8 & 1
            signed = raw_range(point.type)[0] < 0
            return int.from_bytes(payload[2 * at : 2 * (at + point.words)], "big", signed=signed)
        raise ConfigError(f"{self.spec.name}: point {point.name} is in no request")

    def inputs(self, payloads: Sequence[bytes]) -> tuple[tuple[str, float], ...]:
        """(signal, value) of every wired input."""
        return tuple((s.signal, self._input(payloads, s)) for s in self.spec.inputs)

    def _input(self, payloads: Sequence[bytes], spec: IoPointSpec) -> float:
        point = self.profile.by_name[spec.point]
        raw = self.raw(payloads, point)
        if spec.signal in NUMBER_SIGNALS:
            value = raw * point.scale * NUMBER_SIGNALS[spec.signal][point.unit]
            missing = raw == na_pattern(point.type)
            missing |= spec.signal == "ambient_degc" and not AIR_DEGC[0] <= value <= AIR_DEGC[1]
            return nan if missing else value
        on = any(raw >> bit & 1 for bit in spec.bits) if spec.bits else bool(raw)
        return float(on != spec.active_low)

    def writes(self, payloads: Sequence[bytes], outputs: SiteOutputs) -> tuple[OutputWrite, ...]:
        """Outputs that do not hold what they should, by the last answers."""
        return tuple(
            write
            for write in (self._output(spec, outputs) for spec in self.spec.outputs)
            if self._words(self.raw(payloads, write.point), write.point) != write.words
        )

    def _output(self, spec: IoPointSpec, outputs: SiteOutputs) -> OutputWrite:
        point = self.profile.by_name[spec.point]
        levels = (float(outputs.alarm), float(outputs.ventilate), outputs.cooling_frac)
        asked = dict(zip(OUTPUT_SIGNALS, levels, strict=True))[spec.signal]
        level = 1.0 - asked if spec.active_low else asked
        if point.is_bit:
            return OutputWrite(spec.signal, point, (int(level >= 0.5),))
        value = level * spec.full
        low = value if point.minimum is None else max(value, point.minimum)
        kept = low if point.maximum is None else min(low, point.maximum)
        lowest, highest = raw_range(point.type)
        raw = min(max(round(kept / point.scale), lowest), highest)
        return OutputWrite(spec.signal, point, self._words(raw, point))

    @staticmethod
    def _words(raw: int, point: IoPoint) -> tuple[int, ...]:
        data = (raw & ((1 << 16 * point.words) - 1)).to_bytes(2 * point.words, "big")
        return tuple(int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2))


def plan_io_reads(points: Sequence[IoPoint], longest: int) -> tuple[IoBlock, ...]:
    """The fewest requests that read `points`."""
    blocks: list[IoBlock] = []
    for point in sorted(points, key=lambda p: (p.table, p.address)):
        last = blocks[-1] if blocks else None
        end = point.address + point.words
        if last is not None and last.table == point.table and end - last.address <= longest:
            blocks[-1] = IoBlock(last.table, last.address, max(last.count, end - last.address))
        else:
            blocks.append(IoBlock(point.table, point.address, point.words))
    return tuple(blocks)


def working_voltage_v(site: Site) -> float:
    """Largest voltage that insulation resistance is held against: of the bus or any string."""
    return max(site.bus.max_v, *(s.converter.voltage_max_v for s in site.strings))


def site_inputs(site: Site, units: Sequence[UnitReading], stale_s: float) -> SiteInputs:
    """All units' inputs as one; what is older than `stale_s`, or not given, is named in `unknown`.

    A bit that is not known keeps its last value: an alarm does not end because its device fell silent.
    """
    held: dict[str, list[float]] = {}
    unknown: set[str] = set()
    for spec, unit in zip(site.io, units, strict=True):
        fresh = unit.age_s <= stale_s
        if not fresh:
            unknown |= {p.signal for p in spec.inputs}
        broken = any(s == "insulation_device_fault" and v != 0.0 for s, v in unit.values)
        for signal, value in unit.values:
            doubted = broken and signal == "insulation_ohm"
            if isnan(value) or doubted or (signal in NUMBER_SIGNALS and not fresh):
                unknown.add(signal)
            else:
                held.setdefault(signal, []).append(value)

    def bit(signal: str) -> bool:
        return any(v != 0.0 for v in held.get(signal, ()))

    ohm = held.get("insulation_ohm", [])
    ambient = held.get("ambient_degc", [])
    return SiteInputs(
        emergency_stop=bit("emergency_stop"),
        gas_alarm=bit("gas_alarm"),
        smoke_alarm=bit("smoke_alarm"),
        fire_alarm=bit("fire_alarm"),
        door_open=bit("door_open"),
        ventilation_failed=bit("ventilation_failed"),
        cooling_failed=bit("cooling_failed"),
        # a low reading counts even where another monitor is silent
        insulation_ohm_per_v=min(ohm) / working_voltage_v(site) if ohm else nan,
        ambient_degc=max(ambient) if ambient else nan,
        unknown=tuple(sorted(unknown)),
        age_s=max((u.age_s for u in units), default=0.0),
    )
