"""`reconf size`: size a pack."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edge.cli.output import input_errors, stderr, write_json
from reconf.errors import DataFileError
from reconf.sizing.pack import Need, Overheads, Pack, Unit, enumerate_packs

SHOWN = 8


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def size(
        voltage: Annotated[float, typer.Option(help="least mean voltage of a string [V]", min=1)],
        energy: Annotated[str | None, typer.Option(help="energy with unit, such as 50kWh")] = None,
        charge_ah: Annotated[float, typer.Option(help="or charge [Ah]", min=0)] = 0.0,
        power_kw: Annotated[
            float, typer.Option(help="converter power; 0: a third of the energy per hour", min=0)
        ] = 0.0,
        spares: Annotated[int, typer.Option(help="positions of a string that may rest", min=0)] = 0,
        voltage_max: Annotated[float | None, typer.Option(help="most mean voltage, all inserted [V]")] = None,
        source: Annotated[
            Path | None, typer.Option("--from", help="inventory or table of graded modules")
        ] = None,
        unit_v: Annotated[
            float, typer.Option(help="mean voltage of a cell or module, without --from")
        ] = 3.65,
        unit_ah: Annotated[float, typer.Option(help="its capacity, without --from")] = 5.0,
        kg_per_kwh: Annotated[
            float, typer.Option(help="mass of cells or modules over rated energy", min=0.1)
        ] = 5.5,
        l_per_kwh: Annotated[float, typer.Option(help="their volume over energy", min=0.1)] = 2.8,
        cost_per_kwh: Annotated[float, typer.Option(help="what a usable kWh of modules costs", min=0)] = 60.0,
        node_cost: Annotated[
            float | None,
            typer.Option(help="node, switch and wiring of a module; 15 with --from, else 0", min=0),
        ] = None,
        generations: Annotated[int, typer.Option(help="of the genetic algorithm", min=1)] = 60,
        seed: Annotated[int, typer.Option(help="its seed")] = 1,
        plot: Annotated[Path | None, typer.Option(help="Pareto plot, with --from")] = None,
        json: Annotated[str | None, typer.Option(help="all answers as JSON; - for stdout")] = None,
    ) -> None:
        """Series and parallel counts, spares, converter, mass, volume, cost.

        Uniform units are enumerated exactly: reconf size --voltage 400 --charge-ah 180 --unit-v 3.65
        --unit-ah 5 gives 110 in series, 36 in parallel. With --from a lot, strings of each kind are chosen by
        a genetic algorithm (NSGA-II) that shows what cost, mass and energy trade for each other.
        """
        over = Overheads() if node_cost is None else Overheads(cost_per_unit=node_cost)
        with input_errors():
            from edge.sizing import parse_energy_wh

            wanted = parse_energy_wh(energy) if energy else 0.0
            need = Need(voltage, wanted, charge_ah, power_kw * 1e3, spares, voltage_max)
            if source is None:
                kwh = unit_v * unit_ah / 1e3
                unit = Unit(unit_v, unit_ah, kwh * kg_per_kwh, kwh * l_per_kwh, kwh * cost_per_kwh)
                packs = enumerate_packs(unit, need, Overheads(cost_per_unit=node_cost or 0.0))
                document: dict[str, Any] = {"packs": [{**asdict(p), "units": p.units} for p in packs]}
                _show_packs(packs)
            else:
                document = _from_lot(source, need, over, kg_per_kwh, cost_per_kwh, generations, seed, plot)
        if json:
            write_json(json, document)


def _show_packs(packs: tuple[Pack, ...]) -> None:
    table = Table("series", "par.", "units", "V", "Ah", "kWh", "kW", "kg", "l", "Wh/kg", "cost")
    for p in packs[:SHOWN]:
        table.add_row(
            f"{p.series}+{p.spares}", str(p.parallel), str(p.units), f"{p.voltage_v:.1f}", f"{p.charge_ah:g}",
            f"{p.energy_wh / 1e3:.1f}", f"{p.converter_w / 1e3:.0f}", f"{p.mass_kg:.0f}", f"{p.volume_l:.0f}",
            f"{p.specific_wh_per_kg:.0f}", f"{p.cost:.0f}",
        )  # fmt: skip
    stderr().print(table)


def _from_lot(
    source: Path,
    need: Need,
    over: Overheads,
    kg_per_kwh: float,
    cost_per_kwh: float,
    generations: int,
    seed: int,
    plot: Path | None,
) -> dict[str, Any]:
    from edge.binning import read_lot
    from edge.sizing import MixedStock, draw_pareto

    if need.energy_wh <= 0:
        raise DataFileError("--from needs --energy, such as --energy 50kWh")
    stock = MixedStock(read_lot(source), need, over, kg_per_kwh, cost_per_kwh)
    choices = stock.pareto(generations, seed)
    table = Table("strings x positions", "kWh", "kg", "Wh/kg", "cost")
    for c in choices[:SHOWN]:
        strings = ", ".join(f"{kind} {count}" for kind, count in c["strings"].items())
        table.add_row(
            strings,
            f"{c['energy_kwh']:.1f}",
            f"{c['mass_kg']:.0f}",
            f"{c['specific_wh_per_kg']:.0f}",
            f"{c['cost']:.0f}",
        )
    stderr().print(table)
    if plot is not None:
        draw_pareto(choices, plot)
    return {"choices": choices}
