"""`reconf explain`: why a module is bypassed or limited, in plain sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.output import BAD_INPUT, stderr, write_json
from reconf.errors import ReconfError

if TYPE_CHECKING:
    from reconf.sequences import SiteMode

ENTRIES = 4000
"""Newest journal rows that are looked through."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explain(
        site: Annotated[Path, typer.Option(help="The site file the daemon runs with")],
        module: Annotated[str, typer.Option(help="Serial number; without it, the site")] = "",
        at: Annotated[str, typer.Option(help="Time (ISO 8601, UTC unless it says otherwise)")] = "",
        state_dir: Annotated[
            Path | None, typer.Option(help="The daemon's state directory; default: that of `reconf run`")
        ] = None,
        json: Annotated[str, typer.Option(help="Write the sentences as JSON; - for stdout")] = "",
    ) -> None:
        """Say why: which limit binds, what it costs in watts, what would lift it."""
        try:
            utc, folder, said = _said(site, module, at, state_dir)
        except (ReconfError, ValueError) as error:
            stderr().print(str(error))
            raise typer.Exit(BAD_INPUT) from error
        if json:
            told = {"at": utc, "state_dir": str(folder), "subject": module or "site", "sentences": said}
            write_json(json, told)
        else:
            print(f"as of {utc}, the interval on record in {folder}" if utc else f"as of now, from {folder}")
            for sentence in said:
                print(f"- {sentence}")


def _said(site_file: Path, module: str, at: str, state_dir: Path | None) -> tuple[str, Path, list[str]]:
    """UTC of the record that was read (empty: none), the state directory, and the sentences."""
    from edge.explaining import pick, read_record, situation
    from edge.state_dir import daemon_folder
    from edge.store.store import HISTORY_FILE, Store
    from optimizer.explain import MODE_TEXTS, explain_module, explain_site
    from reconf.config import load_site
    from reconf.shipped import find_site_file

    loaded = load_site(find_site_file(site_file))
    when = _moment(at) if at else None
    folder = daemon_folder(loaded.name, state_dir, HISTORY_FILE)
    with Store.open(folder, read_only=True) as store:
        entry = pick(store.history.last_records(ENTRIES), when)
    mode, silence = (None, "") if at else _mode_now(folder, loaded.name)
    rest = [f"Now: {MODE_TEXTS[mode]}"] if mode in MODE_TEXTS else []
    if entry is None and rest:
        return "", folder, rest
    if entry is None:
        raise ValueError(f"no interval record in {folder}" + (f" up to {at}" if at else ""))
    now = situation(loaded, read_record(loaded, entry))
    if now is None:
        raise ValueError("the record holds no tick")
    said = explain_module(loaded, now, module) if module else explain_site(loaded, now)
    if rest:
        rest += ["A site at rest records no intervals; what follows is of the last one."]
    elif silence:
        rest += [f"What follows is the last on record, and may be old: {silence}."]
    return entry.utc, folder, rest + said


def _mode_now(folder: Path, site: str) -> tuple[SiteMode | None, str]:
    """What the daemon says of now; without its word, why there is none."""
    from edge.onsite.client import DoorError, ask
    from reconf.sequences import SiteMode

    try:
        reply = ask(folder, site, "status")
    except DoorError as error:
        return None, str(error)
    return (SiteMode(reply.data["mode"]), "") if reply.accepted else (None, reply.text.rstrip("."))


def _moment(text: str) -> datetime:
    """An instant; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
