"""`reconf bench plating`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import stderr, write_json
from reconf.electrochem.parameters import SETS


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def plating(
        parameter_set: Annotated[
            list[str] | None, typer.Option("--set", help="Parameter set; may be repeated. Default: all")
        ] = None,
        kelvin: Annotated[
            list[float] | None, typer.Option(help="Temperature; may be repeated. Default: 263 to 313 K")
        ] = None,
        picture: Annotated[Path | None, typer.Option(help="PNG of guard against full model")] = None,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """The plating guard against PyBaMM's DFN and SPMe (needs the test extra)."""
        # no bench of ours talks to the outside
        os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
        try:
            import pybamm  # noqa: F401  only asked for
        except ImportError as error:
            stderr().print("bench plating needs PyBaMM, which comes with the test extra (x86_64 only)")
            raise typer.Exit(2) from error
        from edge.bench.plating import TEMPERATURES_K, run

        unknown = set(parameter_set or ()) - set(SETS)
        if unknown:
            raise typer.BadParameter(f"no set {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
        result = run(
            parameter_set or SETS, kelvin or TEMPERATURES_K, progress=lambda text: stderr().print(text)
        )
        if picture is not None:
            from edge.bench.plating_plot import draw

            draw(result, picture)
        write_json(json, result)
