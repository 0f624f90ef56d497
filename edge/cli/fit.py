"""`reconf fit ecm|ocv|thermal FILE...`: cell parameters from test logs, with fit error and picture.

`reconf fit plating` makes the table of the plating guard; it needs no log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from reconf.arrays import FloatArray
from reconf.cells.fit_ocv import OcvFit
from reconf.errors import ReconfError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Fit cell parameters from test logs.")

Files = Annotated[list[Path], typer.Argument(help="Logs: CSV with time, current, voltage, counted Ah.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write a whole parameter file here.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Picture of measured against fitted (PNG).")]
Base = Annotated[str, typer.Option("--base", help="Cell model that gives whatever the logs do not.")]
SourceText = Annotated[str, typer.Option("--source", help="Where the logs come from; goes into the file.")]

NO_CELL_DROP_V = 0.5
"""Half gap between slow charge and discharge, scaled to 1 C, above which it is no cell's (usual: 0.1 to
0.25 V)."""


def _fail(error: ReconfError) -> typer.Exit:
    typer.echo(f"reconf fit: {error}", err=True)
    return typer.Exit(code=2)


def _write(out: Path | None, base: str, block: dict[str, Any], what: str, source: str) -> None:
    """Print the fitted block, or put it into a copy of `base` that loads as it stands."""
    from ruamel.yaml import YAML

    from reconf.cells.fit_write import as_yaml
    from reconf.cells.parameters import parameter_text, parse_cell_model

    if out is None:
        typer.echo(as_yaml(block))
        return
    raw = dict(YAML(typ="safe").load(parameter_text(base)))
    for key, value in block.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    raw["sources"] = [*raw["sources"], {"what": what, "source": source or "own test", "doi": ""}]
    text = as_yaml(raw)
    parse_cell_model(text, out.stem)
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}")


def _picture(path: Path, panels: list[tuple[str, str, str, FloatArray, FloatArray, FloatArray]]) -> None:
    """One row per panel (title, unit, x label, x, measured, fitted): both curves, their difference below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6 * len(panels)), layout="constrained")
    axes = figure.subplots(2 * len(panels), 1, height_ratios=[3, 1] * len(panels), squeeze=False)[:, 0]
    for k, (title, unit, label, x, measured, fitted) in enumerate(panels):
        top, low = axes[2 * k], axes[2 * k + 1]
        top.plot(x, measured, color="#1b1f24", lw=1.2, label="measured")
        top.plot(x, fitted, color="#D55E00", lw=0.9, label="fitted")
        top.set_title(title, loc="left", fontsize=9)
        top.set_ylabel(unit)
        top.legend(frameon=False, fontsize=8)
        low.plot(x, 1e3 * (fitted - measured), color="#0072B2", lw=0.8)
        low.set_ylabel("error [mV]" if unit == "V" else "error [mK]")
        low.set_xlabel(label)
        low.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    typer.echo(f"picture: {path}")


