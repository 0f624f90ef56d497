"""The demo's picture: what the modules did, what the switches did, what the strings gave.

Drawn with matplotlib's Agg canvas, so that it needs no display. Colours are those of Okabe and Ito,
readable for colour-blind people and in print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reconf.arrays import FloatArray, IntArray

INK = "#1b1f24"
FAINT = "#8a939d"
LABEL_INSIDE_ABOVE = 90.0
"""Bars above this share [%] carry their label inside, clear of the line at 100 %."""
TAPERED_SHARE = 0.85
"""A recharge below this share of its full power is told to be limited."""
STRING_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BARS = (
    ("delivered_kwh", "time-shared (this run)", "#0072B2"),
    ("sorted_series_kwh", "sorted fixed strings", "#9aa5b1"),
    ("fixed_series_kwh", "fixed strings", "#c3cad2"),
)


@dataclass(frozen=True, slots=True)
class RunTrace:
    """One run, sampled once an interval. T samples, M modules, S strings."""

    time_h: FloatArray
    """(T,)"""
    soc_frac: FloatArray
    """(T, M)"""
    duty_frac: FloatArray
    """(T, M) inserted share of the interval."""
    string_power_w: FloatArray
    """(T, S) at the bus, discharge positive."""
    asked_w: FloatArray
    """(T,) at the site bus."""
    soh_frac: FloatArray
    """(M,) for the order of the rows."""
    string_of: IntArray
    """(M,)"""
    string_names: tuple[str, ...]


def draw_run(trace: RunTrace, figures: Mapping[str, float], path: Path, title: str) -> None:
    """Draw `trace` with the result `figures` (keys of the demo's JSON) into a PNG at `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 9.2), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=(1.0, 1.25, 0.85), width_ratios=(3.4, 1.0))
    soc, duty, power = (figure.add_subplot(grid[row, 0]) for row in range(3))
    _draw_soc(soc, trace)
    image = _draw_duty(duty, trace)
    bar = figure.colorbar(image, ax=duty, pad=0.012, aspect=28)
    bar.set_label("share of each minute in use", color=FAINT, fontsize=8)
    bar.ax.tick_params(labelsize=7, colors=FAINT)
    bar.outline.set_visible(False)
    _draw_power(power, trace)
    _draw_energy(figure.add_subplot(grid[0, 1]), figures)
    _draw_health(figure.add_subplot(grid[1, 1]), trace)
    _draw_words(figure.add_subplot(grid[2, 1]), figures)
    for axes in (soc, duty, power):
        axes.set_xlim(float(trace.time_h[0]), float(trace.time_h[-1]))
    figure.suptitle(title, fontsize=13, color=INK, x=0.012, ha="left", fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d0d7")
    axes.tick_params(labelsize=8, colors=FAINT)


def _draw_soc(axes: Any, trace: RunTrace) -> None:
    """Bands of all modules' SOC, string by string: narrow means that all empty and fill together."""
    _plain(
        axes, "State of charge of every module: the bands (middle half, all) are narrow, all empty together"
    )
    for s, name in enumerate(trace.string_names):
        soc = 100.0 * trace.soc_frac[:, trace.string_of == s]
        low, quarter, median, upper, high = np.percentile(soc, (0, 25, 50, 75, 100), axis=1)
        colour = STRING_COLOURS[s % len(STRING_COLOURS)]
        axes.fill_between(trace.time_h, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.fill_between(trace.time_h, quarter, upper, color=colour, alpha=0.35, linewidth=0)
        axes.plot(trace.time_h, median, color=colour, linewidth=1.4, label=f"string {name}")
    axes.set_ylabel("SOC [%]", fontsize=8.5, color=INK)
    axes.set_ylim(-2.0, 102.0)
    axes.grid(axis="y", color="#edf0f3", linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=len(trace.string_names))
    axes.tick_params(labelbottom=False)


def _rows(trace: RunTrace) -> IntArray:
    """Row order: string by string, the strongest module of each on top."""
    order: IntArray = np.lexsort((-trace.soh_frac, trace.string_of))
    return order


def _draw_duty(axes: Any, trace: RunTrace) -> Any:
    """Heat map of duties: weak modules (bottom of each string) rest more."""
    _plain(
        axes, "Duty of every module, one row each: bright is in use, dark rests; weak ones rest more often"
    )
    rows = trace.duty_frac[:, _rows(trace)].T
    extent = (float(trace.time_h[0]), float(trace.time_h[-1]), float(rows.shape[0]), 0.0)
    image = axes.imshow(
        np.ma.masked_invalid(rows), aspect="auto", extent=extent, cmap="magma", vmin=0.0, vmax=1.0,
        interpolation="nearest",
    )  # fmt: skip
    counts = np.bincount(trace.string_of)
    edges = np.concatenate(([0], np.cumsum(counts)))
    for edge in edges[1:-1]:
        axes.axhline(float(edge), color="white", linewidth=2.0)
    axes.set_yticks([0.5 * (a + b) for a, b in pairwise(edges)])
    axes.set_yticklabels(trace.string_names, rotation=90, va="center")
    axes.set_ylabel("modules, strong above weak", fontsize=8.5, color=INK)
    axes.tick_params(labelbottom=False, length=0)
    return image


def _draw_power(axes: Any, trace: RunTrace) -> None:
    """What was asked and what the strings gave, stacked."""
    _plain(axes, "Power at the bus: asked (line) and given by the strings (areas)")
    names, kilowatts = trace.string_names, 1e-3 * trace.string_power_w
    for sign in (1.0, -1.0):
        parts = np.where(sign * kilowatts > 0.0, kilowatts, 0.0).T
        colours = [STRING_COLOURS[s % len(STRING_COLOURS)] for s in range(len(names))]
        axes.stackplot(trace.time_h, parts, colors=colours, alpha=0.55, linewidth=0)
    axes.step(trace.time_h, 1e-3 * trace.asked_w, where="post", color=INK, linewidth=1.3)
    axes.axhline(0.0, color="#c9d0d7", linewidth=0.8)
    tapered = _taper_from(trace)
    if tapered is not None:
        at_h, at_kw = float(trace.time_h[tapered]), 1e-3 * float(trace.asked_w[tapered])
        axes.annotate(
            "less is asked from here on: full modules\ntake no more without plating lithium", (at_h, at_kw),
            xytext=(at_h, -0.55 * at_kw), fontsize=8, color=INK, va="center", ha="center",
            arrowprops={"arrowstyle": "->", "color": FAINT, "linewidth": 0.8},
        )  # fmt: skip
    axes.set_ylabel("power [kW], discharge up", fontsize=8.5, color=INK)
    axes.set_xlabel("time [h]", fontsize=8.5, color=INK)


def _taper_from(trace: RunTrace) -> int | None:
    """Sample from which clearly less than the full recharge is asked for, None where that never happens."""
    full_w = float(trace.asked_w.min(initial=0.0))
    charging = np.flatnonzero(trace.asked_w <= full_w * (1.0 - 1e-9))
    if full_w >= 0.0 or charging.size == 0:
        return None
    later = np.arange(trace.asked_w.size) > charging[-1]
    tapered = np.flatnonzero(later & (trace.asked_w < 0.0) & (trace.asked_w > TAPERED_SHARE * full_w))
    return int(tapered[0]) if tapered.size else None


def _draw_energy(axes: Any, figures: Mapping[str, float]) -> None:
    """Energy out of the very same modules in three arrangements, as shares of what is in them."""
    _plain(axes, "Energy out of the same modules")
    ideal = figures["ideal_kwh"]
    shares = [100.0 * figures[key] / ideal for key, _, _ in BARS]
    axes.bar(range(len(BARS)), shares, color=[colour for _, _, colour in BARS], width=0.66)
    for x, (share, (key, _, _)) in enumerate(zip(shares, BARS, strict=True)):
        high = share > LABEL_INSIDE_ABOVE
        axes.text(
            x, share - 2.0 if high else share + 1.5, f"{share:.1f} %", ha="center",
            va="top" if high else "bottom", fontsize=9, color="white" if high else INK, fontweight="bold",
        )  # fmt: skip
        axes.text(
            x, share / 2, f"{figures[key]:.1f}\nkWh", ha="center", va="center", fontsize=7.5, color="white"
        )
    axes.axhline(100.0, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.text(2.45, 101.2, f"in the modules {ideal:.1f} kWh", ha="right", fontsize=7.5, color=FAINT)
    axes.set_xticks(range(len(BARS)))
    axes.set_xticklabels([label.replace(" ", "\n", 1) for _, label, _ in BARS], fontsize=7.5)
    axes.set_ylim(0.0, 113.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_health(axes: Any, trace: RunTrace) -> None:
    """SOH of the rows of the heat map beside it."""
    _plain(axes, "SOH of these modules")
    order = _rows(trace)
    soh = 100.0 * trace.soh_frac[order]
    colours = [STRING_COLOURS[s % len(STRING_COLOURS)] for s in trace.string_of[order]]
    axes.barh(np.arange(soh.size) + 0.5, soh, color=colours, alpha=0.65, height=0.86)
    axes.set_ylim(float(soh.size), 0.0)
    axes.set_xlim(0.0, max(105.0, 1.02 * float(soh.max())))
    axes.set_yticks([])
    axes.set_xlabel("[% of rated capacity]", fontsize=8, color=FAINT)
    axes.spines["left"].set_visible(False)


def _draw_words(axes: Any, figures: Mapping[str, float]) -> None:
    """The figures that belong beside the picture."""
    axes.axis("off")
    lines = (
        ("utilisation", f"{100.0 * figures['utilisation']:.1f} %"),
        ("limit violations", f"{figures['violations']:.0f}"),
        ("round trip", f"{100.0 * figures['round_trip']:.1f} %"),
        ("intervals", f"{figures['intervals']:.0f}"),
        ("of them on a fallback", f"{figures['fallback_intervals']:.0f}"),
        ("solve p99", f"{figures['solve_ms_p99']:.0f} ms"),
        ("tick p99", f"{figures['tick_ms_p99']:.0f} ms"),
    )
    for row, (label, value) in enumerate(lines):
        y = 0.95 - 0.135 * row
        axes.text(0.02, y, label, fontsize=8.5, color=FAINT, transform=axes.transAxes, va="top")
        axes.text(0.98, y, value, fontsize=9, color=INK, transform=axes.transAxes, va="top", ha="right")
