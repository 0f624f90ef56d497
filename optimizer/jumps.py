"""Leaving a local optimum: a string may be better at a current where a limited module still takes part.

Between two module limits the cost of a string is smooth in its current, across one it jumps. Moving power
along cost curves never crosses such a jump, so each string is asked for its best current over all of them at
the common price of power, and the site is solved anew with it.
"""

from __future__ import annotations

import numpy as np

from optimizer.currents import Padded, stack
from optimizer.fill import cost, fill
from optimizer.model import Model
from optimizer.solution import Solution
from reconf.arrays import FloatArray

SLOT_MARGIN = 0.97
"""In a slot with one module less the current lies a few per cent above the interval's mean."""
AROUND = np.array([0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2])


def has_jumps(model: Model, found: Solution) -> bool:
    """Whether some module is kept out by its limit, or nearly so."""
    current = found.current_a[model.string_of]
    limited = (model.limit_now_a > 0.0) & (model.limit_now_a < 1.3 * current) & (model.target_a > 0.0)
    return bool(limited.any())


def better_currents(
    model: Model, padded: Padded, found: Solution, price: float
) -> tuple[FloatArray, FloatArray]:
    """Best current of every string (S,) at `price`, and what it saves (S,) [W] against the current it has."""
    top = np.minimum(model.current_max_a, padded.take(model.limit_now_a, 0.0).max(axis=1))
    limits = np.minimum(SLOT_MARGIN * padded.take(model.limit_now_a, 0.0), top[:, None])
    around = np.minimum(found.current_a[:, None] * AROUND, top[:, None])
    grid = np.concatenate((found.current_a[:, None], limits, around), axis=1)
    value = string_values(model, padded, grid, found.trim_a, price)
    best = value.argmin(axis=1)
    rows = np.arange(model.n_strings)
    with np.errstate(invalid="ignore"):
        saved = np.where(np.isfinite(value[:, 0]), value[:, 0] - value[rows, best], 0.0)
    return grid[rows, best], np.where(model.used & (found.current_a > 0.0), saved, 0.0)


def string_values(
    model: Model, padded: Padded, grid: FloatArray, trim_a: FloatArray, price: float
) -> FloatArray:
    """Cost less price times bus power (S, G), power free inside window and limits; inf where impossible."""
    at = stack(model, padded, grid, trim_a)
    rated = (1.0 + model.sign * model.loss_linear_frac)[:, None]
    worth = (price - model.loss_linear_frac[:, None]) / rated
    free = np.clip(at.c + (worth[..., None] * at.v - at.a) / at.mu, at.lo, at.hi)
    possible = (at.load_max_w >= at.load_min_w * (1.0 - 1e-9)) & (grid > 0.0)
    load = np.clip((at.v * free).sum(axis=-1), at.load_min_w, np.maximum(at.load_max_w, at.load_min_w))
    q, _ = fill(at.v, at.a, at.mu, at.c, at.lo, at.hi, np.where(possible, load, 0.0))
    heat = (model.r_on_ohm + model.loss_quadratic_ohm)[:, None] * grid**2
    bus = model.bus_power_w(load, grid)
    value = cost(at.a, at.mu, at.c, q) + heat + (model.loss_linear_frac[:, None] - price) * bus
    return np.where(possible, value, np.inf)
