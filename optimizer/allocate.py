"""One interval's answer: string currents, duties, trim currents and converter powers."""

from __future__ import annotations

import math
import time

import numpy as np

from optimizer.ahead import looking_ahead
from optimizer.bindings import bindings
from optimizer.bound import Column, PricedStrings
from optimizer.certify import certify
from optimizer.currents import Padded
from optimizer.fixed import make, objective
from optimizer.model import Model, at_power, build
from optimizer.result import AllocationInput, AllocationResult, Inaccurate, Infeasible, Plan, Policy
from optimizer.search import Budget, Found, budget_for, search
from optimizer.solution import Solution, cost_of
from optimizer.solve import deliverable, from_prices, solve
from reconf.compiled import engine_for
from reconf.errors import SolverError
from reconf.protection.envelope import Insertion
from reconf.replacing import replace
from reconf.site import Site

REFERENCE_AGREES_FRAC = 1e-6
"""Difference of the costs of both solvers that is still agreement."""
GAP_OF_POWER_FRAC = 0.02
"""A gap below this share of the power is no reason to distrust a plan, however small its losses are."""
IDLE_FRAC = 5e-3
"""Of rated power: below it the converters lose more than they carry, and no gap is a reason to distrust."""
AGAIN_SHARE = 0.125
"""Of the search's budget for solving an interval again: without its reserve a plan meets its bound soon."""
RESERVED_SHARE = 0.25
"""Of the search's budget where the reserve for whole modules binds: such a plan cannot meet a bound that does
not know of the reserve, and looking on would only make the answer late."""
SHORT_FRAC = 1e-6
"""Unserved power above this share means that power is short."""
SHORT_AS_SCHEDULED_FRAC = 1e-4
"""The same with whole modules in whole slots: at the edge of the window rounding takes a little power."""


def allocate(site: Site, asked: AllocationInput) -> AllocationResult:
    """Plan one interval. Pure apart from taking the time it took."""
    began = time.perf_counter()
    plain = build(site, asked)
    reason = unreachable(plain, asked)
    if reason:
        return Infeasible(interval=asked.interval, reason=reason)
    model, served = interval_models(site, asked, plain)
    solution = solve(served, asked)
    found = proven(served, asked, solution, RESERVED_SHARE if reserve_binds(served, solution) else 1.0)
    differs = ""
    if site.allocator.solver == "reference":
        found, differs = by_reference(served, found)
    plan = to_plan(site, served, asked, found.solution, model.power_w - served.power_w)
    plan = replace(plan, solve_ms=1e3 * (time.perf_counter() - began))
    if differs:
        return Inaccurate(interval=asked.interval, reason=differs, plan=plan)
    answer = judged(site, served, asked, plan, found)
    if isinstance(answer, Inaccurate):
        answer = without_reserve(site, served, asked, answer, found, model.power_w - served.power_w)
        plan = answer.plan if isinstance(answer, Inaccurate) else answer
        plan = replace(plan, solve_ms=1e3 * (time.perf_counter() - began))
        return replace(answer, plan=plan) if isinstance(answer, Inaccurate) else plan
    return answer


def reserve_binds(model: Model, solution: Solution) -> bool:
    """Whether a string stands at the lower edge that whole modules ask for, above its window's own."""
    current = solution.current_a
    runs = model.used & (current > 0.0) & (model.slot_min_v > model.window_min_v * (1.0 + SHORT_FRAC))
    load = model.string_load_w(solution.bus_w[:, None], current[:, None])[:, 0]
    return bool((runs & (load <= current * model.slot_min_v * (1.0 + SHORT_FRAC))).any())


def without_reserve(
    site: Site, model: Model, asked: AllocationInput, answer: Inaccurate, found: Found, short_w: float
) -> Plan | Inaccurate:
    """The interval solved once more with its window kept on average alone, if that is cheaper in slots.

    The reserve for whole modules (`Model.slot_min_v`) is made for a random draw of modules. Near empty their
    voltages lie far apart, and it can ask for one module more than a schedule needs that chooses its modules;
    that takes rest from those that have least left. Which plan is better, the slots themselves tell. No bound
    knows of the reserve: both bounds hold for both plans, the higher counts.
    """
    relaxed = replace(model, slot_min_v=model.window_min_v, slot_max_v=model.window_max_v)
    first = solve(relaxed, asked)
    if cost_of(relaxed, first).total_w >= cost_of(model, found.solution).total_w:
        return answer  # the reserve is not what binds
    again = proven(relaxed, asked, first, AGAIN_SHARE)
    again = replace(again, bound_w=float(np.fmax(again.bound_w, found.bound_w)))
    other = judged(site, relaxed, asked, to_plan(site, relaxed, asked, again.solution, short_w), again)
    if isinstance(other, Plan):
        # without a gap it is short of power, which the plan with its reserve is not
        return other if np.isfinite(other.gap_frac) else answer
    return other if other.plan.cost_w < answer.plan.cost_w else answer


def interval_models(site: Site, asked: AllocationInput, model: Model) -> tuple[Model, Model]:
    """The interval as it is asked for, with what comes after it, and the part of it that can be served."""
    if asked.request.horizon_power_w:
        coming = np.array(asked.request.horizon_power_w) + site.allocator.aux_load_w
        model = looking_ahead(model, coming, site.timing.interval_s)
    return model, at_power(model, min(model.power_w, float(deliverable(model).sum())))


