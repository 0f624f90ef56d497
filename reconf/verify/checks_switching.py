"""Rules about switches, trim converters and contactors."""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.verify.context import Context
from reconf.verify.findings import Findings

TRIM_IMBALANCE_FRAC = 0.10
"""RM1 scales the larger side down, so an imbalance is a plan that will not happen, not a danger."""
TRIM_IMBALANCE_W = 5.0
LINK_STANDS_FRAC = 0.10
"""Of the window's lower end: a link above that behind an open contactor is live."""
TOUCH_V = 60.0
"""DC under which touching is not held dangerous (IEC 61140)."""
INSULATION = frozenset({"insulation_ohm", "insulation_device_fault"})
CONNECT_TOLERANCE_FRAC = 0.01
CONNECT_TOLERANCE_V = 1.0
LEAST_OHM = 1e-6
"""No loop has less: a resistance that is not known is no reason to divide by 0."""


def check_trim(found: Findings, c: Context) -> None:
    """Rating, allowance and energy balance of the trim converters of each string."""
    t, trim = c.tables, c.proposed.trim_current_a
    strict = ~c.resting[t.string_of]
    gives, takes = strict & (trim > 0.0), strict & (trim < 0.0)
    found.at_most("trim_rating", np.abs(trim), t.trim_rating_a, strict, t.serials)
    found.at_most("trim_give", trim, c.envelope.trim_give_a, gives, t.serials)
    found.at_most("trim_take", -trim, c.envelope.trim_take_a, takes, t.serials)
    volts = 0.5 * (c.source.u_low_v + c.source.u_high_v)
    given = t.sum_by_string(np.where(gives, volts * trim * t.trim_efficiency_frac, 0.0))
    taken = t.sum_by_string(np.where(takes, -volts * trim, 0.0))
    allowed = TRIM_IMBALANCE_FRAC * np.maximum(given, taken) + TRIM_IMBALANCE_W
    found.at_most("trim_balance", np.abs(given - taken), allowed, ~c.resting, t.names)


def check_switches(found: Findings, c: Context, dwell_s: float, max_switches: float) -> None:
    """Dwell, switch count, and never a whole string bypassed behind a contactor not read open."""
    t, p = c.tables, c.proposed
    kept = t.sum_by_string((c.between.surely).astype(np.float64))
    exposed = ~c.resting & (c.closed | p.contactor)
    found.at_least("string_bypassed", kept, np.ones(t.n_strings), exposed, t.names)
    changed = (p.inserted != c.in_force.inserted) & (c.running & ~c.resting)[t.string_of]
    protective = ~p.inserted & (c.envelope.insertion == int(Insertion.FORBIDDEN))
    changed &= ~protective
    if c.history.since_switch_s is not None:
        needed = np.full(t.n_modules, dwell_s)
        found.at_least("dwell", c.history.since_switch_s, needed, changed, t.serials)
    if c.history.switches is not None:
        allowed = np.full(t.n_modules, max_switches)
        found.at_most("switch_count", c.history.switches + 1.0, allowed, changed, t.serials)


def closing(c: Context) -> BoolArray:
    """(S,) strings whose contactor would go from open to closed."""
    opened = c.fresh & ~c.read_closed
    mask: BoolArray = ~c.resting & c.proposed.contactor & (~c.in_force.contactor | opened)
    return mask


def _check_site_inputs(found: Findings, c: Context, close: BoolArray) -> None:
    """Nothing closes onto 60 V or more while a wired input is unknown, or insulation is low or unknown."""
    t, inputs = c.tables, c.image.inputs
    live = ~(c.after.voltage_high_v < TOUCH_V)
    if not INSULATION.issuperset(inputs.unknown):
        found.flags("site_inputs", close & live, t.names)
    doubted = t.insulation_monitor and not INSULATION.isdisjoint(inputs.unknown)
    ohm_per_v = inputs.insulation_ohm_per_v
    if not t.insulation_monitor and not np.isfinite(ohm_per_v):
        return
    seen = np.full(t.n_strings, np.nan if doubted else ohm_per_v)
    lowest = np.full(t.n_strings, t.insulation_min_ohm_per_v)
    found.at_least("insulation", seen, lowest, close & live, t.names)


def _check_inrush(found: Findings, c: Context, close: BoolArray, seen_v: FloatArray) -> None:
    """The current that closing would drive, were the converter's sensor right and the modules off, or so.

    The link is precharged to what the converter takes for the string's voltage. Where the modules' own sum
    lies elsewhere, the main contact closes over the difference: at its largest, over the string's least
    resistance, it has to stay inside the safety tier of the (discharge) current of every module that may be
    inserted. Either way it flows for milliseconds: tabs, wires and contacts bear it, no lithium plates.
    """
    t, inside = c.tables, c.after
    apart = np.maximum(seen_v - inside.voltage_low_v, inside.voltage_high_v - seen_v)
    loop = t.sum_by_string(np.where(inside.surely, c.source.r_low_ohm, 0.0)) + t.string_r_on_ohm
    inrush = apart / np.maximum(loop, LEAST_OHM)
    bears = t.min_by_string(t.discharge_max_a * c.aged_frac, inside.maybe)
    found.at_most("connect_inrush", inrush, bears, close, t.names)


def check_closing(found: Findings, c: Context) -> None:
    """A contactor closes unloaded, onto a voltage that is understood, with modules that were read back."""
    t, p, strings = c.tables, c.proposed, c.image.strings
    close = closing(c)
    if c.history.locked:
        found.flags("maintenance", close, t.names)
    _check_site_inputs(found, c, close)
    link = strings.link_voltage_v
    first = close & ~c.in_force.contactor
    link_v = np.where(link.good, np.abs(link.value), np.nan)
    found.at_most("welded", link_v, LINK_STANDS_FRAC * t.voltage_min_v, first, t.names)
    mismatch = (strings.status & int(Rc1Status.CONTACTOR_MISMATCH)) != 0
    found.flags("contactor_mismatch", first & mismatch, t.names)
    seen = np.where(strings.voltage_v.good, strings.voltage_v.value, np.nan)
    slack = CONNECT_TOLERANCE_FRAC * np.abs(c.after.voltage_high_v) + CONNECT_TOLERANCE_V
    found.at_least("connect_voltage", seen, c.after.voltage_low_v - slack, close, t.names)
    found.at_most("connect_voltage", seen, c.after.voltage_high_v + slack, close, t.names)
    _check_inrush(found, c, close, seen)
    loaded = (p.mode != 0) | (p.power_w != 0.0)
    found.flags("close_unloaded", close & loaded, t.names)
    shown = c.image.modules.answered & ((c.image.modules.status & int(Rm1Status.INSERTED)) != 0)
    loose = (p.inserted & ~shown) | (p.inserted != c.in_force.inserted)
    found.flags("close_settled", first & t.any_by_string(loose), t.names)
    not_closed = np.where(c.fresh, ~c.read_closed, c.in_force.mode == 0)
    found.flags("power_before_closed", ~c.resting & c.running & not_closed, t.names)
