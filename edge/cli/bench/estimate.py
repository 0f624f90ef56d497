"""`reconf bench estimate`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def estimate(
        modules: Annotated[int, typer.Option(help="Modules of the site", min=1, max=20_000)] = 1000,
        ticks: Annotated[int, typer.Option(help="Ticks to time", min=10)] = 100,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Time and memory of the state filter, one tick of all modules."""
        from edge.bench.estimate import run

        write_json(json, run(modules, ticks))
