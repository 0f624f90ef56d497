"""`reconf bench faults`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.output import stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def faults(
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
        seed: Annotated[int, typer.Option(help="Of the site's truth and the sensors' noise")] = 1,
        pairs: Annotated[bool, typer.Option(help="All pairs of the common faults as well")] = True,
        only: Annotated[list[str] | None, typer.Option(help="Single faults by name, repeatable")] = None,
    ) -> None:
        """The fault catalogue in closed loop on the twin: detected, reacted, worst, energy lost."""
        from edge.bench.faults import run

        console = stderr()
        write_json(json, run(seed, pairs=pairs, only=tuple(only or ()), note=console.print))
