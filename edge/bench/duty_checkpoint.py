"""Where a long duty stands, in memory and on disk."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from edge.bench.closed_loop import Loop
from reconf.errors import DataFileError


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
    if path is None or not path.exists():
        return None
    try:
        # a file that this very bench has written, named on its command line
        campaign = pickle.loads(path.read_bytes())  # noqa: S301
    except (OSError, pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError) as error:
        raise DataFileError(f"{path}: no checkpoint can be read here: {error}") from error
    if not isinstance(campaign, Campaign) or campaign.key != key:
        raise DataFileError(f"{path}: a checkpoint of something else; remove it or name another")
    return campaign


def store(path: Path, campaign: Campaign) -> None:
    """Write the checkpoint, whole or not at all."""
    profile, campaign.loop.profile = campaign.loop.profile, _nothing_asked
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        partial.write_bytes(pickle.dumps(campaign))
        partial.replace(path)
    finally:
        campaign.loop.profile = profile


def _nothing_asked(_now_s: float) -> float:
    """Stands in for the profile, a closure that is made anew."""
    return 0.0
