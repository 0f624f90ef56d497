"""Compiled answers and costs against numpy's, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bench.allocate_case import draw_case
from optimizer import kernels_fixed
from optimizer.fixed import make
from optimizer.model import Model, build
from optimizer.solution import cost_of
from optimizer.solve import at_currents
from optimizer.structured import solve_fixed
from reconf.errors import ParameterError

SITES = ((4, 1), (12, 1), (24, 2), (150, 1))
"""Modules and strings; the longest string is longer than a block of numpy's sums."""


def drawn(modules: int, strings: int, seed: int) -> Model:
    site, asked = draw_case(modules, strings, seed)
    return build(site, asked)


@given(st.sampled_from((1, 7, 8, 9, 100, 128, 129, 136, 255, 256, 1000)), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_sums_run_in_the_order_of_numpy(n: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=n) * 10.0 ** np.random.default_rng(seed).integers(-9, 9, n)
    assert kernels_fixed.total(x) == x.sum()


@given(st.sampled_from(SITES), st.integers(0, 50), st.floats(0.0, 1.2), st.floats(-2.0, 2.0))
@settings(max_examples=60, deadline=None)
def test_answer_and_cost_are_those_of_numpy(
    size: tuple[int, int], seed: int, share: float, trim: float
) -> None:
    model = drawn(*size, seed)
    current = share * np.where(np.isfinite(model.current_max_a), model.current_max_a, 100.0)
    trim_a = trim * np.random.default_rng(seed).normal(size=model.n_modules)
    limit = np.zeros(model.n_strings)
    ours = at_currents(model, current, trim_a, limit, "compiled")
    fixed = make(model, current, trim_a)
    theirs = solve_fixed(fixed, "compiled")
    bus = fixed.g * model.string_sum(fixed.v * theirs.q) - fixed.k
    assert np.array_equal(ours.through_a, theirs.q)
    assert np.array_equal(ours.bus_w, bus)
    assert ours.price == theirs.price
    assert np.array_equal(ours.string_price, theirs.string_price)
    assert cost_of(model, ours, "compiled") == cost_of(model, ours, "numpy")


@pytest.mark.parametrize("field", ["emf_v", "weight_w_per_a2", "limit_avg_a", "slot_min_v"])
def test_data_that_are_not_sound_are_named(field: str) -> None:
    model = drawn(12, 1, 3)
    current, none = 0.2 * model.current_max_a, np.zeros(model.n_modules)
    broken = replace(model, **{field: np.full_like(getattr(model, field), np.nan)})
    with pytest.raises(ParameterError, match="fixed-current problem"):
        at_currents(broken, current, none, np.zeros(model.n_strings), "compiled")


def test_the_trim_that_no_warm_up_asks_for_is_compiled_when_its_module_is_imported():
    # in a process of its own: here other tests may have called it
    told = "import optimizer.kernels_bound as k; print(len(k.string_trim.signatures))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
