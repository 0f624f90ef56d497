"""`reconf bench outage`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def outage(
        hours: Annotated[float, typer.Option(help="simulated time without a broker", min=0.01)] = 24.0,
        outbox_rows: Annotated[int, typer.Option(help="bound on the outbox", min=1)] = 200_000,
        json: Annotated[str, typer.Option(help="where the result goes; - for stdout")] = "-",
    ) -> None:
        """Hours without a broker: what arrives afterwards, in which order, and what the gap says."""
        from edge.bench.outage import run

        write_json(json, run(hours, outbox_rows))
