"""One-sided CUSUM tests whose thresholds come from a rate of false alarms, not from taste.

S <- max(0, S + u - k) with u standard normal while all is well; an alarm at S > h. The mean time between
false alarms, in samples, is by Siegmund's approximation

    ARL = (exp(2 k b) - 2 k b - 1) / (2 k^2),   b = h + 1.166,

D. Siegmund, Sequential Analysis (1985), doi 10.1007/978-1-4757-1862-1, eq. 2.57. Residuals of real sensors
are not white: their slow part is bounded by an allowance that is taken off before the division by sigma,
and the fast part is averaged over blocks, so that what enters is at most standard normal.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from reconf.arrays import FloatArray

YEAR_S: Final = 365.25 * 86400.0
OVERSHOOT: Final = 1.166
"""2 * 0.583, Siegmund's correction for the excess over the boundary."""


def average_run_length(drift: float, threshold: float) -> float:
    """Mean samples between false alarms of one side with reference value `drift`."""
    x = 2.0 * drift * (threshold + OVERSHOOT)
    if x > 700.0:
        return math.inf
    return (math.exp(x) - x - 1.0) / (2.0 * drift * drift)


def threshold_for(drift: float, run_length: float) -> float:
    """Smallest threshold whose average run length is `run_length` samples or more."""
    low, high = 0.0, 1.0
    while average_run_length(drift, high) < run_length:
        high *= 2.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if average_run_length(drift, middle) < run_length:
            low = middle
        else:
            high = middle
    return high


def run_length_for(false_alarms_per_year: float, tests: int, sample_s: float) -> float:
    """Samples between false alarms that one of `tests` may have so that all together keep the rate."""
    return YEAR_S / sample_s * tests / false_alarms_per_year


def advance(score: FloatArray, sample: FloatArray, drift: float) -> FloatArray:
    """Next scores of both sides; `score` (2, ...) upward then downward, NaN samples change nothing."""
    u = np.where(np.isfinite(sample), sample, drift)
    up = np.maximum(0.0, score[0] + u - drift)
    down = np.maximum(0.0, score[1] - np.where(np.isfinite(sample), sample, -drift) - drift)
    both: FloatArray = np.array((up, down))
    return both


def beyond(residual: FloatArray, allowance: FloatArray | float, std: FloatArray | float) -> FloatArray:
    """Residual with its allowed bias taken off, over sigma; 0 inside the allowance."""
    excess: FloatArray = np.sign(residual) * np.maximum(np.abs(residual) - allowance, 0.0) / std
    return excess
