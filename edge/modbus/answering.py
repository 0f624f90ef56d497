"""From a request to its answer: functions 1..6 and 16 over whatever stands behind the wires. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from reconf.devices.profile import Table
from reconf.devices.site_io import BitTable
from reconf.twin.firmware_registers import ExceptionCode, RefusedError


class Served(Protocol):
    """What stands behind the wires."""

    def read(self, gateway: str, unit_id: int, table: Table, address: int, count: int) -> bytes | None:
        """Registers; None where nobody has that unit id; raises `RefusedError`."""

    def write(self, gateway: str, unit_id: int, address: int, words: Sequence[int]) -> bool:
        """Whether somebody has that unit id; raises `RefusedError`."""


@runtime_checkable
class ServesBits(Protocol):
    """Units with discrete inputs and coils among them; others answer that they know no such function."""

    def read_bits(
        self, gateway: str, unit_id: int, table: BitTable, address: int, count: int
    ) -> bytes | None:
        """Bits, the first in the lowest place; None where nobody has that unit id; raises `RefusedError`."""

    def write_coil(self, gateway: str, unit_id: int, address: int, *, on: bool) -> bool:
        """Whether somebody has that unit id; raises `RefusedError`."""


def answer(bank: Served, gateway: str, unit_id: int, pdu: bytes) -> bytes | None:
    """The PDU that answers `pdu`; None where nobody has that unit id."""
    function = pdu[0]
    try:
        return _perform(bank, gateway, unit_id, function, pdu)
    except RefusedError as refused:
        return bytes((function | 0x80, refused.code))


def _perform(bank: Served, gateway: str, unit_id: int, function: int, pdu: bytes) -> bytes | None:
    if function in (1, 2, 5) and len(pdu) == 5 and isinstance(bank, ServesBits):
        return _bits(bank, gateway, unit_id, function, pdu)
    if function in (3, 4) and len(pdu) == 5:
        address, count = struct.unpack(">HH", pdu[1:])
        data = bank.read(gateway, unit_id, "holding" if function == 3 else "input", address, count)
        return None if data is None else bytes((function, len(data))) + data
    if function == 6 and len(pdu) == 5:
        address, word = struct.unpack(">HH", pdu[1:])
        return pdu if bank.write(gateway, unit_id, address, (word,)) else None
    if function == 16 and len(pdu) >= 6:
        address, count, size = struct.unpack(">HHB", pdu[1:6])
        if size != 2 * count or len(pdu) != 6 + size:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        words = struct.unpack(f">{count}H", pdu[6:])
        return pdu[:5] if bank.write(gateway, unit_id, address, words) else None
    raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)


def _bits(bank: ServesBits, gateway: str, unit_id: int, function: int, pdu: bytes) -> bytes | None:
    address, word = struct.unpack(">HH", pdu[1:])
    if function == 5:
        if word not in (0x0000, 0xFF00):
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        return pdu if bank.write_coil(gateway, unit_id, address, on=word != 0) else None
    data = bank.read_bits(gateway, unit_id, "coil" if function == 1 else "discrete", address, word)
    return None if data is None else bytes((function, len(data))) + data
