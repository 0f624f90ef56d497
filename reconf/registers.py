"""Coding of values into Modbus registers and back, and the fewest requests that read them.

Big-endian words; 32-bit values have their high word first; int16 and int32 are two's complement
(Modbus Application Protocol Specification V1.1b3, section 4.2). Decoding is one numpy pass over all
nodes of a kind; encoding never truncates: what does not fit raises `RegisterError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconf.arrays import FloatArray, IntArray
from reconf.devices.profile import RegisterDef, RegisterType, Table
from reconf.errors import RegisterError

WordArray = NDArray[np.uint16]

_SIGNED = (RegisterType.INT16, RegisterType.INT32)
_BITS = {RegisterType.UINT16: 16, RegisterType.INT16: 16, RegisterType.UINT32: 32, RegisterType.INT32: 32}


def raw_range(kind: RegisterType) -> tuple[int, int]:
    """Smallest and largest integer `kind` can hold."""
    bits = _BITS[kind]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind in _SIGNED else (0, (1 << bits) - 1)


def na_pattern(kind: RegisterType) -> int:
    """The integer (after sign extension) that means "not available"."""
    low, high = raw_range(kind)
    return low if kind in _SIGNED else high


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        """First address behind the block."""
        return self.address + self.count


def plan_reads(registers: Iterable[RegisterDef], max_registers: int) -> tuple[ReadBlock, ...]:
    """Coalesce `registers` into the fewest requests of at most `max_registers`, holes allowed.

    Taking each block as long as it may be, in address order, is optimal for intervals on a line.

    Raises:
        RegisterError: one value alone is longer than a request may be.
    """
    blocks: list[ReadBlock] = []
    for register in sorted(registers, key=lambda r: (r.table, r.address)):
        if register.words > max_registers:
            raise RegisterError(f"{register.name} takes {register.words} registers, {max_registers} allowed")
        last = blocks[-1] if blocks else None
        if last and last.table == register.table and register.end - last.address <= max_registers:
            blocks[-1] = ReadBlock(last.table, last.address, max(last.end, register.end) - last.address)
        else:
            blocks.append(ReadBlock(register.table, register.address, register.words))
    return tuple(blocks)


def contiguous_runs(addresses: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Split sorted addresses into (address, count) runs without holes: one write request each."""
    runs: list[tuple[int, int]] = []
    for address in addresses:
        if runs and runs[-1][0] + runs[-1][1] == address:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((address, 1))
    return tuple(runs)


class BlockDecoder:
    """Decodes one block of many nodes of the same profile in one pass.

    The result has one column per value; `columns` says where each register's values are.
    """

    def __init__(self, registers: Iterable[RegisterDef], block: ReadBlock) -> None:
        chosen = [
            r
            for r in registers
            if r.table == block.table and r.type is not RegisterType.STRING16
            and block.address <= r.address and r.end <= block.end
        ]  # fmt: skip
        self.block = block
        self.columns: dict[str, slice] = {}
        high: list[int] = []
        low: list[int] = []
        kinds: list[RegisterType] = []
        scales: list[float] = []
        na: list[int] = []
        for register in chosen:
            first = len(kinds)
            for k in range(register.count):
                at = register.address - block.address + k * register.type.words
                wide = register.type.words == 2
                high.append(at if wide else -1)
                low.append(at + 1 if wide else at)
                kinds.append(register.type)
                scales.append(register.scale)
                na.append(na_pattern(register.type) if register.na_applies else np.iinfo(np.int64).min)
            self.columns[register.name] = slice(first, len(kinds))
        self.n_values = len(kinds)
        """Columns of the result."""
        self._low = np.array(low, dtype=np.intp)
        self._wide = np.array([h >= 0 for h in high], dtype=np.bool_)
        self._high = np.array([h for h in high if h >= 0], dtype=np.intp)
        self._signed = np.array([k in _SIGNED for k in kinds], dtype=np.bool_)
        self._sign_bit = np.array([1 << (_BITS[k] - 1) for k in kinds], dtype=np.int64)
        self._scale = np.array(scales)
        self._na = np.array(na, dtype=np.int64)

    def integers(self, words: WordArray) -> IntArray:
        """(N, W) register words -> (N, V) integers, sign extended."""
        out: IntArray = words[:, self._low].astype(np.int64)
        if self._high.size:
            out[:, self._wide] |= words[:, self._high].astype(np.int64) << 16
        bit = self._sign_bit[self._signed]
        out[:, self._signed] = (out[:, self._signed] ^ bit) - bit
        return out

    def values(self, words: WordArray) -> FloatArray:
        """(N, W) register words -> (N, V) values in the registers' units; NaN where not available."""
        raw = self.integers(words)
        out: FloatArray = raw * self._scale
        out[raw == self._na] = np.nan
        return out


def decode_text(words: Sequence[int]) -> str:
    """string16: two ASCII characters a register, padded with NUL.

    Raises:
        RegisterError: bytes that are no printable ASCII.
    """
    data = np.asarray(words, dtype=">u2").tobytes().rstrip(b"\0")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise RegisterError(f"text register holds {data!r}, which is not ASCII") from error
    if not text.isprintable():
        raise RegisterError(f"text register holds unprintable characters: {text!r}")
    return text


def encode_text(text: str, registers: int) -> tuple[int, ...]:
    """The other way; too long or not ASCII raises `RegisterError`."""
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise RegisterError(f"{text!r} is not ASCII") from error
    if len(data) > 2 * registers:
        raise RegisterError(f"{text!r} is longer than the {2 * registers} characters that fit")
    return tuple(int(w) for w in np.frombuffer(data.ljust(2 * registers, b"\0"), dtype=">u2"))


def encode_values(register: RegisterDef, values: FloatArray | IntArray) -> IntArray:
    """Values in the register's unit, one per node (N,) -> (N, words) register words.

    Rounds to the register's resolution and checks the register's type and its stated range.

    Raises:
        RegisterError: a value that is not finite, does not fit, or reads as "not available".
    """
    given = np.asarray(values, dtype=np.float64)
    if not np.isfinite(given).all():
        raise RegisterError(f"{register.name}: a value that is not finite cannot be written")
    raw = np.rint(given / register.scale)
    low, high = raw_range(register.type)
    minimum = low if register.minimum is None else max(low, round(register.minimum / register.scale))
    maximum = high if register.maximum is None else min(high, round(register.maximum / register.scale))
    wrong = (raw < minimum) | (raw > maximum)
    if register.na_applies:
        wrong |= raw == na_pattern(register.type)
    if wrong.any():
        raise RegisterError(
            f"{register.name}: {given[wrong][0]:g} {register.unit} cannot be coded; "
            f"allowed {minimum * register.scale:g}..{maximum * register.scale:g} {register.unit}"
        )
    bits = raw.astype(np.int64)
    bits = np.where(bits < 0, bits + (1 << _BITS[register.type]), bits)
    if register.type.words == 2:
        return np.stack([bits >> 16, bits & 0xFFFF], axis=-1)
    return bits[:, None]


def encode_value(register: RegisterDef, value: float) -> tuple[int, ...]:
    """One value -> its register words; see `encode_values`."""
    return tuple(int(w) for w in encode_values(register, np.array([value]))[0])
