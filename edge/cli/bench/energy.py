"""`reconf bench energy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def energy(
        modules: Annotated[int, typer.Option(help="Modules in series in each string", min=2, max=200)] = 12,
        spares: Annotated[int, typer.Option(help="Positions beyond what the window needs", min=0)] = 2,
        cv: Annotated[float, typer.Option(help="Coefficient of variation of SOH", min=0.0, max=0.3)] = 0.13,
        seeds: Annotated[int, typer.Option(help="Draws of modules", min=1)] = 3,
        soh_error: Annotated[float, typer.Option(help="Relative error of the graded SOH", min=0.0)] = 0.0,
        chemistry: Annotated[str, typer.Option(help="NMC, NCA, LMO or LFP")] = "NMC",
        strings: Annotated[int, typer.Option(help="Strings side by side", min=1, max=20)] = 2,
        workers: Annotated[int, typer.Option(help="Processes side by side; 0: one per core", min=0)] = 0,
        plot: Annotated[Path | None, typer.Option(help="Where a picture goes")] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """Energy of the policies on the twin, ours in closed loop with its estimator."""
        from edge.bench.energy import run

        cores = len(os.sched_getaffinity(0))

        table = run(modules, spares, cv, seeds, soh_error, chemistry.upper(), strings, plot, workers or cores)
        write_json(json, table)
        if not table["clairvoyant_ahead_of_all"]:
            stderr().print("a policy gave more than the clairvoyant bound: the bound or the books are wrong")
            raise typer.Exit(1)
