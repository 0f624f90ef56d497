"""SunSpec models as registers: layouts from a data file, values in, words out.

Types and "not implemented" values as in the SunSpec Device Information Model Specification V1.2; an
integer point's value is raw * 10^(scale factor).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

Value: TypeAlias = float | int | str | None
Values: TypeAlias = Mapping[str, Value]

_INTEGERS: dict[str, tuple[str, int, int, int]] = {
    # type: (struct code, lowest, highest, not implemented)
    "int16": ("h", -32767, 32767, -32768),
    "uint16": ("H", 0, 65534, 65535),
    "int32": ("i", -(2**31) + 1, 2**31 - 1, -(2**31)),
    "uint32": ("I", 0, 2**32 - 2, 2**32 - 1),
    "uint64": ("Q", 0, 2**64 - 2, 2**64 - 1),
    "enum16": ("H", 0, 65534, 65535),
    "bitfield32": ("I", 0, 2**31 - 1, 2**32 - 1),
    "sunssf": ("h", -10, 10, -32768),
    "pad": ("H", 0, 0, 0x8000),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a model."""

    name: str
    type: str
    size: int
    """Registers."""
    scale: str | None
    """Name of its scale factor point."""
    writable: bool


@dataclass(frozen=True)
class Group:
    """Points that come together; `count` is a number, or the name of the point that tells it."""

    name: str
    count: int | str
    points: tuple[Point, ...]

    @cached_property
    def size(self) -> int:
        """Registers of one repetition."""
        return sum(p.size for p in self.points)


@dataclass(frozen=True)
class Model:
    """One SunSpec information model."""

    number: int
    points: tuple[Point, ...]
    groups: tuple[Group, ...]

    def offset(self, name: str) -> int:
        """Registers before point `name`, counted from the model's ID."""
        at = 0
        for point in self.points:
            if point.name == name:
                return at
            at += point.size
        raise KeyError(name)

    def size(self, repeats: int = 0) -> int:
        """Registers of the whole model with `repeats` of its group that repeats."""
        fixed = sum(p.size for p in self.points)
        return fixed + sum(g.size * (1 if g.count == 1 else repeats) for g in self.groups)

    def encode(self, values: Values, repeated: Mapping[str, Sequence[Values]] | None = None) -> bytes:
        """The whole model as big-endian words, ID and length filled in.

        What is not given, and what does not fit its point at its scale, reads as "not implemented": no
        number is better than a wrong one.
        """
        body = b"".join(_encode(p, values, values) for p in self.points[2:])
        for group in self.groups:
            for row in (repeated or {}).get(group.name, ({},) if group.count == 1 else ()):
                body += b"".join(_encode(p, row, values) for p in group.points)
        return struct.pack(">HH", self.number, len(body) // 2) + body


def _encode(point: Point, values: Values, scales: Values) -> bytes:
    value = values.get(point.name)
    if point.type == "string":
        data = ("" if value is None else str(value)).encode("utf-8")[: 2 * point.size]
        return data.ljust(2 * point.size, b"\0")
    code, low, high, missing = _INTEGERS[point.type]
    if value is None or point.type == "pad" or (isinstance(value, float) and not math.isfinite(value)):
        return struct.pack(">" + code, missing)
    exponent = scales.get(point.scale) if point.scale else 0
    raw = round(float(value) / 10.0 ** int(exponent or 0))
    return struct.pack(">" + code, raw if low <= raw <= high else missing)


def decode_integer(point: Point, data: bytes) -> int | None:
    """A written integer point; None where it is "not implemented"."""
    code, _, _, missing = _INTEGERS[point.type]
    value = int(struct.unpack(">" + code, data)[0])
    return None if value == missing else value


def scale_for(largest: float, kind: str = "uint16") -> int:
    """The smallest power of ten at which `largest` fits `kind`, -3 at the least."""
    high = _INTEGERS[kind][2]
    exponent = -3
    while abs(largest) / 10.0**exponent > high:
        exponent += 1
    return exponent


def load_models() -> dict[int, Model]:
    """The models of the data file."""
    text = Path(__file__).with_name("models.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)["models"]
    return {int(number): _model(int(number), entry) for number, entry in data.items()}


def _points(rows: Sequence[Sequence[Any]]) -> tuple[Point, ...]:
    return tuple(Point(n, t, size, scale, access == "rw") for n, t, size, scale, access in rows)


def _model(number: int, entry: Mapping[str, Any]) -> Model:
    groups = tuple(Group(g["name"], g["count"], _points(g["points"])) for g in entry["groups"])
    return Model(number, _points(entry["points"]), groups)
