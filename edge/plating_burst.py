"""What a rested anode bears for a short while: the other end of the plating guard's scale.

`edge.plating_follow` gives the rate that holds after the worst admissible history. A rested anode bears more
until its gradients have built up: the largest constant rate for `BURST_S` that ends at the margin.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge.plating_follow import SALT_FLOOR_FRAC, VOLT_PER_SALT_FRAC
from reconf.arrays import FloatArray
from reconf.electrochem.anode import AnodeModel, AnodeState
from reconf.electrochem.parameters import AnodeSet

BURST_S: Final = 20.0
STEPS: Final = 2
BISECTIONS: Final = 12
LOWEST_RATE_PER_H: Final = 1e-3
HIGHEST_RATE_PER_H: Final = 4.0


def burst_rates(
    parameters: AnodeSet, temperature_k: FloatArray, soc_frac: FloatArray, margin_v: float
) -> FloatArray:
    """(T, Z) rates from rest at every temperature and SOC [1/h]."""
    model = AnodeModel(parameters)
    kelvin, soc = (grid.ravel() for grid in np.meshgrid(temperature_k, soc_frac, indexing="ij"))
    rates = largest_burst(model, model.rested(soc), kelvin, margin_v)
    return rates.reshape(len(temperature_k), len(soc_frac))


def largest_burst(
    model: AnodeModel, state: AnodeState, temperature_k: FloatArray, margin_v: float
) -> FloatArray:
    """(M,) largest constant rate from `state` that leaves `margin_v` after `BURST_S` [1/h]."""
    low = np.full(len(temperature_k), LOWEST_RATE_PER_H)
    high = np.full(len(temperature_k), HIGHEST_RATE_PER_H)
    for _ in range(BISECTIONS):
        rate = np.sqrt(low * high)
        after = state
        for _ in range(STEPS):
            after, _ = model.step(after, rate, temperature_k, BURST_S / STEPS)
        holds = room_v(model, after, rate, temperature_k) >= margin_v
        low, high = np.where(holds, rate, low), np.where(holds, high, rate)
    return low


def room_v(
    model: AnodeModel, state: AnodeState, rate_per_h: FloatArray, temperature_k: FloatArray
) -> FloatArray:
    """(M,) potential at the separator, or what salt there is above its floor if that is less [V]."""
    _, potential = model.solve(state, rate_per_h, temperature_k)
    salt = state.salt.min(axis=1) / model.set.salt - SALT_FLOOR_FRAC
    room: FloatArray = np.minimum(potential, salt * VOLT_PER_SALT_FRAC)
    return room
