"""Helpers on arrays against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reconf.arrays import middle


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40))
def test_middle_is_the_median_to_the_last_bit(values: list[float]) -> None:
    array = np.array(values)
    assert middle(array) == np.median(array)
    assert array.tolist() == values


def test_middle_of_what_is_not_known_is_not_known() -> None:
    assert np.isnan(middle(np.zeros(0)))
    assert np.isnan(middle(np.array([1.0, np.nan, 2.0])))
    assert middle(np.array([1.0, np.inf, np.inf])) == np.inf
