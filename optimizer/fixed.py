"""The problem at fixed string currents: one site power, a window per string, one number per module.

    minimise   sum a_i*q_i + mu_i/2*(q_i - c_i)^2 + rho*(unserved + surplus)
    subject to lo_i <= q_i <= hi_i
               zlo_s <= sum_{i in s} v_i*q_i <= zhi_s
               sum_s (g_s*sum_{i in s} v_i*q_i - k_s) + unserved - surplus = P

It is always feasible: unserved and surplus power are soft, and a window beyond reach is moved to the end of
the reach when the data are made (`make`). Both solvers, structured and reference, take exactly this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.model import Model
from reconf.arrays import FloatArray, IntArray
from reconf.errors import ParameterError
from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class Fixed:
    """Data; modules (M,), strings (S,). See the module docstring for the symbols."""

    start: IntArray
    v: FloatArray
    a: FloatArray
    mu: FloatArray
    c: FloatArray
    lo: FloatArray
    hi: FloatArray
    g: FloatArray
    k: FloatArray
    zlo: FloatArray
    zhi: FloatArray
    power_w: float
    rho: float

    @property
    def string_of(self) -> IntArray:
        """(M,) string of each module."""
        return np.repeat(np.arange(self.g.size), np.diff(self.start)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class FixedSolution:
    """Answer to a `Fixed`."""

    q: FloatArray
    """(M,) through-charge currents."""
    price: float
    """Of site power, cost per W."""
    string_price: FloatArray
    """(S,) price at which each string filled its modules; differs from g*price by the window's price."""
    unserved_w: float
    """Negative: surplus."""
    cost: float


def make(model: Model, current_a: FloatArray, trim_a: FloatArray) -> Fixed:
    """Data at string currents (S,) and trim currents (M,)."""
    sign, of = model.sign, model.string_of
    current = current_a[of]
    eligible = (current <= model.limit_now_a * (1.0 + 1e-9)) & (current > 0.0)
    hi = np.where(eligible, np.minimum(current, model.limit_avg_a), 0.0)
    hi = np.where(model.forced, current, hi)
    lo = np.where(model.forced, current, 0.0)
    v = model.emf_v - sign * model.resistance_ohm * current - model.resistance_ohm * trim_a
    g = 1.0 / (1.0 + sign * model.loss_linear_frac)
    quad = (model.r_on_ohm + model.loss_quadratic_ohm) * current_a**2
    a = model.price_w_per_a + model.resistance_ohm * (current + 2.0 * sign * trim_a)
    a = a + (model.loss_linear_frac * g)[of] * v
    drop = sign * model.r_on_ohm * current_a**2
    most = model.string_load_w(model.power_max_w, current_a)
    return checked(
        Fixed(
            start=model.start,
            v=v,
            a=a,
            mu=model.weight_w_per_a2,
            c=model.target_a - sign * trim_a,
            lo=lo,
            hi=hi,
            g=np.where(current_a > 0.0, g, 0.0),
            k=np.where(current_a > 0.0, sign * (model.loss_fixed_w + quad) * g, 0.0),
            zlo=model.slot_min_v * current_a + drop,
            zhi=np.minimum(model.slot_max_v * current_a + drop, most),
            power_w=model.power_w,
            rho=model.unserved_price,
        )
    )


def checked(fixed: Fixed) -> Fixed:
    """`fixed` with windows moved into reach, or an error that names what is wrong with the data.

    Raises:
        ParameterError: a voltage or weight that is not positive, a bound upside down, or a NaN.
    """
    for name in ("v", "a", "mu", "c", "lo", "hi", "g", "k", "zlo", "zhi"):
        if not np.isfinite(getattr(fixed, name)).all():
            raise ParameterError(f"fixed-current problem: {name} has a value that is not finite")
    if (fixed.v <= 0.0).any() or (fixed.mu <= 0.0).any():
        raise ParameterError("fixed-current problem: voltages and weights must be positive")
    if (fixed.lo > fixed.hi).any():
        raise ParameterError("fixed-current problem: a lower bound lies above its upper bound")
    of, n = fixed.string_of, fixed.g.size
    least = np.bincount(of, weights=fixed.v * fixed.lo, minlength=n)
    most = np.bincount(of, weights=fixed.v * fixed.hi, minlength=n)
    zlo = np.clip(fixed.zlo, least, most)
    return replace(fixed, zlo=zlo, zhi=np.clip(np.maximum(fixed.zhi, zlo), least, most))


def objective(fixed: Fixed, q: FloatArray) -> float:
    """Cost of `q` with what it leaves unserved."""
    cost = fixed.a * q + 0.5 * fixed.mu * (q - fixed.c) ** 2
    return float(cost.sum()) + fixed.rho * abs(unserved_w(fixed, q))


def unserved_w(fixed: Fixed, q: FloatArray) -> float:
    """P less the bus power of `q`."""
    load = np.bincount(fixed.string_of, weights=fixed.v * q, minlength=fixed.g.size)
    return fixed.power_w - float((fixed.g * load - fixed.k).sum())


def violation(fixed: Fixed, q: FloatArray) -> float:
    """Largest relative violation of a bound or a window (0 where all hold)."""
    load = np.bincount(fixed.string_of, weights=fixed.v * q, minlength=fixed.g.size)
    scale_z, scale_q = 1.0 + float(np.abs(fixed.zhi).max()), 1.0 + float(np.abs(fixed.hi).max())
    worst = max(float((fixed.zlo - load).max()), float((load - fixed.zhi).max())) / scale_z
    bounds = max(float((fixed.lo - q).max()), float((q - fixed.hi).max())) / scale_q
    return max(worst, bounds, 0.0)
