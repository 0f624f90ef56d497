"""`reconf bench hostile`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from edge.cli.output import stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def hostile(
        plans: Annotated[
            int, typer.Option(help="Plans to judge; the full campaign is 1000000", min=1)
        ] = 20_000,
        seed: Annotated[int, typer.Option(help="Of states, plans and searches")] = 1,
        jobs: Annotated[int, typer.Option(help="Processes; 0: one for each core", min=0)] = 0,
        family: Annotated[
            list[str] | None, typer.Option(help="Only these families; may be given again")
        ] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Hostile plans, drawn and searched: none that verify accepts may harm the twin."""
        from edge.bench.hostile import run
        from edge.bench.hostile_families import BY_NAME

        unknown = sorted(set(family or ()) - set(BY_NAME))
        if unknown:
            raise typer.BadParameter(f"no family {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
        console = stderr()
        told = run(
            plans,
            seed,
            lambda done: console.print(f"{done} plans", end="\r"),
            jobs=jobs or len(os.sched_getaffinity(0)),
            families=tuple(family or BY_NAME),
        )
        write_json(json, told)
