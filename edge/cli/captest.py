"""`reconf captest`: measure capacities of the live pack, module by module, while it serves power."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edge.cli.door import By, SiteFile, StateDir, ask_door, folder_of
from edge.cli.output import input_errors, stderr, write_json

POLL_S = 2.0
EXIT_REFUSED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def captest(
        site: SiteFile,
        state_dir: StateDir = None,
        string: Annotated[str, typer.Option(help="only this string; default: every string")] = "",
        current_c: Annotated[
            float, typer.Option(help="highest C-rate at which a module is carried", min=0.01, max=1.0)
        ] = 0.5,
        start: Annotated[bool, typer.Option("--start", help="begin a test")] = False,
        stop: Annotated[bool, typer.Option("--stop", help="end the test that runs")] = False,
        watch: Annotated[bool, typer.Option("--watch", help="wait until it is finished")] = False,
        inventory: Annotated[
            Path | None, typer.Option(help="write capacities and intervals into these passports")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="begin, and write, without asking")] = False,
        by: By = "",
        json: Annotated[str | None, typer.Option(help="state and results as JSON; - for stdout")] = None,
    ) -> None:
        """Measure the capacity of the modules of a running site, without taking it out of service.

        One module of each string at a time is carried by itself through nearly all of its charge, between
        two rests at which its open-circuit voltage tells the SOC; the other modules share the rest of the
        power. It takes one discharge (or charge) of the site's own duty for each module of a string, the
        least known first. Without --start it only shows how the test stands.

        Example: reconf captest --site site.yaml --start --yes
        """
        from edge.cli.intake import confirm

        name, folder = folder_of(site, state_dir)
        if start:
            confirm("Begin a capacity test? Modules are steered inside all limits.", yes=yes)
            args = {"string": string or None, "current_c": current_c, "active": True}
            _ordered(ask_door(name, folder, "capacity_test", args, by))
        if stop:
            _ordered(ask_door(name, folder, "capacity_test", {"active": False}, by))
        data = ask_door(name, folder, "capacity_status", {}, by).data["capacity_test"]
        while watch and data is not None and data["running"]:
            time.sleep(POLL_S)
            data = ask_door(name, folder, "capacity_status", {}, by).data["capacity_test"]
        show(data, stderr())
        if json:
            write_json(json, {"capacity_test": data})
        if inventory is not None and data is not None:
            with input_errors():
                count = note_results(inventory, name, data, yes=yes)
            stderr().print(f"{count} capacities written into {inventory}", markup=False)


def _ordered(reply: Any) -> None:
    """Say what the daemon answered; leave with exit code 1 where it refused."""
    stderr().print(reply.text, markup=False)
    if not reply.accepted:
        raise typer.Exit(EXIT_REFUSED)


def show(data: dict[str, Any] | None, console: Console) -> None:
    """How the test stands."""
    if data is None:
        console.print("No capacity test has been run.")
        return
    table = Table("module", "capacity [Ah]", "90 %", "between SOC", "hours", "degC")
    for r in data["results"]:
        low, high = interval_ah(r)
        first, second = r["soc_frac"]
        table.add_row(
            r["serial"], f"{r['capacity_ah']:.2f}", f"{low:.2f}..{high:.2f}", f"{first:.0%} .. {second:.0%}",
            f"{r['hours']:.1f}", f"{r['temperature_degc']:.0f}",
        )  # fmt: skip
    if data["results"]:
        console.print(table)
    for t in data["trials"]:
        if t is not None:
            console.print(f"{t['serial']}: {t['phase'].replace('_', ' ')}", markup=False)
    for g in data["given_up"]:
        console.print(f"{g['serial']}: given up, {g['why']}", markup=False)
    waiting = sum(map(len, data["waiting"]))
    console.print(
        f"{len(data['results'])} measured, {waiting} waiting" + ("" if data["running"] else "; finished")
    )


def interval_ah(result: dict[str, Any]) -> tuple[float, float]:
    """90 % interval."""
    from reconf.binning.lot import Z90

    half = Z90 * float(result["std_ah"])
    return float(result["capacity_ah"]) - half, float(result["capacity_ah"]) + half


def note_results(inventory: Path, site: str, data: dict[str, Any], *, yes: bool) -> int:
    """Write what is not there yet into the passports; how many entries that were.

    Raises:
        DataFileError: no such inventory.
    """
    from edge.cli.intake import confirm
    from edge.inventory.store import Inventory

    store = Inventory.open(inventory)
    try:
        known = store.histories()
        drafts = []
        for r in data["results"]:
            low, high = interval_ah(r)
            entry = {
                "type": "live_capacity",
                "site": site,
                "capacity_ah": r["capacity_ah"],
                "capacity_low_ah": low,
                "capacity_high_ah": high,
                "capacity_std_ah": r["std_ah"],
                "soc_frac": list(r["soc_frac"]),
                "hours": r["hours"],
                "temperature_degc": r["temperature_degc"],
            }
            held = [e.data for e in known.get(r["serial"], ()) if e.kind == "test"]
            if r["serial"] in known and entry not in held:
                drafts.append((r["serial"], "test", entry))
                stderr().print(
                    f"+ {r['serial']}: {r['capacity_ah']:.2f} Ah ({low:.2f}..{high:.2f})", markup=False
                )
        strangers = [r["serial"] for r in data["results"] if r["serial"] not in known]
        if strangers:
            stderr().print(f"not in the inventory: {', '.join(strangers)}", markup=False)
        if drafts:
            confirm(f"Write {len(drafts)} entries into {inventory}?", yes=yes)
            store.append(drafts, datetime.now(UTC))
        return len(drafts)
    finally:
        store.close()
