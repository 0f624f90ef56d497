"""The plating comparison as a picture: what the guard allows against what the full model allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.plots import FAINT, INK, STRING_COLOURS

COLUMNS: Final = 2
LOWEST_PER_H: Final = 0.05
HIGHEST_PER_H: Final = 2.0


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the result of `edge.bench.plating.run` into a PNG: one panel per set, one colour per temperature.

    Full lines are the guard of the set alone, dashed ones the DFN held at 0 V, dotted ones the shipped lower
    envelope of all sets.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = {name: cases for name, cases in result["sets"].items() if cases}
    rows = -(-len(sets) // COLUMNS)
    figure = Figure(figsize=(10.0, 3.6 * rows), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    kelvins = sorted({kelvin for cases in sets.values() for kelvin in cases}, key=float)
    colours = dict(zip(kelvins, STRING_COLOURS, strict=False))
    for axis, (name, cases) in zip(axes, sets.items(), strict=False):
        for kelvin, case in cases.items():
            _curves(axis, case["by_soc"], colours[kelvin], f"{float(kelvin) - 273.15:.0f} degC")
        axis.set_title(_told(name), color=INK, fontsize=10, loc="left")
        axis.set_yscale("log")
        axis.set_ylim(LOWEST_PER_H, HIGHEST_PER_H)
        axis.grid(visible=True, which="both", color=FAINT, alpha=0.2)
        axis.legend(fontsize=8, frameon=False)
    for axis in axes[len(sets) :]:
        axis.set_axis_off()
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("charge rate [1/h]", color=INK)
    for axis in axes[-COLUMNS:]:
        axis.set_xlabel("state of charge", color=INK)
    figure.suptitle("Guard (full), DFN held at 0 V (dashed), lower envelope of all sets (dotted)", color=INK)
    figure.savefig(path)


def _curves(axis: Any, rows: list[Mapping[str, float]], colour: str, label: str) -> None:
    """One temperature of one set."""
    soc = [row["soc_frac"] for row in rows]
    styles = (("allowed_per_h", "-", label), ("dfn_allows_per_h", "--", None), ("envelope_per_h", ":", None))
    for key, style, told in styles:
        rate = np.array([row.get(key, np.nan) for row in rows])
        axis.plot(soc, rate, style, color=colour, label=told, linewidth=1.6)


def _told(name: str) -> str:
    """`ORegan2022` as people write it."""
    author, year = name[:-4], name[-4:]
    return author.replace("OK", "O'K").replace("OR", "O'R") + f" {year}"