def _picture_ocv(path: Path, panels: list[tuple[str, OcvFit]]) -> None:
    """Both slow branches with the curve between them, and half of what lies between: drop and hysteresis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2 * len(panels)), layout="constrained")
    axes = figure.subplots(2 * len(panels), 1, height_ratios=[3, 1] * len(panels), squeeze=False)[:, 0]
    for (title, fit), top, low in zip(panels, axes[::2], axes[1::2], strict=True):
        soc = fit.soc_frac
        top.plot(soc, fit.ocv_v - fit.half_gap_v, color="#1b1f24", lw=1.0, label="slow discharge")
        top.plot(soc, fit.ocv_v + fit.half_gap_v, color="#0072B2", lw=1.0, label="slow charge")
        top.plot(soc, fit.ocv_v, color="#D55E00", lw=1.4, label="open circuit")
        top.set_title(title, loc="left", fontsize=9)
        top.set_ylabel("V")
        top.legend(frameon=False, fontsize=8)
        low.plot(soc, 1e3 * fit.half_gap_v, color="#0072B2", lw=0.8)
        low.set_ylabel("half gap [mV]")
        low.set_xlabel("SOC")
        low.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    typer.echo(f"picture: {path}")


@app.command()
def ecm(
    files: Files,
    temperature: Annotated[
        list[float] | None, typer.Option("--temperature", help="degC of each file, in their order.")
    ] = None,
    capacity_ah: Annotated[
        float | None, typer.Option(help="Of the cell; default: what the first log moved.")
    ] = None,
    cutoff_v: Annotated[float, typer.Option(help="Cell voltage that is SOC 0.")] = 3.0,
    base: Base = "nmc_generic",
    source: SourceText = "",
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Open-circuit voltage, R0 and two RC pairs over SOC from pulse (HPPC) logs.

    Logs of several temperatures together also give the activation energies (Arrhenius).
    """
    from reconf.cells.fit_ecm import fit_ecm, full_charge_sample, prepare
    from reconf.cells.fit_logs import read_log
    from reconf.cells.fit_write import ecm_block

    try:
        logs = [read_log(f) for f in files]
        degrees = temperature or [25.0] * len(logs)
        if len(degrees) != len(logs):
            raise typer.BadParameter("give --temperature once for every file")
        starts = [full_charge_sample(log, 0.02 * float(np.abs(log.current_a).max())) for log in logs]
        if capacity_ah is None:
            capacity_ah = float(np.ptp(logs[0].discharged_ah[starts[0] :])) * 1.002
        inputs = [prepare(log, t, capacity_ah, k) for log, t, k in zip(logs, degrees, starts, strict=True)]
        fit = fit_ecm(inputs, capacity_ah)
        block = ecm_block(fit, cutoff_v)
        if (
            len(set(degrees)) == 1
        ):  # one temperature says nothing of activation energies: keep those of the base
            for name in ("activation_r0_j_per_mol", "activation_rc_j_per_mol"):
                del block["resistance"][name]
        for name, error in fit.rmse_v.items():
            typer.echo(f"{name}: {1e3 * error:.2f} mV rms, {1e3 * fit.worst_v[name]:.1f} mV at worst")
        typer.echo(f"capacity {block['reference_capacity_ah']:.2f} Ah to {cutoff_v:g} V at rest")
        typer.echo(f"time constants {fit.tau1_s:.1f} s and {fit.tau2_s:.0f} s")
        _write(out, base, block, "open-circuit voltage, R0, RC pairs", source)
        if plot is not None:
            _picture(
                plot,
                [
                    (d.name, "V", "h", d.time_s / 3600.0, d.voltage_v, v)
                    for d, v in zip(inputs, fit.predicted_v, strict=True)
                ],
            )
    except ReconfError as error:
        raise _fail(error) from error


