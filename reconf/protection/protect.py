"""One tick of protection: faults stepped, limits in both directions, reasons, capability. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rm1 import TRIPS, Rm1Status
from reconf.estimation.state import Estimate
from reconf.protection import conditions
from reconf.protection.bounds import Constants, build_constants
from reconf.protection.capability import StringLimits, capability
from reconf.protection.currents import (
    AVERAGE_RULES,
    NOW_RULES,
    Belief,
    CurrentStacks,
    believe,
    current_stacks,
    derating,
)
from reconf.protection.envelope import Envelope, Insertion, Reason, SiteOutputs
from reconf.protection.faults import (
    SCOPES,
    Conditions,
    FaultEvent,
    Machine,
    Scope,
    fault_rows,
    row_index,
    rule_numbers,
    step_machine,
)
from reconf.protection.observe import Observed, observe
from reconf.protection.reasons import binding, ordered, reason
from reconf.protection.state import (
    Cleared,
    ClearRefused,
    OperatorLimits,
    ProtectionState,
    SavedFault,
    clear_fault,
    initial_protection,
)
from reconf.readings import SiteImage
from reconf.site import Site

__all__ = [
    "ClearRefused",
    "Cleared",
    "OperatorLimits",
    "ProtectionState",
    "SavedFault",
    "clear_fault",
    "explain",
    "initial_protection",
    "protect",
]

TELL_BELOW_FRAC: Final = 0.5
"""A module's limit is told of once it is below this share of its rating."""
TELL_AT_MOST: Final = 16
"""Reasons per field in the envelope; `explain` gives all of one module."""
NO_OPERATOR: Final = OperatorLimits()


def protect(
    site: Site,
    state: ProtectionState,
    image: SiteImage,
    estimate: Estimate,
    dt_s: float,
    operator: OperatorLimits = NO_OPERATOR,
) -> tuple[ProtectionState, Envelope]:
    """Limits in force after this tick's readings.

    Args:
        site: what is controlled.
        state: of the last tick.
        image: readings of this tick.
        estimate: of this tick.
        dt_s: control time since the last tick.
        operator: limits and flags from outside.

    Returns:
        The next state, and the envelope.
    """
    constants = site.derived(build_constants)
    rules = rule_numbers()
    seen = observe(constants, image, rules.reversed_v)
    belief = believe(constants, estimate, seen)
    trend, rate = conditions.follow(state.trend, seen, image, dt_s, rules)
    stale_s = rules.stale_ticks * max(site.timing.tick_s, dt_s)
    raised: list[FaultEvent] = []
    machines = dict(state.machines)

    module_conditions = conditions.assemble(
        "module",
        constants.limits,
        conditions.module_values(seen, belief.capacity_ah),
        conditions.module_signals(
            constants, seen, image, state.trend, trend, rate, estimate.trusted & belief.known, stale_s, rules
        ),
        constants.n_modules,
    )
    machines["module"] = _advance("module", state, module_conditions, constants, dt_s, image.time_s, raised)
    insertion = _insertion(constants, machines["module"], trend, operator, belief)
    cannot = (
        constants.topology.sum_by_string((insertion.must_out & insertion.forced).astype(np.float64)) > 0.0
    )
    reach = constants.topology.sum_by_string(
        np.where(insertion.forbidden & ~insertion.forced, 0.0, belief.ocv_v)
    )
    string_conditions = conditions.assemble(
        "string",
        constants.site_limits,
        conditions.string_values(constants, seen),
        conditions.string_signals(constants, seen, image, state.trend, reach, cannot, stale_s, rules),
        constants.n_strings,
    )
    machines["string"] = _advance("string", state, string_conditions, constants, dt_s, image.time_s, raised)
    site_conditions = conditions.assemble(
        "site",
        constants.site_limits,
        conditions.site_values(image),
        conditions.site_signals(
            image,
            seen,
            operator.emergency_stop,
            site.inputs.insulation_monitor,
            (site.bus.min_v, site.bus.max_v),
            rules.bus_margin_frac,
        ),
        1,
    )
    machines["site"] = _advance("site", state, site_conditions, constants, dt_s, image.time_s, raised)

    stacks = _stacks(site, constants, belief, seen, image, operator)
    site_open = _any_severe(machines, "open_site")
    strings = _strings(constants, machines, image, seen)
    after = replace(
        state, time_s=image.time_s, machines=machines, trend=trend, events=tuple(raised), stacks=stacks
    )
    if raised:
        after = replace(after, statuses=after.present())
    return after, _envelope(constants, after, insertion, stacks, strings, belief, site_open, operator)


@dataclass(frozen=True, slots=True)
class _Insertion:
    """Who may, must, must not be in; (M,)."""

    forbidden: BoolArray
    forced: BoolArray
    must_out: BoolArray
    """A fault asks for bypass."""
    rule: tuple[tuple[str, BoolArray], ...]
    """Rules that are no faults, and where they hold."""


