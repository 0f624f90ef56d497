"""Site I/O units of the twin: signals that tests set, outputs that can be looked at. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconf.devices.site_io import (
    BIT_SIGNALS,
    NUMBER_SIGNALS,
    BitTable,
    IoPoint,
    IoTable,
    load_io_profile,
)
from reconf.protection.envelope import SiteOutputs
from reconf.registers import na_pattern, raw_range
from reconf.site import IoPointSpec, IoUnitSpec, Site
from reconf.twin.firmware_registers import HOLE, ExceptionCode, RefusedError

SOUND_OHM = 5e6
"""Insulation of a sound site."""


class IoUnit:
    """One unit: its points as they stand."""

    def __init__(self, spec: IoUnitSpec) -> None:
        self.spec, self.profile = spec, load_io_profile(spec.profile)
        self.words: dict[tuple[IoTable, int], int] = {}
        for point in self.profile.points:
            for k in range(point.words):
                self.words[point.table, point.address + k] = 0

    def value(self, point: IoPoint) -> int:
        """The point's integer."""
        raw = 0
        for k in range(point.words):
            raw = raw << 16 | self.words[point.table, point.address + k]
        return raw

    def put(self, point: IoPoint, raw: int) -> None:
        """Set the point."""
        data = (raw & ((1 << 16 * point.words) - 1)).to_bytes(2 * point.words, "big")
        for k in range(point.words):
            self.words[point.table, point.address + k] = int.from_bytes(data[2 * k : 2 * k + 2], "big")

    def show(self, spec: IoPointSpec, value: float | None) -> None:
        """Bring one input to what its signal is; None: the device has no value."""
        point = self.profile.by_name[spec.point]
        if spec.signal in NUMBER_SIGNALS:
            low, high = raw_range(point.type)
            factor = NUMBER_SIGNALS[spec.signal][point.unit] * point.scale
            raw = na_pattern(point.type) if value is None else round(value / factor)
            self.put(point, raw if value is None else min(max(raw, low), high - 1))
            return
        on = bool(value) != spec.active_low
        if point.is_bit:
            self.words[point.table, point.address] = int(on)
        elif spec.bits:
            mask = 1 << spec.bits[0]
            raw = self.value(point)
            self.put(point, raw | mask if on else raw & ~mask)

    def level(self, spec: IoPointSpec) -> float:
        """What an output asks for, 0..1."""
        point = self.profile.by_name[spec.point]
        raw = self.value(point)
        level = float(raw != 0) if point.is_bit else min(raw * point.scale / spec.full, 1.0)
        return 1.0 - level if spec.active_low else level


class IoFirmware:
    """Every site I/O unit of a site."""

    def __init__(self, site: Site) -> None:
        self.units = {(u.gateway, u.unit_id): IoUnit(u) for u in site.io}
        self.signals: dict[str, float | None] = {
            **dict.fromkeys(BIT_SIGNALS, 0.0), "insulation_ohm": SOUND_OHM, "ambient_degc": 25.0
        }  # fmt: skip
        """What is there to be seen; None: the device has no value. Set it and call `show`."""
        self.show()

    def show(self) -> None:
        """Bring every input to its signal."""
        for unit in self.units.values():
            for spec in unit.spec.inputs:
                unit.show(spec, self.signals[spec.signal])

    def set(self, signal: str, value: float | None) -> None:
        """Change a signal; KeyError where there is none of that name."""
        if signal not in self.signals:
            raise KeyError(signal)
        self.signals[signal] = value
        self.show()

    @property
    def outputs(self) -> SiteOutputs:
        """What the outputs ask for."""
        level = {spec.signal: u.level(spec) for u in self.units.values() for spec in u.spec.outputs}
        return SiteOutputs(
            cooling_frac=level.get("cooling", 0.0),
            alarm=level.get("alarm", 0.0) >= 0.5,
            ventilate=level.get("ventilate", 0.0) >= 0.5,
        )

    def read(self, at: tuple[str, int], table: IoTable, address: int, count: int) -> bytes:
        """Registers as they go on the wire.

        Raises:
            RefusedError: too many, or none that exists.
        """
        found = self._found(at, table, address, count)
        return b"".join((HOLE if word is None else word).to_bytes(2, "big") for word in found)

    def read_bits(self, at: tuple[str, int], table: BitTable, address: int, count: int) -> bytes:
        """Bits, the first in the lowest place.

        Raises:
            RefusedError: too many, or none that exists.
        """
        found = self._found(at, table, address, count)
        number = sum(1 << k for k, bit in enumerate(found) if bit)
        return number.to_bytes((count + 7) // 8, "little")

    def _found(self, at: tuple[str, int], table: IoTable, address: int, count: int) -> list[int | None]:
        unit = self.units[at]
        if not 1 <= count <= unit.profile.max_read:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        found = [unit.words.get((table, address + k)) for k in range(count)]
        if all(word is None for word in found):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        return found

    def write(self, at: tuple[str, int], table: IoTable, address: int, words: Sequence[int]) -> None:
        """Coils or holding registers.

        Raises:
            RefusedError: one does not exist, or does not take the value; nothing was changed.
        """
        unit = self.units[at]
        if any((table, address + k) not in unit.words for k in range(len(words))):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        for point in unit.profile.points:
            k = point.address - address
            inside = point.table == table == "holding" and point.words == 1 and 0 <= k < len(words)
            if inside and point.maximum is not None and words[k] * point.scale > point.maximum:
                raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        for k, word in enumerate(words):
            unit.words[table, address + k] = word
