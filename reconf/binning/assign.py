"""Which module goes into which string and position.

*Series strings.* Sorting by capacity and cutting into strings maximises the sum of string minima: let the
string with the largest minimum take the N largest modules; no minimum falls by the exchange. Repeat. The
same order keeps modules of a time-shared string alike, which is where nothing is lost; how far it is from
the best is bounded by `energy_bound_wh`.

*Parallel groups* share their voltage, so their capacities add and a string is as good as its smallest
group. Every group must hold P modules, so the ratio (3N - 1)/(4N - 2) of plain largest-first (Csirik,
Kellerer, Woeginger, Oper. Res. Lett. 11 (1992) 281) is not for us; rounds are: the N largest modules go one
to each group, then the next N, the largest to the group that holds least, and so on. For that,

    mean - smallest group <= D,   D = max over rounds r of (largest - smallest module of round r).

Proof. Let s_1 <= ... <= s_N be the sums before a round and a_1 >= ... >= a_N its modules. For i < j the
difference of the new sums, (a_i - a_j) - (s_j - s_i), lies between -(s_N - s_1) and a_1 - a_N; so the spread
after a round is at most the larger of the spread before it and that of the round, and at the end at most D.
No grouping's smallest group exceeds the mean, so ours is within D of the best, and exactly the best for
P = 2 (largest with smallest, by exchange). `group_bound_frac` gives D over the mean; the gap that is
reached, `group_gap_frac`, is proven for the very answer and never larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.binning.energy import string_energy_wh
from reconf.binning.lot import Lot
from reconf.errors import ParameterError


class Objective(StrEnum):
    """What the order of the modules follows."""

    ENERGY = "energy"
    LIFE = "life"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is to be filled."""

    strings: int
    length: int
    """Positions in series."""
    parallel: int = 1
    """Modules in parallel at each position."""
    spares: int = 0
    """Positions of a string that may rest at any time; 0 is a fixed string."""
    current_a: float = 0.0
    """String current at which the energy is counted."""
    rack_gradient_k: float = 0.0
    """How much warmer the last position of a string is than the first."""

    def __post_init__(self) -> None:
        if min(self.strings, self.length, self.parallel) < 1 or not 0 <= self.spares < self.length:
            raise ParameterError(
                f"{self.strings}x{self.length}, {self.parallel} in parallel, {self.spares} spares: needs at "
                "least one string, one position, and fewer spares than positions"
            )

    @property
    def per_string(self) -> int:
        """Modules in a string."""
        return self.length * self.parallel

    def warmth_k(self) -> FloatArray:
        """(N,) temperature of the positions above the string's mean."""
        return np.linspace(-0.5, 0.5, self.length) * self.rack_gradient_k


@dataclass(frozen=True, slots=True)
class Assignment:
    """Modules by string, position and place in the parallel group."""

    index: IntArray
    """(S, N, P) into the lot."""
    shelf: IntArray
    """Modules that are left over."""


def sort_key(
    lot: Lot, objective: Objective, deviations: float, fade_per_year: float, years: float
) -> FloatArray:
    """(M,) what modules are sorted by, large is good.

    The capacity counts with `deviations` standard deviations taken off: the level that is met with the
    probability asked for (a chance constraint on a normal SOH). `life` looks half a life ahead. `power`
    is the smaller of two current limits over their medians: one in C of present capacity, one from heat
    (I²R of all modules alike, so I ~ R^-1/2).
    """
    sure = lot.capacity_ah - deviations * lot.capacity_std_ah
    if objective is Objective.LIFE:
        key: FloatArray = sure - 0.5 * years * fade_per_year * lot.rated_capacity_ah
        return key
    if objective is Objective.POWER:
        heat = np.sqrt(np.median(lot.resistance_ohm) / lot.resistance_ohm)
        limit: FloatArray = np.minimum(sure / np.median(lot.capacity_ah), heat)
        return limit
    return sure


def compatible(lot: Lot) -> list[IntArray]:
    """Indices of modules that may share a string: same chemistry, same cells in series."""
    keys = [(k.chemistry, k.n_cells) for k in lot.kinds]
    classes = sorted(set(keys))
    class_of_kind = np.array([classes.index(k) for k in keys])
    class_of = class_of_kind[lot.kind_of]
    return [np.flatnonzero(class_of == c).astype(np.int64) for c in range(len(classes))]


def assign(lot: Lot, layout: Layout, key: FloatArray) -> Assignment:
    """Sort by `key`, cut into strings, fill parallel groups; the strongest sit where it is warmest.

    Where several kinds are in the lot, each string is of one kind and the most valuable strings are taken.

    Raises:
        ParameterError: there are too few modules of a kind.
    """
    blocks = _cut(lot, layout, key)
    values = np.concatenate([string_energy_wh(key[b], lot.voltage_v[b], layout.spares) for b in blocks])
    owner = np.repeat(np.arange(len(blocks)), [len(b) for b in blocks])
    taken = np.bincount(owner[np.argsort(-values, kind="stable")[: layout.strings]], minlength=len(blocks))
    chosen = np.concatenate([b[:t] for b, t in zip(blocks, taken, strict=True)])
    index = _groups(chosen, lot.capacity_ah, layout)
    left = np.ones(len(lot.serials), dtype=np.bool_)
    left[index.ravel()] = False
    return Assignment(index, np.flatnonzero(left).astype(np.int64))


