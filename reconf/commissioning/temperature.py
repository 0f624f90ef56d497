"""Do the temperature sensors of a rack agree after rest? Pure.

A rack at rest is not at one temperature: its top is warmer than its bottom. So each sensor is held against a
straight line through its string's positions, fitted so that a wrong sensor does not bend it: the slope is
the median of the slopes of all pairs, the height the median of what remains (Theil 1950; Sen 1968,
doi 10.1080/01621459.1968.10480934), which bears 29 % of wrong sensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray

ALLOWED_K = 1.0
"""Of one sensor from the line. Sensors of +-0.5 K in modules of unequal mass reach 0.8 K; a sensor that is
2 K off and errs by 0.75 K the other way still shows 1.25 K."""
SPREAD_FACTOR = 3.3
"""And never less than so many standard deviations of the rack's own spread."""
RESTLESS_K = 0.7
"""Spread of the rack beyond which it is not at rest, or no straight line."""
SPREAD_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation of normal values."""
FEWEST = 12
"""Sensors below which a median stands for the line: so few would let a wrong one at the end bend it."""


@dataclass(frozen=True, slots=True)
class RackFit:
    """The line through one rack and what lies off it."""

    start_degc: float
    """At the first position."""
    slope_k: float
    """Per position."""
    spread_k: float
    """Standard deviation about the line, wrong sensors not counted."""
    residual_k: FloatArray
    """(N, 2) each sensor over the line; NaN where it reads nothing."""
    allowed_k: float
    wrong: BoolArray
    """(N, 2)"""

    @property
    def restless(self) -> bool:
        """The rack is not at rest, or its temperatures are no line: nothing can be said of its sensors."""
        return self.spread_k > RESTLESS_K


def fit_rack(temperature_degc: FloatArray) -> RackFit:
    """Fit (N, 2) readings of N positions in a row; NaN where a sensor reads nothing.

    Raises:
        ValueError: no sensor reads anything.
    """
    place = np.repeat(np.arange(temperature_degc.shape[0], dtype=np.float64), temperature_degc.shape[1])
    value = temperature_degc.ravel()
    known = np.isfinite(value)
    if not known.any():
        raise ValueError("no temperature sensor of this rack reads anything")
    slope = _slope(place[known], value[known]) if int(known.sum()) >= FEWEST else 0.0
    start = float(np.median(value[known] - slope * place[known]))
    residual = value - start - slope * place
    spread = SPREAD_OF_MAD * float(np.median(np.abs(residual[known])))
    allowed = max(ALLOWED_K, SPREAD_FACTOR * spread)
    shaped = residual.reshape(temperature_degc.shape)
    # a NaN fails both comparisons: what does not read is told elsewhere
    return RackFit(start, slope, spread, shaped, allowed, np.abs(shaped) > allowed)


def _slope(place: FloatArray, value: FloatArray) -> float:
    """Median of the slopes of all pairs at different places."""
    run = place[:, None] - place[None, :]
    rise = value[:, None] - value[None, :]
    pairs = run > 0.0
    return float(np.median(rise[pairs] / run[pairs])) if pairs.any() else 0.0
