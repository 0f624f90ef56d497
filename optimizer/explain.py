"""Why a module is bypassed or limited: from the duals of named constraints and the envelope's reasons.

A bound that holds has a price: the watts of cost that one unit more of it would save. Prices come from the
solution itself (the string's price pi, the closed form of the module), so nothing is solved again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.fixed import make
from optimizer.model import Model
from optimizer.result import Binding, Plan
from optimizer.solution import Solution
from reconf.arrays import FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion
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
    found = []
    if volts <= float(model.slot_min_v[s]) * (1.0 + 1e-6):
        found.append(Binding("window_min", name, per_volt, "W/V"))
    if volts >= float(model.slot_max_v[s]) * (1.0 - 1e-6):
        found.append(Binding("window_max", name, per_volt, "W/V"))
    if current >= float(model.current_max_a[s]) * (1.0 - 1e-6):
        found.append(Binding("string_current", name, per_volt, "W/A"))
    if float(solution.bus_w[s]) >= float(model.power_max_w[s]) * (1.0 - 1e-6):
        found.append(Binding("string_power", name, abs(window_price), "W/W"))
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
        if model.limit_now_a[i] < current:
            kind = "ineligible"
        elif q[k] >= min(current, model.limit_avg_a[i]) - 1e-9:
            kind = "module_average" if model.limit_avg_a[i] < current else "always_inserted"
        else:
            continue
        found.append(Binding(kind, site.topology.serials[i], price, "W/A"))
    return found


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment of a site, as its record holds it."""

    envelope: Envelope
    estimate: Estimate
    plan: Plan | None
    inserted: np.ndarray[tuple[int], np.dtype[np.bool_]]


def explain_module(site: Site, now: Situation, serial: str) -> list[str]:
    """Plain sentences about one module.

    Raises:
        ValueError: no module of that serial sits in the site.
    """
    topology = site.topology
    if serial not in topology.serials:
        raise ValueError(f"no module {serial!r} in site {site.name}")
    i = topology.serials.index(serial)
    string = site.strings[int(topology.string_of[i])]
    said = [_state_sentence(now, i, serial, string.name)]
    said += _plan_sentences(now, i, serial, int(topology.string_of[i]), string.name)
    for reason in now.envelope.reasons:
        if reason.subject == serial:
            said.append(f"{_ended(reason.text)} {_ended(reason.lift)}")
    for fault in now.envelope.faults:
        if fault.subject == serial:
            said.append(
                f"Fault {fault.fault} ({fault.severity}): {_ended(fault.evidence)} {_ended(fault.action)}"
            )
    if not now.estimate.trusted[i]:
        said.append("Its sensors are not fresh or not believed, so it may not take part until they are.")
    return said


def _state_sentence(now: Situation, i: int, serial: str, string: str) -> str:
    state = "inserted" if now.inserted[i] else "bypassed"
    soc, left = float(now.estimate.soc_frac[i]), float(now.estimate.remaining_ah[i])
    return f"{serial} in string {string} is {state}: {100 * soc:.1f} % charged, {left:.1f} Ah left to give."


def _plan_sentences(now: Situation, i: int, serial: str, s: int, string: str) -> list[str]:
    """What the plan does with the module and what binds."""
    insertion = int(now.envelope.insertion[i])
    if insertion == Insertion.FORBIDDEN:
        return ["Protection forbids to insert it."]
    if insertion == Insertion.FORCED:
        return ["It must stay inserted: its switch cannot be trusted to bypass it."]
    plan = now.plan
    if plan is None:
        return ["No plan is in force."]
    current, duty, trim = (
        float(plan.string_current_a[s]),
        float(plan.duty_frac[i]),
        float(plan.trim_current_a[i]),
    )
    said = []
    if abs(current) < 1e-6:
        return [f"String {string} carries no current, so nothing has to be switched."]
    limit = float((now.envelope.discharge_now_a if current > 0 else now.envelope.charge_now_a)[i])
    if duty <= 1e-6 and limit < abs(current):
        said.append(
            f"The string carries {abs(current):.1f} A and the module may carry {limit:.1f} A at most, "
            "so it stays out for the whole interval."
        )
    elif duty >= 1.0 - 1e-6:
        said.append("It has more charge than its peers, so it is inserted all the time.")
    else:
        said.append(
            f"The plan inserts it {100 * duty:.0f} % of the time, so that all of the string end together."
        )
    if abs(trim) > 0.01:
        said.append(f"Its trim converter {'gives' if trim > 0 else 'takes'} {abs(trim):.2f} A.")
    said += [
        f"Limit {b.constraint} binds: one unit more would save {b.price:.1f} {b.unit}."
        for b in plan.bindings
        if b.subject == serial
    ]
    return said


def explain_site(site: Site, now: Situation) -> list[str]:
    """Plain sentences about the site: power, strings, and the limits that bind."""
    plan = now.plan
    count = int(now.inserted.sum())
    said = [f"{count} of {now.inserted.size} modules are inserted."]
    if plan is None:
        said.append("No plan is in force.")
    else:
        said.append(
            f"Asked {plan.power_asked_w / 1e3:.2f} kW, planned {plan.power_planned_w / 1e3:.2f} kW "
            f"({plan.policy.value}); losses {plan.loss_w:.0f} W; certified gap {100 * plan.gap_frac:.1f} %."
        )
        if plan.unserved_w > 1.0:
            said.append(f"{plan.unserved_w / 1e3:.2f} kW cannot be served now; the limits below say why.")
        strings = {s.name for s in site.strings} | {"site"}
        said += [
            f"{b.subject}: {b.constraint} binds, worth {b.price:.2f} {b.unit}."
            for b in plan.bindings
            if b.subject in strings
        ]
    strings = {s.name for s in site.strings} | {"site"}
    said += [
        f"{r.subject}: {_ended(r.text)} {_ended(r.lift)}"
        for r in now.envelope.reasons
        if r.subject in strings
    ]
    return said


def _ended(text: str) -> str:
    """`text` as a sentence."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
