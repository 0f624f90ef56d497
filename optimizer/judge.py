"""Two plans for the same interval, held against each other as they would be switched.

A wide gap says that a plan is far from a bound, not that something better is at hand: shortly before modules
are empty or full few slots are left, whole modules in whole slots are then far from any average, and no bound
knows of it. What counts for using a plan is whether the one that would be used instead is better.
"""

from __future__ import annotations

import numpy as np

from optimizer.allocate import GAP_OF_POWER_FRAC
from optimizer.certify import Certificate, preview_slots, scheduled_cost
from optimizer.currents import Padded, deliverable_w
from optimizer.model import Model, at_power, build
from optimizer.result import AllocationInput, Plan
from optimizer.solution import Solution
from reconf.replacing import replace
from reconf.site import Site


def no_worse(site: Site, asked: AllocationInput, plan: Plan, instead: Plan) -> bool:
    """Whether `plan` costs no more than `instead` as both would be switched, or hardly more.

    Whole slots move a cost by some per cent of the power either way; between equals the plan made for this
    interval counts.
    """
    spare_w = GAP_OF_POWER_FRAC * abs(asked.request.power_w)
    return cost_as_switched_w(site, asked, plan) <= cost_as_switched_w(site, asked, instead) + spare_w


def cost_as_switched_w(site: Site, asked: AllocationInput, plan: Plan) -> float:
    """What `plan` costs in the interval of `asked`, played slot by slot, with its switchings.

    The plan may be of another interval. It is taken as it would be followed: inside the envelope of `asked`,
    made smaller where it gives more than is asked now, and with what it does not serve at its price.

    Returns:
        Cost [W], comparable between plans for one question alone.
    """
    model = build(site, asked)
    # numpy alone: this runs between two ticks, where no compiled loop may be loaded
    limit_w, _ = deliverable_w(model, Padded.of(model), np.zeros(model.n_modules))
    served = at_power(model, min(model.power_w, float(limit_w.sum())))
    followed = _followed(served, plan)
    slots = preview_slots(site, served)
    cost, switched = scheduled_cost(site, served, asked, followed, _as_solution(served, followed), slots)
    switching_w = Certificate(cost, np.nan, np.nan, switched, slots).switching_w(site)
    return cost.total_w + switching_w + model.unserved_price * (model.power_w - served.power_w)


def _followed(model: Model, plan: Plan) -> Plan:
    """The plan at no more than the power of `model`."""
    given_w = float(np.abs(plan.string_power_w).sum())
    share = min(1.0, model.power_w / given_w) if given_w > 0.0 else 1.0
    return replace(
        plan, string_power_w=share * plan.string_power_w, string_current_a=share * plan.string_current_a
    )


def _as_solution(model: Model, plan: Plan) -> Solution:
    """Averages of a plan; a module that must be out carries nothing."""
    current = np.abs(plan.string_current_a)
    through = plan.duty_frac * current[model.string_of] * (model.limit_now_a > 0.0)
    bus = np.abs(plan.string_power_w)
    return Solution(current, through, plan.trim_current_a, bus, bus, 0.0, np.zeros(model.n_strings))
