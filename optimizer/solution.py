"""What a solver found for an interval, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.model import Model
from reconf.arrays import FloatArray
from reconf.compiled import Engine, engine_for


@dataclass(frozen=True, slots=True)
class Solution:
    """Averages of the interval, magnitudes in its direction."""

    current_a: FloatArray
    """(S,)"""
    through_a: FloatArray
    """(M,) q."""
    trim_a: FloatArray
    """(M,) out positive."""
    bus_w: FloatArray
    """(S,)"""
    deliverable_w: FloatArray
    """(S,) the most each string could give."""
    price: float
    """Of power at fixed currents, W per W."""
    string_price: FloatArray
    """(S,)"""


@dataclass(frozen=True, slots=True)
class Cost:
    """The objective, item by item [W]."""

    loss_w: float
    wear_w: float
    balance_w: float
    unserved_w: float
    """Power, not its price."""
    total_w: float


def loss_w(model: Model, current_a: FloatArray, q: FloatArray, t: FloatArray, bus_w: FloatArray) -> float:
    """Module, switch, trim and converter losses [W]; equation in `optimizer.model`."""
    current = current_a[model.string_of]
    modules = model.resistance_ohm * (current * q + 2.0 * model.sign * q * t + t * t)
    quad = (model.r_on_ohm + model.loss_quadratic_ohm) * current_a**2
    converters = model.loss_fixed_w * model.used + model.loss_linear_frac * bus_w
    trim = (1.0 - model.trim_efficiency_frac) * model.emf_v * np.maximum(t, 0.0)
    return float(modules.sum() + quad.sum() + converters.sum() + trim.sum())


def cost_of(model: Model, solution: Solution, engine: Engine = "auto") -> Cost:
    """Everything the interval costs."""
    q, t = solution.through_a, solution.trim_a
    if engine_for(engine) == "compiled":
        from optimizer import kernels_fixed

        loss, balance = kernels_fixed.cost(
            model.start, model.sign, model.used, model.emf_v, model.resistance_ohm, model.weight_w_per_a2,
            model.target_a, model.trim_efficiency_frac, model.r_on_ohm, model.loss_fixed_w,
            model.loss_linear_frac, model.loss_quadratic_ohm, solution.current_a, q, t, solution.bus_w,
        )  # fmt: skip
    else:
        loss = loss_w(model, solution.current_a, q, t, solution.bus_w)
        deviation = q + model.sign * t - model.target_a
        balance = float((0.5 * model.weight_w_per_a2 * deviation**2).sum())
    wear = float(model.price_w_per_a @ (q + model.sign * t))
    unserved = model.power_w - float(solution.bus_w.sum())
    return Cost(loss, wear, balance, unserved, loss + wear + balance + model.unserved_price * abs(unserved))


def priced_strings_w(model: Model, solution: Solution, price: float) -> FloatArray:
    """(S,) cost of each string less `price` times its bus power: its part of the dual."""
    q, t, of = solution.through_a, solution.trim_a, model.string_of
    current = solution.current_a
    module = model.resistance_ohm * (current[of] * q + 2.0 * model.sign * q * t + t * t)
    module = module + model.price_w_per_a * (q + model.sign * t)
    module = module + 0.5 * model.weight_w_per_a2 * (q + model.sign * t - model.target_a) ** 2
    module = module + (1.0 - model.trim_efficiency_frac) * model.emf_v * np.maximum(t, 0.0)
    own = model.loss_fixed_w + (model.r_on_ohm + model.loss_quadratic_ohm) * current**2
    bus = solution.bus_w
    return model.string_sum(module) + own + (model.loss_linear_frac - price) * bus
