"""`reconf bench duty`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def duty(
        duty: Annotated[
            str, typer.Option(help="desert, cold, peak_shaving, frequency or frequency_year")
        ] = "desert",
        data: Annotated[Path, typer.Option(help="Folder with the recorded duties")] = Path("../shared/data"),
        days: Annotated[float | None, typer.Option(help="Length; all of it by default", min=0.001)] = None,
        season: Annotated[str | None, typer.Option(help="winter, spring, summer or autumn")] = None,
        hour: Annotated[
            float, typer.Option(help="Hour of the first day to start at", min=0.0, max=24.0)
        ] = 0.0,
        tick_s: Annotated[float, typer.Option(help="Control tick", min=0.1, max=300.0)] = 60.0,
        modules: Annotated[int, typer.Option(help="Modules of the string", min=2, max=24)] = 24,
        cooling: Annotated[bool, typer.Option(help="Whether the site has a fan to ask")] = False,
        seed: Annotated[int, typer.Option(help="Of the twin's truth and noise")] = 1,
        checkpoint: Annotated[
            Path | None, typer.Option(help="File to go on from, and to keep the state in")
        ] = None,
        cpu_budget_s: Annotated[
            float, typer.Option(help="Processor time after which to stop; go on with the checkpoint")
        ] = float("inf"),
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """A long duty in closed loop on the twin, against a clairvoyant with the same limits."""
        from edge.bench.duty import START_DAY, Asked, run
        from reconf.errors import ConfigError

        console = stderr()
        with input_errors():
            if season is not None and season not in START_DAY:
                raise ConfigError(f"no season {season!r}; there are {', '.join(START_DAY)}")
            result = run(
                Asked(duty, data, days, season, hour, tick_s, modules, cooling, seed),
                checkpoint=checkpoint,
                cpu_budget_s=cpu_budget_s,
                log=console.print,
            )
        write_json(json, result)
