"""`reconf clear`, `stop`, `mode`: orders given on site, to the running daemon, without a broker."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edge.cli.door import EXIT_WRONG, By, Json, SiteFile, StateDir, ask_door, finish, folder_of


def register(root: typer.Typer) -> None:
    """Add `clear`, `stop` and `mode`."""

    @root.command()
    def clear(
        fault: Annotated[str, typer.Argument(help="its id, as 'reconf maintenance status' shows it")],
        site: SiteFile,
        subject: Annotated[str, typer.Option(help="serial or string; default: wherever it stands")] = "",
        on_site: Annotated[
            bool, typer.Option("--on-site", help="I stand at the site: needed for faults that opened it")
        ] = False,
        state_dir: StateDir = None, by: By = "", json_out: Json = False,
    ) -> None:  # fmt: skip
        """Clear a latched fault whose cause is gone."""
        args = {"fault": fault, "subject": subject or None, "on_site": on_site}
        finish(ask_door(*folder_of(site, state_dir), "clear_fault", args, by), as_json=json_out)

    @root.command()
    def stop(site: SiteFile, state_dir: StateDir = None, by: By = "", json_out: Json = False) -> None:
        """Emergency stop: every string is left now, latched until cleared on site."""
        finish(ask_door(*folder_of(site, state_dir), "emergency_stop", {}, by), as_json=json_out)

    @root.command()
    def mode(
        to: Annotated[str, typer.Argument(metavar="off|standby|run")],
        site: SiteFile, state_dir: StateDir = None, by: By = "", json_out: Json = False,
    ) -> None:  # fmt: skip
        """Start or stop the site without a broker."""
        if to not in {"off", "standby", "run"}:
            print(f"mode {to!r}: off, standby or run", file=sys.stderr)
            raise typer.Exit(EXIT_WRONG)
        finish(ask_door(*folder_of(site, state_dir), "set_mode", {"mode": to}, by), as_json=json_out)
