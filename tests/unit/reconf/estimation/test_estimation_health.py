"""SOH trend: right on average, and an interval that covers."""

from __future__ import annotations

import numpy as np
import pytest

from reconf.errors import ParameterError
from reconf.estimation.health import FAR_YEARS, forecast


def history(rng, slope, years=2.0, std=0.01):
    age = np.arange(0.0, years, 30.0 / 365.25)
    return age, 0.8 + slope * age + std * rng.standard_normal(age.size), np.full(age.size, std)


def test_forecast_meets_the_line_and_its_interval_covers():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        slope = -0.03 + 0.008 * rng.standard_normal()
        slope = min(slope, -0.012)
        age, soh, std = history(rng, slope)
        found = forecast(age, soh, std)
        left = (0.8 + slope * age[-1] - 0.6) / -slope
        inside += found.years_left_low <= left <= found.years_left_high
    assert 0.85 <= inside / 200 <= 1.0


def test_more_history_narrows_the_interval():
    rng = np.random.default_rng(2)
    short = forecast(*history(rng, -0.03, years=0.5))
    long = forecast(*history(rng, -0.03, years=4.0))
    assert long.slope_std_per_year < 0.5 * short.slope_std_per_year
    assert long.years_left_high - long.years_left_low < short.years_left_high - short.years_left_low


def test_one_entry_rests_on_the_prior_and_says_little():
    found = forecast(np.array([0.0]), np.array([0.8]), np.array([0.02]))
    assert found.slope_per_year == pytest.approx(-0.025)
    assert found.years_left == pytest.approx(8.0)
    assert found.years_left_high == FAR_YEARS


def test_past_the_end_is_zero_years():
    found = forecast(np.array([0.0, 1.0]), np.array([0.58, 0.55]), np.array([0.01, 0.01]))
    assert found.years_left == 0.0


def test_nothing_to_fit_is_refused():
    with pytest.raises(ParameterError):
        forecast(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(ParameterError):
        forecast(np.zeros(1), np.ones(1), np.zeros(1))
