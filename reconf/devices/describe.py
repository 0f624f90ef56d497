"""Registers for people: name, raw word, value, unit and what it means. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconf.devices.profile import DeviceProfile, RegisterDef, RegisterType, Table
from reconf.errors import RegisterError
from reconf.registers import ReadBlock, decode_text, na_pattern, plan_reads

NOT_AVAILABLE = "not available"
_CHOICE = re.compile(r"^\s*(\d+)\s+(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class RegisterLine:
    """One register (or one of several of a kind) as read."""

    table: Table
    address: int
    name: str
    raw: tuple[int, ...]
    """Words as they stood on the wire."""
    value: float | str | None
    """In `unit`; text of a string16; None where it is not available."""
    unit: str
    meaning: str
    """What this value means: status bits spelled out, choices named, otherwise the register's description."""


def blocks_of(profile: DeviceProfile) -> tuple[ReadBlock, ...]:
    """The fewest read requests that cover every register of a device."""
    return plan_reads(profile.registers, profile.max_read_registers)


def describe(profile: DeviceProfile, block: ReadBlock, words: Sequence[int]) -> tuple[RegisterLine, ...]:
    """Every register that lies in `block`, in address order."""
    lines: list[RegisterLine] = []
    for register in profile.of_table(block.table):
        if register.address < block.address or register.end > block.end:
            continue
        at = register.address - block.address
        if register.type is RegisterType.STRING16:
            lines.append(_text_line(register, tuple(words[at : at + register.count])))
            continue
        size = register.type.words
        lines += [
            _number_line(register, k, tuple(words[at + k * size : at + (k + 1) * size]))
            for k in range(register.count)
        ]
    return tuple(lines)


def _text_line(register: RegisterDef, raw: tuple[int, ...]) -> RegisterLine:
    try:
        value: str | None = decode_text(raw)
        meaning = register.meaning
    except RegisterError as error:
        value, meaning = None, str(error)
    return RegisterLine(register.table, register.address, register.name, raw, value, "", meaning)


def _number_line(register: RegisterDef, k: int, raw: tuple[int, ...]) -> RegisterLine:
    number = number_of(register.type, raw)
    name = f"{register.name}_{k + 1}" if register.count > 1 else register.name
    address = register.address + k * register.type.words
    missing = register.na_applies and number == na_pattern(register.type)
    value = None if missing else round(number * register.scale, 6)
    if missing:
        meaning = NOT_AVAILABLE
    elif register.bits:
        meaning = _bits(register, number)
    elif k and number:
        meaning = ""  # said once, at the first of several of a kind
    else:
        meaning = _choice(register.meaning, number) or register.meaning
    return RegisterLine(register.table, address, name, raw, value, register.unit, meaning)


def bits_text(profile: DeviceProfile, status: int) -> str:
    """STATUS in words."""
    return _bits(profile.register("input", "STATUS"), status)


def _bits(register: RegisterDef, number: int) -> str:
    return "; ".join(text for bit, text in register.bits if number >> bit & 1) or "no bit set"


def number_of(kind: RegisterType, raw: Sequence[int]) -> int:
    """The integer that one or two words are, sign extended."""
    value = 0
    for word in raw:
        value = (value << 16) | word
    bits = 16 * kind.words
    signed = kind in (RegisterType.INT16, RegisterType.INT32)
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _choice(meaning: str, number: int) -> str:
    """`0 off; 1 power; 2 bus voltage` -> the text of `number`; empty where that is no list of choices."""
    found = [_CHOICE.match(part) for part in meaning.split(";")]
    if not found or not all(found):
        return ""
    return next((m.group(2) for m in found if m is not None and int(m.group(1)) == number), "")
