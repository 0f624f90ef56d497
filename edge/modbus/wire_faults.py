"""How the twin's wires and units misbehave, in the ways real buses do."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class UnitFault:
    """How one unit misbehaves."""

    silent: bool = False
    delay_s: float = 0.0
    missing_registers: int = 0
    """Read answers lack that many registers, with a byte count that fits."""
    garbage: bool = False
    """Answers of the right length whose content is noise."""
    exception: int = 0
    """Answer everything with this exception."""
    write_exception: int = 0
    """Answer writes with this exception, and change nothing."""
    swallows_writes: bool = False
    """Acknowledge writes, and change nothing."""
    swallowed_register: int = -1
    """Acknowledge single writes of this holding register, and change nothing."""
    input_registers: dict[int, int] = field(default_factory=dict)
    """Input registers that read otherwise than they should, by address."""
    cut_connection: bool = False
    """Send half an answer, then reset the connection (TCP)."""


@dataclass(slots=True)
class WireFaults:
    """Everything that is wrong on the wires now; may be changed at any time."""

    units: dict[tuple[str, int], UnitFault] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    """Share of frames that arrive corrupted, either way, by gateway: an unterminated line."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def corrupted(self, gateway: str) -> bool:
        """Whether the next frame on that line is hit."""
        rate = self.noise.get(gateway, 0.0)
        return rate > 0.0 and self.chance.random() < rate

    def unit(self, gateway: str, unit_id: int) -> UnitFault:
        """The fault record of a unit, made when it has none."""
        return self.units.setdefault((gateway, unit_id), UnitFault())

    def heal(self, gateway: str, unit_id: int) -> None:
        """The unit behaves again."""
        self.units.pop((gateway, unit_id), None)


NO_FAULT = UnitFault()


WRITES = frozenset({5, 6, 15, 16})


def refuses(pdu: bytes, fault: UnitFault) -> bytes | None:
    """The answer of a unit that does not take this write; None where it does."""
    alone = pdu[0] == 6 and int.from_bytes(pdu[1:3], "big") == fault.swallowed_register
    if pdu[0] not in WRITES or not (fault.write_exception or fault.swallows_writes or alone):
        return None
    if fault.write_exception:
        return bytes((pdu[0] | 0x80, fault.write_exception))
    return pdu if pdu[0] in (5, 6) else pdu[:5]


def misread(pdu: bytes, reply: bytes | None, fault: UnitFault) -> bytes | None:
    """The answer to a read of input registers with those that read otherwise put in."""
    if reply is None or not fault.input_registers or pdu[0] != 4 or reply[0] != 4:
        return reply
    first, out = int.from_bytes(pdu[1:3], "big"), bytearray(reply)
    for address, word in fault.input_registers.items():
        at = 2 + 2 * (address - first)
        if 2 <= at < len(out):
            out[at : at + 2] = word.to_bytes(2, "big")
    return bytes(out)


def spoil(reply: bytes, fault: UnitFault) -> bytes:
    """What a misbehaving unit makes of a right answer."""
    if fault.exception:
        return bytes((reply[0] & 0x7F | 0x80, fault.exception))
    if fault.missing_registers and reply[0] in (3, 4):
        data = reply[2 : max(2, len(reply) - 2 * fault.missing_registers)]
        return bytes((reply[0], len(data))) + data
    if fault.garbage and reply[0] in (1, 2, 3, 4):
        noise = bytes((37 * k + 11) & 0xFF for k in range(len(reply) - 2))
        return reply[:2] + noise
    return reply
