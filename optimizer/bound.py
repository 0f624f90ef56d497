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
reach it at any current of the bracket, so the sum of q is at least K*I (a cover inequality). Where that says
more than the window's own voltage it takes its place. It is valid for every schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.currents import Padded
from optimizer.model import Model
from optimizer.solution import Solution, cost_of, priced_strings_w
from reconf.arrays import FloatArray

TOLERANCE_FRAC = 2e-3
"""Splitting ends when a string's bound is this close to the plan, as a share of the string's losses."""
PRICE_CEILING = 20.0
"""A price above this [W/W] stands for unserved power, not for the cost of a watt that is served."""
LIMIT_REL = 2e-9
"""A range that begins this much above a module's limit is without that module."""


@dataclass(frozen=True, slots=True)
class Column:
    """The answer of all strings to one price, each inside its range."""

    price: float
    bound_w: float
    surplus_w: float
    """Power the strings would give at this price, less what is asked."""
    values_w: FloatArray
    """(S,) least priced cost."""
    bus_w: FloatArray
    """(S,)"""
    current_a: FloatArray
    """(S,) where it is reached."""


class PricedStrings:
    """What each string's power costs at least, at any price and in any range of its current.

    One object per interval: answers are kept, so that a search may ask again.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._padded = Padded.of(model)
        self._modules, self._rows = _module_rows(model), _string_rows(model)
        limits = self._padded.take(model.limit_now_a, 0.0)
        self.low_a = np.zeros(model.n_strings)
        """(S,) where currents begin."""
        self.top_a = np.where(model.used, np.minimum(model.current_max_a, limits.max(axis=1)), 0.0)
        """(S,) beyond which no module may take part."""
        self._limits = limits
        self._rated = 1.0 + model.sign * model.loss_linear_frac
        self._known: dict[tuple[int, float, float, float], tuple[float, float, float]] = {}
        self._plan: Solution | None = None
        self._tolerance_w = 0.0
        idle = ~model.used[model.string_of]
        self.idle_w = float((0.5 * model.weight_w_per_a2 * model.target_a**2)[idle].sum())
        """Cost of modules in strings that carry nothing."""
        self.evaluations = 0
        """String bounds computed so far."""

    def aim(self, plan: Solution) -> None:
        """Take `plan` as what is to be reached: work beyond it is saved, brackets are fine around it."""
        self._plan = plan
        loss = cost_of(self._model, plan).loss_w
        self._tolerance_w = TOLERANCE_FRAC * loss / max(int(self._model.used.sum()), 1)

    def common_price(self, plan: Solution) -> float:
        """Price of power [W/W] at which the strings of `plan` stand, their mean by power."""
        share = np.maximum(plan.bus_w, 0.0)
        if share.sum() <= 0.0:
            return float(np.clip(plan.price, -PRICE_CEILING, PRICE_CEILING))
        mean = float((plan.string_price * self._rated * share).sum() / share.sum())
        return float(np.clip(mean, -self._model.unserved_price, self._model.unserved_price))

    def least(self, s: int, low_a: float, top_a: float, price: float) -> tuple[float, float, float]:
        """Least of (cost - price*bus power) of string `s` over currents low..top, a true bound [W].

        Returns:
            The bound, the bus power [W] and the current [A] where it is taken.
        """
        model = self._model
        if not model.used[s]:
            return 0.0, 0.0, 0.0
        key = (s, low_a, top_a, price)
        if key not in self._known:
            self._known[key] = self._bounded(s, low_a, top_a, price)
        return self._known[key]

    def _bounded(self, s: int, low_a: float, top_a: float, price: float) -> tuple[float, float, float]:
        from optimizer import kernels_bound

        model = self._model
        self.evaluations += 1
        lam = float((price - model.loss_linear_frac[s]) / self._rated[s])
        near, goal = self._aim(s, low_a, top_a, price)
        value, load, at = kernels_bound.string_bound(
            self._modules, int(model.start[s]), int(model.start[s + 1]), self._rows[s], model.sign, lam,
            self._trim_price(s, lam), low_a, top_a, near, goal, self._tolerance_w,
        )  # fmt: skip
        if self._plan is not None and value >= goal - self._tolerance_w:
            # the plan's own answer is as good as any: brackets were left coarse
            return float(value), float(self._plan.bus_w[s]), near
        return float(value), float(load) / float(self._rated[s]), float(at)

    def trim_a(self, current_a: FloatArray, price: float) -> FloatArray:
        """(M,) trim that is best together with what passes through, at string currents and a price."""
        from optimizer import kernels_bound

        model = self._model
        trim = np.zeros(model.n_modules)
        for s in np.flatnonzero(model.used & (current_a > 0.0)):
            i0, i1 = int(model.start[s]), int(model.start[s + 1])
            if not (model.trim_give_a[i0:i1].any() and model.trim_take_a[i0:i1].any()):
                continue
            lam = float((price - model.loss_linear_frac[s]) / self._rated[s])
            trim[i0:i1] = kernels_bound.string_trim(
                self._modules, i0, i1, self._rows[s], model.sign, lam, self._trim_price(int(s), lam),
                float(current_a[s]), 0.1 * self._tolerance_w,
            )  # fmt: skip
        return trim

    def _aim(self, s: int, low_a: float, top_a: float, price: float) -> tuple[float, float]:
        """The plan's current or what is nearest to it in the range, and the value that is good enough."""
        if self._plan is None:
            return 0.5 * (low_a + top_a), np.inf
        current = float(self._plan.current_a[s])
        if not low_a <= current <= top_a:
            return min(max(current, low_a), top_a), np.inf
        return current, float(priced_strings_w(self._model, self._plan, price)[s])

    def split_at(self, s: int, one_a: float, other_a: float) -> float:
        """Where to split a string's range between two currents: at a module's limit, else in the middle."""
        low, high = min(one_a, other_a), max(one_a, other_a)
        limits = self._limits[s]
        between = limits[(limits >= low * (1.0 - 1e-3)) & (limits < high)]
        return float(between.min()) * (1.0 + LIMIT_REL) if between.size else 0.5 * (low + high)

    def _trim_price(self, s: int, lam: float) -> float:
        """Where to begin with the trim bus's price: the middle of the band in which no module trades."""
        where = slice(int(self._model.start[s]), int(self._model.start[s + 1]))
        lost = 1.0 - float(np.mean(self._model.trim_efficiency_frac[where]))
        return lam + 0.5 * lost * (1.0 + lam)


