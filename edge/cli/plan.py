"""`reconf plan`: write a site file, wiring list, labels and checklist."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.intake import confirm
from edge.cli.output import input_errors, stderr, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def plan(
        bins: Annotated[Path, typer.Argument(help="what `reconf bin --json` wrote")],
        out: Annotated[Path, typer.Option(help="folder to write to")],
        name: Annotated[str, typer.Option(help="name of the site and of its file")] = "site",
        gateway: Annotated[
            str, typer.Option(help="first gateway HOST:PORT (next strings: next ports), or /dev/ttyUSB{n}")
        ] = "127.0.0.1:5020",
        bus_v: Annotated[float, typer.Option(help="nominal voltage of the site's DC bus", min=24)] = 800.0,
        trim_rating_a: Annotated[
            float, typer.Option(help="trim converters fitted [A], 0: none", min=0)
        ] = 0.0,
        inventory: Annotated[
            Path | None, typer.Option(help="note each module's position in its passport")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="write without asking")] = False,
        json: Annotated[str | None, typer.Option(help="the list of files as JSON; - for stdout")] = None,
    ) -> None:
        """Write a site file that `reconf check` accepts, a wiring list, labels with QR code, a checklist.

        Shows how the site file differs from the one that is there, and asks before writing.
        """
        from edge.binning import load_bins
        from edge.inventory.store import Inventory
        from edge.siteplan import PlanOptions, places, site_text, write_plan

        options = PlanOptions(name=name, gateway=gateway, bus_v=bus_v, trim_rating_a=trim_rating_a)
        with input_errors():
            document = load_bins(bins)
            text = site_text(document, options)
            _show_difference(out / f"{name}.yaml", text)
            confirm(f"Write the plan to {out}?", yes=yes)
            files = write_plan(document, options, out)
            if inventory is not None:
                store = Inventory.open(inventory)
                known = store.histories()
                placed = [
                    (
                        s,
                        "placed",
                        {"site": name, "label": p.label, "gateway": p.gateway, "unit_id": p.unit_id},
                    )
                    for p in places(document)
                    for s in p.serials
                    if s in known
                ]
                store.append(placed, datetime.now(UTC))
                store.close()
                stderr().print(f"{len(placed)} positions noted in {inventory}")
        for file, what in files.items():
            stderr().print(f"{out / file}: {what}", markup=False)
        if json:
            write_json(json, {"folder": str(out), "files": files})


def _show_difference(path: Path, text: str) -> None:
    """What would change in the site file."""
    old = path.read_text().splitlines() if path.is_file() else []
    if not old:
        stderr().print(f"new: {path}", markup=False)
        return
    for line in difflib.unified_diff(old, text.splitlines(), "there", "planned", lineterm="", n=1):
        stderr().print(line, markup=False)
