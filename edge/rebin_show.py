"""A proposal for people: tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edge.binning_plot import INK, new_figure, plain, save
from edge.rebin import Proposal, doubt_text, soh_text

OLD, NEW, MOVED = "#9aa5b1", "#0072B2", "#D55E00"
STRINGS_SHOWN = 24


def kwh(values: Mapping[str, Any], sign: str = "") -> str:
    """`12.3 (11.9..12.7)`."""
    low, high = values["interval_90"]
    return f"{values['mean']:{sign}.2f} ({low:{sign}.2f}..{high:{sign}.2f})"


def short(values: Mapping[str, Any]) -> str:
    """`+3.1 (2.9..3.3)`."""
    low, high = values["interval_90"]
    return f"{values['mean']:+.1f} ({low:.1f}..{high:.1f})"


def print_proposal(proposal: Proposal, doc: Mapping[str, Any], console: Console) -> None:
    """What there is, what would be better, and what it costs."""
    energy, money = doc["energy_kwh"], doc["money"]
    measured = int(proposal.pack.measured.sum())
    console.print(
        f"{proposal.site.name}: {measured} of {len(proposal.site.modules)} modules measured in operation "
        f"({proposal.source.text}), the others as graded; {doubt_text(proposal)}."
    )
    table = Table(title="kWh per full discharge (90 % interval)")
    for title in ("", "energy", "of what is inside"):
        table.add_column(title, justify="right" if title else "left")
    for name, key in (("as it stands", "now"), ("with the moves that pay", "after"),
                      ("best placement, if labour were free", "labour_for_nothing")):  # fmt: skip
        if key == "after" and not proposal.steps:
            continue
        share = energy[key]["mean"] / energy["inside"]
        table.add_row(name, kwh(energy[key]), f"{share:.1%}")
    console.print(table)
    _print_moves(proposal, doc, console)
    if proposal.steps:
        console.print(
            f"All together {kwh(energy['gain_now'], '+')} kWh now, "
            f"{kwh(energy['gain_mean_of_years'], '+')} kWh as the mean of {money['years']:g} years: "
            f"{money['earned']:.0f} {money['currency']} earned, {money['labour']:.0f} {money['currency']} of "
            f"labour at {proposal.positions} positions, net {money['net']:+.0f} {money['currency']}."
        )
    else:
        console.print("No move pays. Nothing is proposed.")
    left = doc["not_taken"]
    console.print(
        f"Not proposed: {left['within_doubt']} whose gain is within the doubt (a capacity test would tell: "
        f"'reconf captest'), {left['costs_more']} that cost more than they earn."
    )
    _print_sharing(proposal, doc, console)


def _print_moves(proposal: Proposal, doc: Mapping[str, Any], console: Console) -> None:
    if not doc["moves"]:
        return
    table = Table(title="Moves that pay, each after the ones before it")
    table.add_column("exchange", no_wrap=True)
    for title in ("SOH", "kWh now", "over years", "sure", "earns", "labour"):
        table.add_column(title, justify="right", no_wrap=True)
    for move in doc["moves"]:
        pairs = move["exchange"]
        table.add_row(
            "\n".join(f"{a} <> {b}" for a, b in pairs),
            "\n".join(f"{soh_text(proposal, a)} | {soh_text(proposal, b)}" for a, b in pairs),
            short(move["gain_now_kwh"]),
            f"{move['gain_mean_of_years_kwh']['mean']:+.2f}",
            f"{move['gains_in_share_of_truths']:.0%}",
            f"{move['earned']:.0f}",
            f"{move['labour']:.0f}",
        )
    console.print(table)


def _print_sharing(proposal: Proposal, doc: Mapping[str, Any], console: Console) -> None:
    now = doc["without_touching_a_wire"]["as_it_stands"]
    table = Table(title="Without touching a wire (the daemon does the first three by itself)")
    for title in ("string", "share of the power", "duty least .. most", "can rest", "can be spared for good"):
        table.add_column(title, justify="left" if title in ("string", "can be spared for good") else "right")
    for hardware, row in zip(proposal.pack.strings[:STRINGS_SHOWN], now["strings"], strict=False):
        duty = list(row["duty_frac"].values())
        spared = ", ".join(row["can_be_spared"])
        if not spared:
            least = row["least_loss_of_sparing_one_kwh"]
            spared = "none" if least is None else f"none (the cheapest costs {least:.2f} kWh)"
        table.add_row(
            row["string"], f"{row['share_frac']:.1%}", f"{min(duty):.2f} .. {max(duty):.2f}",
            f"{hardware.spares} of {len(duty)} at a time", spared,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"Sharing by energy gives {now['energy_kwh']:.2f} kWh; strings that share alike would end at "
        f"{now['energy_shared_alike_kwh']:.2f} kWh. Sparing: reconf send bypass_module serial=..."
    )


def draw_proposal(proposal: Proposal, path: Path) -> None:
    """SOH by string before and after, and the gain over its doubt."""
    figure = new_figure(11.0, 6.2)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    _draw_strings(figure.add_subplot(grid[0, :]), proposal)
    _draw_energy(figure.add_subplot(grid[1, 0]), proposal)
    _draw_gain(figure.add_subplot(grid[1, 1]), proposal)
    save(figure, path)


def _draw_strings(axes: Any, proposal: Proposal) -> None:
    soh, std = proposal.pack.lot.soh_frac, proposal.pack.lot.soh_std_frac
    shown = proposal.site.strings[:STRINGS_SHOWN]
    moved: set[int] = set()
    for taken in proposal.found.taken:
        moved |= {*taken.exchange.first, *taken.exchange.second}
    for s in range(len(shown)):
        for side, held, colour in ((-0.18, proposal.pack.held, OLD), (0.18, proposal.found.held, NEW)):
            members = held[s]
            spread = np.linspace(-0.11, 0.11, len(members))
            marks = [MOVED if int(m) in moved else colour for m in members]
            axes.errorbar(
                s + side + spread, soh[members], yerr=1.645 * std[members], fmt="none", ecolor="#d7dde3",
                elinewidth=1.0, zorder=1,
            )  # fmt: skip
            axes.scatter(s + side + spread, soh[members], c=marks, s=16, zorder=2)
    axes.set_xticks(range(len(shown)), [f"{s.name}\nnow | after" for s in shown], color=INK)
    axes.set_ylabel("SOH (bars: 90 %)", fontsize=8.5)
    axes.yaxis.set_major_formatter("{x:.0%}")
    plain(axes, "Modules by string, now (left) and after (right); orange: moved")


def _draw_energy(axes: Any, proposal: Proposal) -> None:
    years = proposal.truths.years
    for worth, colour, name in (
        (proposal.worth_before_wh, OLD, "as it stands"),
        (proposal.worth_after_wh, NEW, "with the moves"),
        (proposal.worth_best_wh, "#c3cad2", "if labour were free"),
    ):
        style = "--" if name.startswith("if") else "-"
        axes.plot(years, worth.mean(axis=0) / 1e3, style, color=colour, label=name, marker="o", ms=3)
    axes.set_xlabel("years from now", fontsize=8.5)
    axes.legend(frameon=False, fontsize=8)
    plain(axes, "kWh per full discharge")


def _draw_gain(axes: Any, proposal: Proposal) -> None:
    gain = (proposal.worth_after_wh - proposal.worth_before_wh)[:, 0] / 1e3
    if proposal.steps:
        axes.hist(gain, bins=25, color=NEW)
        axes.axvline(0.0, color=INK, lw=1)
        axes.axvline(float(gain.mean()), color=MOVED, lw=1.5)
        axes.set_xlabel("kWh now (orange: mean)", fontsize=8.5)
        axes.set_yticks([])
    else:
        axes.text(0.5, 0.5, "no move pays", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
    plain(axes, "Gain over what the estimates leave in doubt")
