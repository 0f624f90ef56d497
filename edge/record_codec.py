"""Records to bytes and back, to the last bit, without pickle.

A record is a tree of frozen dataclasses, arrays, enums and plain containers. It becomes a small JSON
tree followed by the raw bytes of every array, compressed. Reading rebuilds only classes that live in
this project's own packages, so that a journal from elsewhere cannot run anything.

Layout before compression: 4 bytes magic, 4 bytes length of the JSON (big-endian), JSON, array bytes.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import struct
import zlib
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from reconf.errors import DataFileError

MAGIC = b"RCF1"
_HEAD = struct.Struct(">4sI")
PACKAGES = ("reconf", "optimizer", "edge")
DTYPES = frozenset({"float64", "int64", "bool", "uint8", "int32", "uint16", "uint32", "int8", "float32"})
_LEVEL = 1
"""zlib level: speed before size, this runs once an interval."""


def encode(value: object, shared: Mapping[int, str] | None = None) -> bytes:
    """Bytes of `value`. Objects whose `id` is in `shared` are stored by name only."""
    arrays: list[bytes] = []
    tree = _Encoder(arrays, shared or {}).encode(value)
    text = json.dumps(tree, separators=(",", ":")).encode()
    return zlib.compress(b"".join([_HEAD.pack(MAGIC, len(text)), text, *arrays]), _LEVEL)


def decode(data: bytes, shared: Mapping[str, object] | None = None) -> Any:
    """The value that `encode` was given.

    Raises:
        DataFileError: the bytes are not a record.
    """
    try:
        raw = zlib.decompress(data)
        magic, length = _HEAD.unpack_from(raw)
        tree = json.loads(raw[_HEAD.size : _HEAD.size + length])
    except (zlib.error, struct.error, ValueError) as error:
        raise DataFileError(f"not a record: {error}") from error
    if magic != MAGIC:
        raise DataFileError(f"not a record: starts with {magic!r}, allowed {MAGIC!r}")
    return _Decoder(memoryview(raw)[_HEAD.size + length :], shared or {}).decode(tree)


class _Encoder:
    def __init__(self, arrays: list[bytes], shared: Mapping[int, str]) -> None:
        self._arrays = arrays
        self._shared = shared
        self._offset = 0

    def encode(self, value: object) -> object:
        if value is None or type(value) in {bool, str, int, float}:  # exactly: an enum may be a str too
            return value
        if id(value) in self._shared:
            return {"k": "shared", "n": self._shared[id(value)]}
        if isinstance(value, Enum):
            return {"k": "enum", "n": _name(type(value)), "v": value.value}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return {"k": "scalar", "v": self._array(np.asarray(value))}
        return self._container(value)

    def _array(self, value: np.ndarray[Any, Any]) -> object:
        if value.dtype.name not in DTYPES:
            raise TypeError(f"array of {value.dtype.name} cannot be recorded, allowed {sorted(DTYPES)}")
        data = np.ascontiguousarray(value).tobytes()
        self._arrays.append(data)
        at, self._offset = self._offset, self._offset + len(data)
        return {"k": "array", "t": value.dtype.name, "s": list(value.shape), "o": at}

    def _container(self, value: object) -> object:
        if isinstance(value, list | tuple | set | frozenset):
            # sets are sorted by their text, so that equal records have equal bytes
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return (
                {"k": type(value).__name__, "v": [self.encode(v) for v in items]}
                if not hasattr(value, "_fields")
                else {"k": "object", "n": _name(type(value)), "v": [self.encode(v) for v in items]}
            )
        if isinstance(value, Mapping):
            kind = "dict" if isinstance(value, dict) else "map"
            return {"k": kind, "v": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self.encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"k": "data", "n": _name(type(value)), "v": fields}
        raise TypeError(f"{type(value).__name__} cannot be recorded")


class _Decoder:
    def __init__(self, arrays: memoryview, shared: Mapping[str, object]) -> None:
        self._arrays = arrays
        self._shared = shared

    def decode(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        kind: str = tree["k"]
        value: Any = tree.get("v")
        if kind == "array":
            return self._array(tree)
        if kind == "shared":
            return self._shared[tree["n"]]
        if kind in {"dict", "map"}:
            pairs = {self.decode(k): self.decode(v) for k, v in value}
            return pairs if kind == "dict" else MappingProxyType(pairs)
        return self._special(kind, tree, value)

    def _special(self, kind: str, tree: Any, value: Any) -> Any:
        match kind:
            case "enum":
                return _class(tree["n"])(value)
            case "scalar":
                return self._array(value)[()]
            case "list" | "tuple" | "set" | "frozenset":
                maker = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
                return maker(self.decode(v) for v in value)
            case "object":
                return _class(tree["n"])(*(self.decode(v) for v in value))
            case "data":
                return _rebuild(_class(tree["n"]), {k: self.decode(v) for k, v in value.items()})
            case _:
                raise DataFileError(f"not a record: unknown kind {kind!r}")

    def _array(self, tree: Any) -> Any:
        if tree["t"] not in DTYPES:
            raise DataFileError(f"not a record: array of {tree['t']!r}")
        count = int(np.prod(tree["s"], dtype=np.int64))
        flat = np.frombuffer(self._arrays, dtype=tree["t"], count=count, offset=tree["o"])
        return flat.reshape(tree["s"]).copy()


def _name(kind: type) -> str:
    if kind.__module__.partition(".")[0] not in PACKAGES:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} cannot be recorded, only own classes")
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] not in PACKAGES or not qualname.isidentifier():
        raise DataFileError(f"not a record: class {name!r} is not of this project")
    found = getattr(importlib.import_module(module), qualname, None)
    recordable = isinstance(found, type) and (
        dataclasses.is_dataclass(found) or issubclass(found, Enum) or hasattr(found, "_fields")
    )
    if not recordable:
        raise DataFileError(f"not a record: {name!r} is no value of this project")
    return found


def _rebuild(kind: Any, fields: dict[str, Any]) -> Any:
    """A dataclass with exactly these fields, also those that its constructor does not take."""
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name in fields:
            object.__setattr__(made, field.name, fields[field.name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default)  # written before the field existed
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default_factory())
        else:
            raise DataFileError(f"not a record: {kind.__qualname__} lacks {field.name!r}")
    return made
