"""`reconf bench bus`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def bus(
        seeds: Annotated[int, typer.Option(help="Draws of modules", min=1)] = 2,
        strings: Annotated[int, typer.Option(help="Strings; the first holds the bus", min=1, max=8)] = 3,
        step: Annotated[float, typer.Option(help="Load step, share of the load before", min=0.0)] = 0.5,
        plot: Annotated[Path | None, typer.Option(help="Where a picture goes")] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Bus voltage while an RC1 in MODE 2 holds it, in closed loop with the daemon's core."""
        from edge.bench.bus import run

        write_json(json, run(seeds, strings, step, plot))
