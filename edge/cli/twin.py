"""`reconf twin`: a simulated site on real wires."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reconf.config import SiteFileError, load_site
from reconf.errors import ConfigError, DataFileError
from reconf.shipped import find_site_file
from reconf.site import Site


def twin(
    site: Annotated[Path | None, typer.Option(help="site file, or the name of a shipped one")] = None,
    time_scale: Annotated[float, typer.Option(min=0.01, help="simulated seconds per second")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="draw of the modules; default: that of the site file")
    ] = None,
    soc: Annotated[float, typer.Option(min=0.0, max=1.0, help="mean SOC at the start")] = 0.95,
    host: Annotated[str | None, typer.Option(help="address to listen on instead of the site's")] = None,
    any_port: Annotated[bool, typer.Option("--any-port", help="listen on free ports")] = False,
    real_baud: Annotated[
        bool, typer.Option("--real-baud", help="serial answers take their wire time")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND@SUBJECT[=VALUE]",
            help="build in a fault, as commissioning has to find it (may be repeated; `list` lists them)",
        ),
    ] = None,
    control: Annotated[bool, typer.Option("--control", help="take orders as JSON lines on stdin")] = False,
    ledger: Annotated[Path | None, typer.Option(help="write the truth of the run here when stopped")] = None,
    dump: Annotated[
        Path | None, typer.Option(help="serve what `reconf dump --json` wrote, as it was, read-only")
    ] = None,
) -> None:
    """Serve a simulated site as RM1/RC1 over Modbus; prints its endpoints as one line of JSON."""
    if fault and "list" in fault:
        _list_faults()
        return
    options = {"host": host, "any_port": any_port, "real_baud": real_baud}
    try:
        if dump is not None:
            asyncio.run(_replay(dump, host))
            return
        if site is None:
            raise ConfigError("say --site FILE, or --dump FILE")  # noqa: TRY301 - one way out for all
        loaded = load_site(find_site_file(site))
        drawn = loaded.twin_seed if seed is None else seed
        report = asyncio.run(_serve(loaded, time_scale, drawn, soc, options, control, fault or []))
    except (SiteFileError, ConfigError, DataFileError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    if ledger is not None:
        ledger.write_text(json.dumps(report), encoding="utf-8")


async def _replay(path: Path, host: str | None) -> None:
    """Serve a dump until told to stop."""
    from edge.modbus.server import WireServer
    from edge.wires.dump import DumpBank, load_dump

    found = load_dump(path)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with WireServer(DumpBank(found), found.gateways, host=host, any_port=True) as server:
        print(json.dumps({"endpoints": server.endpoints, "dump": str(path)}), flush=True)
        await stop.wait()


def _list_faults() -> None:
    """What `--fault` takes."""
    from reconf.twin.wiring_faults import WIRING_FAULTS

    for kind, row in WIRING_FAULTS.items():
        print(f"{kind}@{row.text}")
    print("noise@GATEWAY=RATE: share of frames corrupted on that line (0.03)")


async def _serve(
    site: Site,
    time_scale: float,
    seed: int,
    soc: float,
    options: dict[str, Any],
    control: bool,
    faults: Sequence[str],
) -> dict[str, Any]:
    """Serve until told to stop; what the twin knows of the run."""
    import numpy as np

    from edge.modbus.pacer import Pacer
    from edge.modbus.server import TwinServer
    from edge.modbus.twin_control import build_fault
    from edge.rehearsal import rehearse_physics
    from reconf.twin.firmware import NodeBank
    from reconf.twin.firmware_ledger import Ledger
    from reconf.twin.plant import Plant
    from reconf.twin.truth import draw_truth

    rng = np.random.default_rng(seed)
    bank = NodeBank(site, Plant(site, draw_truth(site, rng, soc_frac=soc)), rng)
    ledger = Ledger(bank)
    pacer = Pacer(bank, time_scale, time.monotonic, after_step=ledger.sample)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    rehearse_physics()
    async with TwinServer(bank, **options) as server:
        for text in faults:
            build_fault(server, text)
        tasks = [asyncio.create_task(pacer.run()), asyncio.create_task(stop.wait())]
        if control:
            tasks.append(asyncio.create_task(_orders(server, ledger)))
        ready = {"endpoints": server.endpoints, "site": site.name, "time_scale": time_scale, "seed": seed}
        print(json.dumps(ready), flush=True)
        done, _ = await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for task in done:
            task.result()  # an error of the physics ends the twin loudly
    if pacer.slipped_s > 0.0:
        print(f"twin: simulated time fell behind by {pacer.slipped_s:.0f} s", file=sys.stderr)
    return ledger.report()


async def _orders(server: Any, ledger: Any) -> None:
    """JSON lines from stdin, each answered by one on stdout."""
    from edge.modbus.twin_control import obey

    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            reply = obey(server, ledger, json.loads(line))
        except (ConfigError, ValueError) as error:
            reply = {"ok": False, "text": str(error)}
        print(json.dumps(reply), flush=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(twin)
