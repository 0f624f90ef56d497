"""How a node answers register accesses: holes, limits, refusals. Pure; the meaning of writes is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.profile import DeviceProfile, RegisterDef, RegisterType, Table
from reconf.errors import ReconfError
from reconf.registers import na_pattern, raw_range

HOLE = 0xFFFF
MAX_WRITE = 60
BigEndian = NDArray[np.uint16]
"""Arrays of dtype `>u2`: a slice of a row is what goes on the wire."""


class ExceptionCode(IntEnum):
    """Modbus exceptions a node gives."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3


class RefusedError(ReconfError):
    """The node answers with an exception and changes nothing."""

    def __init__(self, code: ExceptionCode) -> None:
        super().__init__(f"exception {code.value}: {code.name.lower()}")
        self.code = code


class RegisterBank:
    """Input and holding registers of N nodes of one kind.

    Args:
        profile: the registers.
        present: (N, W) which input registers a node really has, for nodes that lack some; None: all.
        n_nodes: nodes.
    """

    def __init__(self, profile: DeviceProfile, n_nodes: int, present: BoolArray | None = None) -> None:
        self.profile = profile
        self.input: BigEndian = _image(profile, "input", n_nodes)
        self.holding: BigEndian = _image(profile, "holding", n_nodes)
        has_input = np.broadcast_to(_exists(profile, "input"), self.input.shape)
        self._has_input: BoolArray = has_input.copy() if present is None else has_input & present
        self._has_holding: BoolArray = _exists(profile, "holding")
        self._writable: BoolArray = _exists(profile, "holding", writable=True)
        self._low: list[dict[int, int]] = [{} for _ in range(n_nodes)]
        self._high: list[dict[int, int]] = [{} for _ in range(n_nodes)]
        self._only: dict[int, frozenset[int]] = {}
        self._at: dict[int, RegisterDef] = {r.address: r for r in profile.of_table("holding")}
        self._halves = {r.address + 1 for r in self._at.values() if r.type.words == 2}

    def limit(self, row: int, name: str, low: int, high: int) -> None:
        """Values (raw integers) that node `row` takes for `name`; replaces those of the profile."""
        address = self.profile.register("holding", name).address
        self._low[row][address], self._high[row][address] = low, high

    def only(self, name: str, values: frozenset[int]) -> None:
        """The only values (raw integers) that every node takes for `name`."""
        self._only[self.profile.register("holding", name).address] = values

    def read(self, row: int, table: Table, address: int, count: int) -> bytes:
        """Registers as they go on the wire, holes filled.

        Raises:
            RefusedError: too many registers, or not one that exists.
        """
        if not 1 <= count <= self.profile.max_read_registers:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        image = self.input if table == "input" else self.holding
        exists = self._has_input[row] if table == "input" else self._has_holding
        if not exists[address : address + count].any():
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        found = image[row, address : address + count].tobytes()
        return found + b"\xff\xff" * (count - len(found) // 2)

    def check_write(self, row: int, address: int, words: Sequence[int]) -> dict[int, int]:
        """Values by address that a write would set, sign extended; nothing is changed.

        Raises:
            RefusedError: a register that cannot be written, half of a 32-bit value, a value out of range.
        """
        if not 1 <= len(words) <= MAX_WRITE:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        end = address + len(words)
        if end > self._writable.size or not self._writable[address:end].all():
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        if address in self._halves or end in self._halves:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        values: dict[int, int] = {}
        for at in range(address, end):
            if at in self._at:
                register = self._at[at]
                words_of = words[at - address : at - address + register.type.words]
                values[at] = self._in_range(row, register, _number(register.type, words_of))
        return values

    def _in_range(self, row: int, register: RegisterDef, value: int) -> int:
        lowest, highest = raw_range(register.type)
        minimum = lowest if register.minimum is None else round(register.minimum / register.scale)
        maximum = highest if register.maximum is None else round(register.maximum / register.scale)
        low = self._low[row].get(register.address, minimum)
        high = self._high[row].get(register.address, maximum)
        missing = register.na_applies and value == na_pattern(register.type)
        allowed = self._only.get(register.address)
        if not low <= value <= high or missing or (allowed is not None and value not in allowed):
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        return value

    def number(self, address: int) -> IntArray:
        """(N,) the holding register at `address` as a number."""
        register = self._at[address]
        word = self.holding[:, address].astype(np.int64)
        if register.type.words == 2:
            word = (word << 16) | self.holding[:, address + 1].astype(np.int64)
        bits = 16 * register.type.words
        if register.type in (RegisterType.INT16, RegisterType.INT32):
            word = np.where(word >= 1 << (bits - 1), word - (1 << bits), word)
        return word


class InputEncoder:
    """Puts the values of several input registers of all nodes into their image in one pass.

    A node's firmware saturates what its register cannot hold and shows NaN as "not available".
    """

    def __init__(self, bank: RegisterBank, names: Sequence[str]) -> None:
        self._image = bank.input
        at: list[int] = []
        kinds: list[RegisterType] = []
        scale: list[float] = []
        applies: list[bool] = []
        for name in names:
            register = bank.profile.register("input", name)
            for k in range(register.count):
                at.append(register.address + k * register.type.words)
                kinds.append(register.type)
                scale.append(register.scale)
                applies.append(register.na_applies)
        ranges = [raw_range(kind) for kind in kinds]
        # the pattern that means "not available" is no value a sensor may show
        self._low = np.array(
            [low + (low < 0 and na) for (low, _), na in zip(ranges, applies, strict=True)], dtype=np.float64
        )
        self._high = np.array(
            [high - (low == 0 and na) for (low, high), na in zip(ranges, applies, strict=True)],
            dtype=np.float64,
        )
        self._na = np.array([na_pattern(kind) for kind in kinds], dtype=np.float64)
        self._per_unit = 1.0 / np.array(scale)
        wide = np.array([kind.words == 2 for kind in kinds])
        self._wide = wide
        self._low_word = np.array(at) + wide
        self._high_word = np.array(at)[wide]

    def show(self, values: Sequence[FloatArray], rows: BoolArray) -> None:
        """`values` (N,) or (N, count) [unit of each register], in the order of the names, for `rows`."""
        table = np.column_stack(values)
        raw = np.clip(np.rint(table * self._per_unit), self._low, self._high)
        bits = np.where(np.isnan(table), self._na, raw).astype(np.int64)
        chosen = np.flatnonzero(rows)[:, None]
        self._image[chosen, self._low_word] = (bits & 0xFFFF)[rows]
        if self._high_word.size:
            self._image[chosen, self._high_word] = ((bits[:, self._wide] >> 16) & 0xFFFF)[rows]


def _number(kind: RegisterType, words: Sequence[int]) -> int:
    value = 0
    for word in words:
        value = (value << 16) | word
    bits = 16 * kind.words
    signed = kind in (RegisterType.INT16, RegisterType.INT32)
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _width(profile: DeviceProfile, table: Table) -> int:
    return max(r.end for r in profile.of_table(table))


def _image(profile: DeviceProfile, table: Table, n_nodes: int) -> BigEndian:
    image = np.full((n_nodes, _width(profile, table)), HOLE, dtype=">u2")
    for register in profile.of_table(table):
        if register.access == "rw":
            image[:, register.address : register.end] = 0
    return image


def _exists(profile: DeviceProfile, table: Table, *, writable: bool = False) -> BoolArray:
    exists = np.zeros(_width(profile, table), dtype=np.bool_)
    for register in profile.of_table(table):
        if not writable or register.access == "rw":
            exists[register.address : register.end] = True
    return exists
