"""All registers of a node, and the file they are kept in: a dump can be served again as a fixture.

The file is JSON:

    {"format": "reconf-dump/1", "made_utc": "...", "site": "demo" or null,
     "gateways": [{"name", "kind"}],
     "units": [{"gateway", "unit_id", "device": "rm1" | "rc1" | null,
                "reads": [{"table": "input", "address": 0, "count": 35, "words": "524d 0001 ..."} or
                          {"table": ..., "address": ..., "count": ..., "exception": 2}],
                "registers": [{"table", "address", "name", "raw", "value", "unit", "meaning"}]}]}

`reads` is what went over the wire and alone is read back; `registers` is the same for people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.modbus.failures import FailureKind, NodeError
from edge.modbus.transport import Link
from edge.wires.scan import read_again
from reconf.devices.describe import RegisterLine, blocks_of, describe
from reconf.devices.profile import DeviceProfile, Table, load_profile
from reconf.errors import DataFileError
from reconf.registers import ReadBlock
from reconf.site import GatewaySpec
from reconf.twin.firmware_registers import HOLE, ExceptionCode, RefusedError

FORMAT = "reconf-dump/1"
MAX_READ = 60
DEVICES: tuple[Literal["rm1", "rc1"], ...] = ("rm1", "rc1")


@dataclass(frozen=True, slots=True)
class BlockRead:
    """One request and its answer."""

    block: ReadBlock
    words: tuple[int, ...]
    """Empty where it was refused."""
    exception: int = 0


@dataclass(frozen=True, slots=True)
class UnitDump:
    """One unit as it answered."""

    gateway: str
    unit_id: int
    device: Literal["rm1", "rc1"] | None
    reads: tuple[BlockRead, ...]
    lines: tuple[RegisterLine, ...] = ()


@cache
def device_profiles() -> dict[Literal["rm1", "rc1"], DeviceProfile]:
    """The shipped profiles, read once: parsing them takes half a second."""
    return {name: load_profile(name) for name in DEVICES}


async def dump_unit(link: Link, unit_id: int, extra: Sequence[ReadBlock] = ()) -> UnitDump:
    """Read everything that the profile of a unit names, and `extra`; read-only.

    Raises:
        NodeError: it does not answer.
    """
    profiles = device_profiles()
    head = await _read(link, unit_id, ReadBlock("input", 0, 2))
    device = next((n for n in DEVICES if head.words and head.words[0] == profiles[n].magic), None)
    blocks = tuple(extra) if device is None else (*blocks_of(profiles[device]), *extra)
    reads = [] if device is not None else [head]
    reads.extend([await _read(link, unit_id, block) for block in blocks])
    lines = () if device is None else lines_of(profiles[device], reads)
    return UnitDump(link.gateway.name, unit_id, device, tuple(reads), lines)


async def _read(link: Link, unit_id: int, block: ReadBlock) -> BlockRead:
    try:
        payload = await read_again(link, unit_id, block.table, block.address, block.count)
    except NodeError as error:
        if error.kind is not FailureKind.REFUSED:
            raise
        return BlockRead(block, (), error.exception_code)
    return BlockRead(block, tuple(np.frombuffer(payload, dtype=">u2").tolist()))


def lines_of(profile: DeviceProfile, reads: Sequence[BlockRead]) -> tuple[RegisterLine, ...]:
    """Registers for people, without the cells a module does not have."""
    lines = [line for r in reads if r.words for line in describe(profile, r.block, r.words)]
    cells = next((line.raw[0] for line in lines if line.name == "N_CELLS"), 0)
    absent = {f"CELL_VOLTAGE_{k}" for k in range(cells + 1, 16)} if cells else set()
    return tuple(line for line in lines if line.name not in absent)


# ---- the file ----------------------------------------------------------------------------------


def document(
    units: Sequence[UnitDump], gateways: Sequence[GatewaySpec], site: str | None, now: datetime
) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "format": FORMAT,
        "made_utc": now.isoformat(timespec="seconds"),
        "site": site,
        "gateways": [{"name": g.name, "kind": g.kind} for g in gateways],
        "units": [_unit_document(u) for u in units],
    }


def _unit_document(unit: UnitDump) -> dict[str, Any]:
    reads: list[dict[str, Any]] = []
    for r in unit.reads:
        entry: dict[str, Any] = {"table": r.block.table, "address": r.block.address, "count": r.block.count}
        if r.words:
            entry["words"] = " ".join(f"{w:04x}" for w in r.words)
        else:
            entry["exception"] = r.exception
        reads.append(entry)
    return {
        "gateway": unit.gateway,
        "unit_id": unit.unit_id,
        "device": unit.device,
        "reads": reads,
        "registers": [{**asdict(line), "raw": list(line.raw)} for line in unit.lines],
    }


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid")
    table: Table
    address: int = Field(ge=0, le=0xFFFF)
    count: int = Field(ge=1, le=125)
    words: str = Field(default="", pattern=r"^([0-9a-f]{4}( |$))*$")
    exception: int = Field(default=0, ge=0, le=255)

    def built(self) -> BlockRead:
        words = tuple(int(w, 16) for w in self.words.split())
        return BlockRead(ReadBlock(self.table, self.address, self.count), words, self.exception)


class _Unit(BaseModel):
    gateway: str
    unit_id: int = Field(ge=0, le=255)
    device: Literal["rm1", "rc1"] | None
    reads: list[_Read]


class _Gateway(BaseModel):
    name: str
    kind: Literal["tcp", "rtu"]


class _Dump(BaseModel):
    format: Literal["reconf-dump/1"]
    gateways: list[_Gateway]
    units: list[_Unit]


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump read back from its file."""

    gateways: tuple[GatewaySpec, ...]
    units: tuple[UnitDump, ...]


