"""`reconf bin`: assign modules to strings and positions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json
from reconf.binning.assign import Objective
from reconf.errors import DataFileError


def parse_strings(text: str) -> tuple[int, int]:
    """`8x12` as (8, 12).

    Raises:
        DataFileError: not of this form.
    """
    first, x, second = text.lower().partition("x")
    if not (x and first.isdigit() and second.isdigit() and int(first) and int(second)):
        raise DataFileError(f"--strings {text!r}: say strings x positions, such as 8x12")
    return int(first), int(second)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("bin")
    def bin_command(
        source: Annotated[
            Path,
            typer.Argument(help="inventory (SQLite), or a CSV/.xlsx with serial and capacity_ah or soh_frac"),
        ],
        strings: Annotated[str, typer.Option(help="strings x positions in series, such as 8x12")],
        spares: Annotated[int, typer.Option(help="positions of a string that may rest at a time", min=0)] = 0,
        parallel: Annotated[int, typer.Option(help="modules in parallel at each position", min=1)] = 1,
        objective: Annotated[Objective, typer.Option(help="what modules are sorted by")] = Objective.ENERGY,
        confidence: Annotated[
            float,
            typer.Option(help="probability with which a module's counted SOH is met", min=0.5, max=0.999),
        ] = 0.9,
        current_a: Annotated[
            float,
            typer.Option(help="string current for the losses [A]; 0: a third of the median capacity", min=0),
        ] = 0.0,
        rack_gradient_k: Annotated[
            float,
            typer.Option(help="last position warmer than the first [K]; strong modules go there", min=0),
        ] = 0.0,
        years: Annotated[int, typer.Option(help="years to look ahead", min=1, max=30)] = 10,
        fade_per_year: Annotated[
            float,
            typer.Option(help="share of rated capacity lost per year (your duty decides)", min=0, max=0.2),
        ] = 0.02,
        fade_cv: Annotated[float, typer.Option(help="spread of that between modules", min=0, max=1)] = 0.4,
        draws: Annotated[int, typer.Option(help="truths drawn within the graded intervals", min=2)] = 100,
        seed: Annotated[int, typer.Option(help="seed of the drawing")] = 1,
        plot: Annotated[Path | None, typer.Option(help="picture (.png, .pdf, .svg)")] = None,
        json: Annotated[str | None, typer.Option(help="the assignment as JSON; - for stdout")] = None,
    ) -> None:
        """Assign modules to strings and positions, and say what that is worth.

        With --spares 0 strings are fixed: the weakest module ends the discharge, and sorting is the best
        that can be done. With bypass hardware give the spares: modules take turns in resting, and nearly
        all energy comes out. Energy is compared with strings built at random, with sorted fixed strings,
        and with a bound no assignment can pass; now and over the years.

        Example: reconf bin lot.sqlite --strings 8x12 --spares 2 --json bins.json --plot bins.png
        """
        from edge.binning import Request, make_bins, print_bins
        from edge.binning_plot import draw_bins

        with input_errors():
            count, length = parse_strings(strings)
            request = Request(
                strings=count, length=length, parallel=parallel, spares=spares, objective=objective,
                confidence=confidence, current_a=current_a, rack_gradient_k=rack_gradient_k, years=years,
                fade_per_year=fade_per_year, fade_cv=fade_cv, draws=draws, seed=seed,
            )  # fmt: skip
            bins = make_bins(source, request)
            if json:
                write_json(json, bins)
            if plot is not None:
                draw_bins(bins, plot)
        print_bins(bins, stderr())
