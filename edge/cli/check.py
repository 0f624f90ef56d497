"""`reconf check`: read a site file strictly, say what was understood or everything that is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from reconf.config import load_site, site_schema
from reconf.errors import ConfigError
from reconf.site import Site, StringSpec

EXIT_WRONG_FILE = 2


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(
        file: Annotated[Path | None, typer.Argument(help="site file, or the name of a shipped one")] = None,
        schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of site files")] = False,
    ) -> None:
        """Read a site file strictly and say everything that is wrong with it (exit code 2)."""
        if schema:
            print(json.dumps(site_schema(), indent=2))
            return
        if file is None:
            print("name a site file, or ask for --schema", file=sys.stderr)
            raise typer.Exit(EXIT_WRONG_FILE)
        try:
            site = load_site(file)
        except ConfigError as error:
            print(error, file=sys.stderr)
            count = len(getattr(error, "findings", ("one",)))
            print(f"{file}: {count} error{'s' if count != 1 else ''}", file=sys.stderr)
            raise typer.Exit(EXIT_WRONG_FILE) from error
        print_site(site)


def print_site(site: Site) -> None:
    """Tables of what was understood."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    bus, timing = site.bus, site.timing
    console.print(f"[bold]{site.name}[/bold]  {site.source_file}")
    console.print(
        f"DC bus {bus.nominal_v:g} V ({bus.min_v:g}..{bus.max_v:g} V), held by {bus.master};"
        f" tick {timing.tick_s:g} s, slot {timing.slot_s:g} s, interval {timing.interval_s:g} s"
    )
    table = Table("string", "modules", "new/now kWh", "converter", "window V", "inserted full/empty")
    for string in site.strings:
        table.add_row(*_string_row(site, string))
    console.print(table)
    table = Table("gateway", "end point", "nodes")
    for gateway in site.gateways:
        end = f"{gateway.host}:{gateway.port} x {gateway.connections}"
        if gateway.kind == "rtu":
            end = f"{gateway.device} {gateway.baudrate} 8{gateway.parity}{gateway.stop_bits}"
        nodes = sum(p.gateway == gateway.name for p in site.positions)
        nodes += sum(s.converter.gateway == gateway.name for s in site.strings)
        table.add_row(gateway.name, end, str(nodes))
    console.print(table)
    mqtt = site.mqtt
    guard = "TLS" if mqtt.ca_file else "plain text, insecure" if mqtt.insecure else "plain text, loopback"
    console.print(
        f"MQTT {mqtt.protocol} at {mqtt.host}:{mqtt.port} ({guard}), topics {mqtt.topic_root}/{site.name}/..."
    )


def _string_row(site: Site, string: StringSpec) -> tuple[str, ...]:
    """One string as a row of text."""
    modules = [p.module for p in string.positions]
    cells = np.array([m.n_cells for m in modules], dtype=np.float64)
    capacity_ah = np.array([m.rated_capacity_ah for m in modules])
    soh_frac = np.array([m.soh_frac for m in modules])
    low_v = np.array([site.limits[m.chemistry]["cell_voltage_v", "min"].operating for m in modules])
    high_v = np.array([site.limits[m.chemistry]["cell_voltage_v", "max"].operating for m in modules])
    new_kwh = float(np.sum(cells * capacity_ah * (low_v + high_v) / 2.0)) / 1000.0
    believed_kwh = float(np.sum(cells * capacity_ah * soh_frac * (low_v + high_v) / 2.0)) / 1000.0
    converter = string.converter
    return (
        string.name,
        f"{len(modules)} {'/'.join(sorted({m.chemistry.value for m in modules}))}",
        f"{new_kwh:.1f}/{believed_kwh:.1f}",
        f"{converter.power_rating_w / 1000:g} kW {converter.current_rating_a:g} A",
        f"{converter.voltage_min_v:g}..{converter.voltage_max_v:g}",
        f"{_insertable(cells * high_v, string)}/{_insertable(cells * low_v, string)}",
    )


def _insertable(module_v: np.ndarray[tuple[int], np.dtype[np.float64]], string: StringSpec) -> str:
    """How many modules may be inserted inside the window, at the given module voltages."""
    converter = string.converter
    smallest, largest = np.cumsum(np.sort(module_v)), np.cumsum(np.sort(module_v)[::-1])
    fits = np.flatnonzero((largest >= converter.voltage_min_v) & (smallest <= converter.voltage_max_v)) + 1
    return f"{fits[0]}..{fits[-1]}" if len(fits) else "none"
