"""`reconf grade`: state of health of loose modules."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, TextIO

import numpy as np
import typer
from rich.table import Table

from edge.cli.output import input_errors, stderr
from edge.grading import load_models, load_table, train_all
from reconf.arrays import FloatArray, IntArray
from reconf.grading.artefact import choose
from reconf.grading.pulses import PulseGrade, grade
from reconf.grading.table import pair_rows

app = typer.Typer(add_completion=False, no_args_is_help=True, help="State of health of loose modules.")


def _write(out: TextIO, ids: tuple[str, ...], got: PulseGrade) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["ID", "soh", "soh_low", "soh_high", "in_domain"])
    for i, s, lo, hi, ok in zip(ids, got.soh_frac, got.low_frac, got.high_frac, got.in_domain, strict=True):
        writer.writerow([i, f"{s:.4f}", f"{lo:.4f}", f"{hi:.4f}", "true" if ok else "false"])


def _summary(got: PulseGrade, model_name: str, known: bool) -> None:
    console = stderr()
    table = Table(title=f"{len(got.soh_frac)} rows, model {model_name}")
    for title in ("SOH median", "lowest", "highest", "interval +-", "in domain"):
        table.add_column(title, justify="right")
    half = float(np.median(got.high_frac - got.low_frac)) / 2
    table.add_row(
        f"{np.median(got.soh_frac):.1%}",
        f"{got.soh_frac.min():.1%}",
        f"{got.soh_frac.max():.1%}",
        f"{half:.1%}",
        f"{int(got.in_domain.sum())} of {len(got.in_domain)}",
    )
    console.print(table)
    if not known:
        console.print("No model was trained on this type and size: every row is marked in_domain=false.")


def _cells(ids: tuple[str, ...]) -> IntArray:
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


@app.command()
def pulses(
    file: Annotated[Path, typer.Argument(help="Pulse table with columns U1..U21 [V]; CSV, .csv.gz or .xlsx")],
    chemistry: Annotated[str, typer.Option(help="LMO, NMC or LFP")],
    rated_ah: Annotated[float, typer.Option(help="Capacity of the cell when new [Ah]", min=0.1)],
    out: Annotated[str, typer.Option(help="Where the graded table goes; - for stdout")] = "-",
    two_pulse: Annotated[
        bool, typer.Option("--two-pulse", help="Rows of one ID at different charge, with ah_since_first")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Another artefact than the shipped one")] = None,
) -> None:
    """SOH from one 5 s pulse test, SOC unknown; or from two with about 20 % of charge between them.

    The answer is `ID,soh,soh_low,soh_high,in_domain`: a 90 % interval, and whether the cell is of a
    type the model was trained on. Where it is not, the interval is wide and the number is not to be
    used. Two pulses roughly halve the error. An optional column temperature_degc outside 20..30
    puts a row out of domain: the training data are from 25 degC.
    """
    with input_errors():
        fitted, known = choose(load_models(model), chemistry, rated_ah, 2 if two_pulse else 1)
        table = load_table(file)
        heat: FloatArray | None
        if two_pulse:
            pairs = pair_rows(str(file), table)
            ids, first, second, heat = pairs.ids, pairs.first_v, pairs.second_v, pairs.temperature_degc
            apart = pairs.moved_ah / rated_ah
            far = (apart < 0.125) | (apart > 0.275)
        else:
            ids, first, second, heat = table.ids, table.voltage_v, None, table.temperature_degc
            far = np.zeros(len(ids), dtype=np.bool_)
        got = grade(fitted, first, second, _cells(ids), heat)
    got = _doubted(got, far | (not known))
    if out == "-":
        _write(sys.stdout, ids, got)
    else:
        with Path(out).open("w", newline="") as stream:
            _write(stream, ids, got)
    _summary(got, f"{fitted.chemistry} {fitted.rated_ah:g} Ah, {fitted.pulses} pulse(s)", known)
    if far.any():
        stderr().print(
            f"{int(far.sum())} pairs are not 12.5..27.5 % of rated Ah apart: marked in_domain=false."
        )


def _doubted(got: PulseGrade, doubt: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> PulseGrade:
    from reconf.grading.pulses import OUTSIDE_HIGH_FRAC, OUTSIDE_LOW_FRAC

    return PulseGrade(
        soh_frac=got.soh_frac,
        low_frac=np.where(doubt, OUTSIDE_LOW_FRAC, got.low_frac),
        high_frac=np.where(doubt, OUTSIDE_HIGH_FRAC, got.high_frac),
        in_domain=got.in_domain & ~doubt,
    )


@app.command("train")
def train_command(
    data: Annotated[Path, typer.Option(help="Folder with the pulse tables")],
    out: Annotated[Path, typer.Option(help="Artefact to write")] = Path(
        "reconf/grading/data/pulse_models.json"
    ),
) -> None:
    """Fit the pulse models again from the tables; same data, same artefact to the letter."""
    with input_errors():
        out.write_text(train_all(data))
    stderr().print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


@app.command("lot")
def lot_command(
    inventory: Annotated[Path, typer.Argument(help="inventory file")],
    out: Annotated[Path | None, typer.Option(help="table of all modules (CSV)")] = None,
    plot: Annotated[Path | None, typer.Option(help="SOH histogram and SOH against resistance")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="write the grades to the passports without asking")
    ] = False,
    json: Annotated[str | None, typer.Option(help="all grades as JSON; - for stdout")] = None,
) -> None:
    """SOH, resistance and self-discharge of every accepted module, each with a 90 % interval.

    All tests of a module are weighed by their precision: a full discharge 1 %, a pulse by its own
    interval, an SOH reported by the car 5 %. Tests that contradict each other widen the interval. For
    each module the further test that would narrow it most is named, with its hours.
    """
    from datetime import UTC, datetime

    from edge.cli.intake import confirm
    from edge.cli.output import write_json
    from edge.inventory.passport import passports
    from edge.inventory.store import Inventory
    from edge.lot import grade_lot, lot_document, plot_lot, print_lot, write_lot

    with input_errors():
        store = Inventory.open(inventory)
        cards = passports(store.histories())
        graded = grade_lot(cards)
        print_lot(graded, stderr())
        if out is not None:
            write_lot(out, cards, graded)
        if plot is not None:
            plot_lot(cards, graded, plot)
        held = {c.serial: c.grade for c in cards}
        news = [(g.serial, "graded", g.row()) for g in graded if held[g.serial] != g.row()]
        if news:
            confirm(f"Write {len(news)} grades to {inventory}?", yes=yes)
            store.append(news, datetime.now(UTC))
        store.close()
    if json:
        write_json(json, lot_document(graded))
