"""What is known of the coming intervals, put into this one: charge windows and limits that will bind later.

With the powers of the next intervals known (a schedule, a forecast), two things change what is right now.

*Charge window.* Evenness is worth something only if the charge is used. When the power turns before all of
it is needed, a module may run ahead of its share by m = 1/depth - 1 without any stranding, where depth is the
share of the available energy that is asked before the turn. The balance weight shrinks by (x0/(x0 + m))^2:
full where everything is needed, a fiftieth where only half is.

*Limits that bind later.* A module that will be limited in a peak cannot give its share then; it gives more
before. Its share c_h of each interval is multiplied by beta, the same in all, until what it can give adds up:

    sum over h of min(beta*c_h, limit_h) = sum over h of c_h
"""

from __future__ import annotations

import numpy as np

from optimizer.model import Model
from reconf.arrays import FloatArray
from reconf.replacing import replace

SPREAD = 0.13
"""Deviation from its share at which evenness is felt: the spread of retired modules."""
WEIGHT_LEAST = 0.02
"""The weight never vanishes: forecasts err, and the problem stays strictly convex."""
BETA_MAX = 3.0
STEPS = 40


def looking_ahead(model: Model, power_w: FloatArray, interval_s: float) -> Model:
    """`model` with targets and weights for this interval and the coming ones.

    Args:
        model: of this interval.
        power_w: (H,) asked of the site in the coming intervals with the aux load, discharge positive [W].
        interval_s: length of each.
    """
    ahead, turns = until_turn(model.sign * power_w)
    if model.power_w <= 0.0 or (ahead.size == 0 and not turns):
        return model
    needed = np.concatenate(([model.power_w], ahead))
    slack = weight_factor(depth_frac(model, needed, interval_s)) if turns else 1.0
    beta = share_factors(model, needed)
    target = model.target_a * beta
    energy = float(target @ model.emf_v)
    scale = model.power_w / energy if energy > 0.0 else 1.0
    target = target * scale
    # the weight is relative to the share, see `optimizer.model`
    weight = model.weight_w_per_a2 * slack * model.target_a / np.maximum(target, 1e-9)
    weight = np.where(model.target_a > 0.0, weight, model.weight_w_per_a2 * slack)
    return replace(model, target_a=target, weight_w_per_a2=weight)


def until_turn(ahead_w: FloatArray) -> tuple[FloatArray, bool]:
    """Powers (magnitudes) before the direction changes, and whether it does."""
    against = np.flatnonzero(ahead_w < 0.0)
    if against.size == 0:
        return ahead_w.copy(), False
    return ahead_w[: int(against[0])].copy(), True


def depth_frac(model: Model, needed_w: FloatArray, interval_s: float) -> float:
    """Share of the energy that can move in this direction which is asked before the turn."""
    available_wh = float((model.available_ah * model.emf_v) @ (model.limit_now_a > 0.0))
    if available_wh <= 0.0:
        return 1.0
    return min(float(needed_w.sum()) * interval_s / 3600.0 / available_wh, 1.0)


def weight_factor(depth: float) -> float:
    """Factor on the balance weight when only `depth` of the charge is needed."""
    spare = 1.0 / max(depth, 1e-3) - 1.0
    return max((SPREAD / (SPREAD + spare)) ** 2, WEIGHT_LEAST)


def share_factors(model: Model, needed_w: FloatArray) -> FloatArray:
    """(M,) beta >= 1: how much more than its share a module gives while it can, for when it cannot."""
    shares = model.target_a[None, :] * (needed_w / model.power_w)[:, None]
    limits = _limits_ahead(model, needed_w, shares)
    wanted = shares.sum(axis=0)
    low, high = np.ones(model.n_modules), np.full(model.n_modules, BETA_MAX)
    for _ in range(STEPS):
        beta = 0.5 * (low + high)
        short = np.minimum(beta * shares, limits).sum(axis=0) < wanted
        low, high = np.where(short, beta, low), np.where(short, high, beta)
    free = np.minimum(shares, limits).sum(axis=0) >= wanted * (1.0 - 1e-9)
    return np.where(free | (wanted <= 0.0), 1.0, high)


def _limits_ahead(model: Model, needed_w: FloatArray, shares_a: FloatArray) -> FloatArray:
    """(H, M) most through-charge current of each module at the string currents that the powers will need."""
    peak = np.zeros(model.n_strings)
    np.maximum.at(peak, model.string_of, model.target_a)
    duty = model.target_a / np.maximum(peak, 1e-9)[model.string_of]
    volts = np.clip(model.string_sum(model.emf_v * duty), model.slot_min_v, model.slot_max_v)
    share = model.string_sum(model.target_a * model.emf_v) / model.power_w
    current = (needed_w[:, None] * share / np.maximum(volts, 1.0))[:, model.string_of]
    able = current <= model.limit_now_a * (1.0 + 1e-9)
    # in this interval the plan itself knows what is eligible
    able[0] = model.limit_now_a > 0.0
    most = np.minimum(np.maximum(current, shares_a), model.limit_avg_a)
    return np.where(able, most, 0.0)
