"""Structured solver of the fixed-current problem: price of power -> window price -> closed form per module.

The dual in the site power has one unknown, lambda. At a price p_s = g_s*lambda a string fills its modules
to q_i = clip(c_i + (p_s*v_i - a_i)/mu_i, lo_i, hi_i); a window that is passed holds the string at its edge
with a price of its own. The delivered power P(lambda) is piecewise linear and never falls, so Newton inside a
bracket that only shrinks is both fast and sure: a plain semismooth Newton cycles when several strings change
their active sets at once.

Two engines with one interface: compiled loops (`optimizer/kernels.py`), and numpy where they cannot be
had; tests hold them against each other.
"""

from __future__ import annotations

import numpy as np

from optimizer.fixed import Fixed, FixedSolution, objective, unserved_w
from reconf.arrays import FloatArray
from reconf.compiled import Engine, engine_for

MAX_STEPS = 200


def solve_fixed(fixed: Fixed, engine: Engine = "auto") -> FixedSolution:
    """Exact answer to `fixed`."""
    if engine_for(engine) == "compiled":
        from optimizer import kernels

        q, price, string_price = kernels.solve_fixed(
            fixed.start, fixed.v, fixed.a, fixed.mu, fixed.c, fixed.lo, fixed.hi,
            fixed.g, fixed.k, fixed.zlo, fixed.zhi, fixed.power_w, fixed.rho,
        )  # fmt: skip
    else:
        q, price, string_price = _solve_numpy(fixed)
    return FixedSolution(q, float(price), string_price, unserved_w(fixed, q), objective(fixed, q))


class _Response:
    """What all strings answer to prices, vectorised."""

    def __init__(self, fixed: Fixed) -> None:
        self.f = fixed
        self.of = fixed.string_of
        self.base = fixed.c - fixed.a / fixed.mu
        self.rise = fixed.v / fixed.mu

    def fill(self, price: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Through-charge currents (M,), load (S,) and slope dZ/dprice (S,) at string prices (S,)."""
        f = self.f
        raw = self.base + price[self.of] * self.rise
        q = np.minimum(np.maximum(raw, f.lo), f.hi)
        n = f.g.size
        load = np.bincount(self.of, weights=f.v * q, minlength=n)
        slope = np.bincount(self.of, weights=np.where(q == raw, f.v * self.rise, 0.0), minlength=n)
        return q, load.astype(np.float64), slope.astype(np.float64)

    def site(self, price: float) -> tuple[float, float]:
        """Power at the bus and its slope, windows kept."""
        f = self.f
        _, load, slope = self.fill(f.g * price)
        held = np.minimum(np.maximum(load, f.zlo), f.zhi)
        power = float((f.g * held - f.k).sum())
        return power, float((f.g**2 * np.where(held == load, slope, 0.0)).sum())


def _solve_numpy(fixed: Fixed) -> tuple[FloatArray, float, FloatArray]:
    response = _Response(fixed)
    price = _site_price(response, fixed)
    string_price = _string_prices(response, fixed, fixed.g * price)
    q, _, _ = response.fill(string_price)
    return q, price, string_price


def _site_price(response: _Response, fixed: Fixed) -> float:
    """Lambda in [-rho, rho] with P(lambda) = P, or the end it sticks to."""
    low, high = -fixed.rho, fixed.rho
    if response.site(high)[0] <= fixed.power_w:
        return high
    if response.site(low)[0] >= fixed.power_w:
        return low
    price, width = 0.0, high - low
    for _ in range(MAX_STEPS):
        power, slope = response.site(price)
        miss = fixed.power_w - power
        if miss == 0.0 or abs(miss) <= 1e-13 * max(abs(fixed.power_w), 1.0):
            break
        if miss > 0.0:
            low = price
        else:
            high = price
        step = price + miss / slope if slope > 0.0 else low - 1.0
        # the bracket must halve every few steps, else bisect: this is what makes it sure
        slow = high - low > 0.5 * width
        width = high - low
        price_next = step if low < step < high and not (slow and slope <= 0.0) else 0.5 * (low + high)
        if price_next in (low, high):
            break
        price = price_next
    return price


def _string_prices(response: _Response, fixed: Fixed, start: FloatArray) -> FloatArray:
    """Prices that hold every string whose window is passed at its edge, all strings at once."""
    _, load, _ = response.fill(start)
    goal = np.minimum(np.maximum(load, fixed.zlo), fixed.zhi)
    held = goal != load
    if not held.any():
        return start
    first, last = _price_ends(fixed)
    low, high, price = np.minimum(start, first), np.maximum(start, last), start.copy()
    for _ in range(MAX_STEPS):
        _, load, slope = response.fill(price)
        miss = goal - load
        open_ = held & (np.abs(miss) > 1e-13 * np.maximum(np.abs(goal), 1.0)) & (high > low)
        if not open_.any():
            break
        low, high = np.where(miss > 0.0, price, low), np.where(miss < 0.0, price, high)
        step = price + miss / np.where(slope > 0.0, slope, 1.0)
        inside = (slope > 0.0) & (step > low) & (step < high)
        moved = np.where(inside, step, 0.5 * (low + high))
        price_next = np.where(open_, moved, price)
        if (price_next == price).all():
            break
        price = price_next
    return price


def _price_ends(fixed: Fixed) -> tuple[FloatArray, FloatArray]:
    """Prices below which every module of a string is at its lowest, above which at its highest."""
    of, n = fixed.string_of, fixed.g.size
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, of, (fixed.a + fixed.mu * (fixed.lo - fixed.c)) / fixed.v)
    np.maximum.at(last, of, (fixed.a + fixed.mu * (fixed.hi - fixed.c)) / fixed.v)
    first, last = np.where(np.isfinite(first), first, 0.0), np.where(np.isfinite(last), last, 0.0)
    return first - 1.0, last + 1.0
