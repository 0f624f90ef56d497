"""The conditions of the phase table, each an (S,) mask computed from image, envelope and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import SiteImage
from reconf.sequences.nodes import REJOIN_GOOD_S, Nodes
from reconf.sequences.phases import Phase
from reconf.verify.tables import Tables

UNLOADED_A = 1.0
UNLOADED_S = 0.5
"""Control time after MODE 0 after which a contactor may open whatever the current reads."""
OPENING_S = 2.0
PRECHARGE_S = 10.0
"""RC1 gives up after 5 s; this is the backstop behind that."""
SETTLE_S = 30.0
CLEARING_S = 15.0
LINK_DISCHARGE_S = 10.0
"""A link that still stands so long after opening is live."""
PLAUSIBLE_FRAC = 0.01
PLAUSIBLE_V = 1.0
LINK_STANDS_FRAC = 0.10
BEATEN_TICKS = 2
MEASURED_S = 0.1
"""So old may the current be that a converter tells: a tick that follows at once may read one of before its
power rose, and open under load."""
FLOWS_FRAC = 0.05
FLOWS_A = 2.0
"""Current that no sensor shows by its own error: this share of the converter's rating, and this much."""

RC1_BLOCKING = int(
    Rc1Status.HARDWARE_FAULT
    | Rc1Status.EMERGENCY_STOP
    | Rc1Status.CONTACTOR_MISMATCH
    | Rc1Status.OVER_TEMPERATURE
)
RM1_TRIPS = int(
    Rm1Status.OVER_VOLTAGE_TRIP
    | Rm1Status.UNDER_VOLTAGE_TRIP
    | Rm1Status.OVER_TEMPERATURE_TRIP
    | Rm1Status.SWITCH_FAULT
)


@dataclass(frozen=True, slots=True)
class View:
    """What the conditions look at; (S,) unless said otherwise."""

    tables: Tables
    image: SiteImage
    in_force: SlotCommand
    strings: Nodes
    modules: Nodes
    phase: IntArray
    ticks: IntArray
    """Ticks spent in the phase."""
    elapsed_s: FloatArray
    """Control time spent in the phase."""
    elapsed_wall_s: FloatArray
    pattern: BoolArray
    """(M,) joining pattern."""
    join: BoolArray
    """Asked to join (mode, armed, usable)."""
    leave: BoolArray
    """Asked to be left."""
    start: BoolArray
    """A mode change starts it: latches are cleared at once."""
    weld_cleared: BoolArray
    """An operator cleared a fault of the string, as of its welded contactor."""
    gave_up: BoolArray
    """It failed to join too often: only a start lets it try again."""
    pattern_found: BoolArray
    """The joining pattern meets the window."""
    joining_v: FloatArray | None
    """Largest difference over which the contactor may close (envelope); None: not computed."""
    at_risk: BoolArray
    """Joined, and without the modules that are silent now the window cannot be reached."""
    wall_s: float


def _bits(status: IntArray, bits: int) -> BoolArray:
    mask: BoolArray = (status & bits) != 0
    return mask


def latches(v: View) -> tuple[BoolArray, BoolArray]:
    """(S,) a watchdog latch stands somewhere; (M,) on which modules it stands alone."""
    modules, strings = v.image.modules, v.image.strings
    lone = modules.answered & _bits(modules.status, int(Rm1Status.WATCHDOG_EXPIRED))
    lone &= ~_bits(modules.status, RM1_TRIPS)
    latched = _bits(strings.status, int(Rc1Status.WATCHDOG_EXPIRED))
    return latched | v.tables.any_by_string(lone & v.pattern), lone


