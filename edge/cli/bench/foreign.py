"""`reconf bench foreign`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from edge.cli.output import stderr, write_json


class Kind(StrEnum):
    """Chemistries that are drawn."""

    LMO = "LMO"
    NMC = "NMC"
    LFP = "LFP"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def foreign(
        chemistry: Annotated[
            list[Kind] | None, typer.Option(help="may be given several times; all by default")
        ] = None,
        seeds: Annotated[int, typer.Option(help="Draws of cells per duty", min=1)] = 1,
        first_seed: Annotated[int, typer.Option(help="Seed of the first draw", min=0)] = 0,
        tick: Annotated[float, typer.Option(help="Control tick [s]", min=1.0, max=120.0)] = 10.0,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """The state filter beside cells that are not its model's: errors and how sure it is of them."""
        from edge.bench.foreign import run
        from reconf.site import Chemistry

        chosen = tuple(Chemistry(c.value) for c in (chemistry or list(Kind)))
        write_json(json, run(stderr().print, chosen, range(first_seed, first_seed + seeds), tick))