def _cut(lot: Lot, layout: Layout, key: FloatArray) -> list[IntArray]:
    """For each class of compatible modules the sorted modules in rows of one string each."""
    blocks = []
    for members in compatible(lot):
        order = members[np.argsort(-key[members], kind="stable")]
        count = min(len(order) // layout.per_string, layout.strings)
        blocks.append(order[: count * layout.per_string].reshape(count, layout.per_string))
    found = sum(len(b) for b in blocks)
    if found < layout.strings:
        first = [(len(m), lot.kinds[lot.kind_of[m[0]]]) for m in compatible(lot)]
        kinds = ", ".join(f"{count} {kind.chemistry} of {kind.n_cells} cells" for count, kind in first)
        raise ParameterError(
            f"{layout.strings} strings of {layout.per_string} modules are asked for; the lot ({kinds}) "
            f"fills {found}"
        )
    return blocks


def _groups(rows: IntArray, capacity_ah: FloatArray, layout: Layout) -> IntArray:
    """(S, N·P) sorted rows -> (S, N, P), groups of like sum, strongest group last (warmest)."""
    strings, length = len(rows), layout.length
    rounds = rows.reshape(strings, layout.parallel, length)
    groups = np.empty((strings, length, layout.parallel), dtype=np.int64)
    sums = np.zeros((strings, length))
    for r in range(layout.parallel):
        fill = rounds[:, r]
        fill = np.take_along_axis(fill, np.argsort(-capacity_ah[fill], axis=1, kind="stable"), axis=1)
        lightest = np.argsort(sums, axis=1, kind="stable")
        np.put_along_axis(groups[:, :, r], lightest, fill, axis=1)
        sums = capacity_ah[groups[:, :, : r + 1]].sum(axis=2)
    order = np.argsort(sums, axis=1, kind="stable")
    return np.take_along_axis(groups, order[:, :, None], axis=1)


def shuffled(lot: Lot, layout: Layout, rng: np.random.Generator) -> Assignment:
    """Compatible modules in no order: what is built when nobody measures."""
    return assign_plain(lot, layout, rng.random(len(lot.serials)))


def assign_plain(lot: Lot, layout: Layout, key: FloatArray) -> Assignment:
    """Cut in the order of `key` without looking at capacity inside a string."""
    blocks = _cut(lot, layout, key)
    chosen = np.concatenate(blocks)[: layout.strings]
    index = chosen.reshape(layout.strings, layout.length, layout.parallel)
    left = np.ones(len(lot.serials), dtype=np.bool_)
    left[index.ravel()] = False
    return Assignment(index, np.flatnonzero(left).astype(np.int64))


def group_gap_frac(capacity_ah: FloatArray) -> float:
    """Worst string's (mean - smallest group) over mean, (S, N, P) -> scalar: no grouping gains more."""
    sums = capacity_ah.sum(axis=2)
    mean = sums.mean(axis=1)
    return float(((mean - sums.min(axis=1)) / mean).max())


def group_bound_frac(capacity_ah: FloatArray) -> float:
    """What filling in rounds can lose at worst: D over the mean of a string's groups, (S, N, P) -> scalar.

    Columns of `capacity_ah` are the rounds.
    """
    rounds = capacity_ah.max(axis=1) - capacity_ah.min(axis=1)
    mean = capacity_ah.sum(axis=2).mean(axis=1)
    return float((rounds.max(axis=1) / mean).max())


def energy_bound_wh(lot: Lot, layout: Layout, loaded_v: FloatArray) -> float:
    """No assignment of the lot gives more [Wh].

    In general: every module empties fully (the best strings by the energy in their modules). Fixed strings
    without parallel groups: sort-and-cut is exact in charge, at the best voltage of the class.
    """
    values: list[FloatArray] = []
    for members in compatible(lot):
        count = len(members) // layout.per_string
        energy = np.sort(lot.capacity_ah[members] * loaded_v[members])[::-1][: count * layout.per_string]
        full = energy.reshape(count, layout.per_string).sum(axis=1)
        if layout.spares == 0 and layout.parallel == 1:
            sorted_ah = np.sort(lot.capacity_ah[members])[::-1][: count * layout.length]
            smallest = sorted_ah.reshape(count, layout.length)[:, -1]
            full = np.minimum(full, smallest * layout.length * float(loaded_v[members].max()))
        values.append(full)
    best = np.sort(np.concatenate(values))[::-1][: layout.strings]
    return float(best.sum())
