"""`reconf soak`: the long campaigns in full, one table."""

from __future__ import annotations

import json
from typing import Annotated

import typer

EXIT_FAILED = 1


def soak(
    only: Annotated[
        list[str] | None, typer.Option(help="only campaigns whose name holds this; may be repeated")
    ] = None,
    json_to: Annotated[str, typer.Option("--json", metavar="-", help="print the result as JSON")] = "",
) -> None:
    """Run the long campaigns in full and show one table; exit code 1 when one does not reach its figure."""
    from rich.console import Console
    from rich.table import Table

    from edge.soak import run_all

    console = Console(stderr=bool(json_to))
    table = Table(title="Campaigns", title_justify="left")
    for column in ("campaign", "wanted", "found", "minutes", ""):
        table.add_column(column)
    outcomes = []
    for outcome in run_all(only or ()):
        found = ", ".join(f"{k} {_short(outcome.figures.get(k))}" for k in outcome.campaign.told)
        mark = "[green]reached[/]" if outcome.ok else "[red]missed[/]"
        row = (outcome.campaign.name, outcome.campaign.wanted, outcome.text or found)
        table.add_row(*row, f"{outcome.seconds / 60:.1f}", mark)
        console.print(f"{outcome.campaign.name}: {mark} ({row[2]})")
        outcomes.append({"name": row[0], "ok": outcome.ok, "seconds": outcome.seconds, **outcome.figures})
    console.print(table)
    if json_to:
        print(json.dumps(outcomes))
    if not all(o["ok"] for o in outcomes):
        raise typer.Exit(EXIT_FAILED)


def _short(value: object) -> str:
    """A figure for the table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(soak)
