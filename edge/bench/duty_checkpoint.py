"""Where a long duty stands, in memory and on disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.bench import checkpoint
from edge.bench.closed_loop import Loop


@dataclass(slots=True)
class Campaign:
    """A duty on its way."""

    key: str
    """What was asked: a checkpoint only continues the very same."""
    loop: Loop
    given_wh: float = 0.0
    bound_wh: float = 0.0
    hottest_degc: float = float("-inf")
    coldest_degc: float = float("inf")
    cooling_switches: int = 0
    ticks: int = 0
    """Of the pieces that are done."""
    piece_ms: list[float] = field(default_factory=list)
    """Median of the core's tick in each piece: a year of single ticks would fill the checkpoint."""
    events: Counter[str] = field(default_factory=Counter)
    """How many of each kind."""
    rungs: Counter[str] = field(default_factory=Counter)
    """Ticks on each rung of the failure ladder."""

    def put_by(self) -> None:
        """Count what the loop has gathered since the last piece, and let go of it."""
        loop = self.loop
        self.ticks += len(loop.tick_ms)
        if loop.tick_ms:
            self.piece_ms.append(float(np.median(loop.tick_ms)))
        self.events.update(event.kind for event in loop.events)
        for gathered in (loop.tick_ms, loop.solve_ms, loop.events):
            gathered.clear()


def resume(path: Path | None, key: str) -> Campaign | None:
    """The campaign of a checkpoint; None where there is none yet.

    Raises:
        DataFileError: the file holds something else, or another duty.
    """
    return checkpoint.load(path, Campaign, key)


def store(path: Path, campaign: Campaign) -> None:
    """Write the checkpoint, whole or not at all."""
    profile, campaign.loop.profile = campaign.loop.profile, _nothing_asked
    try:
        checkpoint.write(path, campaign)
    finally:
        campaign.loop.profile = profile


def _nothing_asked(_now_s: float) -> float:
    """Stands in for the profile, a closure that is made anew."""
    return 0.0
