"""`reconf bench command`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def command(
        replies: Annotated[int, typer.Option(help="commands whose reply is timed", min=1)] = 300,
        set_points: Annotated[int, typer.Option(help="set points whose first write is timed", min=1)] = 20,
        time_scale: Annotated[float, typer.Option(help="control seconds per second", min=1.0)] = 5.0,
        json: Annotated[str, typer.Option(help="where the result goes; - for stdout")] = "-",
    ) -> None:
        """Time from a command to its reply, and to the first register write."""
        from edge.bench.command import run

        write_json(json, run(replies, set_points, time_scale))
