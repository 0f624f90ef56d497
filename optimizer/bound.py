"""A true lower bound of an interval's cost, and with it a certified gap.

The only couplings between strings and modules are site power, trim bus and converter window. Priced, they
fall apart (Lagrangian dual), and any prices give a bound. What is left of a string is

    min over I of  sum_i min over (q_i, t_i) of a quadratic  +  terms in I

where I*q_i is bilinear. On a bracket a <= I <= b it is replaced by its envelope (McCormick, doi
10.1007/BF01580665): I*q >= a*q where it costs, <= b*q where it earns; a module whose instantaneous limit lies
below a is out, one whose limit lies inside keeps q <= limit. The quadratic in (q, t) is indefinite, so its
least value lies on the edges of its box and is found by enumerating them. The bound of a string is the least
over its brackets; the bracket that holds it is split until that no longer helps. Nothing rests on
convergence: worse prices or fewer brackets only make a lower bound.

Whole modules: a slot that reaches the window holds at least K modules, K the least number whose K strongest
reach it, so its voltage is at least that of the K weakest. That cut is valid for every schedule.
"""

from __future__ import annotations

import numpy as np

from optimizer.currents import Padded
from optimizer.model import Model
from optimizer.solution import Solution, cost_of, priced_strings_w
from reconf.arrays import FloatArray

TOLERANCE_FRAC = 1e-3
"""Splitting ends when a string's bound is this close to the plan, as a share of the string's losses."""


def lower_bound_w(model: Model, solution: Solution, price: float) -> float:
    """Bound of the whole cost [W] at the site price `price` [W/W]; any price gives a true one."""
    from optimizer import kernels_bound

    padded = Padded.of(model)
    price = float(np.clip(price, -model.unserved_price, model.unserved_price))
    rated = 1.0 + model.sign * model.loss_linear_frac
    lam = (price - model.loss_linear_frac) / rated
    modules, strings = _module_rows(model), _string_rows(model, padded)
    theta = _trim_price(model, lam)
    top = np.minimum(model.current_max_a, padded.take(model.limit_now_a, 0.0).max(axis=1))
    top = np.where(model.used, np.maximum(top, solution.current_a), 0.0)
    goal = priced_strings_w(model, solution, price)
    tolerance = TOLERANCE_FRAC * cost_of(model, solution).loss_w / max(model.n_strings, 1)
    total = price * model.power_w
    for s in np.flatnonzero(model.used):
        i0, i1 = int(model.start[s]), int(model.start[s + 1])
        total += kernels_bound.string_bound(
            modules, i0, i1, strings[s], model.sign, float(lam[s]), float(theta[s]), float(top[s]),
            float(solution.current_a[s]), float(goal[s]), tolerance,
        )  # fmt: skip
    idle = ~model.used[model.string_of]
    return total + float((0.5 * model.weight_w_per_a2 * model.target_a**2)[idle].sum())


def gap_frac(cost_w: float, bound_w: float, loss_w: float, rated_w: float) -> float:
    """(cost - bound) over the plan's own losses, with a floor of 0.1 % of rated power."""
    return (cost_w - bound_w) / max(loss_w, 1e-3 * rated_w)


def _module_rows(model: Model) -> FloatArray:
    """(11, M) numbers of each module in the order the compiled loops read them."""
    rows = np.stack(
        (
            model.emf_v, model.resistance_ohm, model.price_w_per_a, model.weight_w_per_a2, model.target_a,
            model.limit_now_a, model.limit_avg_a, model.forced.astype(np.float64), model.trim_give_a,
            model.trim_take_a, model.trim_efficiency_frac,
        )
    )  # fmt: skip
    return np.ascontiguousarray(rows)


def _string_rows(model: Model, padded: Padded) -> FloatArray:
    """(S, 7) window, resistances, fixed loss and the whole-module cut of each string."""
    able = padded.take(model.limit_now_a, 0.0) > 0.0
    ohm, emf = padded.take(model.resistance_ohm, 0.0), padded.take(model.emf_v, 0.0)
    give, take = padded.take(model.trim_give_a, 0.0), padded.take(model.trim_take_a, 0.0)
    rise = ohm * model.current_max_a[:, None] if model.sign < 0 else 0.0 * ohm
    strong = -np.sort(-np.where(able, emf + rise + ohm * take, 0.0), axis=1)
    needed = model.window_min_v + np.where(model.sign > 0, 0.0, -1.0) * model.r_on_ohm * model.current_max_a
    count = (np.cumsum(strong, axis=1) < needed[:, None]).sum(axis=1) + 1
    weak = np.sort(np.where(able, emf - ohm * give, np.inf), axis=1)
    within = np.arange(weak.shape[1])[None, :] < count[:, None]
    cut_v = np.where(within & np.isfinite(weak), weak, 0.0).sum(axis=1)
    top_ohm = -np.sort(-ohm, axis=1)
    cut_ohm = np.where(within, top_ohm, 0.0).sum(axis=1) if model.sign > 0 else np.zeros(model.n_strings)
    return np.stack(
        (
            model.window_min_v, model.window_max_v, model.r_on_ohm, model.r_on_ohm + model.loss_quadratic_ohm,
            model.loss_fixed_w, cut_v, cut_ohm,
        ),
        axis=1,
    )  # fmt: skip


def _trim_price(model: Model, lam: FloatArray) -> FloatArray:
    """(S,) where to begin with the trim bus's price: the middle of the band in which no module trades."""
    lost = 1.0 - float(np.mean(model.trim_efficiency_frac))
    return np.asarray(lam + 0.5 * lost * (1.0 + lam), dtype=np.float64)
