"""Which constraints bind in a plan, and what each costs: from the duals of the fixed-current problem.

A bound that holds has a price: the watts of cost that one unit more of it would save. Prices come from the
solution itself (the string's price pi, the closed form of the module), so nothing is solved again.
"""

from __future__ import annotations

import numpy as np

from optimizer.fixed import make
from optimizer.model import Model
from optimizer.result import Binding
from optimizer.solution import Solution
from reconf.arrays import FloatArray
from reconf.site import Site

MIN_PRICE_W_PER_A = 0.05
PER_STRING = 6
"""Most module constraints named for each string, dearest first."""


def bindings(site: Site, model: Model, solution: Solution, short_w: float) -> tuple[Binding, ...]:
    """Named constraints that bind in a solution, with their prices, dearest first within each string."""
    found: list[Binding] = []
    if short_w > 0.0:
        found.append(Binding("site_power", "site", model.unserved_price, "W/W"))
    fixed = make(model, solution.current_a, solution.trim_a)
    load = model.string_sum(fixed.v * solution.through_a)
    window = solution.string_price - fixed.g * solution.price
    gain = (
        solution.string_price[model.string_of] * fixed.v - fixed.a - fixed.mu * (solution.through_a - fixed.c)
    )
    for s in np.flatnonzero(solution.current_a > 0.0):
        name = site.strings[int(s)].name
        found += _string_bindings(model, solution, int(s), name, float(load[s]), float(window[s]))
        found += _module_bindings(site, model, solution, gain, int(s))
    return tuple(found)


def _string_bindings(
    model: Model, solution: Solution, s: int, name: str, load_w: float, window_price: float
) -> list[Binding]:
    """Window, current and power limits of one string."""
    current = float(solution.current_a[s])
    volts = load_w / current - model.sign * float(model.r_on_ohm[s]) * current
    per_volt = abs(window_price) * current
    low, high, most = float(model.slot_min_v[s]), float(model.slot_max_v[s]), float(model.current_max_a[s])
    found = []
    if volts <= low * (1.0 + 1e-6):
        found.append(Binding("window_min", name, per_volt, "W/V", limit=low))
    if volts >= high * (1.0 - 1e-6):
        found.append(Binding("window_max", name, per_volt, "W/V", limit=high))
    if current >= most * (1.0 - 1e-6):
        found.append(Binding("string_current", name, per_volt, "W/A", limit=most))
    if float(solution.bus_w[s]) >= float(model.power_max_w[s]) * (1.0 - 1e-6):
        most_w = float(model.power_max_w[s])
        found.append(Binding("string_power", name, abs(window_price), "W/W", limit=most_w))
    return found


def _module_bindings(site: Site, model: Model, solution: Solution, gain: FloatArray, s: int) -> list[Binding]:
    """Bounds of the modules of one string whose price is worth naming."""
    where = slice(int(model.start[s]), int(model.start[s + 1]))
    current = float(solution.current_a[s])
    q, worth = solution.through_a[where], gain[where]
    order = np.argsort(-worth)
    found = []
    for k in order[:PER_STRING]:
        i = where.start + int(k)
        price = float(worth[k])
        if price < MIN_PRICE_W_PER_A:
            break
        room = np.inf
        if model.limit_now_a[i] < current:
            kind, limit, room = "ineligible", float(model.limit_now_a[i]), current
        elif q[k] >= min(current, model.limit_avg_a[i]) - 1e-9:
            kind = "module_average" if model.limit_avg_a[i] < current else "always_inserted"
            limit = min(current, float(model.limit_avg_a[i]))
            room = current - limit if kind == "module_average" else np.inf
        else:
            continue
        lost = saving_w(price, float(model.weight_w_per_a2[i]), room)
        found.append(Binding(kind, site.topology.serials[i], price, "W/A", cost_w=lost, limit=limit))
    return found


def saving_w(price_w_per_a: float, weight_w_per_a2: float, room_a: float) -> float:
    """What lifting a bound on a module's current saves at the string's price [W].

    The cost falls by price*x - weight/2*x^2 while the current moves by x, best at x = price/weight, and no
    further than the string's current leaves room.
    """
    moved = min(price_w_per_a / weight_w_per_a2, room_a)
    return price_w_per_a * moved - 0.5 * weight_w_per_a2 * moved**2
