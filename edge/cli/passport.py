"""`reconf passport`: show, check and export module passports."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge.cli.output import BAD_INPUT, input_errors, stderr
from edge.inventory.life import life_document
from edge.inventory.passport import document, passport, passports
from edge.inventory.store import Inventory
from reconf.errors import DataFileError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Passports of modules in an inventory.")


@app.command("list")
def list_command(inventory: Annotated[Path, typer.Argument(help="inventory file")]) -> None:
    """All modules with status, grade and last position."""
    with input_errors():
        store = Inventory.open(inventory)
        cards = passports(store.histories())
        store.close()
    table = Table("serial", "kind", "status", "SOH", "90 %", "tests", "position")
    for card in cards:
        grade = card.grade or {}
        soh = f"{grade['soh_frac']:.1%}" if grade else ""
        interval = f"{grade['soh_low_frac']:.1%}..{grade['soh_high_frac']:.1%}" if grade else ""
        place = card.positions[-1]["label"] if card.positions else ""
        master = card.master
        kind = f"{master.get('chemistry')} {master.get('n_cells')}s {master.get('rated_capacity_ah'):g} Ah"
        table.add_row(card.serial, kind, card.status, soh, interval, str(len(card.tests)), place)
    Console().print(table)


@app.command()
def show(
    inventory: Annotated[Path, typer.Argument(help="inventory file")],
    serial: Annotated[str, typer.Argument(help="serial of the module")],
) -> None:
    """One passport as JSON: fields of Regulation (EU) 2023/1542, Annex XIII, and the whole history."""
    with input_errors():
        store = Inventory.open(inventory)
        card = passport(serial, store.history(serial))
        store.close()
    print(json_module.dumps(document(card) | {"expectedLifetime": life_document(card)}, indent=2))


@app.command()
def update(
    inventory: Annotated[Path, typer.Argument(help="inventory file")],
    state_dir: Annotated[Path, typer.Option(help="state directory of the site the modules work in")],
    yes: Annotated[bool, typer.Option("--yes", help="write without asking")] = False,
) -> None:
    """Enter what a site has learned: capacity, resistance and findings of every module, with its time.

    Example: reconf passport update lot.sqlite --state-dir /var/lib/reconf
    """
    from datetime import UTC, datetime

    from edge.cli.intake import confirm
    from edge.inventory.life import drafts
    from edge.store.store import Store

    with input_errors():
        with Store.open(state_dir, read_only=True) as known:
            estimates = known.history.estimates()
        store = Inventory.open(inventory)
        news = list(drafts(passports(store.histories()), estimates))
        if news:
            confirm(f"Write {len(news)} estimates to {inventory}?", yes=yes)
            store.append(news, datetime.now(UTC))
        store.close()
    stderr().print(f"{len(news)} estimates entered of {len(estimates)} modules in {state_dir}", markup=False)


@app.command()
def check(inventory: Annotated[Path, typer.Argument(help="inventory file")]) -> None:
    """Walk every module's hash chain; exit code 2 where an entry was changed or is missing."""
    with input_errors():
        store = Inventory.open(inventory)
        faults = store.check()
        count = len(store.histories())
        store.close()
    for fault in faults:
        stderr().print(f"{fault.serial}: {fault.text}", style="red", markup=False)
    stderr().print(f"{count} passports, {len(faults)} faults")
    if faults:
        raise typer.Exit(BAD_INPUT)


@app.command()
def export(
    inventory: Annotated[Path, typer.Argument(help="inventory file")],
    serial: Annotated[str, typer.Argument(help="serial of the module")],
    out: Annotated[Path, typer.Argument(help="file to write: .json, .html or .pdf")],
) -> None:
    """One passport as JSON, HTML or PDF."""
    from edge.inventory.paper import passport_html, passport_pdf

    with input_errors():
        store = Inventory.open(inventory)
        card = passport(serial, store.history(serial))
        store.close()
        if out.suffix == ".json":
            out.write_text(json_module.dumps(document(card), indent=2) + "\n")
        elif out.suffix == ".html":
            out.write_text(passport_html(document(card)), encoding="utf-8")
        elif out.suffix == ".pdf":
            passport_pdf(document(card), out)
        else:
            raise DataFileError(f"{out}: the ending says the format: .json, .html or .pdf")
    stderr().print(f"{out} written")


@app.command()
def lockouts(
    inventory: Annotated[Path, typer.Argument(help="inventory file")],
    state_dir: Annotated[Path, typer.Option("--state-dir", help="state directory of the site's daemon")],
) -> None:
    """Take lock-outs of a running site into the passports; a module so marked is refused for ever."""
    from datetime import UTC, datetime

    from edge.inventory.lockouts import lockouts as found_in
    from edge.inventory.lockouts import note_lockouts
    from edge.store import Store

    with input_errors():
        with Store.open(state_dir, read_only=True) as state:
            faults = found_in(state.ledger.get("faults") or ())
        store = Inventory.open(inventory)
        marked, unknown = note_lockouts(store, faults, datetime.now(UTC))
        store.close()
    for serial in marked:
        print(f"{serial}: locked out")
    for serial in unknown:
        stderr().print(f"{serial}: locked out on the site, not in this inventory", style="red", markup=False)
    stderr().print(f"{len(faults)} lock-outs, {len(marked)} new in the passports")
