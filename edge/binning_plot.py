"""Pictures of a lot and its bins, for screens and paper (matplotlib's Agg, no display needed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reconf.errors import DataFileError

INK, FAINT = "#1b1f24", "#8a939d"
COLOURS = {
    "random_fixed": "#c3cad2",
    "sorted_fixed": "#9aa5b1",
    "random_shared": "#56B4E9",
    "planned": "#0072B2",
}
LABELS = {
    "random_fixed": "random,\nfixed",
    "sorted_fixed": "sorted,\nfixed",
    "random_shared": "random,\ntime-shared",
    "planned": "this plan",
}
MAX_STRINGS = 40
"""Strings drawn one by one; of more the first are shown."""


def new_figure(width: float, height: float) -> Any:
    """A figure on an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write the figure.

    Raises:
        DataFileError: the place or the ending is not possible.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: picture cannot be written: {error}") from error


def plain(axes: Any, title: str) -> None:
    """Title left, no frame."""
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9d0d7")
    axes.tick_params(labelsize=8, colors=FAINT)


def draw_bins(bins: Mapping[str, Any], path: Path) -> None:
    """Energy now, energy over the years, SOH of every string."""
    figure = new_figure(11.0, 6.4)
    grid = figure.add_gridspec(2, 2)
    draw_energy_now(figure.add_subplot(grid[0, 0]), bins)
    draw_energy_years(figure.add_subplot(grid[0, 1]), bins)
    draw_strings(figure.add_subplot(grid[1, :]), bins)
    save(figure, path)


def draw_energy_now(axes: Any, bins: Mapping[str, Any]) -> None:
    """Bars with 5..95 % whiskers and the bound."""
    plain(axes, "Energy of a full discharge now, 5 to 95 % of drawn truths")
    for x, (name, worth) in enumerate(bins["energy"].items()):
        low, high = worth["now_kwh_90"]
        now = worth["now_kwh"]
        axes.bar(x, now, color=COLOURS[name], width=0.66)
        axes.errorbar(x, now, yerr=[[max(now - low, 0)], [max(high - now, 0)]], color=INK, capsize=3, lw=1)
        ink = "white" if name == "planned" else INK
        text = f"{kwh_text(now)}\n{worth['utilisation']:.1%}"
        axes.text(x, 0.5 * now, text, ha="center", va="center", fontsize=8.5, color=ink)
    axes.axhline(bins["bound_kwh"], color=FAINT, lw=0.9, ls=(0, (4, 3)))
    axes.text(-0.4, bins["bound_kwh"], "upper bound", fontsize=7.5, color=FAINT, va="bottom")
    axes.set_xticks(range(len(bins["energy"])))
    axes.set_xticklabels([LABELS[n] for n in bins["energy"]], fontsize=8)
    axes.set_ylabel("kWh", fontsize=8.5, color=INK)
    axes.set_ylim(0, 1.12 * bins["bound_kwh"])


def draw_energy_years(axes: Any, bins: Mapping[str, Any]) -> None:
    """Mean energy by year."""
    request = bins["request"]
    plain(
        axes,
        f"As modules age and part ({request['fade_per_year']:.1%} a year, spread {request['fade_cv']:.0%})",
    )
    for name, worth in bins["energy"].items():
        by_year = worth["by_year_kwh"]
        axes.plot(
            range(len(by_year)), by_year, color=COLOURS[name], lw=2, label=LABELS[name].replace("\n", " ")
        )
    axes.set_xlabel("years", fontsize=8.5, color=INK)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, ncols=2)


def draw_strings(axes: Any, bins: Mapping[str, Any]) -> None:
    """SOH of every module by string, with its 90 % interval."""
    shown = bins["strings"][:MAX_STRINGS]
    plain(axes, "SOH of the modules in each string (whisker: 90 % interval)")
    for x, string in enumerate(shown):
        modules = [m for group in string["positions"] for m in group]
        where = x + np.linspace(-0.33, 0.33, len(modules))
        axes.errorbar(
            where, [100 * m["soh_frac"] for m in modules], yerr=[164.5 * m["soh_std_frac"] for m in modules],
            fmt="o", ms=2.6, lw=0.6, color="#0072B2", ecolor="#b9d4e6",
        )  # fmt: skip
    axes.set_xticks(range(len(shown)))
    axes.set_xticklabels([s["name"] for s in shown], fontsize=8)
    axes.set_ylabel("SOH [%]", fontsize=8.5, color=INK)


def draw_lot(
    soh_frac: Sequence[float], std_frac: Sequence[float], scale: Sequence[float], path: Path
) -> None:
    """Histogram of SOH, SOH against resistance; outliers by robust distance are marked."""
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    draw_histogram(left, soh_frac)
    draw_scatter(right, soh_frac, std_frac, scale)
    save(figure, path)


def draw_histogram(axes: Any, soh_frac: Sequence[float]) -> None:
    """How SOH is spread over the lot."""
    soh = 100 * np.asarray(soh_frac)
    plain(axes, f"SOH of {len(soh)} modules: mean {soh.mean():.1f} %, spread {soh.std():.1f} points")
    axes.hist(soh, bins=max(8, min(40, len(soh) // 5)), color="#0072B2", alpha=0.75)
    axes.set_xlabel("SOH [%]", fontsize=8.5, color=INK)
    axes.set_ylabel("modules", fontsize=8.5, color=INK)


def draw_scatter(
    axes: Any, soh_frac: Sequence[float], std_frac: Sequence[float], scale: Sequence[float]
) -> None:
    """SOH against resistance."""
    x, y = 100 * np.asarray(soh_frac), np.asarray(scale)
    if np.ptp(y) == 0.0:
        plain(axes, "Resistance against SOH")
        axes.text(0.5, 0.5, "resistance was not measured", ha="center", va="center",
                  transform=axes.transAxes, fontsize=9, color=FAINT)  # fmt: skip
        axes.set_axis_off()
        return
    plain(axes, "Resistance over new against SOH; far from the rest: ringed")
    axes.errorbar(
        x, y, xerr=164.5 * np.asarray(std_frac), fmt="o", ms=3, lw=0.5, color="#0072B2", ecolor="#b9d4e6"
    )
    odd = outliers(x) | outliers(y)
    axes.scatter(x[odd], y[odd], s=60, facecolors="none", edgecolors="#D55E00")
    axes.set_xlabel("SOH [%]", fontsize=8.5, color=INK)
    axes.set_ylabel("resistance / new", fontsize=8.5, color=INK)


def kwh_text(value: float) -> str:
    """Three digits at most: `2.31`, `23.1`, `231`."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def outliers(values: Any) -> Any:
    """Further than 3.5 robust deviations from the median (Iglewicz, Hoaglin 1993)."""
    centre = np.median(values)
    mad = np.median(np.abs(values - centre))
    if mad <= 0:
        return np.zeros(np.shape(values), dtype=np.bool_)
    return np.abs(values - centre) * 0.6745 / mad > 3.5
