"""RM1 and RC1 nodes of the foreign plant: registers, watchdogs, latches, trips. Own code, from the tables.

A node answers `read(table, address, count)` with words and `write(address, words)` with nothing; both raise
`RefusalError` with the Modbus exception code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from foreign_physics import STEP_MAX_S, Physics

NOTHING = 0xFFFF
CLEAR_KEY = 0xC1EA
SAMPLE_S = 0.25
TRIP_DEGC = 60.0
PRECHARGE_S, PRECHARGE_MAX_S = 1.0, 5.0
ILLEGAL_ADDRESS, ILLEGAL_VALUE = 2, 3


class RefusalError(Exception):
    """A Modbus exception answer."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def u16(value: float) -> int:
    return max(0, min(round(value), 0xFFFE))


def s16(value: float) -> int:
    return max(-0x7FFF, min(round(value), 0x7FFF)) & 0xFFFF


def pair(value: int) -> tuple[int, int]:
    return (value >> 16) & 0xFFFF, value & 0xFFFF


def signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word


def text(serial: str) -> list[int]:
    raw = serial.encode("ascii").ljust(16, b"\0")[:16]
    return [raw[k] << 8 | raw[k + 1] for k in range(0, 16, 2)]


class Watchdog:
    """Runs in wall time from power-up; expired until a fresh heartbeat *and* CLEAR."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.time_s = 5.0
        self.expired = False
        self._wall = wall
        self._fed_s = wall()
        self._fresh = False

    def feed(self) -> None:
        self._fed_s, self._fresh = self._wall(), True

    def look(self) -> bool:
        """Whether it expires now."""
        if self._wall() - self._fed_s <= self.time_s:
            return False
        first, self.expired, self._fresh = not self.expired, True, False
        return first

    def clear(self) -> None:
        self.expired = self.expired and not self._fresh


@dataclass
class Written:
    """One write, as the wire brought it."""

    at_s: float
    gateway: str
    unit: int
    address: int
    words: tuple[int, ...]
    closed: bool
    """The contactor of that string at that moment."""


class Node:
    """Register access that both kinds share."""

    watchdog: Watchdog
    holding: dict[int, int]
    fixed: dict[int, int]
    wide: tuple[int, ...] = ()
    """First addresses of writable 32-bit registers."""

    def inputs(self) -> dict[int, int]:
        raise NotImplementedError

    def allowed(self, address: int, word: int) -> bool:
        raise NotImplementedError

    def took(self, addresses: range) -> None:
        raise NotImplementedError

    def read(self, table: str, address: int, count: int) -> list[int]:
        if count > 60:
            raise RefusalError(ILLEGAL_VALUE)
        there = self.inputs() if table == "input" else {**self.fixed, **self.holding}
        if not any(a in there for a in range(address, address + count)):
            raise RefusalError(ILLEGAL_ADDRESS)
        return [there.get(a, NOTHING) for a in range(address, address + count)]

    def write(self, address: int, words: list[int]) -> None:
        addresses = range(address, address + len(words))
        if any(a not in self.holding for a in addresses):
            raise RefusalError(ILLEGAL_ADDRESS)
        for first in self.wide:
            if (first in addresses) != (first + 1 in addresses):
                raise RefusalError(ILLEGAL_VALUE)
        if not all(self.allowed(a, w) for a, w in zip(addresses, words, strict=True)):
            raise RefusalError(ILLEGAL_VALUE)
        before = self.holding[0]
        self.holding.update(zip(addresses, words, strict=True))
        if 0 in addresses and self.holding[0] != before:
            self.watchdog.feed()
        self.took(addresses)


class Rm1(Node):
    """A module node."""

    def __init__(
        self, physics: Physics, row: int, serial: str, chemistry: int, rng: np.random.Generator, dog: Watchdog
    ) -> None:
        self.physics, self.row, self.rng, self.watchdog = physics, row, rng, dog
        self.holding = dict.fromkeys(range(8), 0) | {1: 50}
        d = physics.design
        self.trim_max = round(100 * d.trim_a)
        identity = [chemistry, u16(10 * d.rated_ah), self.trim_max, u16(1e5 * d.r_on_ohm), 312]
        identity += [u16(1e3 * d.trip_v[1]), u16(1e3 * d.trip_v[0]), s16(10 * TRIP_DEGC), 9200]
        self.fixed = dict(zip(range(100, 117), text(serial) + identity, strict=True))
        self.latched = 0
        self.wrong = 0
        """Trip bits whose cause is present."""
        self.inserts = int(rng.integers(100, 5000))
        self.was_in = False
        self.samples = int(rng.integers(0, 65536))
        self.next_sample_s = 0.0
        self.gain = 1.0 + 0.002 * d.noise * rng.standard_normal()
        self.zero_a = 0.02 * d.noise * rng.standard_normal()
        self.past: deque[tuple[float, float, float]] = deque(maxlen=5)
        self.shown: dict[int, int] = {}
        self._sample()

    def inserted(self) -> bool:
        """What the switch does now."""
        if self.watchdog.expired or self.latched:
            return False
        if self.holding[2] == 0:
            return self.holding[3] == 1
        return (self.physics.time_s % 1.0) < 1e-4 * self.holding[4]

    def allowed(self, address: int, word: int) -> bool:
        if address == 5:
            return abs(signed(word)) <= self.trim_max
        if address == 6:
            return word in (0, CLEAR_KEY)
        low, high = {1: (10, 600), 2: (0, 1), 3: (0, 1), 4: (0, 10_000), 7: (0, 600)}.get(
            address, (0, 0xFFFF)
        )
        return low <= word <= high

    def took(self, addresses: range) -> None:
        if 6 in addresses:
            if self.holding[6] == CLEAR_KEY:
                self.watchdog.clear()
                self.latched &= self.wrong
            self.holding[6] = 0

    def look(self, over_v: bool, under_v: bool, hot: bool) -> bool:
        """Watchdog, trips, samples. Whether the module is inserted now."""
        p = self.physics
        if self.watchdog.look():
            self.holding.update(dict.fromkeys((2, 3, 4, 5), 0))
        self.wrong = over_v << 7 | under_v << 8 | hot << 9
        if self.wrong & ~self.latched:
            p.account.trips.append(f"module {self.row}: {self.wrong:#x} at {p.time_s:.0f} s")
        self.latched |= self.wrong
        inside = self.inserted()
        free = not (self.latched or self.watchdog.expired)
        p.modules[self.row].trim_a = 0.01 * signed(self.holding[5]) if free else 0.0
        self.inserts += inside != self.was_in
        self.was_in = inside
        if p.time_s >= self.next_sample_s:
            self._sample()
        return inside

    def _sample(self) -> None:
        """A new measurement set: current and voltage over the same last second."""
        p, k, noise = self.physics, self.row, self.physics.design.noise
        self.next_sample_s = p.time_s + SAMPLE_S - 1e-9
        self.samples = (self.samples + 1) % 65536
        self.past.append((p.time_s, p.passed_ah[k], p.sum_vs[k]))
        (t0, a0, v0), (t1, a1, v1) = self.past[0], self.past[-1]
        mean_a = float(3600.0 * (a1 - a0) / (t1 - t0)) if t1 > t0 else float(p.current_a[k])
        mean_v = float((v1 - v0) / (t1 - t0)) if t1 > t0 else float(p.cell_v[k].sum())
        z = (noise * self.rng.standard_normal(4 + p.design.cells)).tolist()
        warm = float(p.temperature_degc[k])
        self.shown = {
            4: u16(1e3 * mean_v + 3.0 * z[0]),
            5: s16(100 * (mean_a * self.gain + self.zero_a + 0.02 * z[1])),
            6: s16(10 * (warm + 0.4 + 0.1 * z[2])),
            7: s16(10 * (warm + 0.1 * z[3])),
            8: s16(100 * p.trim_a[k]),
        }
        self.shown |= {20 + c: u16(1e3 * v + z[4 + c]) for c, v in enumerate(p.cell_v[k].tolist())}

    def inputs(self) -> dict[int, int]:
        p, k = self.physics, self.row
        duty = float(self.inserted()) if self.holding[2] == 0 else 1e-4 * self.holding[4]
        if self.watchdog.expired or self.latched:
            duty = 0.0
        status = (duty > 0.0) | (self.watchdog.expired << 2) | (abs(p.trim_a[k]) > 0.0) << 3 | self.latched
        moved, uptime = pair(round(1e3 * p.passed_ah[k])), pair(int(p.time_s))
        words = {0: 0x524D, 1: 1, 2: p.design.cells, 3: int(status), 9: self.holding[0]}
        inserts = pair(self.inserts)
        words |= {10: uptime[0], 11: uptime[1], 12: moved[0], 13: moved[1], 14: inserts[0], 15: inserts[1]}
        words |= {16: self.samples, 17: u16(1e4 * duty)}
        return words | self.shown


class Rc1(Node):
    """A string's converter node."""

    wide = (3,)

    def __init__(
        self, physics: Physics, row: int, serial: str, rng: np.random.Generator, dog: Watchdog
    ) -> None:
        self.physics, self.row, self.rng, self.watchdog = physics, row, rng, dog
        d = physics.design
        self.holding = dict.fromkeys(range(9), 0) | {1: 50, 6: u16(10 * d.current_a)}
        low_v, high_v = d.window_v
        identity = [u16(10 * low_v), u16(10 * high_v), u16(10 * d.current_a), u16(1e-2 * d.power_w)]
        identity += [u16(d.loss[0]), u16(1e4 * d.loss[1]), u16(1e4 * d.loss[2])]
        identity += [u16(9 * d.bus_v), u16(11 * d.bus_v)]
        self.fixed = dict(zip(range(100, 117), text(serial) + identity, strict=True))
        self.precharge_s = -1.0
        self.failed = False
        self.samples = int(rng.integers(0, 65536))
        self.next_sample_s = 0.0
        self.shown: dict[int, int] = {}
        self._sample()

    def allowed(self, address: int, word: int) -> bool:
        if address == 8:
            return word in (0, CLEAR_KEY)
        low, high = {1: (10, 600), 2: (0, 2), 7: (0, 1)}.get(address, (0, 0xFFFF))
        return low <= word <= high

    def took(self, addresses: range) -> None:
        if 8 in addresses:
            if self.holding[8] == CLEAR_KEY:
                self.watchdog.clear()
            self.holding[8] = 0

    def look(self, dt_s: float) -> None:
        """Watchdog, contactor, set points, samples."""
        c, h = self.physics.converters[self.row], self.holding
        if self.watchdog.look():
            h.update({2: 0, 3: 0, 4: 0, 7: 0})
        free = not self.watchdog.expired
        c.mode = h[2] if free else 0
        c.asked_w = float((h[3] << 16 | h[4]) - ((h[3] & 0x8000) << 17))
        c.limit_a = min(0.1 * h[6], self.physics.design.current_a)
        self._contactor(free and h[7] == 1, dt_s)
        if self.physics.time_s >= self.next_sample_s:
            self._sample()

    def _contactor(self, wanted: bool, dt_s: float) -> None:
        c, (low_v, high_v) = self.physics.converters[self.row], self.physics.design.window_v
        if not wanted:
            if c.closed and abs(c.current_a) > 1.0:
                self.physics.account.opened_under_load += 1
            c.closed, self.precharge_s, self.failed = False, -1.0, False
        elif not c.closed and not self.failed:
            self.precharge_s = max(self.precharge_s, 0.0) + dt_s
            if self.precharge_s >= PRECHARGE_S and low_v <= c.string_v <= high_v:
                c.closed, self.precharge_s = True, -1.0
            elif self.precharge_s >= PRECHARGE_MAX_S:
                self.failed, self.precharge_s = True, -1.0

    def _sample(self) -> None:
        p, c = self.physics, self.physics.converters[self.row]
        self.next_sample_s = p.time_s + SAMPLE_S - 1e-9
        self.samples = (self.samples + 1) % 65536
        z = p.design.noise * self.rng.standard_normal(4)
        bus_v = p.design.bus_v + 0.2 * z[0]
        out, into, power = (
            pair(round(1e3 * c.energy_out_kwh)), pair(round(1e3 * c.energy_in_kwh)), pair(round(c.power_w)),
        )  # fmt: skip
        self.shown = {
            3: u16(10 * c.string_v + z[1]),
            4: s16(10 * c.current_a + 0.5 * z[2]),
            5: u16(10 * bus_v),
            6: s16(10 * c.power_w / bus_v),
            7: s16(10 * (p.design.ambient_degc + 1e-3 * abs(c.power_w))),
            9: out[0], 10: out[1], 11: into[0], 12: into[1],
            14: power[0], 15: power[1],
            16: u16(10 * c.string_v if c.closed else 0.0),
        }  # fmt: skip

    def inputs(self) -> dict[int, int]:
        c = self.physics.converters[self.row]
        running = c.closed and c.mode != 0 and not self.watchdog.expired
        status = running | c.closed << 1 | (self.precharge_s >= 0.0) << 2 | self.watchdog.expired << 3
        status |= c.limiting << 4 | c.outside << 7 | self.failed << 9
        words = {0: 0x5243, 1: 1, 2: int(status), 8: self.holding[0], 13: self.samples}
        return words | self.shown


