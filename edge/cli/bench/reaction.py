"""`reconf bench reaction`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer

from edge.cli.output import stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def reaction(
        trials: Annotated[int, typer.Option(help="Strikes to measure", min=1)] = 1100,
        strings: Annotated[
            int, typer.Option(help="Strings of four modules, struck in parallel", min=1, max=40)
        ] = 24,
        tick_s: Annotated[float, typer.Option(help="Tick, wall time", min=0.1)] = 1.0,
        seed: Annotated[int, typer.Option(help="Of modules and moments")] = 1,
        aim: Annotated[
            Literal["phase", "switch", "bypass"],
            typer.Option(help="Strike swept over the tick, while a switch is being written, or a bypass"),
        ] = "phase",
        time_scale: Annotated[
            float, typer.Option(help="Control time against wall time: more trials an hour", min=1.0)
        ] = 1.0,
        json: Annotated[str, typer.Option(help="Where the result goes; - for stdout")] = "-",
    ) -> None:
        """From a register with a safety-tier value to the write that answers it, in ticks, over Modbus."""
        from edge.bench.reaction import measure
        from edge.wiring import configure_logs

        configure_logs("error")
        console = stderr()
        done = measure(
            trials, strings=strings, tick_s=tick_s, seed=seed, aim=aim, time_scale=time_scale,
            note=lambda count: console.print(f"{count} trials", end="\r"),
        )  # fmt: skip
        write_json(json, asyncio.run(done))
