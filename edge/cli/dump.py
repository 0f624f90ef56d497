"""`reconf dump`: the registers of nodes with their meaning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.output import input_errors, stderr, write_json
from edge.wires.target import BareLine, Target, target_of

if TYPE_CHECKING:
    from edge.wires.dump import UnitDump
    from reconf.registers import ReadBlock

EXIT_SILENT = 1


def dump(
    node: Annotated[
        list[str] | None,
        typer.Argument(help="serials, positions, strings (their converter) or GATEWAY:UNIT; default: all"),
    ] = None,
    site: Annotated[Path | None, typer.Option(help="site file, or the name of a shipped one")] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT|/dev/..", help="reach a gateway elsewhere than the site says"),
    ] = None,
    tcp: Annotated[str, typer.Option(metavar="HOST:PORT", help="one gateway, without a site file")] = "",
    serial: Annotated[str, typer.Option(metavar="PATH", help="one serial line, without a site file")] = "",
    baud: Annotated[int, typer.Option(help="of --serial", min=1200, max=1_000_000)] = 115200,
    parity: Annotated[str, typer.Option(help="of --serial: N, E or O")] = "N",
    unit: Annotated[list[int] | None, typer.Option(help="unit id, with --tcp or --serial")] = None,
    block: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="TABLE:ADDRESS:COUNT", help="read this too: input:0:20, holding:.."),
    ] = None,
    json: Annotated[str | None, typer.Option(help="write the dump, also as test fixture; - stdout")] = None,
) -> None:
    """Show every register of nodes: name, raw word, value, unit and meaning. Never writes.

    Status bits are spelled out, and what a node marks as not available is shown as such. A unit that is
    neither RM1 nor RC1 is read where --range says.

    The file of --json can be served again, by `reconf twin --dump FILE` or in tests: reads are answered as
    the real device did, so a strange device in the field becomes a test at the desk.

    Exit code 0; 1 when a node did not answer; 2 when options are wrong.

    Example: reconf dump A07 --site my-site.yaml      reconf dump --tcp 10.0.0.5:502 --unit 7 --json a07.json
    """
    from edge.wires.dump import document

    with input_errors():
        target = target_of(site, gateway or [], BareLine(tcp, serial, baud, parity))
        wanted = _wanted(target, node or [], unit or [])
        units, silent = asyncio.run(_read(target, wanted, [_block(text) for text in block or ()]))
    if json != "-":
        for found in units:
            _print(found, target)
    for text in silent:
        stderr().print(text, style="red", markup=False)
    if json:
        name = target.site.name if target.site is not None else None
        write_json(json, document(units, target.gateways, name, datetime.now(UTC)))
    if silent:
        raise typer.Exit(EXIT_SILENT)


def _wanted(target: Target, names: Sequence[str], units: Sequence[int]) -> list[tuple[str, int]]:
    from edge.wires.nodes import addresses
    from reconf.errors import ConfigError

    if target.site is not None:
        return addresses(target.site, names)
    if names or not units:
        raise ConfigError("without a site file, say --unit ID")
    return [(target.gateways[0].name, u) for u in units]


def _block(text: str) -> ReadBlock:
    from reconf.errors import ConfigError
    from reconf.registers import ReadBlock

    table, _, rest = text.partition(":")
    address, _, count = rest.partition(":")
    if table in ("input", "holding") and address.isdecimal() and count.isdecimal() and 1 <= int(count) <= 125:
        return ReadBlock("input" if table == "input" else "holding", int(address), int(count))
    raise ConfigError(
        f"--range {text!r}: allowed is input:ADDRESS:COUNT or holding:ADDRESS:COUNT, 125 at most"
    )


async def _read(
    target: Target, wanted: Sequence[tuple[str, int]], extra: Sequence[ReadBlock]
) -> tuple[list[UnitDump], list[str]]:
    """Dumps of those that answered, and what to say of the others."""
    from edge.modbus.failures import NodeError
    from edge.modbus.transport import Link
    from edge.wires.dump import dump_unit

    units: list[UnitDump] = []
    silent: list[str] = []
    for name in dict.fromkeys(name for name, _ in wanted):
        async with Link(target.gateway(name), wall=time.monotonic, read_only=True) as link:
            for unit_id in (u for n, u in wanted if n == name):
                try:
                    units.append(await dump_unit(link, unit_id, extra))
                except NodeError as error:
                    silent.append(f"{name}: {error}")
    return units, silent


def _print(found: UnitDump, target: Target) -> None:
    from rich.console import Console
    from rich.table import Table

    from reconf.commissioning.roster import places_of

    places = places_of(target.site) if target.site is not None else ()
    label = next((p.label for p in places if p.address == (found.gateway, found.unit_id)), "")
    device = found.device.upper() if found.device else "unknown device"
    console = Console(highlight=False)
    table = Table("table", "address", "name", "raw", "value", "unit", "meaning", title_justify="left")
    table.title = f"{label or found.gateway} unit {found.unit_id}: {device}"
    for line in found.lines:
        style = "dim" if line.value is None else None
        raw = " ".join(f"{w:04x}" for w in line.raw)
        value = "N/A" if line.value is None else line.value
        shown = (
            f"{value:g}" if isinstance(value, float) and abs(value) < 1e5 else f"{value}".removesuffix(".0")
        )
        table.add_row(
            line.table, str(line.address), line.name, raw, shown, line.unit, line.meaning, style=style
        )
    if found.device is None:
        for r in found.reads:
            words = " ".join(f"{w:04x}" for w in r.words) or f"exception {r.exception:#04x}"
            table.add_row(r.block.table, str(r.block.address), "", words, "", "", "")
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(dump)
