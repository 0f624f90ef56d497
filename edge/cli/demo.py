"""`reconf demo`: twin, broker and daemon in one, through one discharge and recharge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconf.config import load_site
from reconf.errors import ConfigError, ReconfError
from reconf.shipped import find_site_file

if TYPE_CHECKING:
    from rich.console import Console

    from edge.demo import Live
    from edge.demo_processes import DemoSetup

EXIT_WRONG, EXIT_FAILED = 2, 1


def demo(
    site: Annotated[Path, typer.Option(help="site file, or the name of a shipped one")] = Path("demo"),
    once: Annotated[bool, typer.Option("--once", help="one cycle, then end")] = False,
    json_to: Annotated[
        str, typer.Option("--json", metavar="PATH|-", help="write the result as JSON; - is stdout")
    ] = "",
    png: Annotated[Path | None, typer.Option(help="where to draw the run; default: demo.png here")] = None,
    time_scale: Annotated[
        float | None,
        typer.Option(min=1.0, help="simulated seconds per second; default: what this machine keeps up with"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="draw of the modules; default: the site file's")] = None,
    soc: Annotated[float, typer.Option(min=0.2, max=1.0, help="mean SOC at the start")] = 0.97,
    keep: Annotated[Path | None, typer.Option(help="keep logs and the daemon's state here")] = None,
) -> None:
    """Simulated site, broker and daemon in one: empty the pack at C/3, recharge it, show what it gave.

    Above about half charge the recharge is slower than C/3: the limit that keeps lithium from plating binds.
    """
    from rich.console import Console

    from edge.demo_pace import suitable_time_scale
    from edge.demo_processes import DemoSetup

    console = Console(stderr=True)
    try:
        path = find_site_file(site)
        loaded = load_site(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_WRONG) from error
    picture = png or (None if json_to and once else Path("demo.png"))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconf-demo-")))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=keep))
            console.print(f"logs and state: {folder}")
        drawn = loaded.twin_seed if seed is None else seed
        scale = time_scale or suitable_time_scale(loaded, drawn)
        console.print(f"time runs {scale:.0f} times faster than life")
        setup = DemoSetup(path, loaded, scale, drawn, soc, folder)
        try:
            figures = asyncio.run(_run(setup, console, picture, once=once, json_to=json_to))
        except ReconfError as error:
            console.print(f"[red]the demo failed:[/] {error}")
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
    if figures["violations"]:
        raise typer.Exit(EXIT_FAILED)


async def _run(
    setup: DemoSetup, console: Console, picture: Path | None, *, once: bool, json_to: str
) -> dict[str, Any]:
    """One cycle, its table and its picture; then serve on unless `once`."""
    from edge.demo import Live, c3_power_w, listen, run_cycle
    from edge.demo_processes import Processes
    from edge.demo_result import baselines, plain, result

    loop = asyncio.get_running_loop()
    live = Live()
    with ProcessPoolExecutor(1, initializer=_gently, initargs=(os.getpid(),)) as pool:
        async with Processes(setup) as processes:
            listening = asyncio.create_task(listen(processes.site, live))
            compared = loop.run_in_executor(
                pool, baselines, setup.site, setup.seed, setup.soc_frac, c3_power_w(setup.site)
            )
            try:
                with _progress(console) as told:
                    cycle = await run_cycle(processes, live, told)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            console.print("the run is over; comparing")
            figures = plain(result(setup.site, cycle, setup.seed, setup.soc_frac, await compared))
            _show(console, figures)
            if picture is not None:
                await asyncio.to_thread(_draw, processes, cycle, figures, picture)
                console.print(f"picture: {picture}")
            _write_json(figures, json_to)
            if not once:
                await _serve(console, processes)
    return figures


def _gently(parent: int) -> None:
    """The comparison may wait: the run has the processor first. It ends with the demo."""
    from edge.demo_processes import end_with_parent

    end_with_parent(parent)
    with contextlib.suppress(OSError):
        os.nice(5)


async def _serve(console: Console, processes: Any) -> None:
    """Keep everything up until Ctrl-C."""
    site = processes.site
    console.print(
        f"\nserving on until Ctrl-C: broker 127.0.0.1:{processes.port}, site {site.name!r}, "
        f"nodes {', '.join(f'{n} {a}' for n, a in processes.endpoints.items())}"
    )
    console.print(f"try: reconf send set_power --site demo --broker 127.0.0.1:{processes.port} power_w=20000")
    while True:
        await asyncio.sleep(1.0)
        processes.check_alive()


@contextlib.contextmanager
def _progress(console: Console) -> Any:
    """A bar with live power, SOC spread and bypass count."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[phase]}"),
        BarColumn(bar_width=None),
        TextColumn("SOC{task.fields[soc]:>5.1f}%"),
        TextColumn("{task.fields[power]:>+6.1f}/{task.fields[asked]:+.1f} kW"),
        TextColumn("spread {task.fields[spread]:.1f}%"),
        TextColumn("{task.fields[bypassed]} out"),
        TimeElapsedColumn(),
    )
    start: dict[str, Any] = {
        "phase": "starting", "soc": 0.0, "power": 0.0, "asked": 0.0, "spread": 0.0, "bypassed": 0
    }  # fmt: skip
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("cycle", total=2.0, **start)

        def told(live: Live) -> None:
            status = live.status
            soc = float(status.get("soc_frac") or 0.0)
            done = {
                "warming up": 0.0,
                "connecting": 0.0,
                "discharging at C/3": 1.0 - soc,
                "recharging at C/3": 1.0 + soc,
            }
            progress.update(
                task,
                completed=done.get(live.phase, 2.0),
                phase=live.phase,
                soc=100.0 * soc,
                power=float(status.get("power_delivered_w") or 0.0) / 1e3,
                asked=float(status.get("power_asked_w") or 0.0) / 1e3,
                spread=100.0 * live.spread_frac,
                bypassed=int(status["modules"]["bypassed"]),
            )

        yield told


