"""`reconf bench flood`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def flood(
        seconds: Annotated[float, typer.Option(help="how long each run is measured", min=1.0)] = 60.0,
        rate: Annotated[float, typer.Option(help="hostile messages a second", min=1.0)] = 10_000.0,
        time_scale: Annotated[float, typer.Option(help="control seconds per second", min=1.0)] = 5.0,
        json: Annotated[str, typer.Option(help="where the result goes; - for stdout")] = "-",
    ) -> None:
        """Hostile traffic on the command topic of a running daemon."""
        from edge.bench.flood import run

        write_json(json, run(seconds, rate, time_scale))
