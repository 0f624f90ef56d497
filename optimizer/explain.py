"""Why a module is bypassed or limited, in plain sentences: binding constraints and the envelope's reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from optimizer.result import AllocationInput, Binding, Inaccurate, Infeasible, Late, Plan, Request
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope, Insertion, Reason
from reconf.replacing import replace
from reconf.sequences import SiteMode
from reconf.site import Site

MIN_COST_W = 1.0
SITE_MODULES = 5
"""Modules whose limits are named for the whole site, dearest first; each has its own page."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment of a site, as its record holds it."""

    envelope: Envelope
    estimate: Estimate
    plan: Plan | None
    inserted: np.ndarray[tuple[int], np.dtype[np.bool_]]
    mode: SiteMode


LEFT = "every string is left, so every module is bypassed, whatever its own state"
MODE_TEXTS = {
    SiteMode.OFF: f"The site is off: {LEFT}. `reconf mode run` starts it.",
    SiteMode.PRECHARGE: "The strings are joining the bus: nothing carries power yet, and no plan decides.",
    SiteMode.STANDBY: "The site is in standby: strings are connected and the converters rest, so no power is "
    "planned and no module is in or out for the sake of power. `reconf mode run` starts it.",
    SiteMode.MAINTENANCE: f"Maintenance is taken: {LEFT}. `reconf maintenance release` ends it.",
    SiteMode.FAULT: f"A fault has opened the site: {LEFT}. `reconf maintenance status` names it.",
    SiteMode.ESTOP: f"Emergency stop: {LEFT}. It is cleared on site.",
}
"""What each mode other than run means for the modules."""


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
    said += [MODE_TEXTS[now.mode]] if now.mode in MODE_TEXTS else []
    said += _plan_sentences(now, i, serial, int(topology.string_of[i]), string.name)
    said += [_reason_sentence(r) for r in now.envelope.reasons if r.subject == serial]
    for fault in now.envelope.faults:
        if fault.subject == serial:
            said.append(
                f"Fault {fault.fault} ({fault.severity}): {_ended(fault.evidence)} {_ended(fault.action)}"
            )
    if not now.estimate.trusted[i]:
        said.append("Its sensors are not fresh or not believed, so it may not take part until they are.")
    return said + _without_limits(site, now, i)


LIMIT_NAMES = {
    "discharge_now_a": ("It may give at most {value:.1f} A at any moment", "A"),
    "charge_now_a": ("It may take at most {value:.1f} A at any moment", "A"),
    "discharge_avg_a": ("It may give at most {value:.1f} A on average", "A"),
    "charge_avg_a": ("It may take at most {value:.1f} A on average", "A"),
    "insertion": ("Protection decides whether it may be in", ""),
}


def _reason_sentence(reason: Reason) -> str:
    """A limit of the envelope: how much, why, what would lift it."""
    name, _ = LIMIT_NAMES.get(reason.limit, ("", ""))
    text = reason.text.strip().rstrip(".")
    head = f"{name.format(value=reason.value)}: {text}" if name else text[:1].upper() + text[1:]
    return f"{_ended(head)} What lifts it: {_ended(reason.lift)}"


def _without_limits(site: Site, now: Situation, i: int) -> list[str]:
    """What the module's own limits cost: the same interval planned as if it had none."""
    plan, topology = now.plan, site.topology
    serial = topology.serials[i]
    kept_out = now.envelope.insertion[i] == np.uint8(Insertion.FORBIDDEN) or not now.estimate.trusted[i]
    bound = plan is not None and any(
        b.subject == serial and b.constraint in ("ineligible", "module_average") for b in plan.bindings
    )
    if now.mode is not SiteMode.RUN or plan is None or plan.power_asked_w == 0.0 or not (kept_out or bound):
        return []
    one = np.arange(topology.n_modules) == i
    free = replace(
        now.envelope,
        insertion=np.where(one, np.uint8(Insertion.ALLOWED), now.envelope.insertion),
        **{
            name: np.where(one, np.max(getattr(now.envelope, name)), getattr(now.envelope, name))
            for name in ("discharge_now_a", "charge_now_a", "discharge_avg_a", "charge_avg_a")
        },
    )
    believed = replace(now.estimate, trusted=now.estimate.trusted | one)
    before = _replanned(site, now, plan, now.estimate, now.envelope)
    after = _replanned(site, now, plan, believed, free)
    if before is None or after is None:
        return []
    less_w, more_w = before.loss_w - after.loss_w, before.unserved_w - after.unserved_w
    if more_w > 1.0:
        return [f"Without its limits the site would serve {more_w:.0f} W more."]
    word = "less" if less_w >= 0.0 else "more, but its charge would be used with that of its peers"
    return [f"Without its limits the site would lose {abs(less_w):.1f} W {word}."]


