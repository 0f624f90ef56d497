"""Which moves pay: local search over exchanges between strings (and with the shelf).

A move exchanges the k weakest modules of one string with the k strongest of another (any k), or any two
modules, or one module with one on the shelf. Moves are screened at the believed capacities; the best are then
judged over truths drawn within the doubt. One is taken if it gains in at least `confidence` of the truths
and earns more over the years than its labour costs. The sorted arrangement, which is the best for fixed
strings, can be reached by such moves, and the distance from the upper bound is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.binning.energy import string_energy_wh
from reconf.rebinning.pack import Pack
from reconf.rebinning.worth import Truths, life_mean_wh, string_worth_wh

SHELF = -1
SHORTLIST = 8
"""Screened moves that are judged over the truths in each round."""
JUDGED_MAX = 48
"""The same where none of them has turned out to pay."""
LEAST_GAIN_WH = 1e-6
ROUNDS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Terms:
    """What energy earns and labour costs."""

    value_per_kwh: float
    """Earned by a kWh more per full discharge, each time."""
    cycles_per_year: float
    years: float
    cost_per_position: float
    """Labour of one position opened, cleaned, re-made and checked."""
    visit_cost: float = 0.0
    """Once, if anything is moved: travel, lost hours of the site."""
    confidence: float = 0.9
    """Share of the truths in which a move must gain."""
    positions_max: int = 10**9

    def earned(self, gain_wh: float | FloatArray) -> float | FloatArray:
        """Money over the years for a mean gain of energy per full discharge."""
        return gain_wh / 1e3 * self.cycles_per_year * self.years * self.value_per_kwh


@dataclass(frozen=True, slots=True)
class Exchange:
    """Modules (by lot index) that change places: `first[i]` with `second[i]`."""

    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A move that pays, with what it adds to the ones before it."""

    exchange: Exchange
    gain_now_wh: FloatArray
    """(D,)"""
    gain_life_wh: FloatArray
    """(D,)"""
    positions: int
    """Positions opened by it, beyond those open already."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the search ended."""

    held: tuple[IntArray, ...]
    shelf: IntArray
    taken: tuple[Taken, ...]
    doubtful: int
    """Moves that gain on the estimates, and are within the doubt."""
    unpaid: int
    """Moves that gain surely, and earn less than they cost."""


def search(
    pack: Pack, truths: Truths, terms: Terms, progress: Callable[[int], None] = lambda _n: None
) -> Found:
    """Take the move with the largest net earning until none pays.

    Args:
        pack: the site as it stands.
        truths: drawn from its doubt.
        terms: money and confidence.
        progress: called with the number of moves taken.
    """
    return _Search(pack, truths, terms).run(progress)


def sorted_held(pack: Pack) -> tuple[tuple[IntArray, ...], IntArray]:
    """Every class of modules, shelf included, sorted by capacity and cut into its strings, and what is left.

    The best there is for fixed strings of one length, and a good start for time-shared ones.
    """
    classes, capacity = pack.classes(), pack.lot.capacity_ah
    held = list(pack.held)
    left = np.ones(len(capacity), dtype=np.bool_)
    for number in np.unique(classes):
        strings = [s for s, members in enumerate(pack.held) if classes[members[0]] == number]
        pool = np.flatnonzero(classes == number)
        pool = pool[np.argsort(-capacity[pool], kind="stable")]
        at = 0
        for s in strings:
            held[s] = pool[at : at + len(pack.held[s])].astype(np.int64)
            at += len(held[s])
            left[held[s]] = False
    return tuple(held), np.flatnonzero(left).astype(np.int64)


def best_of_all(pack: Pack, truths: Truths, terms: Terms, found: Found) -> tuple[IntArray, ...]:
    """The best arrangement known where labour is for nothing: from here, from `found`, and from sorting."""
    free = replace(terms, cost_per_position=0.0, visit_cost=0.0, confidence=0.5, positions_max=10**9)
    starts = [(pack.held, pack.shelf), (found.held, found.shelf), sorted_held(pack)]
    ends = [search(replace(pack, held=h, shelf=s), truths, free).held for h, s in starts]
    worth = [
        float(sum(life_mean_wh(string_worth_wh(pack, truths, s, m)).mean() for s, m in enumerate(held)))
        for held in ends
    ]
    return ends[int(np.argmax(worth))]


