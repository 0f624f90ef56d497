"""Device profiles: the registers of a device as data, read from `site_configs/profiles/*.yaml`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reconf.errors import ConfigError
from reconf.shipped import find_site_file


class RegisterType(StrEnum):
    """How the bits of a register are read."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    STRING16 = "string16"

    @property
    def words(self) -> int:
        """Registers one value takes (a string16 takes `count` of them)."""
        return 2 if self in (RegisterType.UINT32, RegisterType.INT32) else 1


Table = Literal["input", "holding"]


@dataclass(frozen=True, slots=True)
class RegisterDef:
    """One register, or `count` consecutive ones of the same kind."""

    table: Table
    address: int
    """Zero-based PDU address of the first register."""
    name: str
    type: RegisterType
    scale: float
    """value = raw * scale, in `unit`."""
    unit: str
    access: Literal["r", "rw"]
    na_applies: bool = True
    """The type's "not available" pattern stands for a missing value."""
    count: int = 1
    """Consecutive values; for string16 the registers of the string."""
    meaning: str = ""
    minimum: float | None = None
    """Smallest value taken in a write [unit]."""
    maximum: float | None = None
    """Largest value taken in a write [unit]."""
    bits: tuple[tuple[int, str], ...] = ()
    """(bit, meaning) of a bit field."""

    @property
    def words(self) -> int:
        """Registers taken altogether."""
        return self.type.words * self.count

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.words


@dataclass(frozen=True)
class DeviceProfile:
    """A kind of device."""

    name: str
    title: str
    source: str
    """Where the register table was published."""
    magic: int
    map_version: int
    unit_ids: tuple[int, int]
    """Smallest and largest Modbus unit id."""
    max_read_registers: int
    """Registers the device answers in one request."""
    registers: tuple[RegisterDef, ...]

    @cached_property
    def by_name(self) -> dict[tuple[Table, str], RegisterDef]:
        """Registers by (table, name)."""
        return {(r.table, r.name): r for r in self.registers}

    def register(self, table: Table, name: str) -> RegisterDef:
        """The register `name` of `table`; KeyError when the profile has none."""
        return self.by_name[table, name]

    def of_table(self, table: Table) -> tuple[RegisterDef, ...]:
        """Registers of one table by address."""
        return tuple(sorted((r for r in self.registers if r.table == table), key=lambda r: r.address))


class _RegisterModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    table: Table
    address: int = Field(ge=0, le=0xFFFF)
    name: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    type: RegisterType
    scale: float = Field(gt=0)
    unit: str
    access: Literal["r", "rw"]
    na_applies: bool = True
    count: int = Field(default=1, ge=1, le=125)
    meaning: str = ""
    minimum: float | None = None
    maximum: float | None = None
    bits: dict[int, str] = {}

    def build(self) -> RegisterDef:
        fields = self.model_dump(exclude={"bits", "type"})
        return RegisterDef(type=self.type, bits=tuple(sorted(self.bits.items())), **fields)


class _ProfileModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    source: str
    magic: int = Field(ge=0, le=0xFFFF)
    map_version: int = Field(ge=0, le=0xFFFF)
    unit_ids: tuple[int, int]
    max_read_registers: int = Field(ge=1, le=125)
    registers: list[_RegisterModel] = Field(min_length=1)

    def build(self) -> DeviceProfile:
        registers = tuple(r.build() for r in self.registers)
        fields = self.model_dump(exclude={"registers"})
        return DeviceProfile(registers=registers, **fields)


def _overlaps(profile: DeviceProfile) -> list[str]:
    """Pairs of registers that claim the same address or name."""
    found: list[str] = []
    tables: tuple[Table, ...] = ("input", "holding")
    for table in tables:
        registers = profile.of_table(table)
        for before, after in itertools.pairwise(registers):
            if after.address < before.end:
                found.append(f"{table} {after.name} at {after.address} overlaps {before.name}")
        names = [r.name for r in registers]
        found += [
            f"{table} {name} is defined twice" for name in sorted({n for n in names if names.count(n) > 1})
        ]
    return found


@lru_cache(maxsize=32)
def _parsed(text: str) -> DeviceProfile:
    """The profile that `text` describes; remembered, for every connection of a daemon asks for it again."""
    raw: Any = YAML(typ="safe", pure=True).load(text)
    return _ProfileModel.model_validate(raw).build()


def load_profile(path_or_name: str | Path) -> DeviceProfile:
    """Read a device profile.

    Args:
        path_or_name: a file, or the name of a shipped profile (`rm1`, `rc1`).

    Raises:
        ConfigError: the file is missing or wrong; the message lists everything that is.
    """
    path = Path(path_or_name)
    if path.suffix not in (".yaml", ".yml"):
        path = find_site_file(f"profiles/{path_or_name}.yaml")
    try:
        profile = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a device profile: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(lines)) from error
    wrong = _overlaps(profile)
    if wrong:
        raise ConfigError(f"{path}: " + "; ".join(wrong))
    return profile
