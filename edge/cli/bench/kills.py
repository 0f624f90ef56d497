"""`reconf bench kills`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def kills(
        kills: Annotated[int, typer.Option(help="broker and edge together", min=1)] = 1000,
        seed: Annotated[int, typer.Option(help="of commands and moments")] = 1,
        json: Annotated[str, typer.Option(help="where the result goes; - for stdout")] = "-",
    ) -> None:
        """Broker and command path killed at random: acknowledged commands that are lost."""
        from edge.bench.kills import run

        write_json(json, run(kills, seed))