def _replanned(site: Site, now: Situation, plan: Plan, estimate: Estimate, envelope: Envelope) -> Plan | None:
    """The interval planned anew; None where there is no plan."""
    from optimizer.allocate import allocate

    request = Request(plan.power_asked_w, np.abs(plan.string_current_a) > 0.0)
    answer = allocate(site, AllocationInput(plan.interval, estimate, envelope, request, now.inserted))
    match answer:
        case Plan():
            return answer
        case Inaccurate(plan=found):
            return found
        case Infeasible() | Late():
            return None
        case _:
            assert_never(answer)


def _state_sentence(now: Situation, i: int, serial: str, string: str) -> str:
    state = "inserted" if now.inserted[i] else "bypassed"
    soc, left = float(now.estimate.soc_frac[i]), float(now.estimate.remaining_ah[i])
    return f"{serial} in string {string} is {state}: {100 * soc:.1f} % charged, {left:.1f} Ah left to give."


def _plan_sentences(now: Situation, i: int, serial: str, s: int, string: str) -> list[str]:
    """What the plan does with the module and what binds."""
    insertion = int(now.envelope.insertion[i])
    if insertion == Insertion.FORBIDDEN:
        return ["Protection forbids to insert it; the reasons follow."]
    if insertion == Insertion.FORCED:
        return ["It must stay inserted: its switch cannot be trusted to bypass it."]
    if now.mode is not SiteMode.RUN:
        return []
    plan = now.plan
    if plan is None:
        return ["No plan is in force."]
    current, duty = float(plan.string_current_a[s]), float(plan.duty_frac[i])
    if abs(current) < 1e-6:
        return [f"String {string} carries no current, so nothing has to be switched."]
    own = [b for b in plan.bindings if b.subject == serial]
    said = [_duty_sentence(now, i, current, duty, string)]
    trim = float(plan.trim_current_a[i])
    if abs(trim) > 0.01:
        said.append(
            f"Its trim converter {'gives' if trim > 0 else 'takes'} {abs(trim):.2f} A "
            f"{'to' if trim > 0 else 'from'} the other modules of {string}."
        )
    return said + [_priced(b, abs(current)) for b in own if not b.cost_w < MIN_COST_W]


def _duty_sentence(now: Situation, i: int, current: float, duty: float, string: str) -> str:
    """What share of the time the module is in, and for what reason."""
    limit = float((now.envelope.discharge_now_a if current > 0 else now.envelope.charge_now_a)[i])
    average = float((now.envelope.discharge_avg_a if current > 0 else now.envelope.charge_avg_a)[i])
    if duty <= 1e-6 and limit < abs(current):
        return (
            f"The string carries {abs(current):.1f} A and the module may carry {limit:.1f} A at most, "
            "so it stays out for the whole interval."
        )
    if duty <= 1e-6:
        return "The plan leaves it out for the whole interval: it has no charge to spare for this power."
    if duty >= 1.0 - 1e-6:
        return (
            f"It is inserted all the time: its share of the charge in {string} asks for all of the "
            f"string's {abs(current):.1f} A."
        )
    if duty * abs(current) >= average * (1.0 - 1e-6):
        return (
            f"The plan inserts it {100 * duty:.0f} % of the time: on average it may carry {average:.1f} A, "
            f"and the string runs {abs(current):.1f} A."
        )
    return (
        f"The plan inserts it {100 * duty:.0f} % of the time, its share of the charge, so that all of "
        f"the string end together{'' if now.inserted[i] else '; in this slot it rests'}."
    )


