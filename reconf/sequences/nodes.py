"""What is remembered of every node (RM1 or RC1): silence, unconfirmed writes, heartbeats, clears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.replacing import replace

OUT_AFTER_TICKS = 2
"""Unconfirmed writes, or missing answers, of this many ticks put a node out of service."""
REJOIN_GOOD_S = 60.0
"""Good readings for so long (wall time) before a lone watchdog latch is cleared on its own."""
CLEARS_PER_HOUR = 3
HOUR_S = 3600.0
RM1_WATCHDOG_S = 6.0
RC1_WATCHDOG_S = 3.0
WATCHDOG_MARGIN_S = 1.0
"""Doubt in a node's own clock and in when its last heartbeat arrived."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Memory of N nodes of one kind, all arrays (N,) unless said otherwise."""

    silent_ticks: IntArray
    unconfirmed_ticks: IntArray
    good_since_s: FloatArray
    """Wall time since when it is fresh, confirmed and free of all but a watchdog latch; inf: it is not."""
    beat_until_s: FloatArray
    """Wall time up to which it was given heartbeats."""
    cleared_s: FloatArray
    """(CLEARS_PER_HOUR, N) wall times of its latest clears of ours, oldest first; -inf: none."""
    earned: BoolArray
    """Gets a heartbeat until the next tick."""
    refusing: BoolArray | None = None
    """Answers and takes no writes (a fault of the table): nothing is asked of it until that is cleared.
    None in records of versions that did not know."""

    @classmethod
    def fresh(cls, count: int, wall_s: float) -> Nodes:
        """Nodes of which nothing is known yet."""
        return cls(
            silent_ticks=np.zeros(count, dtype=np.int64),
            unconfirmed_ticks=np.zeros(count, dtype=np.int64),
            good_since_s=np.full(count, np.inf),
            beat_until_s=np.full(count, wall_s),
            cleared_s=np.full((CLEARS_PER_HOUR, count), -np.inf),
            earned=np.zeros(count, dtype=np.bool_),
        )

    def seen(
        self,
        answered: BoolArray,
        confirmed: BoolArray | None,
        sound: BoolArray,
        wall_s: float,
        refusing: BoolArray,
    ) -> Nodes:
        """After one tick: `confirmed` is the last receipt's (None: nothing was due), `sound` latch-free."""
        kept = np.ones_like(answered) if confirmed is None else confirmed
        good = answered & kept & sound & ~refusing
        return replace(
            self,
            silent_ticks=np.where(answered, 0, self.silent_ticks + 1),
            unconfirmed_ticks=np.where(kept, 0, self.unconfirmed_ticks + 1),
            good_since_s=np.where(good, np.minimum(self.good_since_s, wall_s), np.inf),
            # what was earned last time was sent until now
            beat_until_s=np.where(self.earned, wall_s, self.beat_until_s),
            refusing=refusing,
        )

    @property
    def out_of_service(self) -> BoolArray:
        """Silent or unconfirmed for two ticks, or known to take no writes."""
        mask: BoolArray = (self.silent_ticks >= OUT_AFTER_TICKS) | (self.unconfirmed_ticks >= OUT_AFTER_TICKS)
        return mask | self.deaf

    @property
    def deaf(self) -> BoolArray:
        """Known to take no writes."""
        return np.zeros_like(self.earned) if self.refusing is None else self.refusing

    def may_clear(self, wall_s: float) -> BoolArray:
        """Fewer than three clears of ours in the last hour."""
        mask: BoolArray = wall_s - self.cleared_s[0] >= HOUR_S
        return mask

    def good_for(self, seconds: float, wall_s: float) -> BoolArray:
        """Good readings for at least so long."""
        mask: BoolArray = wall_s - self.good_since_s >= seconds
        return mask

    def clear(self, mask: BoolArray, wall_s: float) -> Nodes:
        """Remember a clear of the nodes in `mask`."""
        shifted = np.vstack([self.cleared_s[1:], np.full((1, mask.size), wall_s)])
        return replace(self, cleared_s=np.where(mask, shifted, self.cleared_s))
