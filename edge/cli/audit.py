"""`reconf audit`: look at the command log and check its hash chain."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.store import Store
from reconf.errors import StoreError

app = typer.Typer(add_completion=False, no_args_is_help=True)
StateDir = Annotated[Path, typer.Option("--state-dir", help="the daemon's state directory")]


@app.callback()
def root() -> None:
    """The append-only log of every command and refusal."""


@app.command()
def verify(
    state_dir: StateDir,
    head: Annotated[str, typer.Option(help="hash that was the last one once; a shorter log lacks it")] = "",
) -> None:
    """Walk the whole hash chain; exit code 1 when an entry was changed, removed or cut off."""
    try:
        with Store.open(state_dir, read_only=True) as store:
            check = store.ledger.verify_audit()
            missing = bool(head) and not store.ledger.audit_has(head)
    except StoreError as error:
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
    state_dir: StateDir,
    last: Annotated[int, typer.Option(help="how many entries")] = 20,
) -> None:
    """Print the last entries, one JSON object a line."""
    try:
        with Store.open(state_dir, read_only=True) as store:
            entries = store.ledger.audit_entries(last)
    except StoreError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    for entry in entries:
        print(json.dumps(entry, ensure_ascii=False))
