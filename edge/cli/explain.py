"""`reconf explain`: why a module is bypassed or limited, in plain sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import BAD_INPUT, stderr, write_json
from reconf.errors import ReconfError

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
            utc, said = _said(site, module, at, state_dir)
        except (ReconfError, ValueError) as error:
            stderr().print(str(error))
            raise typer.Exit(BAD_INPUT) from error
        if json:
            write_json(json, {"at": utc, "subject": module or "site", "sentences": said})
        else:
            print(f"as of {utc}, the interval on record")
            for sentence in said:
                print(f"- {sentence}")


def _said(site_file: Path, module: str, at: str, state_dir: Path | None) -> tuple[str, list[str]]:
    """UTC of the record that was read, and the sentences."""
    from platformdirs import user_state_path

    from edge.explaining import pick, read_record, situation
    from edge.store.store import Store
    from optimizer.explain import explain_module, explain_site
    from reconf.config import load_site

    loaded = load_site(site_file)
    when = _moment(at) if at else None
    folder = state_dir or user_state_path("reconf") / loaded.name
    with Store.open(folder, read_only=True) as store:
        entry = pick(store.history.last_records(ENTRIES), when)
    if entry is None:
        raise ValueError(f"no interval record in {folder}" + (f" up to {at}" if at else ""))
    now = situation(loaded, read_record(loaded, entry))
    if now is None:
        raise ValueError("the record holds no tick")
    said = explain_module(loaded, now, module) if module else explain_site(loaded, now)
    return entry.utc, said


def _moment(text: str) -> datetime:
    """An instant; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
