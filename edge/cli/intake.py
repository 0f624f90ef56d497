"""`reconf intake`: take modules and their test data into the inventory."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from edge.cli.output import input_errors, stderr, write_json
from edge.inventory.intake import Intake, read_folder


def confirm(question: str, *, yes: bool) -> None:
    """Ask before writing; leave with exit code 1 on anything but yes."""
    if yes:
        return
    if not sys.stdin.isatty() or not typer.confirm(question, err=True):
        stderr().print("Nothing was written. (--yes writes without asking.)")
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def intake(
        folder: Annotated[Path, typer.Argument(help="folder with modules.csv and test files")],
        inventory: Annotated[Path, typer.Option(help="inventory file, made when it is not there")] = Path(
            "lot.sqlite"
        ),
        columns: Annotated[
            Path | None, typer.Option(help="YAML with the column names of an unknown cycler")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="write without asking")] = False,
        json: Annotated[str | None, typer.Option(help="what was entered, as JSON; - for stdout")] = None,
    ) -> None:
        """Take a folder of modules and their tests into the inventory.

        modules.csv (or .xlsx) has one row per module: serial, chemistry, n_cells, rated_capacity_ah, and as
        far as known n_parallel, origin, vehicle, manufacturer, manufactured, received, damage,
        isolation_mohm, lowest_cell_v, reported_soh_frac, resistance_ohm, ocv_v, ocv_later_v, ocv_days.
        Tests: pulse tables (ID, U1..U21), cycler CSVs (Arbin, Neware, Maccor, BaSyTec, time_s/current_a/
        voltage_v, or --columns) and BMS logs (cell1_v ...), named after the serial: LEAF-A7_capacity.csv.

        A module without origin, too old, once over-discharged, damaged or badly isolated is refused, with
        the step of UL 1974 or IEC 63338 that asks for it. Nothing is written before you have seen it.
        """
        from edge.inventory.cycler import cycler_columns
        from edge.inventory.store import Inventory

        now = datetime.now(UTC)
        with input_errors():
            held = Inventory.open(inventory) if inventory.is_file() else None
            known = held.histories() if held else {}
            with Progress(console=stderr(), transient=True) as bar:
                task = bar.add_task("reading", total=None)
                found = read_folder(
                    folder, known, cycler_columns(columns), now.date(),
                    lambda done, of: bar.update(task, completed=done, total=of),
                )  # fmt: skip
            _show(found)
            if found.entries:
                confirm(f"Write {len(found.entries)} entries to {inventory}?", yes=yes)
                store = held or Inventory.open(inventory, create=True)
                store.append(found.entries, now)
                store.close()
        if json:
            write_json(
                json,
                {
                    "new": list(found.new),
                    "changed": list(found.changed),
                    "tests": found.tests,
                    "refused": {s: list(r) for s, r in found.refused.items()},
                    "skipped": list(found.skipped),
                    "entries": len(found.entries),
                },
            )


def _show(found: Intake) -> None:
    console = stderr()
    console.print(f"+ {len(found.new)} modules, ~ {len(found.changed)} changed, + {found.tests} tests")
    for line in found.skipped:
        console.print(f"  not used: {line}", markup=False)
    if found.refused:
        table = Table("refused", "why", "found", "asked for by")
        for serial, reasons in found.refused.items():
            for reason in reasons:
                table.add_row(serial, reason["reason"], reason["found"], reason["step"])
        console.print(table)
    if not found.entries:
        console.print("Nothing new.")
