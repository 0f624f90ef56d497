"""`reconf bench plating`."""

from __future__ import annotations

import os
from json import loads
from pathlib import Path
from typing import Annotated, Any

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
        strict_only: Annotated[
            bool,
            typer.Option("--strict-only", help="Only against a charge held at 0 V from empty; far less time"),
        ] = False,
        keep: Annotated[
            Path | None,
            typer.Option(
                help="Result so far, written after every case; the cases in it are not solved again. For the "
                "same state of the code only"
            ),
        ] = None,
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
        from edge.bench.plating import AGAINST, STRICT, TEMPERATURES_K, run

        unknown = set(parameter_set or ()) - set(SETS)
        if unknown:
            raise typer.BadParameter(f"no set {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
        result = run(
            parameter_set or SETS,
            kelvin or TEMPERATURES_K,
            against=(STRICT,) if strict_only else AGAINST,
            progress=lambda text: stderr().print(text),
            known=_known(keep),
            keep=lambda result: None if keep is None else write_json(str(keep), result),
        )
        if picture is not None:
            from edge.bench.plating_plot import draw

            draw(result, picture)
        write_json(json, result)


def _known(keep: Path | None) -> dict[str, Any]:
    """Cases of an earlier run that was broken off."""
    if keep is None or not keep.exists():
        return {}
    try:
        sets: dict[str, Any] = loads(keep.read_text(encoding="utf-8"))["sets"]
    except (ValueError, KeyError, TypeError) as error:
        raise typer.BadParameter(f"{keep} holds no result of this bench") from error
    return sets
