"""String currents: what a string can give, and at which current it gives its share best.

For a fixed current the modules that may carry it are known, so a scan over currents is exact about
instantaneous limits. Everything is batched over strings and candidate currents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.fill import cost, fill
from optimizer.model import Model
from reconf.arrays import BoolArray, FloatArray, IntArray

GRID = 13
"""Candidate currents of one look between the two ends of the window."""
ZOOMS = 3
REL = 1e-9


@dataclass(frozen=True, slots=True)
class Padded:
    """Modules of every string side by side: (S, N) with N of the longest string."""

    index: IntArray
    real: BoolArray

    @classmethod
    def of(cls, model: Model) -> Padded:
        """Index of `model`'s strings."""
        counts = np.diff(model.start)
        width = int(counts.max(initial=1))
        place = np.arange(width)
        real = place[None, :] < counts[:, None]
        return cls(index=np.where(real, model.start[:-1, None] + place[None, :], 0), real=real)

    def take(self, values: FloatArray, blank: float) -> FloatArray:
        """(M,) -> (S, N)."""
        return np.where(self.real, values[self.index], blank)

    def flat(self, values: FloatArray) -> FloatArray:
        """(S, N) -> (M,)."""
        out: FloatArray = values[self.real]
        return out


@dataclass(frozen=True, slots=True)
class Stack:
    """Fixed-current data of every (string, candidate): (S, G, N) modules, (S, G) strings."""

    current_a: FloatArray
    v: FloatArray
    a: FloatArray
    mu: FloatArray
    c: FloatArray
    lo: FloatArray
    hi: FloatArray
    load_min_w: FloatArray
    """Least Z that window and forced modules allow."""
    load_max_w: FloatArray
    """Most Z that window and modules can give; below `load_min_w` where the current is impossible."""


def stack(model: Model, padded: Padded, current_a: FloatArray, trim_a: FloatArray) -> Stack:
    """Data at candidate currents (S, G) with trim currents fixed at `trim_a` (M,)."""
    sign = model.sign
    current = current_a[:, :, None]

    def take(values: FloatArray, blank: float) -> FloatArray:
        return padded.take(values, blank)[:, None, :]

    resistance, trim = take(model.resistance_ohm, 0.0), take(trim_a, 0.0)
    limit = take(model.limit_now_a, -1.0)
    forced = take(model.forced.astype(np.float64), 0.0) > 0.5
    eligible = current <= limit * (1.0 + REL)
    hi = np.where(eligible, np.minimum(current, take(model.limit_avg_a, 0.0)), 0.0)
    hi = np.where(forced, current, hi)
    lo = np.where(forced, current, 0.0)
    v = np.maximum(take(model.emf_v, 1.0) - sign * resistance * current - resistance * trim, 1e-3)
    a = take(model.price_w_per_a, 0.0) + resistance * (current + 2.0 * sign * trim)
    ron = model.r_on_ohm[:, None] * current_a**2
    window_lo = model.slot_min_v[:, None] * current_a + sign * ron
    window_hi = model.slot_max_v[:, None] * current_a + sign * ron
    power_hi = model.string_load_w(np.broadcast_to(model.power_max_w[:, None], current_a.shape), current_a)
    broken = (forced & (current > limit * (1.0 + REL))).any(axis=-1)
    return Stack(
        current_a=current_a,
        v=v,
        a=np.broadcast_to(a, v.shape),
        mu=np.broadcast_to(take(model.weight_w_per_a2, 1.0), v.shape),
        c=np.broadcast_to(take(model.target_a - sign * trim_a, 0.0), v.shape),
        lo=lo,
        hi=hi,
        load_min_w=np.maximum(window_lo, (v * lo).sum(axis=-1)),
        load_max_w=np.where(broken, -1.0, np.minimum(np.minimum(window_hi, power_hi), (v * hi).sum(axis=-1))),
    )


