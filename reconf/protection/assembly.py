"""Put the answers of all rules together into one envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from reconf.arrays import FloatArray, no_nan
from reconf.devices.rc1 import Rc1Status
from reconf.protection.bounds import Constants
from reconf.protection.branches import joining_difference_v, least_loop_resistance_ohm
from reconf.protection.capability import StringLimits, capability
from reconf.protection.currents import (
    AVERAGE_RULES,
    NOW_RULES,
    Belief,
    CurrentStacks,
    derating,
    plating_margin_v,
    plating_minutes_a,
)
from reconf.protection.envelope import Envelope, Insertion, Reason, SiteOutputs
from reconf.protection.faults import Machine, Scope, row_index
from reconf.protection.insertion import InsertionRules, any_severe, severe
from reconf.protection.observe import Observed
from reconf.protection.reasons import FAULT_LIMITS, binding, fault_reason, ordered, reason
from reconf.protection.state import OperatorLimits, ProtectionState
from reconf.protection.voltage import RESISTANCE_SIGMAS
from reconf.readings import SiteImage
from reconf.replacing import replace

TOUCH_V: Final = 60.0
"""DC under which touching is not held dangerous (IEC 61140)."""
TELL_BELOW_FRAC: Final = 0.5
"""A module's limit is told of once it is below this share of its rating."""
FAULTS_AT_MOST: Final = 64
"""Faults that become reasons; `faults` has them all."""
PLATING: Final = NOW_RULES.index("plating")
TELL_AT_MOST: Final = 16
"""Reasons per field in the envelope; `explain` gives all of one module."""


def string_limits(
    constants: Constants,
    machines: Mapping[Scope, Machine],
    image: SiteImage,
    seen: Observed,
    reach_v: FloatArray,
) -> StringLimits:
    """Converters' window, current and power, with margins and deratings.

    Where an input is not known, a string that could reach a dangerous voltage (`reach_v`, all its usable
    modules in) stays open. What it shows now does not count: that is nothing while its modules are bypassed,
    and would let them in and out in turns.
    """
    converter, limits = constants.converters, constants.site_limits
    margin = limits["string_voltage_margin_frac", "min"].operating * converter.voltage_max_v
    hot = limits["heatsink_temperature_degc", "max"]
    cool = derating(no_nan(seen.heatsink_degc, 25.0), hot, "max")
    off = bool(machines["site"].present[row_index("site")["bus_voltage"]].any())
    factor = cool * (0.0 if off else 1.0)
    current = limits["string_current_frac", "max"].operating * converter.current_rating_a * factor
    power = limits["string_power_frac", "max"].operating * converter.power_rating_w * factor
    failed = (image.strings.status & int(Rc1Status.HARDWARE_FAULT)) != 0
    usable = ~severe("string", machines["string"], "open_string") & ~failed
    site = row_index("site")
    unknown = [site[name] for name in ("insulation_unknown", "site_input_unknown")]
    if bool(machines["site"].present[unknown].any()):
        closed = (image.strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0
        usable = usable & (closed | (reach_v < TOUCH_V))
    return StringLimits(
        voltage_min_v=converter.voltage_min_v + margin,
        voltage_max_v=converter.voltage_max_v - margin,
        discharge_a=current,
        charge_a=current,
        discharge_w=power,
        charge_w=power,
        usable=usable,
    )


def joining_v(constants: Constants, belief: Belief) -> FloatArray:
    """(S,) largest voltage difference over which each string may be connected [V].

    The inrush is held to the recommended discharge current of the module that bears least, in its worst
    parallel branch, whichever way it flows: filling the converter's link takes milliseconds, which tabs,
    wires and contacts feel and the anode does not. The string's resistance counts at its least.
    """
    rate = constants.limits["discharge_current_c", "max"].recommended
    bears = rate * belief.capacity_ah / constants.branch_share
    ohm = np.maximum(belief.r0_ohm - RESISTANCE_SIGMAS * belief.resistance_std_ohm, 0.0)
    per_volt = np.where(belief.ocv_v > 0.0, ohm / np.maximum(belief.ocv_v, 1e-6), 0.0)
    loop = least_loop_resistance_ohm(
        constants.converters.voltage_min_v, constants.min_by_string(per_volt), constants.string_r_on_ohm
    )
    return joining_difference_v(constants.min_by_string(bears), loop)


def assemble_envelope(
    constants: Constants,
    state: ProtectionState,
    insertion: InsertionRules,
    stacks: CurrentStacks,
    strings: StringLimits,
    belief: Belief,
    operator: OperatorLimits,
    auxiliary_w: float = 0.0,
) -> Envelope:
    """The envelope of this tick; `auxiliary_w` of the cooling is taken off what the site can give."""
    site_open = any_severe(state.machines, "open_site")
    out = insertion.forbidden & ~insertion.forced

    def limit(stack: FloatArray) -> FloatArray:
        lowest: FloatArray = np.where(out, 0.0, stack.min(axis=0))
        return lowest

    discharge_now, charge_now = limit(stacks.discharge_now_a), limit(stacks.charge_now_a)
    discharge_avg, charge_avg = limit(stacks.discharge_avg_a), limit(stacks.charge_avg_a)
    charge_minutes = plating_minutes_a(constants, belief, stacks.charge_now_a[PLATING])
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
        charge_minutes,
        site_open=site_open,
    )
    able = replace(
        able,
        discharge_w=tuple(min(max(p - auxiliary_w, 0.0), operator.max_discharge_w) for p in able.discharge_w),
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
        reasons=_reasons(constants, state, insertion, stacks),
        faults=state.statuses,
        capability=able,
        charge_minutes_a=charge_minutes,
        plating_margin_v=plating_margin_v(belief, stacks.charge_now_a[PLATING]),
        joining_difference_v=joining_v(constants, belief),
        auxiliary_w=auxiliary_w,
        outputs=SiteOutputs(
            cooling_frac=1.0 if state.thermal.cooling_asked else 0.0, alarm=site_open, ventilate=_gas(state)
        ),
    )


