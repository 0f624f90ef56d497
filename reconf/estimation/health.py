"""SOH trend and a plain end-of-life forecast with its interval.

A straight line SOH = a + b * throughput-or-time through the capacity estimates of a module's life, each
weighed by its own variance, with a prior on the slope from published second-life ageing: 1..4 points of SOH
a year (Martinez-Laserna et al., IEEE Trans. Ind. Appl. 54 (2018) 2741, doi 10.1109/TIA.2018.2801262, find
2..3 for NMC before the knee). The forecast is the time at which the line meets the end of life; its
90 % interval is where the line's own uncertainty band meets it (Fieller's construction).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError

END_OF_LIFE_SOH_FRAC: Final = 0.60
"""Where a second life usually ends; a site may ask for another."""
PRIOR_SLOPE_PER_YEAR: Final = -0.025
PRIOR_SLOPE_STD_PER_YEAR: Final = 0.02
SCATTER_STD_FRAC: Final = 0.003
"""Of a single estimate about the line, beyond its own deviation (seasons, partial cycles)."""
FAR_YEARS: Final = 50.0
"""Longest forecast; beyond it nothing is claimed."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Trend of one module. Times are counted from the last entry."""

    soh_now_frac: float
    soh_std_frac: float
    slope_per_year: float
    """Change of SOH per year, negative while it fades."""
    slope_std_per_year: float
    years_left: float
    """To the end of life, FAR_YEARS where the line does not fall."""
    years_left_low: float
    """Lower end of the 90 % interval."""
    years_left_high: float
    """Upper end of the 90 % interval."""


def forecast(
    age_years: FloatArray,
    soh_frac: FloatArray,
    soh_std_frac: FloatArray,
    end_frac: float = END_OF_LIFE_SOH_FRAC,
) -> Forecast:
    """Fit the line and say when it ends.

    Args:
        age_years: (N,) ascending times of the estimates [a].
        soh_frac: (N,) capacity over rated capacity.
        soh_std_frac: (N,) their one sigma, > 0.
        end_frac: SOH at the end of life.

    Raises:
        ParameterError: nothing to fit, or a deviation that is not positive.
    """
    if age_years.size == 0 or not (age_years.size == soh_frac.size == soh_std_frac.size):
        raise ParameterError("a forecast needs as many ages as SOH values, and at least one")
    if not (soh_std_frac > 0.0).all():
        raise ParameterError("every SOH needs a deviation above 0")
    since = age_years - age_years[-1]
    # neighbouring estimates share their errors: together they weigh no more than one every ten days
    crowd = np.maximum(1.0, _density(age_years))
    weight = 1.0 / ((soh_std_frac**2 + SCATTER_STD_FRAC**2) * crowd)
    design = np.stack([np.ones_like(since), since], axis=1)
    precision = design.T @ (weight[:, None] * design)
    precision[1, 1] += 1.0 / PRIOR_SLOPE_STD_PER_YEAR**2
    moment = design.T @ (weight * soh_frac)
    moment[1] += PRIOR_SLOPE_PER_YEAR / PRIOR_SLOPE_STD_PER_YEAR**2
    covariance = np.linalg.inv(precision)
    now, slope = (float(x) for x in covariance @ moment)
    std_now, std_slope = (float(x) for x in np.sqrt(np.diag(covariance)))
    low, high = _interval(now - end_frac, slope, covariance)
    return Forecast(now, std_now, slope, std_slope, _crossing(now - end_frac, slope), low, high)


def _density(age_years: FloatArray, window_years: float = 10.0 / 365.25) -> FloatArray:
    """(N,) entries within the window around each entry."""
    first = np.searchsorted(age_years, age_years - 0.5 * window_years, side="left")
    last = np.searchsorted(age_years, age_years + 0.5 * window_years, side="right")
    counts: FloatArray = (last - first).astype(np.float64)
    return counts


def _crossing(above: float, slope: float) -> float:
    """Years until a line that stands `above` its end and falls by `slope` a year meets it."""
    if above <= 0.0:
        return 0.0
    return min(above / -slope, FAR_YEARS) if slope < 0.0 else FAR_YEARS


def _interval(above: float, slope: float, covariance: FloatArray) -> tuple[float, float]:
    """90 % bounds of the crossing: where the line's own band of 1.645 sigma meets the end of life."""
    years = np.linspace(0.0, FAR_YEARS, 5001)
    line = above + slope * years
    variance = covariance[0, 0] + 2.0 * years * covariance[0, 1] + years**2 * covariance[1, 1]
    band = 1.645 * np.sqrt(variance)
    lower, upper = np.flatnonzero(line - band <= 0.0), np.flatnonzero(line + band <= 0.0)
    return (
        float(years[lower[0]]) if lower.size else FAR_YEARS,
        float(years[upper[0]]) if upper.size else FAR_YEARS,
    )
