"""What is known to stand in the nodes' holding registers, so that only what differs is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.registers import contiguous_runs


class Shadow:
    """Holding registers 0.. of N nodes of one kind, as last read back.

    Args:
        n_nodes: nodes.
        n_words: registers kept of each, from address 0.
        pairs: first addresses of 32-bit registers; both halves are always written together.
        wall_watchdog_s: watchdog time every node has at power-up.
    """

    def __init__(self, n_nodes: int, n_words: int, pairs: Sequence[int], watchdog_s: float) -> None:
        self.words: IntArray = np.zeros((n_nodes, n_words), dtype=np.int64)
        self.known: BoolArray = np.zeros(n_nodes, dtype=np.bool_)
        """(N,) the row was read and nothing has happened since that could have changed it."""
        self.pairs = tuple(pairs)
        self.watchdog_s: FloatArray = np.full(n_nodes, watchdog_s)
        self.fed_wall_s: FloatArray = np.full(n_nodes, -np.inf)
        """(N,) wall time of the last acknowledged heartbeat."""
        self.fed_value: IntArray = np.full(n_nodes, -1, dtype=np.int64)
        """(N,) its value, -1 before the first."""

    def learn(self, row: int, payload: bytes) -> None:
        """The registers of `row` were read."""
        self.words[row] = np.frombuffer(payload, dtype=">u2")
        self.known[row] = True

    def forget(self, rows: BoolArray) -> None:
        """Something happened to these nodes: read before the next write."""
        self.known[rows] = False

    def differing(self, row: int, first: int, wanted: IntArray, relevant: BoolArray) -> list[int]:
        """Addresses whose content must change, both halves of a 32-bit value together."""
        now = self.words[row, first : first + wanted.size]
        found = {first + int(k) for k in np.flatnonzero((now != wanted) & relevant)}
        for pair in self.pairs:
            if pair in found or pair + 1 in found:
                found |= {pair, pair + 1}
        return sorted(found)

    def rows_due(self, first: int, wanted: IntArray, relevant: BoolArray) -> BoolArray:
        """(N,) nodes that are unknown or hold something else than `wanted` (N, K) where `relevant`."""
        now = self.words[:, first : first + wanted.shape[1]]
        due: BoolArray = ~self.known | ((now != wanted) & relevant).any(axis=1)
        return due


def filled_runs(addresses: Sequence[int], fillable: frozenset[int]) -> tuple[tuple[int, int], ...]:
    """Write runs over `addresses`; a hole is bridged where all of it may be written with what it holds."""
    if not addresses:
        return ()
    span = range(addresses[0], addresses[-1] + 1)
    wanted = set(addresses)
    kept: list[int] = []
    hole: list[int] = []
    for address in span:
        if address in wanted:
            if all(h in fillable for h in hole):
                kept += hole
            hole = []
            kept.append(address)
        else:
            hole.append(address)
    return contiguous_runs(kept)


class WriteBudget:
    """Token bucket per node in control time: a set point that flickers does not wear a node out.

    Writes that only bring values nearer to zero (bypass, less power, a lower limit, open) always pass.
    """

    def __init__(self, n_nodes: int, rate_per_s: float, burst: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens: FloatArray = np.full(n_nodes, burst)
        self._time_s: FloatArray = np.full(n_nodes, -np.inf)
        self.deferred = 0
        """Writes put off so far."""

    def take(self, index: int, now_s: float, *, towards_zero: bool) -> bool:
        """Whether node `index` may be written now."""
        elapsed = now_s - self._time_s[index]
        if elapsed > 0.0:
            self._tokens[index] = min(self._burst, self._tokens[index] + self._rate * elapsed)
            self._time_s[index] = now_s
        if self._tokens[index] >= 1.0:
            self._tokens[index] -= 1.0
            return True
        if towards_zero:
            return True
        self.deferred += 1
        return False


def signed_words(words: IntArray, pairs: Sequence[int], signed: frozenset[int]) -> IntArray:
    """Registers from address 0 as numbers: pairs joined (second half 0), two's complement undone."""
    out = words.copy()
    for pair in pairs:
        joined = (out[pair] << 16) | out[pair + 1]
        out[pair] = joined - (1 << 32) if joined >= 1 << 31 else joined
        out[pair + 1] = 0
    for address in signed:
        if out[address] >= 1 << 15:
            out[address] -= 1 << 16
    return out
