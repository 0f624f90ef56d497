"""`reconf bench commissioning`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def commissioning(
        site: Annotated[str, typer.Option(help="site file, or the name of a shipped one")] = "demo",
        seeds: Annotated[int, typer.Option(help="Draws of modules and of where the faults are", min=1)] = 1,
        time_scale: Annotated[float, typer.Option(help="of the twin", min=1.0, max=50.0)] = 10.0,
        only: Annotated[str, typer.Option(help="only cases whose name holds this")] = "",
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Commissioning of a twin site: healthy it passes, each built-in fault is found, nobody else told."""
        from edge.bench.commissioning import run

        write_json(json, run(site, range(1, seeds + 1), time_scale, only))
