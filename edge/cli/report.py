"""`reconf report`: the report of a lot."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.output import input_errors, stderr


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        bins: Annotated[Path, typer.Argument(help="what `reconf bin --json` wrote")],
        out: Annotated[list[Path], typer.Option(help="file to write, .html or .pdf; may be given twice")],
        inventory: Annotated[Path | None, typer.Option(help="tells what was refused and why")] = None,
        title: Annotated[str, typer.Option(help="title of the report")] = "Second life of a lot of modules",
    ) -> None:
        """The lot, the bins, expected energy against fixed strings, uncertainty, refusals; for paper.

        Example: reconf report bins.json --inventory lot.sqlite --out report.html --out report.pdf
        """
        from edge.binning import load_bins
        from edge.inventory.passport import Passport, passports
        from edge.inventory.store import Inventory
        from edge.report import write_html, write_pdf
        from reconf.errors import DataFileError

        writers = {".html": write_html, ".pdf": write_pdf}
        with input_errors():
            wrong = [p for p in out if p.suffix not in writers]
            if wrong:
                raise DataFileError(f"{wrong[0]}: the ending says the format: .html or .pdf")
            document = load_bins(bins)
            cards: tuple[Passport, ...] = ()
            if inventory is not None:
                store = Inventory.open(inventory)
                cards = passports(store.histories())
                store.close()
            now = datetime.now(UTC)
            for path in out:
                writers[path.suffix](document, cards, title, now, path)
                stderr().print(f"{path} written", markup=False)
