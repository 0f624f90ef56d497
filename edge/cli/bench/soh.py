"""`reconf bench soh`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def soh(
        data: Annotated[Path, typer.Option(help="Folder with the pulse tables of retired cells")],
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
        shufflings: Annotated[
            int, typer.Option(help="How often the cells are dealt into folds", min=1, max=5)
        ] = 5,
    ) -> None:
        """Cell-disjoint errors of SOH from one and from two pulses, and unseen types recognised."""
        from edge.bench.soh import SHUFFLINGS, run

        console = stderr()
        with input_errors():
            result = run(data, SHUFFLINGS[:shufflings], console.print)
        write_json(json, result)
