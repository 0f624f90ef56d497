"""SunSpec devices of a site: the registers of each unit id."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edge.northbound.sunspec import view, view_strings
from edge.northbound.sunspec.layout import Model, Point, load_models
from edge.northbound.sunspec.view import Ratings, SiteState
from reconf.site import Site

BASE = 40000
"""Address of the SunSpec mark; one of the three the specification names."""
MARK = b"SunS"
END = struct.pack(">HH", 0xFFFF, 0)
SITE_UNIT = 1
FIRST_STRING_UNIT = 2
CONTROL = ("WSetEna", "WSetMod", "WSet", "WSetRvrtTms")
"""Points of model 704 that can be written."""


@dataclass(frozen=True, slots=True)
class WritablePoint:
    """A point a client may write, by its address."""

    model: int
    point: Point
    address: int


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a unit's registers that is made at once: one model."""

    number: int
    start: int
    """First register, counted from BASE."""
    size: int
    make: Callable[[SiteState], bytes]

    @property
    def end(self) -> int:
        """First register behind it."""
        return self.start + self.size


class Devices:
    """The registers of every unit: models are made when somebody reads them, once for each state shown."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.models: dict[int, Model] = load_models()
        self.ratings = Ratings.of(site)
        self.units = range(SITE_UNIT, FIRST_STRING_UNIT + len(site.strings))
        self._parts = {unit: self._lay_out(self._models_of(unit)) for unit in self.units}
        self._made: dict[tuple[int, int], bytes] = {}
        self._state: SiteState | None = None

    def show(self, state: SiteState) -> None:
        """Take a new state."""
        self._state = state
        self._made.clear()

    def read(self, unit: int, address: int, count: int) -> bytes | None:
        """Registers of a unit, None where some of them do not exist (or nothing was shown yet)."""
        first, last = address - BASE, address - BASE + count
        parts = self._parts.get(unit)
        if self._state is None or parts is None or first < 0 or last > parts[-1].end:
            return None
        touched = [k for k, part in enumerate(parts) if part.start < last and part.end > first]
        data = b"".join(self._registers(unit, k, self._state) for k in touched)
        skip = 2 * (first - parts[touched[0]].start)
        return data[skip : skip + 2 * count]

    def _registers(self, unit: int, index: int, state: SiteState) -> bytes:
        made = self._made.get((unit, index))
        if made is None:
            made = self._made[unit, index] = self._parts[unit][index].make(state)
        return made

    def _lay_out(self, models: list[tuple[int, int, Callable[[SiteState], bytes]]]) -> tuple[Part, ...]:
        parts = [Part(0, 0, 2, lambda _: MARK)]
        for number, repeats, make in models:
            parts.append(Part(number, parts[-1].end, self.models[number].size(repeats), make))
        return (*parts, Part(0xFFFF, parts[-1].end, 2, lambda _: END))

    def _models_of(self, unit: int) -> list[tuple[int, int, Callable[[SiteState], bytes]]]:
        """(number, repetitions, maker) of a unit's models in order."""
        if unit == SITE_UNIT:
            n = len(self.site.strings)
            return [
                (1, 0, lambda _: self._common("battery site", self.site.name, unit)),
                (704, 0, lambda s: self.models[704].encode(view.control_704(s))),
                (713, 0, lambda s: self.models[713].encode(view.storage_713(self.ratings, s))),
                (714, n, self._measure),
                (802, 0, lambda s: self.models[802].encode(view.battery_802(self.ratings, s))),
                (803, n, self._bank),
            ]
        string = unit - FIRST_STRING_UNIT
        part = self.site.topology.slice_of(string)
        name = self.site.strings[string].name
        cells = self.site.topology.n_cells
        return [
            (1, 0, lambda _: self._common("battery string", name, unit)),
            (804, part.stop - part.start, partial(self._string, string)),
            *((805, int(cells[i]), partial(self._module, i)) for i in range(part.start, part.stop)),
        ]

    def _common(self, model: str, serial: str, unit: int) -> bytes:
        return self.models[1].encode(view.common(self.site, model, serial, unit))

    def _measure(self, state: SiteState) -> bytes:
        fixed, ports = view.measure_714(self.ratings, state)
        return self.models[714].encode(fixed, {"Prt": ports})

    def _bank(self, state: SiteState) -> bytes:
        fixed, rows = view_strings.bank_803(self.ratings, state)
        return self.models[803].encode(fixed, {"string": rows})

    def _string(self, string: int, state: SiteState) -> bytes:
        fixed, rows = view_strings.string_804(self.ratings, state, string)
        return self.models[804].encode(fixed, {"lithium_ion_string_module": rows})

    def _module(self, module: int, state: SiteState) -> bytes:
        fixed, cells = view_strings.module_805(self.ratings, state, module)
        return self.models[805].encode(fixed, {"lithium-ion-module-cell": cells})

    def writable(self) -> dict[int, WritablePoint]:
        """Points of the site's unit that a client may write, by the address of their first register."""
        found: dict[int, WritablePoint] = {}
        for part in self._parts[SITE_UNIT]:
            for name in {704: CONTROL, 802: ("CtrlHb",)}.get(part.number, ()):
                model = self.models[part.number]
                point = next(p for p in model.points if p.name == name)
                address = BASE + part.start + model.offset(name)
                found[address] = WritablePoint(part.number, point, address)
        return found
