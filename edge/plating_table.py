"""Make the table of the plating guard from the reduced anode model; takes a few minutes.

For every set, age and temperature charges that stay a margin above 0 V against lithium are followed from
rests at many SOC (`edge.plating_follow`). The table is the lower envelope over rests and sets, falling with
SOC, rising with temperature, and brought down at its nodes until what is read between them (linear in the
logarithm) is nowhere above what was followed. With it goes the potential at shares of that rate along a
charge from empty, the lowest of sets and ages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from edge.plating_follow import (
    HIGHEST_RATE_PER_H,
    LOWEST_RATE_PER_H,
    START_SOC_FRAC,
    STEP_SOC_FRAC,
    Charge,
    aged,
    follow,
    soc_steps,
    trace,
)
from reconf.arrays import FloatArray
from reconf.electrochem.parameters import SETS, AnodeSet, load_anode_set

MARGIN_V: Final = 0.010
BRIM_X: Final = 0.95
BRIM_V: Final = 0.005
"""On top of the margin for sets whose graphite is used beyond `BRIM_X`: particles at the separator fill up,
and there the reduced model is up to 13 mV more hopeful than the full one (O'Regan 2022; 1 mV elsewhere).
"""
FINE_TEMPERATURE_K: FloatArray = 253.15 + 2.5 * np.arange(29, dtype=np.float64)
"""-20 to 50 degC: every second is a node, those between are checked."""
FINE_PER_NODE: Final = 2
SOC_NODES: Final = np.linspace(0.05, 1.0, 96)
"""One of two steps that charges are followed in: wider ones lose up to 7 % where the rate falls steeply."""
SOH_NODES: Final = (0.7, 0.85, 1.0)
RATE_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SWEEPS: Final = 40
RESTS: Final = (0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80)
"""SOC of the rests, beside empty, that charges are followed from."""


def plating_table(
    sets: Sequence[str] = SETS,
    soh_nodes: Sequence[float] = SOH_NODES,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """The JSON document of `reconf/protection/data/plating_table.json`."""
    temperature_k = FINE_TEMPERATURE_K
    rates = []
    for soh in soh_nodes:
        charges = []
        for name in sets:
            charges.append(over_rests(aged(load_anode_set(name), soh), temperature_k, margin_of(name)))
            progress(f"{name}, {100 * soh:.0f} % of its charge left: followed")
        rates.append(table_of(charges))
    rate = np.minimum.accumulate(np.array(rates)[::-1], axis=0)[::-1]  # never more for an older one
    potentials = [
        _potentials(name, soh, rate[k], progress)
        for k, soh in enumerate(soh_nodes)
        if soh in (min(soh_nodes), max(soh_nodes))
        for name in sets
    ]
    lowest = np.min(potentials, axis=0)
    return {
        "what": "charge rate [1/h of present charge] that leaves the margin on the worst admissible history",
        "sets": [{"name": n, "source": load_anode_set(n).source, "doi": load_anode_set(n).doi} for n in sets],
        "margin_v": MARGIN_V,
        "soh_frac": list(soh_nodes),
        "temperature_k": temperature_k[::FINE_PER_NODE].round(2).tolist(),
        "soc_frac": SOC_NODES.round(6).tolist(),
        "rate_per_h": (np.maximum(np.floor(rate * 1e4), 1.0) / 1e4).round(4).tolist(),
        "rate_share": list(RATE_SHARES),
        "potential_mv": np.floor(1e3 * lowest).astype(int).tolist(),
    }


def over_rests(parameters: AnodeSet, temperature_k: FloatArray, margin_v: float) -> Charge:
    """The lowest rate of charges from every rest; from the later ones at every second temperature."""
    whole = follow(parameters, temperature_k, margin_v)
    rate = bridged(whole.rate_per_h)
    nodes = np.arange(0, len(temperature_k), FINE_PER_NODE)
    for rest in RESTS:
        skipped = round((rest - START_SOC_FRAC) / STEP_SOC_FRAC)
        later = np.log(bridged(follow(parameters, temperature_k[nodes], margin_v, skipped).rate_per_h))
        between = np.array([np.interp(temperature_k, temperature_k[nodes], row) for row in later])
        rate[skipped:] = np.minimum(rate[skipped:], np.exp(between))
    return Charge(whole.soc_frac, rate, whole.potential_v)


def margin_of(name: str) -> float:
    """What is left of a set's potential [V]."""
    return MARGIN_V + (BRIM_V if load_anode_set(name).x_full > BRIM_X else 0.0)


def table_of(charges: Sequence[Charge]) -> FloatArray:
    """(temperatures, SOC nodes) rates; read bilinearly in the logarithm nowhere above the charges'."""
    whole = [bridged(c.rate_per_h) for c in charges]
    fine = np.log(np.maximum(np.min(whole, axis=0), LOWEST_RATE_PER_H)).T
    soc = charges[0].soc_frac
    fine = np.minimum.accumulate(fine, axis=1)
    fine = np.minimum.accumulate(fine[::-1], axis=0)[::-1]
    node = np.array([np.interp(SOC_NODES, soc, row) for row in fine[::FINE_PER_NODE]])
    rows = np.arange(len(fine)) / FINE_PER_NODE
    low_row = np.minimum(rows.astype(int), len(node) - 2)
    row_share = (rows - low_row)[:, None]
    inside = (soc >= SOC_NODES[0]) & (soc <= SOC_NODES[-1])
    place = (soc[inside] - SOC_NODES[0]) / (SOC_NODES[1] - SOC_NODES[0])
    low_column = np.minimum(place.astype(int), len(SOC_NODES) - 2)
    share = place - low_column
    truth = fine[:, inside]
    for _ in range(SWEEPS):
        wide = node[:, low_column] * (1.0 - share) + node[:, low_column + 1] * share
        read = wide[low_row] * (1.0 - row_share) + wide[low_row + 1] * row_share
        excess = np.maximum(read - truth, 0.0)
        if float(excess.max()) < 1e-9:
            break
        node = node - _spread(excess, (low_row, row_share[:, 0]), (low_column, share), node.shape)
    node = np.minimum.accumulate(node, axis=1)
    node = np.minimum.accumulate(node[::-1], axis=0)[::-1]
    rate: FloatArray = np.minimum(np.exp(node), HIGHEST_RATE_PER_H)
    return rate


def bridged(rate_per_h: FloatArray) -> FloatArray:
    """(K, M) with every gap filled by the lower of the rates found before and after it."""
    filled = rate_per_h.copy()
    steps = np.arange(len(filled))
    for column in filled.T:
        found = np.flatnonzero(np.isfinite(column))
        if len(found) == 0:
            column[:] = LOWEST_RATE_PER_H
            continue
        after = np.searchsorted(found, steps)
        before = np.searchsorted(found, steps, side="right") - 1
        column[:] = np.minimum(
            column[found[np.minimum(after, len(found) - 1)]], column[found[np.maximum(before, 0)]]
        )
    return filled


def _spread(
    excess: FloatArray,
    row: tuple[np.ndarray, FloatArray],
    column: tuple[np.ndarray, FloatArray],
    shape: tuple[int, ...],
) -> FloatArray:
    """What each node must give so that the worst reading beside it comes down by its excess."""
    give = np.zeros(shape)
    for d_row in (0, 1):
        for d_column in (0, 1):
            near_row = (row[1] if d_row else 1.0 - row[1])[:, None] > 0.0
            near = near_row & ((column[1] if d_column else 1.0 - column[1])[None, :] > 0.0)
            r = np.broadcast_to((row[0] + d_row)[:, None], excess.shape)
            c = np.broadcast_to((column[0] + d_column)[None, :], excess.shape)
            np.maximum.at(give, (r[near], c[near]), excess[near])
    return give


def _potentials(
    name: str, soh_frac: float, rate_per_h: FloatArray, progress: Callable[[str], None]
) -> FloatArray:
    """(shares, temperatures, SOC nodes) potential along charges at shares of the table's rate."""
    parameters = aged(load_anode_set(name), soh_frac)
    temperature_k = FINE_TEMPERATURE_K[::FINE_PER_NODE]
    # each step ends with the rate that the table allows there: it is for the SOC reached that it speaks
    rates = np.exp([np.interp(soc_steps(), SOC_NODES, row) for row in np.log(rate_per_h)]).T
    rows = []
    for share in RATE_SHARES:
        charge = trace(parameters, temperature_k, max(share, 1e-3) * rates)
        rows.append([np.interp(SOC_NODES, charge.soc_frac, column) for column in charge.potential_v.T])
    progress(f"{name}, {100 * soh_frac:.0f} %: potentials")
    return np.array(rows)