def _priced(binding: Binding, current_a: float) -> str:
    """What a module's bound costs, and which number would have to change."""
    cost = f"costs {binding.cost_w:.0f} W" if np.isfinite(binding.cost_w) else "costs power"
    one = f"one ampere more would save {binding.price:.1f} W"
    match binding.constraint:
        case "ineligible":
            return (
                f"Being out {cost}; it comes in when its limit rises from {binding.limit:.1f} A to the "
                f"string's {current_a:.1f} A, or when the string runs less."
            )
        case "module_average":
            return f"The average limit of {binding.limit:.1f} A {cost}; {one}."
        case "always_inserted":
            return (
                f"That it cannot give more than the string's {current_a:.1f} A {cost}; a higher string "
                "current, at a lower string voltage, would let it."
            )
        case other:
            return f"Limit {other} {cost}; one unit more would save {binding.price:.1f} {binding.unit}."


STRING_TEXTS = {
    "window_min": "its modules stand at the lower edge of the converter window ({limit:.0f} V); "
    "one volt lower would save {price:.1f} W",
    "window_max": "its modules stand at the upper edge of the converter window ({limit:.0f} V); "
    "one volt higher would save {price:.1f} W",
    "string_current": "it runs at its current limit ({limit:.1f} A); "
    "one ampere more would save {price:.1f} W",
    "string_power": "its converter runs at its power limit ({limit:.0f} W)",
    "site_power": "power is short: every watt that is not served costs as much as {price:.0f} W of losses",
}


def explain_site(site: Site, now: Situation) -> list[str]:
    """Plain sentences about the site: power, strings, and the limits that bind."""
    plan = now.plan
    count = int(now.inserted.sum())
    said = [f"{count} of {now.inserted.size} modules are inserted."]
    if now.mode in MODE_TEXTS:
        said.append(MODE_TEXTS[now.mode])
    elif plan is None:
        said.append("No plan is in force.")
    else:
        said.append(
            f"Asked {plan.power_asked_w / 1e3:.2f} kW, planned {plan.power_planned_w / 1e3:.2f} kW "
            f"({plan.policy.value}); losses {plan.loss_w:.0f} W; {_gap_words(plan)}."
        )
        if plan.unserved_w > 1.0:
            said.append(f"{plan.unserved_w / 1e3:.2f} kW cannot be served now; the limits below say why.")
        strings = {s.name for s in site.strings} | {"site"}
        said += [
            f"{b.subject}: {STRING_TEXTS[b.constraint].format(price=b.price, limit=b.limit)}."
            for b in plan.bindings
            if b.subject in strings and b.constraint in STRING_TEXTS
        ]
        dearest = sorted(
            (b for b in plan.bindings if b.subject not in strings and b.cost_w >= MIN_COST_W),
            key=lambda b: -b.cost_w,
        )
        said += [
            f"Module {b.subject}: {_priced(b, _current_of(site, plan, b.subject))}"
            for b in dearest[:SITE_MODULES]
        ]
    strings = {s.name for s in site.strings} | {"site"}
    said += [f"{r.subject}: {_reason_sentence(r)}" for r in now.envelope.reasons if r.subject in strings]
    return said


def _current_of(site: Site, plan: Plan, serial: str) -> float:
    """Magnitude of the planned current of a module's string [A]."""
    topology = site.topology
    return abs(float(plan.string_current_a[topology.string_of[topology.serials.index(serial)]]))


def _gap_words(plan: Plan) -> str:
    """How far the plan can be from the best there is."""
    if not np.isfinite(plan.gap_frac):
        return "no certificate for this plan"
    return f"no plan could save more than {max(100 * plan.gap_frac, 0.0):.1f} % of them"


def _ended(text: str) -> str:
    """`text` as a sentence."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