def conditions(v: View) -> Mapping[str, BoolArray]:
    """All conditions by the names the phase table uses."""
    t, strings, modules = v.tables, v.image.strings, v.image.modules
    fresh = strings.answered
    is_closed = _bits(strings.status, int(Rc1Status.CONTACTOR_CLOSED))
    precharging = _bits(strings.status, int(Rc1Status.PRECHARGING))
    opened = read_open(t, v.image)
    blocked = ~fresh | _bits(strings.status, RC1_BLOCKING)
    latched, _ = latches(v)
    good = v.strings.good_for(REJOIN_GOOD_S, v.wall_s) & v.strings.may_clear(v.wall_s)
    shown = modules.answered & _bits(modules.status, int(Rm1Status.INSERTED))
    missing = t.any_by_string(v.pattern & ~shown)
    link_v = np.where(strings.link_voltage_v.good, np.abs(strings.link_voltage_v.value), 0.0)
    link = fresh & ~is_closed & (link_v > LINK_STANDS_FRAC * t.voltage_min_v)
    # a link that is still discharging, or is not known, is waited for: a later rise can only be a weld
    wants = v.join & ~v.leave & ~v.gave_up & ~blocked & v.pattern_found & ~link & strings.link_voltage_v.good
    was_open = (v.phase == int(Phase.INSERTING)) | (v.elapsed_s >= LINK_DISCHARGE_S)
    late = {
        "clearing_late": v.elapsed_wall_s >= CLEARING_S,
        "inserting_late": v.elapsed_s >= SETTLE_S,
        "opening_late": v.elapsed_s >= OPENING_S,
        "bypassing_late": v.elapsed_s >= OPENING_S,
    }
    settled = v.ticks >= BEATEN_TICKS
    current = np.where(strings.current_a.good, np.abs(strings.current_a.value), np.inf)
    failed = fresh & ~is_closed & ~precharging & settled & (v.elapsed_s > UNLOADED_S)
    return {
        "read_closed": fresh & is_closed,
        "obeys_closed": fresh & is_closed & ~v.strings.out_of_service,
        "read_open": opened,
        "link_stands": link & was_open & v.join,
        "leave": v.leave,
        "lost": v.strings.out_of_service,
        "may_clear": wants & latched & (v.start | good),
        "waits": wants & latched & ~(v.start | good),
        "may_join": wants & ~latched,
        "clean": fresh & ~latched & (v.ticks >= 1),
        "latched": latched,
        "ready": ~missing & plausible(v) & ~blocked & (v.ticks >= 1),
        "precharge_failed": failed | (settled & (v.elapsed_s >= PRECHARGE_S)),
        "unloaded": (v.ticks >= 1)
        & ((fresh & (current < UNLOADED_A) & (v.elapsed_s >= MEASURED_S)) | (v.elapsed_s >= UNLOADED_S)),
        "bypassed": ~t.any_by_string(shown) & (v.ticks >= 1),
        "weld_cleared": v.weld_cleared & opened,
        **{name: mask & settled for name, mask in late.items()},
    }


def plausible(v: View) -> BoolArray:
    """(S,) the converter sees the sum of the inserted modules' own voltages, inside its window.

    How near is near: within what the sensors may be wrong by, and never so far that the inrush of closing
    over the difference would be more than the modules bear.
    """
    t, strings, modules = v.tables, v.image.strings, v.image.modules
    each = np.where(v.pattern & modules.voltage_v.good, modules.voltage_v.value, 0.0)
    expected = t.sum_by_string(each)
    unseen = t.any_by_string(v.pattern & ~modules.voltage_v.good)
    seen = np.where(strings.voltage_v.good, strings.voltage_v.value, np.inf)
    apart = PLAUSIBLE_FRAC * expected + PLAUSIBLE_V
    if v.joining_v is not None:
        apart = np.minimum(apart, v.joining_v)  # NaN stays NaN: nothing is near enough
    near = np.abs(seen - expected) <= apart
    mask: BoolArray = near & ~unseen & (seen >= t.voltage_min_v) & (seen <= t.voltage_max_v)
    return mask


def read_open(tables: Tables, image: SiteImage) -> BoolArray:
    """(S,) contactors that were read open in this image, and through which nothing is seen to flow.

    A status that says open while the converter and most of its inserted modules measure a current is wrong:
    behind such a contactor nothing may be bypassed. Both sides have to see it, so that one sensor that is
    stuck does not keep a string from being left.
    """
    strings, modules = image.strings, image.modules
    still = int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING)
    flows_a = np.maximum(FLOWS_A, FLOWS_FRAC * tables.current_rating_a)
    here = strings.current_a.good & (np.abs(strings.current_a.value) >= flows_a)
    inserted = modules.answered & modules.current_a.good
    inserted &= (modules.status & int(Rm1Status.INSERTED)) != 0
    there = inserted & (np.abs(modules.current_a.value) >= flows_a[tables.string_of])
    most = tables.sum_by_string(there.astype(np.float64)) > 0.5 * tables.sum_by_string(
        inserted.astype(np.float64)
    )
    says: BoolArray = strings.answered & ((strings.status & still) == 0)
    return says & ~(here & most)
