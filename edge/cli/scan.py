"""`reconf scan`: who answers on which bus, and how that differs from the site file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli.output import input_errors, stderr, write_json
from edge.wires.target import BareLine, Target, target_of

if TYPE_CHECKING:
    from edge.wires.scan import GatewayScan
    from reconf.commissioning.roster import Answerer, Deviation

EXIT_DIFFERS = 1


def scan(
    site: Annotated[Path | None, typer.Option(help="site file, or the name of a shipped one")] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT|/dev/..", help="reach a gateway elsewhere than the site says"),
    ] = None,
    tcp: Annotated[str, typer.Option(metavar="HOST:PORT", help="one gateway, without a site file")] = "",
    serial: Annotated[str, typer.Option(metavar="PATH", help="one serial line, without a site file")] = "",
    baud: Annotated[int, typer.Option(help="of --serial", min=1200, max=1_000_000)] = 115200,
    parity: Annotated[str, typer.Option(help="of --serial: N, E or O")] = "N",
    ids: Annotated[str, typer.Option(metavar="FIRST..LAST", help="unit ids to try")] = "1..247",
    timeout: Annotated[
        float | None, typer.Option(help="seconds to wait for each unit; default: short, adapted", min=0.01)
    ] = None,
    json: Annotated[str | None, typer.Option(help="the result as JSON; - for stdout")] = None,
) -> None:
    """Find every unit on every bus. Never writes: the links used have no way to.

    Tries the unit ids of modules (RM1, 1..200) and of converters (RC1, 201..247) on every gateway of the site
    file, or on one line named by --tcp or --serial. RM1 and RC1 are known by their mark and map version;
    whatever else answers is listed as unknown. With a site file the differences are listed: missing nodes,
    extra ones, wrong or swapped serial numbers, wrong kinds.

    One serial line bears one master: stop the daemon before scanning a site on RS-485.

    Exit code 0: all as the site file says; 1: something differs; 2: the options or a line cannot be used.

    Example: reconf scan --site my-site.yaml     reconf scan --serial /dev/ttyUSB0 --baud 9600
    """
    from reconf.commissioning.roster import compare

    with input_errors():
        target = target_of(site, gateway or [], BareLine(tcp, serial, baud, parity))
        scans = _run(target, _ids(ids), timeout)
    answerers = [a for s in scans for a in s.answerers]
    dark = {s.gateway.name for s in scans if s.unreachable}
    differences: Sequence[Deviation] = ()
    if target.site is not None:
        differences = [d for d in compare(target.site, answerers) if d.gateway not in dark]
    _print(scans, answerers, differences, target, aside=json == "-")
    if json:
        write_json(json, _document(scans, answerers, differences, target))
    if any(s.unreachable for s in scans):
        raise typer.Exit(2)
    if differences:
        raise typer.Exit(EXIT_DIFFERS)


def _ids(text: str) -> tuple[int, ...]:
    from edge.wires.scan import ALL_IDS
    from reconf.errors import ConfigError

    first, dots, last = text.partition("..")
    last = last if dots else first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 247):
        raise ConfigError(f"--ids {text!r}: allowed is FIRST..LAST within 1..247")
    return tuple(u for u in ALL_IDS if int(first) <= u <= int(last))


def _run(target: Target, ids: Sequence[int], timeout_s: float | None) -> tuple[GatewayScan, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from edge.wires.scan import Scanner
    from reconf.commissioning.roster import places_of

    expected: dict[str, tuple[int, ...]] = {}
    if target.site is not None:
        for place in places_of(target.site):
            expected[place.gateway] = (*expected.get(place.gateway, ()), place.unit_id)
    console = stderr()
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(ids) * len(target.gateways))
        scanner = Scanner(
            target.gateways,
            expected=expected,
            ids=ids,
            timeout_s=timeout_s,
            progress=lambda: bar.advance(task),
        )
        lines = f"{len(target.gateways)} line{'s' if len(target.gateways) > 1 else ''}"
        console.print(
            f"{lines}, {len(ids)} unit ids each, read-only; {_span(scanner.budget_s)} at most, where nobody "
            "answers and nobody says so"
        )
        return asyncio.run(scanner.run())


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _print(
    scans: Sequence[GatewayScan],
    answerers: Sequence[Answerer],
    differences: Sequence[Deviation],
    target: Target,
    *,
    aside: bool,
) -> None:
    """Tables; `aside` on stderr, where stdout carries JSON."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, stderr=aside)
    table = Table("gateway", "unit", "device", "serial", "cells", "rated Ah", "ms", "position")
    labels = _labels(target)
    for a in answerers:
        capacity = "" if isnan(a.rated_capacity_ah) else f"{a.rated_capacity_ah:g}"
        device = f"{a.kind.upper()} map {a.map_version}" if a.kind != "unknown" else "unknown, answers"
        table.add_row(
            a.gateway,
            str(a.unit_id),
            device,
            a.serial or a.text,
            str(a.n_cells or ""),
            capacity,
            f"{a.answer_s * 1e3:.0f}",
            labels.get((a.gateway, a.unit_id), ""),
        )
    console.print(table)
    for s in scans:
        kinds = [sum(a.kind == k for a in s.answerers) for k in ("rm1", "rc1", "unknown")]
        noise = f", {s.garbled} garbled answers: look at termination and baud rate" if s.garbled else ""
        if s.unreachable:
            console.print(f"[red]{s.gateway.name}: not reachable[/] ({s.unreachable})")
            continue
        console.print(
            f"{s.gateway.name}: {kinds[0]} RM1, {kinds[1]} RC1, {kinds[2]} unknown; "
            f"{s.probes} probes in {s.seconds:.1f} s{noise}"
        )
    if target.site is None:
        return
    if not differences and any(s.unreachable for s in scans):
        return
    if not differences:
        console.print(f"[green]As the site file says[/]: {len(answerers)} nodes of {target.site.name}.")
        return
    table = Table("difference", "position", "site file", "on the wire", "what to do", title_justify="left")
    table.title = f"{len(differences)} differences from the site file"
    for d in differences:
        where = d.position or f"{d.gateway} unit {d.unit_id}"
        table.add_row(d.kind.replace("_", " "), f"{where} ({d.subject})", d.expected, d.found, d.remedy)
    console.print(table)


def _labels(target: Target) -> dict[tuple[str, int], str]:
    from reconf.commissioning.roster import places_of

    return {} if target.site is None else {p.address: p.label for p in places_of(target.site)}


def _document(
    scans: Sequence[GatewayScan],
    answerers: Sequence[Answerer],
    differences: Sequence[Deviation],
    target: Target,
) -> dict[str, Any]:
    return {
        "site": target.site.name if target.site else None,
        "gateways": [
            {
                "name": s.gateway.name,
                "probes": s.probes,
                "garbled": s.garbled,
                "seconds": round(s.seconds, 3),
                "unreachable": s.unreachable or None,
            }
            for s in scans
        ],
        "units": [{k: _plain(v) for k, v in asdict(a).items()} for a in answerers],
        "differences": [asdict(d) for d in differences],
    }


def _plain(value: object) -> object:
    """NaN has no place in JSON."""
    return None if isinstance(value, float) and isnan(value) else value


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(scan)