def _gas(state: ProtectionState) -> bool:
    """Whether gas has to be extracted: a runaway may have begun, or a detector says so. Not in a fire."""
    machines, site = state.machines, row_index("site")
    if machines["site"].present[site["fire_alarm"]].any():
        return False
    venting = machines["module"].present[row_index("module")["thermal_runaway"]].any()
    return bool(venting or machines["site"].present[site["gas_alarm"]].any())


def _reasons(
    constants: Constants, state: ProtectionState, insertion: InsertionRules, stacks: CurrentStacks
) -> tuple[Reason, ...]:
    """The reasons worth telling: who is out and why, and whose limit is far below its rating."""
    serials = constants.topology.serials
    told = [fault_reason(status) for status in state.statuses if status.severity in FAULT_LIMITS]
    told = told[:FAULTS_AT_MOST]
    told += [
        reason(serials[i], "insertion", rule, 0.0)
        for rule, where in insertion.rule
        for i in np.flatnonzero(where)[:TELL_AT_MOST]
    ]
    for field, rules, stack in _fields(stacks):
        nominal = stacks.discharge_now_a[0] if field.startswith("discharge") else stacks.charge_now_a[0]
        modules, which = binding(stack, nominal, TELL_BELOW_FRAC, TELL_AT_MOST)
        told += [
            reason(serials[m], field, rules[w], float(stack[w, m]))
            for m, w in zip(modules, which, strict=True)
            # what binds an average by way of the instantaneous limit is told there
            if rules[w] != AVERAGE_RULES[0]
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
        fault_reason(status)
        for status in state.statuses
        if status.subject == subject and status.severity in FAULT_LIMITS
    )
    return faults + tuple(
        r
        for field, rules, stack in _fields(state.stacks)
        for r in ordered(subject, field, rules, stack[:, m])
    )
