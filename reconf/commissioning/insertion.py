"""Proving a string's wiring and switches by its voltage, with the contactor open.

Switching does not move a module's own voltage, so a node's word is all there is without this test: each
module is inserted over two others and STRING_VOLTAGE is watched. A right one adds its voltage, one wired
backwards takes it away, a dead switch changes nothing. Two others lie beneath so that one wired backwards
never makes the string negative: STRING_VOLTAGE is clamped at 0, and converters dislike it.

The test is a generator: it yields who is to be inserted and is sent what was seen, so that the same lines
run against a twin, a real string and a table in a test. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from reconf.arrays import BoolArray, FloatArray

BASE_SIZE = 2
MOST_TOGETHER = BASE_SIZE + 1
"""Modules of a string that are ever inserted together while it is being proven."""
NEAR_FRAC = 0.25
"""Of a module's voltage: closer than this to a step counts as that step."""
AGREE_FRAC = 0.10
AGREE_V = 0.5
"""A step further from the module's own voltage than this is told: a joint, a wrong module, a meter."""
MOST_TRIES = 40
"""Pairs tried in search of two modules that add up."""


class Switch(StrEnum):
    """What a module's switch and leads were found to be."""

    GOOD = "good"
    BACKWARDS = "backwards"
    STUCK_BYPASSED = "stuck bypassed"
    STUCK_INSERTED = "stuck inserted"
    DEAD = "dead"
    """Stuck one way or the other; which one cannot be told."""
    STAYS_IN = "does not bypass again"
    DISAGREES = "voltage disagrees"


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen once the switches had settled."""

    string_v: float
    """STRING_VOLTAGE."""
    shown: frozenset[int]
    """Modules whose STATUS says inserted."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One module's test."""

    module: int
    switch: Switch
    expected_v: float
    rise_v: float
    """Change of STRING_VOLTAGE on insertion."""
    fall_v: float
    """And on bypassing again."""
    shown: bool
    """Its STATUS followed both ways."""


@dataclass(frozen=True, slots=True)
class StringTest:
    """A whole string."""

    offset_v: float
    """STRING_VOLTAGE with everybody bypassed: 0, or what is stuck inserted."""
    tried: tuple[Tried, ...]
    base: tuple[int, ...]
    """Modules that the others were tried over."""


Pattern = frozenset[int]
Test = Generator[Pattern, Look, StringTest]


def base_size(volts: FloatArray, most_v: float) -> int:
    """How many modules may lie beneath the one that is tried, within `most_v`; -1: not even one alone."""
    largest = np.sort(np.nan_to_num(volts))[::-1]
    for size in range(min(BASE_SIZE, volts.size - 1), -1, -1):
        if float(largest[: size + 1].sum()) <= most_v:
            return size
    return -1


def try_string(
    volts: FloatArray, testable: BoolArray, sound: BoolArray, most_v: float, only: Sequence[int] | None = None
) -> Test:
    """Try the modules of one string, one after the other.

    Args:
        volts: (N,) each module's own voltage, its kind's where it reads none [V].
        testable: (N,) may be inserted at all.
        sound: (N,) reads a plausible voltage: fit to lie beneath others.
        most_v: STRING_VOLTAGE is kept below this.
        only: modules to try; None: all that are testable.

    Yields:
        Who is to be inserted; send back a `Look` at it.

    Raises:
        ValueError: `most_v` does not bear one module.
    """
    size = base_size(volts[testable], most_v)
    if size < 0:
        raise ValueError(f"{most_v:g} V does not bear a single module")
    nobody = yield frozenset()
    offset_v = nobody.string_v
    good = [int(k) for k in np.flatnonzero(testable & sound)]
    spare = [k for k in good if only is None or k not in only]
    good = spare if len(spare) >= size else good
    base = yield from _find_base(volts, good, size, offset_v)
    wanted = [int(k) for k in np.flatnonzero(testable)] if only is None else list(only)
    tried = yield from _try_each(volts, [m for m in wanted if m not in base], base)
    proven = [t.module for t in tried if t.switch is Switch.GOOD]
    for module in (m for m in base if m in wanted):
        others = [m for m in (*proven, *base) if m != module]
        tried += yield from _try_each(volts, [module], tuple(dict.fromkeys(others))[:size])
    yield frozenset()
    tried = _which_way(volts, tried, nobody)
    return StringTest(offset_v, tuple(sorted(tried, key=lambda t: t.module)), base)


