"""`reconf audit`: look at the command log and check its hash chain."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.store import Store
from edge.store.store import LEDGER_FILE
from reconf.errors import ReconfError

app = typer.Typer(add_completion=False, no_args_is_help=True)
SiteName = Annotated[
    Path | None, typer.Option("--site", help="its site file: the user's own state directory is tried first")
]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="the daemon's state directory; default: found")
]


@app.callback()
def root() -> None:
    """The append-only log of every command and refusal."""


def _store(site: Path | None, state_dir: Path | None) -> Store:
    """The store to look at; says which, where it had to be found."""
    from edge.state_dir import daemon_folder
    from reconf.config import load_site
    from reconf.shipped import find_site_file

    name = "" if site is None else load_site(find_site_file(site)).name
    folder = daemon_folder(name, state_dir, LEDGER_FILE)
    if state_dir is None:
        print(f"state directory {folder}", file=sys.stderr)
    return Store.open(folder, read_only=True)


@app.command()
def verify(
    site: SiteName = None,
    state_dir: StateDir = None,
    head: Annotated[str, typer.Option(help="hash that was the last one once; a shorter log lacks it")] = "",
) -> None:
    """Walk the whole hash chain; exit code 1 when an entry was changed, removed or cut off."""
    try:
        with _store(site, state_dir) as store:
            check = store.ledger.verify_audit()
            missing = bool(head) and not store.ledger.audit_has(head)
    except ReconfError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    print(check.text)
    print(f"head {check.head}")
    if missing:
        print(f"the log does not hold {head}: it was cut off or replaced")
    if check.first_bad is not None or missing:
        raise typer.Exit(1)


@app.command()
def show(
    site: SiteName = None,
    state_dir: StateDir = None,
    last: Annotated[int, typer.Option(help="how many entries")] = 20,
) -> None:
    """Print the last entries, one JSON object a line."""
    try:
        with _store(site, state_dir) as store:
            entries = store.ledger.audit_entries(last)
    except ReconfError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    for entry in entries:
        print(json.dumps(entry, ensure_ascii=False))