class _Search:
    """The site while moves are taken."""

    def __init__(self, pack: Pack, truths: Truths, terms: Terms) -> None:
        self.pack, self.truths, self.terms = pack, truths, terms
        self.held = list(pack.held)
        self.shelf = pack.shelf
        self.loaded_v = pack.loaded_v
        self.may = pack.may_replace()
        self.home = np.concatenate([*pack.held, pack.shelf])
        self.worth = [string_worth_wh(pack, truths, s, m) for s, m in enumerate(self.held)]
        self.screened: dict[tuple[int, int], list[tuple[float, Exchange]]] = {}
        self.rejected: set[Exchange] = set()
        self.doubtful: set[Exchange] = set()
        self.unpaid: set[Exchange] = set()

    def run(self, progress: Callable[[int], None]) -> Found:
        """All moves that pay."""
        taken: list[Taken] = []
        for _ in range(ROUNDS_MAX):
            best = self._best()
            if best is None:
                break
            self._take(best.exchange)
            taken.append(best)
            progress(len(taken))
        return Found(tuple(self.held), self.shelf, tuple(taken), len(self.doubtful), len(self.unpaid))

    # ---- screening at the believed capacities --------------------------------------------------

    def _places(self) -> list[tuple[int, int]]:
        strings = range(len(self.held))
        pairs = [(s, t) for s in strings for t in strings if s < t]
        return pairs + ([(s, SHELF) for s in strings] if len(self.shelf) else [])

    def _members(self, place: int) -> IntArray:
        return self.shelf if place == SHELF else self.held[place]

    def _energy(self, place: int, rows: IntArray) -> FloatArray:
        """(K,) energy of string `place` for each row of members; nothing on the shelf."""
        if place == SHELF:
            return np.zeros(len(rows))
        hardware = self.pack.strings[place]
        return string_energy_wh(
            self.pack.lot.capacity_ah[rows], self.loaded_v[rows], hardware.spares, hardware.trim
        )

    def _screen(self, pair: tuple[int, int]) -> list[tuple[float, Exchange]]:
        """Moves between two places that gain on the estimates, best first."""
        a, b = (self._members(p) for p in pair)
        moves = self._singles(pair, a, b)
        if pair[1] != SHELF:
            moves += self._block_gains(pair, [*self._blocks(a, b), *self._blocks(b, a)])
        moves.sort(key=lambda m: -m[0])
        return moves[: 4 * SHORTLIST]

    def _gains(self, pair: tuple[int, int], left: IntArray, right: IntArray) -> FloatArray:
        """(K,) gain of each row of members of both places over what sits there now."""
        a, b = (self._members(p) for p in pair)
        before = self._energy(pair[0], a[None])[0] + self._energy(pair[1], b[None])[0]
        gain: FloatArray = self._energy(pair[0], left) + self._energy(pair[1], right) - before
        return gain

    def _singles(self, pair: tuple[int, int], a: IntArray, b: IntArray) -> list[tuple[float, Exchange]]:
        """The best exchanges of one module for one, all of them tried at once."""
        comes_in = self.may[np.ix_(b, a)].T
        fits = comes_in if pair[1] == SHELF else comes_in & self.may[np.ix_(a, b)]
        first, second = np.nonzero(fits)
        if not len(first):
            return []
        rows = np.arange(len(first))
        left, right = np.tile(a, (len(first), 1)), np.tile(b, (len(first), 1))
        left[rows, first], right[rows, second] = b[second], a[first]
        gain = self._gains(pair, left, right)
        best = np.argsort(-gain, kind="stable")[: 4 * SHORTLIST]
        return [
            (float(gain[k]), Exchange((int(a[first[k]]),), (int(b[second[k]]),)))
            for k in best
            if gain[k] > LEAST_GAIN_WH
        ]

    def _block_gains(self, pair: tuple[int, int], blocks: list[Exchange]) -> list[tuple[float, Exchange]]:
        """Exchanges of several modules at once that gain."""
        if not blocks:
            return []
        after = [self._after(block, pair) for block in blocks]
        gain = self._gains(pair, np.stack([x[pair[0]] for x in after]), np.stack([x[pair[1]] for x in after]))
        return [(float(g), b) for g, b in zip(gain, blocks, strict=True) if g > LEAST_GAIN_WH]

    def _blocks(self, weak: IntArray, strong: IntArray) -> list[Exchange]:
        """The k weakest of one string against the k strongest of the other, k = 2, 3 ..."""
        capacity = self.pack.lot.capacity_ah
        down = weak[np.argsort(capacity[weak], kind="stable")]
        up = strong[np.argsort(-capacity[strong], kind="stable")]
        found = []
        for k in range(2, min(len(down), len(up)) + 1):
            if not (self.may[down[k - 1], up[k - 1]] and self.may[up[k - 1], down[k - 1]]):
                break
            found.append(Exchange(tuple(map(int, down[:k])), tuple(map(int, up[:k]))))
        return found

    # ---- judging over the truths ---------------------------------------------------------------

    def _best(self) -> Taken | None:
        """The move with the largest mean net earning among those that surely gain and pay."""
        for pair in self._places():
            if pair not in self.screened:
                self.screened[pair] = self._screen(pair)
        pool = [
            (gain, exchange, pair)
            for pair, moves in self.screened.items()
            for gain, exchange in moves
            if exchange not in self.rejected
        ]
        pool.sort(key=lambda m: -self._screened_net(m[0], m[1]))
        best: tuple[float, Taken] | None = None
        for judged, (_, exchange, pair) in enumerate(pool, 1):
            outcome = self._judge(exchange, pair)
            if outcome is not None and (best is None or outcome[0] > best[0]):
                best = outcome
            if judged >= (SHORTLIST if best is not None else JUDGED_MAX):
                break
        if best is None:
            return None
        return self._pruned(best[1]) if len(best[1].exchange.first) > 1 else best[1]

    def _pruned(self, block: Taken) -> Taken:
        """`block` without the pairs that by themselves are within the doubt or cost more than they earn."""
        pair = self._touched(block.exchange)
        kept = block.exchange
        gain = self._gain_wh(kept, pair)
        for k in reversed(range(len(block.exchange.first))):
            a, b = block.exchange.first[k], block.exchange.second[k]
            less = Exchange(tuple(m for m in kept.first if m != a), tuple(m for m in kept.second if m != b))
            without = self._gain_wh(less, pair)
            adds = life_mean_wh(gain - without)
            saved = self.terms.cost_per_position * (self._opened(kept) - self._opened(less))
            sure = float((adds > 0.0).mean()) >= self.terms.confidence
            if less.first and not (sure and float(np.mean(self.terms.earned(adds))) > saved):
                kept, gain = less, without
        positions = self._opened(kept) - self._opened(None)
        return Taken(kept, gain[:, 0], life_mean_wh(gain), positions)

    def _gain_wh(self, exchange: Exchange, pair: tuple[int, int]) -> FloatArray:
        """(D, Y) what the exchange adds."""
        gain = np.zeros_like(self.worth[0])
        for place, members in self._after(exchange, pair).items():
            if place != SHELF:
                gain = gain + string_worth_wh(self.pack, self.truths, place, members) - self.worth[place]
        return gain

    def _touched(self, exchange: Exchange) -> tuple[int, int]:
        """Both places of an exchange."""
        moved = {*exchange.first, *exchange.second}
        places = (*range(len(self.held)), SHELF)
        found = [p for p in places if moved & set(map(int, self._members(p)))]
        return found[0], found[1]

    def _screened_net(self, gain_wh: float, exchange: Exchange) -> float:
        """Earning at the believed capacities less labour, without looking at what is open already."""
        on_shelf = set(map(int, self.shelf))
        positions = sum(m not in on_shelf for m in (*exchange.first, *exchange.second))
        return float(self.terms.earned(gain_wh)) - self.terms.cost_per_position * positions

    def _judge(self, exchange: Exchange, pair: tuple[int, int]) -> tuple[float, Taken] | None:
        """(net earning, move) if it surely gains and pays; else it is noted why not."""
        gain = self._gain_wh(exchange, pair)
        life, now = life_mean_wh(gain), gain[:, 0]
        self.rejected.add(exchange)
        if float((life > 0.0).mean()) < self.terms.confidence:
            self.doubtful.add(exchange)
            return None
        positions = self._opened(exchange) - self._opened(None)
        net = float(np.mean(self.terms.earned(life))) - self.terms.cost_per_position * positions
        total = self._opened(exchange)
        if net <= 0.0 or total > self.terms.positions_max:
            self.unpaid.add(exchange)
            return None
        self.rejected.discard(exchange)
        return net, Taken(exchange, now, life, positions)

    def _after(self, exchange: Exchange, pair: tuple[int, int]) -> dict[int, IntArray]:
        """Members of both places after the move."""
        there = dict(zip(exchange.first, exchange.second, strict=True))
        there |= {y: x for x, y in there.items()}
        return {
            place: np.array([there.get(int(m), int(m)) for m in self._members(place)], dtype=np.int64)
            for place in pair
        }

    def _opened(self, exchange: Exchange | None) -> int:
        """Positions whose module would not be the one that sits there today."""
        there: dict[int, int] = {}
        if exchange is not None:
            there = dict(zip(exchange.first, exchange.second, strict=True))
            there |= {y: x for x, y in there.items()}
        now = np.concatenate(self.held)
        after = np.array([there.get(int(m), int(m)) for m in now])
        return int(np.count_nonzero(after != self.home[: len(now)]))

    def _take(self, exchange: Exchange) -> None:
        """Make the move; whatever was known of the touched strings is screened and judged anew."""
        pair = self._touched(exchange)
        touched = set(pair)
        for place, members in self._after(exchange, pair).items():
            if place == SHELF:
                self.shelf = members
            else:
                self.held[place] = members
                self.worth[place] = string_worth_wh(self.pack, self.truths, place, members)
        self.screened = {k: v for k, v in self.screened.items() if not touched & set(k)}
        moved = {m for p in touched if p != SHELF for m in map(int, self._members(p))}
        for book in (self.rejected, self.doubtful, self.unpaid):
            book -= {e for e in book if moved & {*e.first, *e.second}}


def changed(before: tuple[IntArray, ...], after: tuple[IntArray, ...]) -> BoolArray:
    """(P,) positions in site order that get another module."""
    mask: BoolArray = np.concatenate(before) != np.concatenate(after)
    return mask
