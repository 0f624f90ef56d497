"""`reconf soak`: the long campaigns in full, one table."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

EXIT_FAILED, EXIT_WRONG = 1, 2


def soak(
    only: Annotated[
        list[str] | None, typer.Option(help="only campaigns whose name holds this; may be repeated")
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="say what there is, run nothing")] = False,
    json_to: Annotated[str, typer.Option("--json", metavar="-", help="print the result as JSON")] = "",
) -> None:
    """Run the long campaigns in full and show one table; exit code 1 when one does not reach its figure."""
    from rich.console import Console
    from rich.table import Table

    from edge.soak import chosen, run

    console = Console(stderr=bool(json_to))
    campaigns = chosen(only or ())
    if names:
        for campaign in campaigns:
            print(f"{campaign.name}: {campaign.wanted}")
        return
    if not campaigns:
        print(f"--only {', '.join(only or ())}: no campaign has such a name; see --list", file=sys.stderr)
        raise typer.Exit(EXIT_WRONG)
    table = Table(title="Campaigns", title_justify="left")
    for column in ("campaign", "wanted", "found", "minutes", ""):
        table.add_column(column)
    outcomes = []
    for campaign in campaigns:
        outcome = run(campaign)
        found = ", ".join(f"{k} {_short(outcome.figures.get(k))}" for k in campaign.told)
        mark = "[green]reached[/]" if outcome.ok else "[red]missed[/]"
        row = (campaign.name, campaign.wanted, outcome.text or found)
        table.add_row(*row, f"{outcome.seconds / 60:.1f}", mark)
        console.print(f"{campaign.name}: {mark} ({row[2]})")
        outcomes.append({"name": row[0], "ok": outcome.ok, "seconds": outcome.seconds, **outcome.figures})
    console.print(table)
    if json_to:
        print(json.dumps(outcomes))
    missed = [o["name"] for o in outcomes if not o["ok"]]
    if missed:
        console.print(f"[red]{len(missed)} of {len(outcomes)} missed:[/] {', '.join(missed)}")
        raise typer.Exit(EXIT_FAILED)


def _short(value: object) -> str:
    """A figure for the table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(soak)
