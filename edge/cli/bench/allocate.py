"""`reconf bench allocate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def allocate(
        modules: Annotated[int, typer.Option(help="Modules of the site", min=2, max=200_000)] = 1000,
        strings: Annotated[int, typer.Option(help="Strings they are in", min=1, max=10_000)] = 40,
        horizon: Annotated[int, typer.Option(help="Intervals ahead", min=1, max=96)] = 1,
        seeds: Annotated[int, typer.Option(help="Cases that are timed", min=1)] = 5,
        gap_seeds: Annotated[int, typer.Option(help="Cases whose gap is certified", min=1)] = 60,
        compare: Annotated[int, typer.Option(help="Hostile cases against the reference", min=0)] = 2000,
        plot: Annotated[Path | None, typer.Option(help="Where a picture goes")] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Structured solver against cvxpy on the identical problem, and the certified gap."""
        from edge.bench.allocate import run

        write_json(json, run(modules, strings, seeds, horizon, gap_seeds, plot, compare))