def by_reference(model: Model, found: Found) -> tuple[Found, str]:
    """The plan's fixed-current problem answered by the reference (`allocator.solver: reference`).

    String currents and trim are those of the search; what is solved anew is the problem both solvers take.

    Returns:
        The answer, and what is wrong with it where the two do not agree (empty where they do).
    """
    from optimizer.problem import reference_for

    solution = found.solution
    fixed = make(model, solution.current_a, solution.trim_a)
    try:
        answer = reference_for(tuple(int(i) for i in model.start)).solve(fixed)
    except SolverError as error:
        return found, f"reference: {error}"
    ours = objective(fixed, solution.through_a)
    difference = abs(ours - answer.cost) / max(abs(ours), abs(answer.cost), 1.0)
    q = np.clip(answer.q, fixed.lo, fixed.hi)
    solved = replace(
        solution,
        through_a=q,
        bus_w=fixed.g * model.string_sum(fixed.v * q) - fixed.k,
        price=answer.price,
        string_price=answer.string_price,
    )
    reason = (
        ""
        if difference <= REFERENCE_AGREES_FRAC
        else (f"structured solver and reference differ by {difference:.1e} of the cost")
    )
    return replace(found, solution=solved), reason


def proven(model: Model, asked: AllocationInput, solution: Solution, share: float = 1.0) -> Found:
    """The plan bettered until it meets a true lower bound, or until the budget of this interval is used up.

    No bound (NaN) at rest, where the break-even test of trim decides, nor without compiled loops, which would
    need seconds. `share` is the part of the budget that may be spent.
    """
    if asked.request.balance and model.power_w == 0.0:
        return Found(solution, float("nan"), 0, 0)
    if engine_for("auto") == "numpy":
        return Found(solution, float("nan"), 0, 0)
    padded, strings = Padded.of(model), PricedStrings(model)

    def improve(given: Column, before: Solution) -> Solution:
        return from_prices(model, padded, asked, strings, given, before)

    whole = budget_for(model)
    budget = Budget(int(share * whole.evaluations), int(share * whole.parts), math.ceil(share * whole.tries))
    return search(model, solution, improve, budget, strings)


def judged(site: Site, model: Model, asked: AllocationInput, plan: Plan, found: Found) -> Plan | Inaccurate:
    """The plan with its certificate; `Inaccurate` where the gap exceeds what the site file allows.

    Where power is short, by the limits or because whole modules in whole slots cannot serve more, every
    string stands at its limit and there is nothing to choose: such a plan carries no gap, its `unserved_w`
    and bindings say what is missing and why.
    """
    if plan.unserved_w > SHORT_FRAC * max(model.power_w, 1.0):
        return plan
    proof = certify(site, model, asked, plan, found.solution, found.bound_w)
    if proof.cost.unserved_w > SHORT_AS_SCHEDULED_FRAC * max(model.power_w, 1.0):
        fewer_w = model.sign * (proof.cost.unserved_w - plan.unserved_w)
        return replace(plan, unserved_w=proof.cost.unserved_w, power_planned_w=plan.power_planned_w - fewer_w)
    plan = replace(
        plan,
        lower_bound_w=proof.lower_bound_w,
        gap_frac=proof.gap_frac,
        cost_w=proof.cost.total_w,
        switching_w=proof.switching_w(site),
    )
    allowed, missed_w = site.allocator.gap_limit_frac, proof.cost.total_w - proof.lower_bound_w
    idle = model.power_w < IDLE_FRAC * float(model.power_max_w[model.used].sum())
    if proof.gap_frac > allowed and missed_w > GAP_OF_POWER_FRAC * model.power_w and not idle:
        reason = f"certified gap {proof.gap_frac:.1%} of the losses, allowed {allowed:.1%}"
        return Inaccurate(interval=asked.interval, reason=reason, plan=plan)
    return plan


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


def to_plan(site: Site, model: Model, asked: AllocationInput, solution: Solution, short_w: float) -> Plan:
    """Signed averages of the interval; what the aux load takes is not power planned for the request."""
    aux_w = site.allocator.aux_load_w
    current = solution.current_a[model.string_of]
    duty = np.where(current > 0.0, solution.through_a / np.where(current > 0.0, current, 1.0), 0.0)
    planned = float(solution.bus_w.sum())
    cost = cost_of(model, solution)
    unserved = short_w + max(cost.unserved_w, 0.0)
    return Plan(
        interval=asked.interval,
        policy=Policy.REFERENCE if site.allocator.solver == "reference" else Policy.STRUCTURED,
        string_current_a=model.sign * solution.current_a,
        string_power_w=model.sign * solution.bus_w,
        duty_frac=np.clip(duty, 0.0, 1.0),
        trim_current_a=solution.trim_a,
        power_asked_w=asked.request.power_w,
        power_planned_w=model.sign * planned - aux_w,
        unserved_w=unserved,
        loss_w=cost.loss_w,
        cost_w=cost.total_w + model.unserved_price * short_w,
        lower_bound_w=float("nan"),
        gap_frac=float("nan"),
        bindings=bindings(site, model, solution, short_w),
        solve_ms=0.0,
    )
