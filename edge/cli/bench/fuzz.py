"""`reconf bench fuzz`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def fuzz(
        messages: Annotated[int, typer.Option(help="judged in process", min=0)] = 1_000_000,
        over_broker: Annotated[int, typer.Option(help="published to a link", min=0)] = 20_000,
        seed: Annotated[int, typer.Option(help="of the messages")] = 1,
        json: Annotated[str, typer.Option(help="where the result goes; - for stdout")] = "-",
    ) -> None:
        """Hostile commands, random and grammar-aware: how many are accepted."""
        from edge.bench.fuzz import run

        write_json(json, run(messages, over_broker, seed))
