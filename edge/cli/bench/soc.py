"""`reconf bench soc`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def soc(
        data: Annotated[
            Path | None, typer.Option(help="Folder with the measurements; without it the twin alone")
        ] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Errors of SOC, capacity and remaining charge on the twin and on measured cells."""
        from edge.bench.soc import run

        console = stderr()
        with input_errors():
            result = run(data, console.print)
        write_json(json, result)