def load_dump(path: Path) -> Dump:
    """Read a dump file.

    Raises:
        DataFileError: it is none.
    """
    try:
        found = _Dump.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        text = "; ".join(_told(error)) if isinstance(error, ValidationError) else str(error)
        raise DataFileError(f"{path}: no register dump: {text}") from error
    gateways = tuple(GatewaySpec(g.name, g.kind, port=0) for g in found.gateways)
    units = tuple(
        UnitDump(u.gateway, u.unit_id, u.device, tuple(r.built() for r in u.reads)) for u in found.units
    )
    return Dump(gateways, units)


def _told(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]


class DumpBank:
    """Units of a dump, answering reads as they did; what was not read is a hole. Nothing can be written."""

    def __init__(self, dump: Dump) -> None:
        self._words: dict[tuple[str, int], dict[tuple[Table, int], int]] = {}
        self._refused: dict[tuple[str, int], dict[tuple[Table, int, int], int]] = {}
        for unit in dump.units:
            at = unit.gateway, unit.unit_id
            words, refused = self._words.setdefault(at, {}), self._refused.setdefault(at, {})
            for r in unit.reads:
                block = r.block
                if not r.words:
                    refused[block.table, block.address, block.count] = r.exception
                words.update({(block.table, block.address + k): w for k, w in enumerate(r.words)})

    def read(self, gateway: str, unit_id: int, table: Table, address: int, count: int) -> bytes | None:
        """Registers as they were; None where no such unit was dumped.

        Raises:
            RefusedError: too many registers, or none that was read.
        """
        words = self._words.get((gateway, unit_id))
        if words is None:
            return None
        if not 1 <= count <= MAX_READ:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        found = [words.get((table, address + k), HOLE) for k in range(count)]
        known = any((table, address + k) in words for k in range(count))
        if not known or (table, address, count) in self._refused[gateway, unit_id]:
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        return np.array(found, dtype=">u2").tobytes()

    def write(self, gateway: str, unit_id: int, address: int, words: Sequence[int]) -> bool:  # noqa: ARG002 - the protocol's signature
        """Refuse: a dump has no behaviour; False where no such unit was dumped.

        Raises:
            RefusedError: always, for a unit that there is.
        """
        if (gateway, unit_id) not in self._words:
            return False
        raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)