def deliverable_w(model: Model, padded: Padded, trim_a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Most bus power of each string (S,) and the current at which it gives it.

    Between two module limits the power grows with the current (until half the short-circuit current, far
    beyond any limit), so the limits themselves and the string's own limit are the candidates; a few
    currents in between, looked at ever closer, find where the window cuts it.
    """
    top = np.minimum(model.current_max_a, padded.take(model.limit_now_a, 0.0).max(axis=-1))
    steps = np.linspace(1.0 / 16.0, 1.0, 16)
    limits = padded.take(model.limit_now_a, 0.0)
    grid = np.concatenate((np.minimum(limits, top[:, None]), top[:, None] * steps), axis=1)
    rows, width = np.arange(model.n_strings), top / 16.0
    for _ in range(ZOOMS + 1):
        at = stack(model, padded, grid, trim_a)
        possible = (at.load_max_w >= at.load_min_w * (1.0 - REL)) & (grid > 0.0)
        bus = np.where(possible, model.bus_power_w(at.load_max_w, grid), -np.inf)
        best = bus.argmax(axis=1)
        found, grid_found = bus[rows, best], grid[rows, best]
        look = grid_found[:, None] + width[:, None] * np.linspace(-1.0, 1.0, GRID)
        grid = np.concatenate((grid_found[:, None], np.clip(look, 0.0, top[:, None])), axis=1)
        width = width * 2.0 / (GRID - 1)
    power = np.where(model.used, np.maximum(found, 0.0), 0.0)
    return power, np.where(power > 0.0, grid_found, 0.0)


def best_currents(
    model: Model, padded: Padded, bus_w: FloatArray, top_a: FloatArray, trim_a: FloatArray
) -> FloatArray:
    """Current (S,) that gives `bus_w` (S,) at least cost; 0 where none does.

    `top_a` is a current known to give at least `bus_w` (from `deliverable_w`); it is always a candidate.
    """
    rated = 1.0 + model.sign * model.loss_linear_frac
    load = np.maximum(bus_w * rated + model.sign * model.loss_fixed_w, 0.0)
    low = 0.95 * load / np.maximum(model.slot_max_v, 1.0)
    high = np.minimum(1.15 * load / np.maximum(model.slot_min_v, 1.0), model.current_max_a)
    high = np.maximum(high, low)
    rows = np.arange(model.n_strings)
    limits = np.clip(padded.take(model.limit_now_a, 0.0), low[:, None], high[:, None])
    # the most that the window allows for this power: near the limits little else may do
    lowest_v = load / np.maximum(model.slot_min_v, 1.0)
    for _ in range(4):
        heat = model.sign * model.loss_quadratic_ohm * lowest_v**2
        lowest_v = (load + heat) / np.maximum(model.slot_min_v, 1.0)
    edge = np.minimum(lowest_v * (1.0 - REL), model.current_max_a)
    extra = np.concatenate((limits, top_a[:, None], edge[:, None]), axis=1)
    for _ in range(ZOOMS + 1):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, GRID)
        grid = np.concatenate((grid, extra), axis=1)
        price = _price(model, padded, grid, bus_w, trim_a)
        best = price.argmin(axis=1)
        chosen = grid[rows, best]
        step = (high - low) / (GRID - 1)
        low, high = np.maximum(chosen - step, low), np.minimum(chosen + step, high)
        high = np.maximum(high, low)
        extra = chosen[:, None]
    return np.where(model.used & np.isfinite(price[rows, best]), chosen, 0.0)


def _price(
    model: Model, padded: Padded, grid: FloatArray, bus_w: FloatArray, trim_a: FloatArray
) -> FloatArray:
    """Cost of giving `bus_w` (S,) at candidate currents (S, G); inf where it cannot be given."""
    at = stack(model, padded, grid, trim_a)
    wanted = model.string_load_w(np.broadcast_to(bus_w[:, None], grid.shape), grid)
    slack = 1e-7 * np.maximum(np.abs(wanted), 1.0)
    possible = (wanted >= at.load_min_w - slack) & (wanted <= at.load_max_w + slack) & (grid > 0.0)
    q, _ = fill(at.v, at.a, at.mu, at.c, at.lo, at.hi, np.where(possible, wanted, 0.0))
    quad = (model.r_on_ohm + model.loss_quadratic_ohm)[:, None] * grid**2
    return np.where(possible, cost(at.a, at.mu, at.c, q) + quad, np.inf)
