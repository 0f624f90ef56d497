"""`reconf run`: the daemon."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.state_dir import state_folder
from reconf.config import load_site
from reconf.errors import ConfigError
from reconf.shipped import find_site_file
from reconf.site import Site

if TYPE_CHECKING:
    from edge.wiring import RunOptions

EXIT_WRONG = 2


def run(
    site: Annotated[Path, typer.Option(help="site file, or the name of a shipped one")],
    gateway: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT|PTY", help="reach a gateway elsewhere than the site file says"),
    ] = None,
    broker: Annotated[str, typer.Option(metavar="HOST:PORT", help="another broker than the site's")] = "",
    state_dir: Annotated[
        Path | None, typer.Option(help="what survives; default: one per site in the user's state directory")
    ] = None,
    time_scale: Annotated[
        float, typer.Option(min=0.01, help="run against a twin on this machine faster than life")
    ] = 1.0,
    read_only: Annotated[bool, typer.Option("--read-only", help="look only: never write a register")] = False,
    no_mqtt: Annotated[bool, typer.Option("--no-mqtt", help="without a broker")] = False,
    clock: Annotated[
        str, typer.Option(help="is this machine's date right? auto, trusted or untrusted")
    ] = "auto",
    start: Annotated[
        bool, typer.Option("--start", help="go to mode run at once (a twin; a site is started by command)")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    figures: Annotated[
        Path | None,
        typer.Option(help="write what the daemon measured of itself here at its end and on SIGUSR1"),
    ] = None,
) -> None:
    """Control a site until SIGTERM or Ctrl-C; then leave every string in order and end."""
    from edge.wiring import RunOptions, configure_logs

    try:
        loaded = load_site(find_site_file(site))
        gateways = dict(_pair(text) for text in gateway or ())
        folder = state_folder(loaded.name, state_dir)
        options = RunOptions(
            gateways=gateways,
            broker=broker,
            state_dir=folder,
            time_scale=time_scale,
            read_only=read_only,
            northbound=not no_mqtt,
            clock=clock,
        )
        configure_logs(log_level)
        asyncio.run(_run(loaded, options, start=start, figures=figures))
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_WRONG) from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals or not name or not address:
        raise ConfigError(f"--gateway {text!r}: allowed is NAME=HOST:PORT or NAME=/dev/...")
    return name, address


async def _run(loaded: Site, options: RunOptions, *, start: bool, figures: Path | None) -> None:
    """Run until told to stop."""
    from edge.core_values import SetMode
    from edge.figures import report
    from edge.wiring import daemon
    from reconf.sequences import SiteMode

    async with daemon(loaded, options) as made:

        def measured() -> None:
            """Write the figures; also on SIGUSR1, for whoever looks while it runs."""
            if figures is not None:
                partly = figures.with_suffix(".part")
                partly.write_text(json.dumps(report(made)), encoding="utf-8")
                partly.replace(figures)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, made.stop)
        loop.add_signal_handler(signal.SIGUSR1, measured)
        if start:
            made.core.order(SetMode(SiteMode.RUN), made.parts.clock.control_s(), made.parts.clock.wall_s())
        await made.run()
        measured()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)
