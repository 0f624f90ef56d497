"""Anodes that live through random histories which the plating guard admits.

Pulses, rests, discharges and long charges in any order, from any state of charge; whenever charge flows it is
at most what the guard allows at that moment. The guard is made from charges out of a rest: this looks for
histories that are worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.plating_follow import aged
from reconf.arrays import FloatArray
from reconf.cells.model import ZERO_CELSIUS_K
from reconf.electrochem.anode import AnodeModel
from reconf.electrochem.parameters import SETS, load_anode_set
from reconf.protection.plating import charge_limit_a

STEP_S: Final = 10.0
LASTS_S: Final = (10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0)
FULL, OTHER = 2, 3
"""Of four kinds of phases two charge at the limit, one at a share of it, the last rests or discharges."""
KINDS: Final = 4
END_SOC: Final = (0.03, 0.97)
DISCHARGE_PER_H: Final = 0.5
"""Highest rate of discharge: in the cold a higher one empties the cathode's pores of salt, and a charge right
after it is another matter."""
IDLE_PER_H: Final = 1e-9
COUNTS_FROM: Final = 0.01
"""Share of the limit from which a charge counts; at rest nothing plates."""


@dataclass(frozen=True, slots=True)
class Lives:
    """What M random lives at one temperature gave."""

    lowest_v: FloatArray
    """(M,) potential at the separator while charging."""
    at_soc_frac: FloatArray
    """(M,) where that was."""


def live(
    name: str, kelvin: float, *, soh_frac: float = 1.0, lives: int = 40, hours: float = 3.0, seed: int = 1
) -> Lives:
    """Let anodes of a set live under the shipped guard, each from a rest at a random state of charge."""
    rng = np.random.default_rng(seed)
    model = AnodeModel(aged(load_anode_set(name), soh_frac))
    state = model.rested(rng.uniform(0.05, 0.85, lives))
    temperature = np.full(lives, kelvin)
    lowest, where = np.full(lives, np.inf), np.zeros(lives)
    kind, left, share = np.zeros(lives, dtype=np.int64), np.zeros(lives), np.zeros(lives)
    for _ in range(int(hours * 3600.0 / STEP_S)):
        over = left <= 0.0
        kind = np.where(over, rng.integers(0, KINDS, lives), kind)
        left = np.where(over, rng.choice(LASTS_S, lives), left) - STEP_S
        share = np.where(over, rng.random(lives), share)
        soc = model.soc_frac(state)
        limit = charge_limit_a(soc, temperature - ZERO_CELSIUS_K, np.ones(lives), soh_frac)
        rate = np.where(kind < FULL, limit, limit * share)
        rate = np.where(kind == OTHER, np.where(share < 0.5, 0.0, -DISCHARGE_PER_H * share), rate)
        rate = np.where((soc > END_SOC[1]) & (rate > 0.0) | (soc < END_SOC[0]) & (rate < 0.0), 0.0, rate)
        rate = np.where(rate == 0.0, IDLE_PER_H, rate)
        state, _ = model.step(state, rate, temperature, STEP_S)
        _, potential = model.solve(state, rate, temperature)
        room = np.where(rate > COUNTS_FROM * limit, potential, np.inf)
        lower = room < lowest
        lowest, where = np.where(lower, room, lowest), np.where(lower, soc, where)
    return Lives(lowest, where)


def run(temperatures_k: tuple[float, ...] = (263.15, 283.15, 298.15, 313.15)) -> dict[str, Any]:
    """Lowest potential of random lives [mV] by set, age and temperature, and of all."""
    found: dict[str, Any] = {}
    for name in SETS:
        for soh in (1.0, 0.7):
            for kelvin in temperatures_k:
                lived = live(name, kelvin, soh_frac=soh)
                found[f"{name} {100 * soh:.0f} % {kelvin:.0f} K"] = 1e3 * float(lived.lowest_v.min())
    return {"lowest_mv": min(found.values()), "by_case_mv": found}
