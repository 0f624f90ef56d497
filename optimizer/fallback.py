"""The rule that follows when no plan stands: largest remaining charge first, inside the envelope."""

from __future__ import annotations

import numpy as np

from optimizer.allocate import to_plan, unreachable
from optimizer.currents import Padded, deliverable_w, stack
from optimizer.model import Model, at_power, build
from optimizer.result import AllocationInput, Infeasible, Plan, Policy
from optimizer.share import share_by_weight
from optimizer.solution import Solution
from reconf.arrays import FloatArray
from reconf.replacing import replace
from reconf.site import Site


def largest_remaining(site: Site, asked: AllocationInput) -> Plan | Infeasible:
    """Share by remaining energy; in each string insert the fullest modules that reach mid-window."""
    model = build(site, asked)
    reason = unreachable(model, asked)
    if reason:
        return Infeasible(interval=asked.interval, reason=reason)
    padded, still = Padded.of(model), np.zeros(model.n_modules)
    limit_w, top_a = deliverable_w(model, padded, still)
    bus = share_by_weight(model.string_sum(model.target_a * model.emf_v), limit_w, model.power_w)
    current, duty = _largest_first(model, padded, bus, top_a)
    short_w = max(model.power_w - float(bus.sum()), 0.0)
    model = at_power(model, model.power_w - short_w)
    solution = Solution(
        current_a=current,
        through_a=duty * current[model.string_of],
        trim_a=still,
        bus_w=np.where(current > 0.0, bus, 0.0),
        deliverable_w=limit_w,
        price=0.0,
        string_price=np.zeros(model.n_strings),
    )
    plan = to_plan(site, model, asked, solution, short_w)
    return replace(plan, policy=Policy.LARGEST_REMAINING, solve_ms=0.0)


def _largest_first(
    model: Model, padded: Padded, bus_w: FloatArray, top_a: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Currents (S,) and 0/1 duties (M,), the last module of a string with the fraction that fits."""
    aim_v = 0.9 * model.window_min_v + 0.1 * model.window_max_v
    load = np.maximum(model.string_load_w(bus_w[:, None], np.zeros((model.n_strings, 1)))[:, 0], 0.0)
    limits = padded.take(model.limit_now_a, 0.0)
    current = np.minimum(load / aim_v, np.minimum(top_a, limits.max(axis=1)))
    at = stack(model, padded, current[:, None], np.zeros(model.n_modules))
    wanted = np.clip(
        model.string_load_w(bus_w[:, None], current[:, None])[:, 0], at.load_min_w[:, 0], at.load_max_w[:, 0]
    )
    order = np.argsort(-padded.take(model.available_ah, -1.0), axis=1)
    hi = np.take_along_axis(at.hi[:, 0, :], order, axis=1)
    v = np.take_along_axis(at.v[:, 0, :], order, axis=1)
    before = np.cumsum(v * hi, axis=1) - v * hi
    q_sorted = np.clip((wanted[:, None] - before) / v, 0.0, hi)
    q = np.zeros_like(q_sorted)
    np.put_along_axis(q, order, q_sorted, axis=1)
    duty = np.where(current[:, None] > 0.0, q / np.where(current[:, None] > 0.0, current[:, None], 1.0), 0.0)
    return current, padded.flat(np.clip(duty, 0.0, 1.0))
