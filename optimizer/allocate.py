"""One interval's answer: string currents, duties, trim currents and converter powers."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from optimizer.currents import Padded, best_currents, deliverable_w
from optimizer.model import Model, build
from optimizer.result import AllocationInput, AllocationResult, Binding, Infeasible, Plan, Policy
from optimizer.share import share_by_weight
from reconf.arrays import FloatArray
from reconf.protection.envelope import Insertion
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solver found, magnitudes in the direction of the interval."""

    current_a: FloatArray
    """(S,)"""
    through_a: FloatArray
    """(M,) q."""
    trim_a: FloatArray
    """(M,) out positive."""
    bus_w: FloatArray
    """(S,)"""
    deliverable_w: FloatArray
    """(S,)"""


def allocate(site: Site, asked: AllocationInput) -> AllocationResult:
    """Plan one interval. Pure apart from taking the time it took."""
    began = time.perf_counter()
    model = build(site, asked)
    reason = unreachable(model, asked)
    if reason:
        return Infeasible(interval=asked.interval, reason=reason)
    solution = solve(model)
    return to_plan(site, model, asked, solution, time.perf_counter() - began)


def unreachable(model: Model, asked: AllocationInput) -> str:
    """Why no connected string can even stand in its window at no load; empty if one can."""
    if not model.used.any():
        return "" if not asked.request.connected.any() else "no connected string is usable"
    ready = asked.envelope.insertion != np.uint8(Insertion.FORBIDDEN)
    most = model.string_sum(np.where(ready, asked.estimate.ocv_v, 0.0))
    short = model.used & (most < model.window_min_v)
    if (short | ~model.used).all():
        worst = int(np.flatnonzero(short)[0])
        return (
            f"no connected string reaches its converter window: string {worst} has {most[worst]:.1f} V "
            f"with every allowed module inserted, its window begins at {model.window_min_v[worst]:.1f} V"
        )
    return ""


def solve(model: Model) -> Solution:
    """Share the power by energy, then the best current of every string."""
    padded = Padded.of(model)
    trim = np.zeros(model.n_modules)
    limit_w, top_a = deliverable_w(model, padded, trim)
    energy = model.string_sum(model.target_a * model.emf_v)
    bus = share_by_weight(energy, limit_w, model.power_w)
    current, through = best_currents(model, padded, bus, top_a, trim)
    bus = np.where(current > 0.0, bus, 0.0)
    return Solution(current, through, trim, bus, limit_w)


def loss_w(model: Model, solution: Solution) -> float:
    """Module, switch, trim and converter losses [W]; equation in optimizer/model.py."""
    current = solution.current_a[model.string_of]
    q, t = solution.through_a, solution.trim_a
    modules = model.resistance_ohm * (current * q + 2.0 * model.sign * q * t + t * t)
    quad = (model.r_on_ohm + model.loss_quadratic_ohm) * solution.current_a**2
    converters = model.loss_fixed_w * model.used + model.loss_linear_frac * solution.bus_w
    trim = (1.0 - model.trim_efficiency_frac) * model.emf_v * np.maximum(t, 0.0)
    return float(modules.sum() + quad.sum() + converters.sum() + trim.sum())


def to_plan(site: Site, model: Model, asked: AllocationInput, solution: Solution, took_s: float) -> Plan:
    """Signed averages of the interval; what the aux load takes is not power planned for the request."""
    aux_w = site.allocator.aux_load_w
    current = solution.current_a[model.string_of]
    duty = np.where(current > 0.0, solution.through_a / np.where(current > 0.0, current, 1.0), 0.0)
    planned = float(solution.bus_w.sum())
    unserved = max(model.power_w - planned, 0.0)
    loss = loss_w(model, solution)
    deviation = solution.through_a + model.sign * solution.trim_a - model.target_a
    balance = float((0.5 * model.weight_w_per_a2 * deviation**2).sum())
    wear = float(model.price_w_per_a @ solution.through_a)
    bindings = (
        (Binding("site_power", "site", model.unserved_price, "W/W"),)
        if unserved > 1e-6 * max(planned, 1.0)
        else ()
    )
    return Plan(
        interval=asked.interval,
        policy=Policy.STRUCTURED,
        string_current_a=model.sign * solution.current_a,
        string_power_w=model.sign * solution.bus_w,
        duty_frac=np.clip(duty, 0.0, 1.0),
        trim_current_a=solution.trim_a,
        power_asked_w=asked.request.power_w,
        power_planned_w=model.sign * planned - aux_w,
        unserved_w=unserved,
        loss_w=loss,
        cost_w=loss + balance + wear + model.unserved_price * unserved,
        lower_bound_w=float("nan"),
        gap_frac=float("nan"),
        bindings=bindings,
        solve_ms=1e3 * took_s,
    )
