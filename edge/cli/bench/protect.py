"""`reconf bench protect`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def protect(
        modules: Annotated[int, typer.Option(help="Modules of the site", min=1, max=20_000)] = 1000,
        ticks: Annotated[int, typer.Option(help="Ticks that are timed", min=1)] = 200,
        seed: Annotated[int, typer.Option(help="Of the twin's truth and noise")] = 1,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Time of protect and verify for one tick."""
        from edge.bench.protect import run

        write_json(json, run(modules, ticks, seed))
