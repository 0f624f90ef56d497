"""`reconf bench control`: what the daemon costs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def control(
    json_to: Annotated[str, typer.Option("--json", metavar="PATH|-", help="- is stdout")] = "-",
    site: Annotated[str, typer.Option(help="site file, or the name of a shipped one")] = "demo",
    seconds: Annotated[float, typer.Option(min=1.0, help="wall time measured, after warming up")] = 60.0,
    time_scale: Annotated[float, typer.Option(min=0.01)] = 1.0,
    tick: Annotated[
        float | None, typer.Option(help="tick [s]; default: 1 over TCP, the site's over serial lines")
    ] = None,
    real_baud: Annotated[bool, typer.Option(help="serial answers take their wire time")] = True,
) -> None:
    """Tick time, solve time, memory and wire share of the daemon against a twin on real wires."""
    from edge.bench.control import control as run
    from edge.wiring import configure_logs

    configure_logs("warning")
    print(f"measuring {seconds:g} s on {site} at time scale {time_scale:g}", file=sys.stderr)
    result = asyncio.run(run(site, seconds=seconds, time_scale=time_scale, tick_s=tick, real_baud=real_baud))
    text = json.dumps(result, indent=1)
    if json_to == "-":
        print(text)
    else:
        Path(json_to).write_text(text + "\n", encoding="utf-8")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(control)
