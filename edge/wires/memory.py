"""What commissioning remembers between two runs, and who may work on a site's wires."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from edge.store.store import take
from reconf.commissioning.outcome import Finding, StepOutcome, Verdict
from reconf.commissioning.roster import Answerer
from reconf.errors import ConfigError, StoreError
from reconf.site import Site

FILE = "commissioning.json"
KEPT = timedelta(hours=24)
"""A step that passed longer ago is done again."""


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Own the site's state directory, as the daemon does: one of them at a time touches the wires.

    Raises:
        ConfigError: somebody else owns it.
    """
    try:
        handle = take(folder)
    except StoreError as error:
        raise ConfigError(
            f"{error}: the daemon runs this site (or somebody else works on it). Stop it first, for example "
            "with `systemctl stop reconf`; it leaves its strings in order"
        ) from error
    try:
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A run that was not finished, or found something."""

    began_utc: str
    outcomes: dict[str, StepOutcome]


def site_digest(site: Site) -> str:
    """SHA-256 of the site file, or of the site's contents where it has none."""
    path = Path(site.source_file)
    content = path.read_bytes() if site.source_file and path.is_file() else repr(site).encode()
    return hashlib.sha256(content).hexdigest()


def roster_digest(answerers: Sequence[Answerer]) -> str:
    """Who sits where: a changed roster makes earlier results worthless."""
    rows = sorted((a.gateway, a.unit_id, a.serial) for a in answerers)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def remember(
    folder: Path,
    site: Site,
    answerers: Sequence[Answerer],
    outcomes: Mapping[str, StepOutcome],
    began_utc: str,
    now: datetime,
) -> None:
    """Keep what was found so far.

    Raises:
        ConfigError: it cannot be written.
    """
    document = {
        "site_sha256": site_digest(site),
        "roster_sha256": roster_digest(answerers),
        "began_utc": began_utc,
        "saved_utc": now.isoformat(),
        "outcomes": {k: asdict(v) for k, v in outcomes.items()},
    }
    try:
        partly = folder / f"{FILE}.part"
        partly.write_text(json.dumps(document), encoding="utf-8")
        partly.replace(folder / FILE)
    except OSError as error:
        raise ConfigError(f"{folder}: what was found cannot be kept: {error}") from error


def recall(folder: Path, site: Site, answerers: Sequence[Answerer], now: datetime) -> Remembered | str:
    """What an earlier run found, or why it is worth nothing; an empty reason: there was none."""
    path = folder / FILE
    if not path.is_file():
        return ""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {k: _outcome(v) for k, v in document["outcomes"].items()}
        saved = datetime.fromisoformat(document["saved_utc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path} cannot be read ({error})"
    if document["site_sha256"] != site_digest(site):
        return "the site file has changed since"
    if document["roster_sha256"] != roster_digest(answerers):
        return "other nodes answer than then"
    if now - saved > KEPT:
        return f"it is older than {KEPT.total_seconds() / 3600:.0f} hours"
    return Remembered(document["began_utc"], outcomes)


def _outcome(raw: Mapping[str, Any]) -> StepOutcome:
    return StepOutcome(
        step=raw["step"],
        verdict=Verdict(raw["verdict"]),
        checked=raw["checked"],
        findings=tuple(Finding(**f) for f in raw["findings"]),
        untried=raw["untried"],
        figures=raw["figures"],
        seconds=raw["seconds"],
        text=raw["text"],
    )
