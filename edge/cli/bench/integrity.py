"""`reconf bench integrity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def integrity(
        hours: Annotated[
            float, typer.Option(help="Hours of honest operation, 8766 for a year", min=0.1)
        ] = 6.0,
        data: Annotated[
            Path | None, typer.Option(help="Folder with the measured grid frequency; a model of it without")
        ] = None,
        sites: Annotated[
            int,
            typer.Option(help="Sites side by side whose hours count together", min=1),
        ] = 1,
        tick: Annotated[float, typer.Option(help="Seconds of a tick of the honest hours", min=1.0)] = 5.0,
        budget: Annotated[
            float, typer.Option(help="CPU seconds after which the honest hours end where they are", min=1.0)
        ] = float("inf"),
        checkpoint: Annotated[
            Path | None, typer.Option(help="File of the honest hours: gone on from, written to as they pass")
        ] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Lies of sensors found, and false alarms over honest hours of frequency containment."""
        from edge.bench.integrity import run

        console = stderr()
        with input_errors():
            result = run(
                hours, data, console.print, sites=sites, dt_s=tick, budget_s=budget, checkpoint=checkpoint
            )
        write_json(json, result)
