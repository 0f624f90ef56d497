"""Several intervals ahead: is what we do now still right given what is asked next?

Loss is linear in duty and every module carries its share of the energy, so intervals of one direction couple
only through what is left. The horizon is therefore rolled forward: plan an interval, take its charge out,
plan the next. Where a later interval cannot be served, `shortfall_w` says so while there is still time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.model import Model, at_power
from optimizer.result import AllocationInput
from optimizer.solution import Solution
from optimizer.solve import deliverable, solve
from reconf.arrays import FloatArray
from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class HorizonPlan:
    """Solutions of the intervals ahead."""

    solutions: tuple[Solution, ...]
    shortfall_w: FloatArray
    """(H,) asked less served in each interval."""
    available_ah: FloatArray
    """(M,) charge left in the direction of the horizon at its end."""


def solve_horizon(
    model: Model, asked: AllocationInput, power_w: Sequence[float], interval_s: float = 60.0
) -> HorizonPlan:
    """Roll `model` through the powers of one direction [W, magnitudes]."""
    solutions, short = [], []
    slope = model.sign * asked.estimate.ocv_slope_v_per_ah
    for wanted in power_w:
        ahead = at_power(model, wanted)
        served = at_power(ahead, min(wanted, float(deliverable(ahead).sum())))
        found = solve(served, asked)
        solutions.append(found)
        short.append(wanted - served.power_w)
        moved = (found.through_a + model.sign * found.trim_a) * (interval_s / 3600.0)
        model = _after(model, moved, slope)
    return HorizonPlan(tuple(solutions), np.array(short), model.available_ah)


def _after(model: Model, moved_ah: FloatArray, slope_v_per_ah: FloatArray) -> Model:
    """The model one interval later: charge moved, voltages along their slope, empty modules out."""
    left = np.maximum(model.available_ah - moved_ah, 0.0)
    energy = float(left @ model.emf_v)
    target = left * (model.power_w / energy) if energy > 0.0 else np.zeros_like(left)
    alive = left > 0.0
    return replace(
        model,
        available_ah=left,
        emf_v=model.emf_v - slope_v_per_ah * moved_ah,
        target_a=target,
        limit_now_a=np.where(alive, model.limit_now_a, 0.0),
        limit_avg_a=np.where(alive, model.limit_avg_a, 0.0),
    )
