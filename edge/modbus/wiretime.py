"""How long frames really take on a serial line. A pty does not show it, so it is computed.

Modbus over Serial Line Specification V1.02, section 2.5.1.1: characters of 11 bits at most (start, 8 data,
parity, stop), frames apart by 3.5 characters, which is fixed at 1.75 ms above 19200 baud.
"""

from __future__ import annotations

from reconf.site import GatewaySpec

READ_REQUEST_BYTES = 8
"""Unit, function, address, count, CRC."""
READ_REPLY_OVERHEAD_BYTES = 5
"""Unit, function, byte count, CRC."""
WRITE_ECHO_BYTES = 8
WRITE_REQUEST_OVERHEAD_BYTES = 9
TURNAROUND_S = 0.001
"""Time a node needs before it answers; firmware on a small controller, not part of the standard."""
FIXED_GAP_S = 0.00175


def bits_per_character(parity: str, stop_bits: int) -> int:
    """Start, eight data, parity and stop bits."""
    return 1 + 8 + (0 if parity == "N" else 1) + stop_bits


def frame_gap_s(baudrate: int, bits: int) -> float:
    """Silence between two frames [s]."""
    return FIXED_GAP_S if baudrate > 19200 else 3.5 * bits / baudrate


def exchange_s(line: GatewaySpec, request_bytes: int, reply_bytes: int) -> float:
    """Wire time of one request and its reply on `line` [s], with both gaps and the node's turnaround."""
    bits = bits_per_character(line.parity, line.stop_bits)
    characters = (request_bytes + reply_bytes) * bits / line.baudrate
    return characters + 2 * frame_gap_s(line.baudrate, bits) + TURNAROUND_S


def read_s(line: GatewaySpec, registers: int) -> float:
    """Wire time of reading `registers` in one request [s]."""
    return exchange_s(line, READ_REQUEST_BYTES, READ_REPLY_OVERHEAD_BYTES + 2 * registers)


def write_s(line: GatewaySpec, registers: int) -> float:
    """Wire time of writing `registers` in one request (FC06 for one, FC16 for more) [s]."""
    request = READ_REQUEST_BYTES if registers == 1 else WRITE_REQUEST_OVERHEAD_BYTES + 2 * registers
    return exchange_s(line, request, WRITE_ECHO_BYTES)