class Nodes:
    """Every node of a plant and its time."""

    def __init__(
        self, physics: Physics, prefix: str, chemistry: int, seed: int, wall: Callable[[], float]
    ) -> None:
        rng = np.random.default_rng(seed + 1)
        self.physics, self.step_s = physics, STEP_MAX_S
        d = physics.design
        places = [(k, f"{k // d.modules}-{k % d.modules + 1:02d}") for k in range(d.strings * d.modules)]
        self.rm1 = [
            Rm1(physics, k, f"{prefix}{place}", chemistry, rng, Watchdog(wall)) for k, place in places
        ]
        self.rc1 = [Rc1(physics, s, f"{prefix}RC{s}", rng, Watchdog(wall)) for s in range(d.strings)]

    def run_to(self, time_s: float) -> None:
        """Let simulated time pass."""
        while self.physics.time_s < time_s - 1e-9:
            dt_s = min(self.step_s, time_s - self.physics.time_s)
            p, (low_v, high_v) = self.physics, self.physics.design.trip_v
            over = (p.cell_v.max(axis=1) > high_v).tolist()
            under = (p.cell_v.min(axis=1) < low_v).tolist()
            hot = (p.temperature_degc > TRIP_DEGC).tolist()
            inserted = np.array([node.look(over[k], under[k], hot[k]) for k, node in enumerate(self.rm1)])
            for node in self.rc1:
                node.look(dt_s)
            self.physics.step(dt_s, inserted)
