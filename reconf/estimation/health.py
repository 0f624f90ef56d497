"""SOH trend and a plain end-of-life forecast with its interval.

A straight line SOH = a + b * time through the capacity estimates of a module's life, each
weighed by its own variance, with a prior on the slope from published second-life ageing: 1..4 points of SOH
a year (Martinez-Laserna et al., IEEE Trans. Ind. Appl. 54 (2018) 2741, doi 10.1109/TIA.2018.2801262, find
2..3 for NMC before the knee). The forecast is the time at which the line meets the end of life; its
90 % interval is where the line's own uncertainty band meets it (Fieller's construction).

The filter keeps the sums of that fit and not the entries (`Trend`): one entry a month, as estimates that lie
closer together share their errors. Passports keep the entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError
from reconf.replacing import replace

END_OF_LIFE_SOH_FRAC: Final = 0.60
"""Where a second life usually ends; a site may ask for another."""
PRIOR_SLOPE_PER_YEAR: Final = -0.025
PRIOR_SLOPE_STD_PER_YEAR: Final = 0.02
SCATTER_STD_FRAC: Final = 0.003
"""Of a single estimate about the line, beyond its own deviation (seasons, partial cycles)."""
YEAR_S: Final = 365.25 * 86400.0
ENTRY_S: Final = 30 * 86400.0
"""Time between two entries of a trend."""
FIRST_ENTRY_S: Final = 86400.0
"""The first entry is made after a day of operation, when the capacity had a chance to be learned."""
ENTRY_STD_FRAC: Final = 0.05
"""A capacity less certain than this says nothing of a trend."""
SIGMAS_90: Final = 1.645
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


@dataclass(frozen=True, slots=True)
class Trend:
    """Sums of the weighted fit over a module's life, times in years of operation. All (M,)."""

    age_s: FloatArray
    """Operation since the module was first seen, time away included."""
    last_s: FloatArray
    """`age_s` at the last entry."""
    w: FloatArray
    wt: FloatArray
    wtt: FloatArray
    wy: FloatArray
    wty: FloatArray

    @classmethod
    def start(cls, modules: int) -> Trend:
        """No entry yet."""
        zero = np.zeros(modules)
        return cls(zero, zero - ENTRY_S + FIRST_ENTRY_S, zero, zero, zero, zero, zero)

    def of(self, m: int) -> tuple[float, ...]:
        """The numbers of module `m`, in the order of the fields."""
        return tuple(float(getattr(self, name)[m]) for name in self.__dataclass_fields__)


def follow(trend: Trend, soh_frac: FloatArray, soh_std_frac: FloatArray, dt_s: float) -> Trend:
    """Let `dt_s` pass; where a month is over, enter the capacity of now.

    Args:
        trend: before.
        soh_frac: (M,) capacity over rated capacity.
        soh_std_frac: (M,) its one sigma.
        dt_s: time since the last call.
    """
    age = trend.age_s + dt_s
    due = (age - trend.last_s >= ENTRY_S) & (soh_std_frac < ENTRY_STD_FRAC)
    if not due.any():
        return replace(trend, age_s=age)
    weight = np.where(due, 1.0 / (soh_std_frac**2 + SCATTER_STD_FRAC**2), 0.0)
    years = age / YEAR_S
    return Trend(
        age_s=age,
        last_s=np.where(due, age, trend.last_s),
        w=trend.w + weight,
        wt=trend.wt + weight * years,
        wtt=trend.wtt + weight * years * years,
        wy=trend.wy + weight * soh_frac,
        wty=trend.wty + weight * years * soh_frac,
    )


def forecast_now(
    trend: Trend, m: int, soh_frac: float, soh_std_frac: float, end_frac: float = END_OF_LIFE_SOH_FRAC
) -> Forecast:
    """Forecast of module `m` from its entries and its capacity of now, by the time since the last."""
    now = float(trend.age_s[m]) / YEAR_S
    fresh = min(max((float(trend.age_s[m] - trend.last_s[m])) / ENTRY_S, 0.0), 1.0)
    share = 1.0 if trend.w[m] == 0.0 else fresh
    weight = share / (soh_std_frac**2 + SCATTER_STD_FRAC**2)
    w, wt, wtt = (float(x[m]) for x in (trend.w, trend.wt, trend.wtt))
    # times counted from now
    moments = np.array([float(trend.wy[m]) + weight * soh_frac, float(trend.wty[m] - now * trend.wy[m])])
    sums = np.array([[w + weight, wt - now * w], [wt - now * w, wtt - 2.0 * now * wt + now * now * w]])
    return _meet(sums, moments, end_frac)


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
    sums: FloatArray = design.T @ (weight[:, None] * design)
    return _meet(sums, design.T @ (weight * soh_frac), end_frac)


def _meet(sums: FloatArray, moments: FloatArray, end_frac: float) -> Forecast:
    """The line from its sums (2, 2) and moments (2,) with the prior on its slope, and where it ends."""
    precision, moment = sums.copy(), moments.copy()
    precision[1, 1] += 1.0 / PRIOR_SLOPE_STD_PER_YEAR**2
    moment[1] += PRIOR_SLOPE_PER_YEAR / PRIOR_SLOPE_STD_PER_YEAR**2
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
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
    """90 % bounds of the crossing: where the line's own band of 1.645 sigma meets the end of life.

    Roots of (above + slope t)^2 = 1.645^2 (c00 + 2 c01 t + c11 t^2); the band's lower edge meets the end
    where the line still stands above it, the upper edge where the line is below.
    """
    k2 = SIGMAS_90**2
    square = slope * slope - k2 * covariance[1, 1]
    linear = 2.0 * (above * slope - k2 * covariance[0, 1])
    constant = above * above - k2 * covariance[0, 0]
    roots = np.roots([square, linear, constant])
    times = sorted(float(t.real) for t in roots if abs(t.imag) < 1e-9 and t.real > 0.0)
    inside = constant <= 0.0  # the end lies within the band now
    low = 0.0 if inside or above <= 0.0 else next((t for t in times if above + slope * t >= 0.0), FAR_YEARS)
    high = (
        0.0
        if above <= 0.0 and not inside
        else next((t for t in times if above + slope * t <= 0.0), FAR_YEARS)
    )
    return min(low, FAR_YEARS), min(high, FAR_YEARS)
