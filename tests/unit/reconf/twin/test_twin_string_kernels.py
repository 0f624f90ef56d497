"""Compiled strings of the twin against the closed forms in numpy, to the last bit."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reconf.twin.electrical_string import ConverterArrays, balance_trim, solve_strings

S = 3


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)  # the first example compiles
def test_strings_are_solved_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    full = np.full(S, 1.0)
    converters = ConverterArrays(
        20e3 * full, 60.0 * full, 300.0 * full, 600.0 * full, 40.0 * full, 0.01 * full, 0.02 * full
    )
    emf = rng.choice([0.0, 300.0, 303.0, 450.0, 600.0, 700.0], S) + rng.normal(0.0, 2.0, S)
    given_ = (
        emf,
        rng.choice([0.0, 0.1, 1.0, 5.0], S),
        rng.integers(0, 3, S),
        rng.normal(0.0, 20e3, S) * rng.choice([0.0, 1.0, 3.0], S),
        rng.choice([-20.0, 0.0, 5.0, 60.0, np.inf], S),
        rng.random(S) < 0.8,
        rng.random(S) < 0.3,
        rng.normal(0.0, 20e3, S) * rng.choice([0.0, 1.0], S),
        float(rng.choice([0.1, 1.0, 20.0])),
    )
    theirs = solve_strings(converters, *given_, engine="numpy")
    ours = solve_strings(converters, *given_, engine="compiled")
    for field in fields(theirs):
        assert np.array_equal(getattr(ours, field.name), getattr(theirs, field.name)), field.name


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)  # the first example compiles
def test_trim_is_balanced_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, S)
    n = int(counts.sum())
    start = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    of = np.repeat(np.arange(S), counts)
    topology = SimpleNamespace(
        start=start, string_of=of, sum_by_string=lambda x: np.bincount(of, weights=x, minlength=S)
    )
    setpoint = rng.normal(0.0, 2.0, n) * (rng.random(n) < 0.7)
    volts, efficiency = rng.uniform(5.0, 50.0, n), rng.uniform(0.5, 1.0, n)
    theirs = balance_trim(topology, setpoint, volts, efficiency, "numpy")  # type: ignore[arg-type]  # what it reads of one
    ours = balance_trim(topology, setpoint, volts, efficiency, "compiled")  # type: ignore[arg-type]
    assert np.array_equal(ours, theirs)