def _show(console: Console, f: dict[str, Any]) -> None:
    """The table at the end."""
    from rich.table import Table

    ideal = f["ideal_kwh"]
    table = Table(title="One discharge of the same unequal modules", title_justify="left")
    table.add_column("arrangement")
    table.add_column("energy [kWh]", justify="right")
    table.add_column("of what is in them", justify="right")
    table.add_row("in the modules (each alone)", f"{ideal:.2f}", "100.0 %", style="dim")
    table.add_row(
        "[bold]time-shared, this run[/]",
        f"[bold]{f['delivered_kwh']:.2f}[/]",
        f"[bold]{100 * f['utilisation']:.1f} %[/]",
    )
    for key, name in (("sorted_series_kwh", "sorted fixed strings"), ("fixed_series_kwh", "fixed strings")):
        table.add_row(name, f"{f[key]:.2f}", f"{100 * f[key] / ideal:.1f} %")
    console.print(table)
    more = Table(show_header=False, box=None, pad_edge=False)
    losses = (
        f"cells {f['cell_heat_kwh']:.2f}, switches {f['switch_loss_kwh']:.2f}, "
        f"trim {f['trim_loss_kwh']:.2f}, converters {f['converter_loss_kwh']:.2f} kWh"
    )
    rows = (
        ("delivered at the bus", f"{f['delivered_bus_kwh']:.2f} kWh"),
        ("losses of the cycle", losses),
        ("recharged", f"{f['recharge_kwh']:.2f} kWh, round trip {100 * f['round_trip']:.1f} %"),
        ("", "[dim]slower than C/3 above about half charge: lithium must not plate[/]"),
        ("limit violations", f"[{'green' if not f['violations'] else 'red'}]{f['violations']}[/]"),
        ("intervals", f"{f['intervals']}, of them on a fallback {f['fallback_intervals']}"),
        ("optimizer's answer", f"median {f['solve_ms_p50']:.1f} ms, p99 {f['solve_ms_p99']:.1f} ms"),
        ("tick", f"median {f['tick_ms_p50']:.1f} ms, p99 {f['tick_ms_p99']:.1f} ms, {f['ticks']} ticks"),
    )
    for name, value in rows:
        more.add_row(f"{name}  ", value)
    console.print(more)


def _draw(processes: Any, cycle: Any, figures: dict[str, Any], picture: Path) -> None:
    """The picture, from the daemon's own journal."""
    from edge.demo_result import soh_of, trace
    from edge.plots import draw_run
    from edge.store.store import Store

    site = processes.setup.site
    with Store.open(processes.state_dir, read_only=True) as store:
        entries = store.history.records(0, 1_000_000)
    title = (
        f"{site.topology.n_modules} unequal modules give {100 * figures['utilisation']:.1f} % "
        "of their energy: a full discharge at C/3 and the recharge"
    )
    draw_run(trace(site, entries, soh_of(cycle)), figures, picture, title)


def _write_json(figures: dict[str, Any], json_to: str) -> None:
    text = json.dumps(figures, indent=1)
    if json_to == "-":
        print(text)
    elif json_to:
        Path(json_to).write_text(text + "\n", encoding="utf-8")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