def _find_base(
    volts: FloatArray, good: Sequence[int], size: int, offset_v: float
) -> Generator[Pattern, Look, tuple[int, ...]]:
    """Modules that add up together: none of them is dead or backwards, unless all of them were."""
    if size == 0 or len(good) < size:
        return ()
    pairs = sorted(itertools.combinations(range(len(good)), size), key=_disjoint_first)
    for places in pairs[:MOST_TRIES]:
        candidates = tuple(good[p] for p in places)
        look = yield frozenset(candidates)
        expected = float(volts[list(candidates)].sum())
        if abs(look.string_v - offset_v - expected) < NEAR_FRAC * float(volts[list(candidates)].max()):
            return candidates
    return ()


def _disjoint_first(places: tuple[int, ...]) -> tuple[bool, int]:
    """(0, 1), (2, 3) ... before pairs that share a module: one bad module spoils one pair only."""
    neighbours = all(b == a + 1 for a, b in itertools.pairwise(places)) and places[0] % len(places) == 0
    return not neighbours, places[-1]


def _try_each(
    volts: FloatArray, modules: Sequence[int], base: tuple[int, ...]
) -> Generator[Pattern, Look, list[Tried]]:
    """Insert each of `modules` over `base` and bypass it again."""
    tried: list[Tried] = []
    if not modules:
        return tried
    beneath = frozenset(base)
    before = yield beneath
    for module in modules:
        inserted = yield beneath | {module}
        after = yield beneath
        rise_v, fall_v = inserted.string_v - before.string_v, inserted.string_v - after.string_v
        own_v = float(volts[module])
        shown = module in inserted.shown and module not in after.shown
        tried.append(Tried(module, _judge(rise_v, fall_v, own_v), own_v, rise_v, fall_v, shown))
        before = after
    return tried


def _judge(rise_v: float, fall_v: float, own_v: float) -> Switch:
    """What a rise and a fall of STRING_VOLTAGE say; GOOD, or the reason why not."""
    near = NEAR_FRAC * own_v
    if abs(rise_v - own_v) < near and abs(fall_v) < near:
        return Switch.STAYS_IN
    if rise_v < -near:
        return Switch.BACKWARDS
    if abs(rise_v) < near:
        return Switch.DEAD
    agree = AGREE_FRAC * own_v + AGREE_V
    right = abs(rise_v - own_v) < agree and abs(fall_v - own_v) < agree
    return Switch.GOOD if right else Switch.DISAGREES


def _which_way(volts: FloatArray, tried: Sequence[Tried], nobody: Look) -> list[Tried]:
    """Tell dead switches apart: those stuck inserted are in STRING_VOLTAGE although nobody should be."""
    dead = [t.module for t in tried if t.switch is Switch.DEAD]
    if not dead:
        return list(tried)
    seen_in = [m for m in dead if m in nobody.shown]
    rest = [m for m in dead if m not in nobody.shown]
    left_v = nobody.string_v - float(volts[seen_in].sum())
    near = NEAR_FRAC * float(volts[dead].max())
    if abs(left_v) < near:
        ways = dict.fromkeys(seen_in, Switch.STUCK_INSERTED) | dict.fromkeys(rest, Switch.STUCK_BYPASSED)
    elif rest and abs(left_v - float(volts[rest].sum())) < near:
        ways = dict.fromkeys(dead, Switch.STUCK_INSERTED)
    else:
        ways = dict.fromkeys(seen_in, Switch.STUCK_INSERTED) | dict.fromkeys(rest, Switch.DEAD)
    return [
        t if t.switch is not Switch.DEAD
        else Tried(t.module, ways[t.module], t.expected_v, t.rise_v, t.fall_v, t.shown)
        for t in tried
    ]  # fmt: skip