def _advance(
    scope: Scope,
    state: ProtectionState,
    now: Conditions,
    constants: Constants,
    dt_s: float,
    time_s: float,
    events: list[FaultEvent],
) -> Machine:
    """Step one scope's machine and note its transitions."""
    machine, onset, end = step_machine(state.machines[scope], constants.timing[scope], now, dt_s, time_s)
    if onset.any() or end.any():
        rows, names = fault_rows(scope), state.subjects[scope]
        for mask, change in ((onset, "raised"), (end, "released")):
            for f, n in np.argwhere(mask):
                events.append(
                    FaultEvent(
                        time_s,
                        rows[f].fault,
                        names[n],
                        "raised" if change == "raised" else "released",
                        float(now.value[f, n]),
                        float(now.bound[f, n]),
                        rows[f].unit,
                    )
                )
    return machine


def _severe(scope: Scope, machine: Machine, severity: str) -> BoolArray:
    """(N,) subjects with a present fault of `severity`."""
    rows = np.array([row.severity == severity for row in fault_rows(scope)])
    mask: BoolArray = machine.present[rows].any(axis=0)
    return mask


def _any_severe(machines: Mapping[Scope, Machine], severity: str) -> bool:
    return any(bool(_severe(scope, machines[scope], severity).any()) for scope in SCOPES)


def _insertion(
    constants: Constants,
    machine: Machine,
    trend: conditions.Trend,
    operator: OperatorLimits,
    belief: Belief,
) -> _Insertion:
    """Combine faults, trips, operator's bypasses and unconfirmed nodes."""
    none = np.zeros(constants.n_modules, dtype=np.bool_)
    serials = constants.topology.serials
    taken_out = np.array([s in operator.bypass for s in serials]) if operator.bypass else none
    reads_in = (trend.status & int(Rm1Status.INSERTED)) != 0
    unconfirmed = none if operator.unconfirmed is None else operator.unconfirmed
    gone = none if operator.out_of_service is None else operator.out_of_service
    tripped = (trend.status & int(TRIPS)) != 0
    faulty = _severe("module", machine, "bypass") | _severe("module", machine, "open_site")
    stuck = machine.present[row_index("module")["switch_fault"]] & reads_in
    return _Insertion(
        forbidden=faulty | tripped | taken_out | unconfirmed | gone | ~belief.known,
        forced=stuck | (unconfirmed & reads_in),
        must_out=faulty & stuck & _unsafe(machine),
        rule=(
            ("node_tripped", tripped),
            ("operator_bypass", taken_out),
            ("unconfirmed", unconfirmed | gone),
            ("estimate_missing", ~belief.known),
        ),
    )


def _unsafe(machine: Machine) -> BoolArray:
    """(M,) a bypass is asked for by more than the stuck switch itself."""
    rows = fault_rows("module")
    severe = np.array([r.severity in ("bypass", "open_site") and r.fault != "switch_fault" for r in rows])
    mask: BoolArray = machine.present[severe].any(axis=0)
    return mask


def _stacks(
    site: Site,
    constants: Constants,
    belief: Belief,
    seen: Observed,
    image: SiteImage,
    operator: OperatorLimits,
) -> CurrentStacks:
    """Every rule's current limits at this tick."""
    ambient = image.inputs.ambient_degc
    around = np.full(constants.n_modules, site.thermal.ambient_degc if np.isnan(ambient) else ambient)
    bank = constants.bank
    k_per_w = 1.0 / bank.conductance_core_surface_w_per_k + 1.0 / bank.conductance_surface_ambient_w_per_k
    heat_capacity = bank.heat_capacity_core_j_per_k + bank.heat_capacity_surface_j_per_k
    tau = k_per_w * heat_capacity
    string_a = np.abs(np.nan_to_num(seen.string_current_a))[constants.topology.string_of]
    remote = (operator.max_discharge_c * belief.capacity_ah, operator.max_charge_c * belief.capacity_ah)
    return current_stacks(
        constants,
        belief,
        string_a,
        around,
        k_per_w,
        tau,
        hold_s=site.timing.slot_s + site.timing.tick_s,
        interval_s=site.timing.interval_s,
        remote=remote,
        soc_window=(operator.soc_min_frac, operator.soc_max_frac),
    )


def _strings(
    constants: Constants,
    machines: Mapping[Scope, Machine],
    image: SiteImage,
    seen: Observed,
) -> StringLimits:
    """Converters' window, current and power, with margins and deratings."""
    converter, limits = constants.converters, constants.site_limits
    margin = limits["string_voltage_margin_frac", "min"].operating * converter.voltage_max_v
    hot = limits["heatsink_temperature_degc", "max"]
    cool = derating(np.nan_to_num(seen.heatsink_degc, nan=25.0), hot, "max")
    off = bool(machines["site"].present[row_index("site")["bus_voltage"]].any())
    factor = cool * (0.0 if off else 1.0)
    current = limits["string_current_frac", "max"].operating * converter.current_rating_a * factor
    power = limits["string_power_frac", "max"].operating * converter.power_rating_w * factor
    usable = ~_severe("string", machines["string"], "open_string")
    if bool(machines["site"].present[row_index("site")["insulation_unknown"]].any()):
        closed = (image.strings.status & 0b10) != 0
        usable = usable & (closed | (seen.string_voltage_v < 60.0))
    return StringLimits(
        voltage_min_v=converter.voltage_min_v + margin,
        voltage_max_v=converter.voltage_max_v - margin,
        discharge_a=current,
        charge_a=current,
        discharge_w=power,
        charge_w=power,
        usable=usable,
    )


