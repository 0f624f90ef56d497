"""Largest charge current before lithium plates on the anode, and how far from plating the anode is.

Plating needs an anode potential below 0 V against lithium at the separator face (Arora, Doyle & White 1999,
doi:10.1149/1.1392512). The shipped table holds, over SOC, temperature and age, the charge rate that leaves
10 mV there on the worst history this same limit admits: charged from any rest with all of it. It was found
with a reduced Doyle-Fuller-Newman model (`reconf.electrochem.anode`), and is the lowest of four published
parameter sets: Chen et al. 2020 (doi:10.1149/1945-7111/ab9050), O'Kane et al. 2022
(doi:10.1039/D2CP00417H), O'Regan et al. 2022 (doi:10.1016/j.electacta.2022.140700) and Ecker et al. 2015
(doi:10.1149/2.0551509jes). `reconf fit plating` makes it anew.

It has no memory, so no restart or lost reading can make it wrong. A state of diffusion per module would lift
the limit by 1.2 to 1.4 for seconds after a long rest; safe for all sets it would load as fast as the fastest
of them and recover as slowly as the slowest, which left nothing in the cold and 8 % at 313 K under mixed
service (docs/protection.md).

Between nodes the logarithm is linear: the rate follows Arrhenius, whose logarithm is concave in temperature,
so what is read lies below it. It falls with SOC and with cold, and has no steps: it cannot chatter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.model import ZERO_CELSIUS_K

FADE_K: Final = 5.0
"""Below its coldest node the table promises nothing: the rate falls to 0 over this much."""
LEAST_CURRENT_SHARE: Final = 1e-9
HIGHEST_SHARE: Final = 100.0
"""Of the limit; the margin does not follow a current beyond it."""


@dataclass(frozen=True, slots=True)
class PlatingTable:
    """Rates and potentials on uniform grids."""

    soh_frac: FloatArray
    """(A,) rising"""
    temperature_k: FloatArray
    """(T,)"""
    soc_frac: FloatArray
    """(Z,)"""
    log_rate: FloatArray
    """(A, T, Z) ln of the largest charge rate [1/h of present charge]."""
    rate_share: FloatArray
    """(S,) shares of that rate."""
    potential_v: FloatArray
    """(S, T, Z) anode potential against lithium when charged from empty at that share: lowest of all sets."""
    margin_v: float
    """What the rate leaves."""


@cache
def plating_table() -> PlatingTable:
    """The shipped table."""
    raw = json.loads((resources.files("reconf.protection") / "data" / "plating_table.json").read_text())
    return PlatingTable(
        soh_frac=np.array(raw["soh_frac"], dtype=np.float64),
        temperature_k=np.array(raw["temperature_k"], dtype=np.float64),
        soc_frac=np.array(raw["soc_frac"], dtype=np.float64),
        log_rate=np.log(np.array(raw["rate_per_h"], dtype=np.float64)),
        rate_share=np.array(raw["rate_share"], dtype=np.float64),
        potential_v=1e-3 * np.array(raw["potential_mv"], dtype=np.float64),
        margin_v=float(raw["margin_v"]),
    )


def charge_limit_a(
    soc_high_frac: FloatArray,
    temperature_low_degc: FloatArray,
    capacity_ah: FloatArray,
    soh_frac: FloatArray | float = 1.0,
) -> FloatArray:
    """Largest charge current magnitude [A] of each module (M,), for as long as it likes.

    Args:
        soc_high_frac: SOC of the fullest cell group, with its doubt added.
        temperature_low_degc: lowest temperature the module may have.
        capacity_ah: present capacity; what an aged anode has lost shrinks its limit alike.
        soh_frac: present capacity over the rated one. The film of an aged anode lowers the limit further;
            below the table's oldest node it stays as there.
    """
    table = plating_table()
    kelvin = temperature_low_degc + ZERO_CELSIUS_K
    old = np.broadcast_to(np.asarray(soh_frac, dtype=np.float64), soc_high_frac.shape)
    log_rate = _read(
        (table.soh_frac, table.temperature_k, table.soc_frac), table.log_rate, (old, kelvin, soc_high_frac)
    )
    warm = np.clip((kelvin - table.temperature_k[0]) / FADE_K + 1.0, 0.0, 1.0)
    limit: FloatArray = np.exp(log_rate) * warm * capacity_ah
    return limit


def margin_v(
    soc_high_frac: FloatArray,
    temperature_low_degc: FloatArray,
    charge_current_a: FloatArray,
    limit_a: FloatArray,
) -> FloatArray:
    """Plating margin [V] of each module (M,): its anode potential against lithium at this current, settled.

    An estimate on the low side: that of a charge from empty at the present share of the limit, the lowest of
    all parameter sets and ages. Beyond the largest share of the table it goes on falling in a straight line.

    Args:
        soc_high_frac: as for `charge_limit_a`.
        temperature_low_degc: as for `charge_limit_a`.
        charge_current_a: magnitude; 0 or negative at rest and while discharging.
        limit_a: `charge_limit_a` of the same module.
    """
    table = plating_table()
    share = np.maximum(charge_current_a, 0.0) / np.maximum(limit_a, LEAST_CURRENT_SHARE)
    share = np.minimum(share, HIGHEST_SHARE)
    kelvin = temperature_low_degc + ZERO_CELSIUS_K
    grids = (table.rate_share, table.temperature_k, table.soc_frac)
    margin = _read(grids, table.potential_v, (share, kelvin, soc_high_frac))
    top, step = table.rate_share[-1], table.rate_share[-1] - table.rate_share[-2]
    past = share > top
    if past.any():
        kelvin, soc = kelvin[past], soc_high_frac[past]
        before = _read(grids, table.potential_v, (np.full(soc.shape, top - step), kelvin, soc))
        fall = np.minimum(margin[past] - before, 0.0)
        margin[past] += (share[past] - top) / step * fall
    return margin


def _read(
    grids: tuple[FloatArray, FloatArray, FloatArray], table: FloatArray, at: tuple[FloatArray, ...]
) -> FloatArray:
    """Trilinear on uniform grids, held at the ends."""
    low, share = [], []
    for grid, value in zip(grids, at, strict=True):
        last = len(grid) - 1.0
        position = np.minimum(np.maximum((value - grid[0]) * (last / (grid[-1] - grid[0])), 0.0), last)
        # a NaN reads the first node here and stays NaN by its share
        first = np.where(position < last, position, last - 1.0)
        first = np.where(np.isnan(position), 0.0, first).astype(np.int64)
        low.append(first)
        share.append(position - first)
    rows = len(grids[1]) * len(grids[2])
    corner = low[0] * rows + low[1] * len(grids[2]) + low[2]
    flat = table.ravel()

    def along(start: np.ndarray) -> FloatArray:
        value: FloatArray = flat[start] + share[2] * (flat[start + 1] - flat[start])
        return value

    def across(start: np.ndarray) -> FloatArray:
        near = along(start)
        value: FloatArray = near + share[1] * (along(start + len(grids[2])) - near)
        return value

    first = across(corner)
    result: FloatArray = first + share[0] * (across(corner + rows) - first)
    return result
