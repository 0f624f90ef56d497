"""The whole interval: share of power, string currents, through-charge currents, trim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from optimizer.currents import GRID, ZOOMS, Padded, best_currents, deliverable_w
from optimizer.fixed import make
from optimizer.model import Model
from optimizer.result import AllocationInput
from optimizer.share import share_by_weight
from optimizer.solution import Solution, cost_of
from optimizer.structured import Engine, engine_for, solve_fixed
from optimizer.trim import plan_trim
from reconf.arrays import FloatArray

ROUNDS = 2
"""Alternations between string currents and trim currents; each lowers the cost."""
TRIM_GAIN_FRAC = 1e-4
"""Trim that lowers the cost by less than this is left out."""


def deliverable(model: Model, engine: Engine = "auto") -> FloatArray:
    """Most bus power of each string (S,) with trim idle."""
    fast = engine_for(model.n_modules, engine) == "compiled"
    power, _ = _deliverable(model, Padded.of(model), np.zeros(model.n_modules), fast)
    return power


def solve(model: Model, asked: AllocationInput, engine: Engine = "auto") -> Solution:
    """Best plan found. Currents and trim alternate: each is solved exactly with the other held."""
    padded = Padded.of(model)
    best = solve_currents(model, padded, np.zeros(model.n_modules), engine)
    value = cost_of(model, best).total_w
    for _ in range(ROUNDS):
        trim = plan_trim(model, padded, asked, best.through_a)
        if not trim.any() or np.array_equal(trim, best.trim_a):
            break
        tried = solve_currents(model, padded, trim, engine)
        if asked.request.balance and model.power_w == 0.0:
            return tried
        tried_value = cost_of(model, tried).total_w
        if tried_value > value - TRIM_GAIN_FRAC * abs(value):
            break
        best, value = tried, tried_value
    return best


def solve_currents(model: Model, padded: Padded, trim_a: FloatArray, engine: Engine = "auto") -> Solution:
    """Share, currents and through-charge currents with trim held."""
    fast = engine_for(model.n_modules, engine) == "compiled"
    limit_w, top_a = _deliverable(model, padded, trim_a, fast)
    bus = share_by_weight(model.string_sum(model.target_a * model.emf_v), limit_w, model.power_w)
    current = _currents(model, padded, bus, top_a, trim_a, fast)
    return at_currents(model, current, trim_a, limit_w, engine)


def at_currents(
    model: Model, current_a: FloatArray, trim_a: FloatArray, limit_w: FloatArray, engine: Engine = "auto"
) -> Solution:
    """Exact answer at given string currents."""
    fixed = make(model, current_a, trim_a)
    answer = solve_fixed(fixed, engine)
    load = model.string_sum(fixed.v * answer.q)
    bus = fixed.g * load - fixed.k
    return Solution(current_a, answer.q, trim_a, bus, limit_w, answer.price, answer.string_price)


def _deliverable(
    model: Model, padded: Padded, trim_a: FloatArray, fast: bool
) -> tuple[FloatArray, FloatArray]:
    if not fast:
        return deliverable_w(model, padded, trim_a)
    from optimizer import kernels_currents

    arrays = (*_arrays(model, trim_a), GRID, ZOOMS)
    power, at = kernels_currents.deliverable(*arrays)
    return power, at


def _currents(
    model: Model,
    padded: Padded,
    bus_w: FloatArray,
    top_a: FloatArray,
    trim_a: FloatArray,
    fast: bool,
) -> FloatArray:
    if not fast:
        return best_currents(model, padded, bus_w, top_a, trim_a)
    from optimizer import kernels_currents

    arrays = (*_arrays(model, trim_a), bus_w, top_a, GRID, ZOOMS)
    currents: FloatArray = kernels_currents.best_currents(*arrays)
    return currents


def _arrays(model: Model, trim_a: FloatArray) -> tuple[Any, ...]:
    """Arguments of the compiled scans, in their order."""
    return (
        model.start, model.used, model.sign, model.emf_v, model.resistance_ohm, trim_a, model.price_w_per_a,
        model.weight_w_per_a2, model.target_a - model.sign * trim_a, model.limit_now_a, model.limit_avg_a,
        model.forced, model.slot_min_v, model.slot_max_v, model.current_max_a, model.power_max_w,
        model.r_on_ohm, model.loss_fixed_w, model.loss_linear_frac, model.loss_quadratic_ohm,
    )  # fmt: skip


def without_trim(model: Model) -> Model:
    """The same interval with every trim converter idle."""
    none = np.zeros(model.n_modules)
    return replace(model, trim_give_a=none, trim_take_a=none)