def gap_frac(cost_w: float, bound_w: float, loss_w: float, rated_w: float) -> float:
    """(cost - bound) over the plan's own losses, with a floor of 0.1 % of rated power."""
    return (cost_w - bound_w) / max(loss_w, 1e-3 * rated_w)


def _module_rows(model: Model) -> FloatArray:
    """(12, M) numbers of each module in the order the compiled loops read them."""
    rows = np.stack(
        (
            model.emf_v, model.resistance_ohm, model.price_w_per_a, model.weight_w_per_a2, model.target_a,
            model.limit_now_a, model.limit_avg_a, model.forced.astype(np.float64), model.trim_give_a,
            model.trim_take_a, model.trim_efficiency_frac, model.slot_resistance_ohm,
        )
    )  # fmt: skip
    return np.ascontiguousarray(rows)


def _string_rows(model: Model) -> FloatArray:
    """(S, 6) window, resistances, fixed loss and mean voltage of each string."""
    able = model.limit_now_a > 0.0
    mean_v = model.string_sum(np.where(able, model.emf_v, 0.0)) / np.maximum(
        model.string_sum(able.astype(np.float64)), 1.0
    )
    return np.stack(
        (
            model.window_min_v, model.window_max_v, model.r_on_ohm, model.r_on_ohm + model.loss_quadratic_ohm,
            model.loss_fixed_w, mean_v,
        ),
        axis=1,
    )  # fmt: skip