def _envelope(
    constants: Constants,
    state: ProtectionState,
    insertion: _Insertion,
    stacks: CurrentStacks,
    strings: StringLimits,
    belief: Belief,
    site_open: bool,
    operator: OperatorLimits,
) -> Envelope:
    """Put the pieces together."""
    out = insertion.forbidden & ~insertion.forced

    def limit(stack: FloatArray) -> FloatArray:
        lowest: FloatArray = np.where(out, 0.0, stack.min(axis=0))
        return lowest

    discharge_now, charge_now = limit(stacks.discharge_now_a), limit(stacks.charge_now_a)
    discharge_avg, charge_avg = limit(stacks.discharge_avg_a), limit(stacks.charge_avg_a)
    no_trim = insertion.forbidden | insertion.forced
    no_trim = no_trim | state.machines["module"].present[row_index("module")["trim_fault"]]
    rating = np.where(no_trim, 0.0, constants.trim_rating_a)
    marks = np.full(constants.n_modules, Insertion.ALLOWED, dtype=np.uint8)
    marks[insertion.forbidden] = Insertion.FORBIDDEN
    marks[insertion.forced] = Insertion.FORCED
    able = capability(
        constants,
        belief,
        strings,
        (discharge_now, charge_now),
        (discharge_avg, charge_avg),
        site_open,
    )
    able = replace(
        able,
        discharge_w=tuple(min(p, operator.max_discharge_w) for p in able.discharge_w),
        charge_w=tuple(min(p, operator.max_charge_w) for p in able.charge_w),
    )
    return Envelope(
        time_s=state.time_s,
        discharge_now_a=discharge_now,
        charge_now_a=charge_now,
        discharge_avg_a=discharge_avg,
        charge_avg_a=charge_avg,
        insertion=marks,
        trim_give_a=np.minimum(rating, discharge_now),
        trim_take_a=np.minimum(rating, charge_now),
        string_voltage_min_v=strings.voltage_min_v,
        string_voltage_max_v=strings.voltage_max_v,
        string_discharge_a=strings.discharge_a,
        string_charge_a=strings.charge_a,
        string_discharge_w=strings.discharge_w,
        string_charge_w=strings.charge_w,
        string_usable=strings.usable,
        site_open=site_open,
        reasons=_reasons(constants, insertion, stacks, strings),
        faults=state.statuses,
        capability=able,
        outputs=SiteOutputs(alarm=site_open, ventilate=site_open),
    )


def _reasons(
    constants: Constants, insertion: _Insertion, stacks: CurrentStacks, strings: StringLimits
) -> tuple[Reason, ...]:
    """The reasons worth telling: who is out, and whose limit is far below its rating."""
    serials = constants.topology.serials
    told: list[Reason] = [
        reason(serials[i], "insertion", rule, 0.0)
        for rule, where in insertion.rule
        for i in np.flatnonzero(where)[:TELL_AT_MOST]
    ]
    told += [
        reason(constants.names[s], "string_usable", "string_unusable", 0.0)
        for s in np.flatnonzero(~strings.usable)
    ]
    for field, rules, stack in _fields(stacks):
        first = NOW_RULES if rules is NOW_RULES else AVERAGE_RULES
        nominal = stacks.discharge_now_a[0] if field.startswith("discharge") else stacks.charge_now_a[0]
        modules, which = binding(stack, nominal, TELL_BELOW_FRAC, TELL_AT_MOST)
        told += [
            reason(serials[m], field, first[w], float(stack[w, m]))
            for m, w in zip(modules, which, strict=True)
        ]
    return tuple(told)


def _fields(stacks: CurrentStacks) -> tuple[tuple[str, tuple[str, ...], FloatArray], ...]:
    """Envelope fields with the rules and answers behind them."""
    return (
        ("discharge_now_a", NOW_RULES, stacks.discharge_now_a),
        ("charge_now_a", NOW_RULES, stacks.charge_now_a),
        ("discharge_avg_a", AVERAGE_RULES, stacks.discharge_avg_a),
        ("charge_avg_a", AVERAGE_RULES, stacks.charge_avg_a),
    )


def explain(state: ProtectionState, subject: str) -> tuple[Reason, ...]:
    """All reasons for all limits of one module at the last tick, the binding one of each limit first."""
    if state.stacks is None or subject not in state.subjects["module"]:
        return ()
    m = state.subjects["module"].index(subject)
    faults = tuple(
        Reason(subject, "insertion", s.fault, 0.0, s.evidence or s.fault, s.action)
        for s in state.statuses
        if s.subject == subject and s.severity in ("bypass", "open_site")
    )
    return faults + tuple(
        r
        for field, rules, stack in _fields(state.stacks)
        for r in ordered(subject, field, rules, stack[:, m])
    )
