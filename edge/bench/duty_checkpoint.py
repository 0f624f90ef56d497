"""Where a long duty stands, in memory and on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