@app.command()
def ocv(
    files: Files,
    resistance_ohm: Annotated[float, typer.Option(help="Used where only one direction was driven.")] = 0.0,
    base: Base = "nmc_generic",
    source: SourceText = "",
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Open-circuit voltage over SOC from slow (C/5 and slower) discharges and charges."""
    from reconf.cells.fit_logs import read_log
    from reconf.cells.fit_ocv import fit_ocv
    from reconf.cells.fit_write import ocv_block

    try:
        panels = []
        for file in files:
            fit = fit_ocv(read_log(file), resistance_ohm=resistance_ohm)
            typer.echo(
                f"{file.name}: {fit.branches} slow branches of {fit.capacity_ah:.2f} Ah; cycles differ by "
                f"{1e3 * fit.spread_v:.1f} mV rms; half of charge minus discharge at 50 % SOC "
                f"{1e3 * float(np.interp(0.5, fit.soc_frac, fit.half_gap_v)):.1f} mV"
            )
            if fit.drop_at_1c_v > NO_CELL_DROP_V:
                typer.echo(
                    f"{file.name}: that is {1e3 * fit.drop_at_1c_v / fit.capacity_ah:.0f} mohm, "
                    f"{fit.drop_at_1c_v:.1f} V at 1 C, more than a cell has: was the voltage measured at the "
                    "current leads? The curve between charge and discharge does not feel it; do not take a "
                    "resistance from this log",
                    err=True,
                )
            panels.append((file.name, fit))
            _write(out, base, ocv_block(fit), "open-circuit voltage", source)
        if plot is not None:
            _picture_ocv(plot, panels)
    except ReconfError as error:
        raise _fail(error) from error


@app.command()
def thermal(
    files: Files,
    capacity_ah: Annotated[float, typer.Option(help="Present capacity of the cell groups.")],
    cells: Annotated[int, typer.Option(help="Cell groups in series in the log's voltage.")],
    base: Base = "nmc_generic",
    start_soc: Annotated[float, typer.Option(help="SOC at the start of the log.")] = 1.0,
    ambient_degc: Annotated[float | None, typer.Option(help="Default: the temperature at the start.")] = None,
    source: SourceText = "",
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Heat capacity and cooling of a module from logs with temperatures; `--base` gives its cells."""
    from reconf.cells.fit_logs import read_log
    from reconf.cells.fit_thermal import fit_thermal
    from reconf.cells.fit_write import describe_thermal, thermal_block
    from reconf.cells.parameters import load_cell_model

    try:
        panels = []
        for file in files:
            log = read_log(file)
            fit = fit_thermal(
                log,
                load_cell_model(base),
                capacity_ah,
                cells=cells,
                start_soc=start_soc,
                ambient_degc=ambient_degc,
            )
            typer.echo(f"{file.name}: {describe_thermal(fit)}")
            keep = slice(None, None, max(1, len(log.time_s) // 1500))
            panels.append(
                (
                    file.name,
                    "degC",
                    "min",
                    log.time_s[keep] / 60.0,
                    log.temperature_degc.mean(axis=1)[keep],
                    fit.predicted_degc,
                )
            )
            _write(out, base, thermal_block(fit.parameters), "heat capacity and cooling", source)
        if plot is not None:
            _picture(plot, panels)
    except ReconfError as error:
        raise _fail(error) from error


@app.command()
def score(
    files: Files,
    rated_capacity_ah: Annotated[float, typer.Option(help="Of the cell groups when new.")],
    model: Annotated[
        str, typer.Option("--model", help="Name of a cell model, or a parameter file.")
    ] = "leaf_lmo",
    plot: Plot = None,
) -> None:
    """How well a cell model follows module logs; per cell capacity and one resistance scale are fitted."""
    from reconf.cells.fit_logs import read_log
    from reconf.cells.fit_score import score_cells
    from reconf.cells.parameters import load_cell_model, read_cell_model

    try:
        cell = read_cell_model(Path(model)) if Path(model).is_file() else load_cell_model(model)
        panels = []
        for file in files:
            log = read_log(file)
            result = score_cells(cell, log, rated_capacity_ah)
            typer.echo(
                f"{file.name}: {1e3 * float(np.sqrt((result.rmse_v**2).mean())):.1f} mV rms over all cells"
            )
            for k, rms in enumerate(result.rmse_v):
                typer.echo(
                    f"  cell {k + 1}: {1e3 * rms:.1f} mV rms, {1e3 * result.worst_v[k]:.0f} mV at worst, "
                    f"{result.capacity_ah[k]:.2f} Ah, resistance x{result.resistance_scale[k]:.2f}, "
                    f"start at {100.0 * result.start_soc_frac[k]:.1f} %"
                )
            weakest = int(np.argmin(result.capacity_ah))
            cells = log.cell_voltage_v if log.cell_voltage_v.shape[1] else log.voltage_v[:, None]
            title = f"{file.name}, cell {weakest + 1} (the weakest)"
            panels.append(
                (title, "V", "min", log.time_s / 60.0, cells[:, weakest], result.simulated_v[:, weakest])
            )
        if plot is not None:
            _picture(plot, panels)
    except ReconfError as error:
        raise _fail(error) from error


@app.command()
def plating(
    out: Annotated[Path, typer.Option("--out", help="Where the table goes (JSON).")],
) -> None:
    """Charge rates without lithium plating over SOC, temperature and age, from the reduced anode model."""
    import json

    from edge.plating_table import plating_table

    table = plating_table(progress=lambda text: typer.echo(text, err=True))
    out.write_text(json.dumps(table) + "\n", encoding="utf-8")
    typer.echo(f"written: {out}")
