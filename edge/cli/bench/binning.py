"""`reconf bench binning`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, write_json


class Case(StrEnum):
    """Lots that can be drawn."""

    EASY = "easy"
    HARD = "hard"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def binning(
        modules: Annotated[int, typer.Option(help="Modules to assign", min=12)] = 10_000,
        parallel: Annotated[int, typer.Option(help="Modules in parallel at a position", min=1)] = 1,
        case: Annotated[
            Case, typer.Option(help="easy: one kind; hard: four, doubtful grades, nearly dead modules")
        ] = Case.HARD,
        cells: Annotated[
            Path | None, typer.Option(help="Pulse table of real cells (ID, Q): the gain on them instead")
        ] = None,
        strings: Annotated[str, typer.Option(help="Strings x cells, for --cells")] = "6x12",
        draws: Annotated[int, typer.Option(help="Random drawings, for --cells", min=10)] = 2000,
        seed: Annotated[int, typer.Option(help="Seed of the drawings")] = 1,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Time, energy, bound and gap of a large assignment; or --cells FILE: the gain on real cells.

        `utilisation` is charge given over charge inside: random fixed strings, sorted fixed strings, and
        unsorted strings of which all but one or two are inserted at a time, with 90 % intervals over
        drawings and over resampled lots.
        """
        from edge.bench.binning import run, run_cells
        from edge.cli.binning import parse_strings

        with input_errors():
            if cells is None:
                write_json(json, run(modules, seed, parallel, case.value))
            else:
                count, length = parse_strings(strings)
                write_json(json, run_cells(cells, count, length, draws, seed))
