"""How far a module's charge has travelled lately, and so how well its capacity can be known at all.

Capacity is charge moved over the change of SOC between two voltages. Each of the two is read off an
open-circuit curve that errs by sigma (its own error, and what of the polarisation the model misses), an
error that comes back at every visit, so that no number of cycles averages it away:

    sigma_Q / Q >= hypot(sigma / U'(z_low), sigma / U'(z_high)) / (z_high - z_low).

z_low and z_high are the ends of the charge visited lately. Small cycles about one SOC, however many, say
next to nothing of capacity: without this floor a filter that takes its errors for white mistakes slow
polarisation for a small cell (the voltage of both swings more per ampere-hour). Plett, J. Power Sources
196 (2011) 2319, doi 10.1016/j.jpowsour.2010.09.048, treats the two-point error the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.estimation.constants import Constants, curves

LEAST_SLOPE_V = 0.02
"""A curve flatter than this [V per unit SOC] is taken to be this flat: division only."""
LEAST_SPAN_FRAC = 1e-3


@dataclass(frozen=True, slots=True)
class Span:
    """Charge visited lately, counted from where a module stands now. Both (M,)."""

    below_ah: FloatArray
    above_ah: FloatArray

    @classmethod
    def start(cls, modules: int) -> Span:
        """Nothing visited yet."""
        return cls(np.zeros(modules), np.zeros(modules))


def travel(constants: Constants, span: Span, charge_ah: FloatArray) -> Span:
    """Move by `charge_ah` (M,), discharge positive, and forget old ends by the charge passed."""
    memory_ah = constants.tuning.span_memory_cycles * 2.0 * constants.prior_capacity_ah
    keep = np.exp(-np.abs(charge_ah) / memory_ah)
    return Span(
        below_ah=keep * np.maximum(span.below_ah - charge_ah, 0.0),
        above_ah=keep * np.maximum(span.above_ah + charge_ah, 0.0),
    )


def capacity_floor_frac(
    constants: Constants, span: Span, soc_frac: FloatArray, capacity_ah: FloatArray, std_v: FloatArray
) -> FloatArray:
    """Smallest relative deviation of capacity that the visited charge allows.

    Args:
        constants: of the site.
        span: charge visited lately.
        soc_frac: (M,) mean SOC of the module now.
        capacity_ah: (M,) mean capacity of its groups.
        std_v: (M,) what an open-circuit voltage derived from a reading errs by, time and again.

    Returns:
        (M,), large where next to nothing was visited.
    """
    low = soc_frac - span.below_ah / capacity_ah
    high = soc_frac + span.above_ah / capacity_ah
    slope = np.maximum(curves(constants, np.stack([low, high], axis=1)).slope_v, LEAST_SLOPE_V)
    ends = std_v * np.hypot(1.0 / slope[:, 0], 1.0 / slope[:, 1])
    floor: FloatArray = ends / np.maximum(high - low, LEAST_SPAN_FRAC)
    return floor
