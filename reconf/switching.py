"""Staging: a slot change as a few steps, each safe for every subset of its writes that did not arrive.

Writes of one change arrive one by one and some may not. Three steps in general (fewer where nothing is due):

1. *lower*: power and current limit of each string to the smaller of before and after (0 where the direction
   turns), switches as they are; trims too, but those of a string with one that is no longer allowed stop;
2. *switch*: the insertions and bypasses. Where the window has no room for all of them in any order, first
   those that come in, or first those that go, whichever has room; else in halves;
3. *raise*: everything as asked.

A string that stands below its window needs more modules, and verify lets through no step on the way to them:
not less power, since the voltage still lies below, and no module that comes in at power. Where the caller
lets it (`may_stop`), its converter stops for the switching: steps 1 and 2 at power 0 and MODE 0, for as long
as their writes take.

Every step is verified by itself, written and read back before the next.
"""

from __future__ import annotations

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.site import Site
from reconf.verify.circuit import exposure, sources
from reconf.verify.findings import TOLERANCE_FRAC
from reconf.verify.tables import Tables, build_tables

MAX_PARTS = 8
"""Most switching steps one change is cut into; what does not fit then is refused by verify."""


def stage(
    site: Site,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    in_force: SlotCommand,
    target: SlotCommand,
    *,
    may_stop: bool = True,
) -> tuple[SlotCommand, ...]:
    """Cut the change from `in_force` to `target` into steps; empty where nothing changes.

    `may_stop`: a string below its window stops its converter while modules come in (a dip of its power).
    """
    t = site.derived(build_tables)
    lowered = _lower(t, envelope, in_force, target)
    with np.errstate(invalid="ignore", over="ignore"):
        if may_stop:
            lowered = _stopped(t, image, estimate, envelope, in_force, lowered, target)
        steps = [lowered, *_switch(t, image, estimate, envelope, lowered, target)]
    steps.append(target)
    kept: list[SlotCommand] = []
    last = in_force
    for step in steps:
        if not same_command(step, last):
            kept.append(step)
            last = step
    return tuple(kept)


def same_command(a: SlotCommand, b: SlotCommand) -> bool:
    """Whether two commands ask the very same."""
    for name in SlotCommand.__dataclass_fields__:
        one, other = getattr(a, name), getattr(b, name)
        if one.shape != other.shape or np.count_nonzero(one != other):
            return False
    return True


def _toward_zero(before: FloatArray, after: FloatArray) -> FloatArray:
    """The value nearer to 0 where both have one sign, else 0."""
    smaller = np.where(np.abs(after) < np.abs(before), after, before)
    return np.where(before * after > 0.0, smaller, 0.0)


def _lower(t: Tables, envelope: Envelope, before: SlotCommand, after: SlotCommand) -> SlotCommand:
    """Step 1: nothing raised, no switch moved."""
    moved = (before.inserted != after.inserted) | (before.duty_mode != after.duty_mode)
    moved |= before.duty_frac != after.duty_frac
    switching = t.any_by_string(moved)
    closing = after.contactor & ~before.contactor
    limit = np.minimum(before.current_limit_a, after.current_limit_a)
    # a module that leaves because it has grown weak is spared before it is out
    limit = np.where(switching, np.minimum(limit, _weakest(t, envelope, before, after)), limit)
    power = _toward_zero(before.power_w, after.power_w)
    # a converter starts, or takes the bus, only in the last step; it stops in the first
    starts = (after.mode != before.mode) & (after.mode != 0)
    # trims of a string balance only all together: they stay until the last step or, where one of them is
    # no longer allowed, stop at once (no step may carry it on)
    trim = before.trim_current_a
    over = (trim > envelope.trim_give_a) | (-trim > envelope.trim_take_a)
    keep = np.where(t.any_by_string(over)[t.string_of], 0.0, trim)
    return replace(
        before,
        trim_current_a=keep,
        mode=np.where(starts, before.mode, after.mode),
        power_w=power,
        current_limit_a=limit,
        contactor=np.where(closing, before.contactor, after.contactor),
    )


def _stopped(
    t: Tables,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    before: SlotCommand,
    lowered: SlotCommand,
    target: SlotCommand,
) -> SlotCommand:
    """`lowered` with the converters stopped where verify would refuse it, or what follows, for a low voltage.

    That is below the window where modules are to come in, and where trims that stop one by one could lead
    below it.
    """
    comes = t.any_by_string(target.inserted & ~lowered.inserted)
    trims = t.any_by_string(lowered.trim_current_a != before.trim_current_a)
    running = (before.mode == int(ConverterMode.POWER)) & (lowered.mode == int(ConverterMode.POWER))
    asked = running & (comes | trims)
    if not asked.any():
        return lowered
    source, same = sources(t, image, estimate), before.inserted
    was, now, between = (
        exposure(t, source, same, same, commands).voltage_low_v
        for commands in ((before,), (lowered,), (before, lowered))
    )
    low = np.fmax(t.voltage_min_v, envelope.string_voltage_min_v) * (1.0 - TOLERANCE_FRAC)
    stops = asked & ((comes & (now < low)) | (between < np.minimum(low, was * (1.0 - TOLERANCE_FRAC))))
    return replace(
        lowered,
        power_w=np.where(stops, 0.0, lowered.power_w),
        mode=np.where(stops, int(ConverterMode.OFF), lowered.mode),
    )


def _weakest(t: Tables, envelope: Envelope, before: SlotCommand, after: SlotCommand) -> FloatArray:
    """(S,) smallest instantaneous limit of the modules inserted before, in the directions power flows."""
    out = ((before.power_w > 0.0) | (after.power_w > 0.0))[t.string_of]
    into = ((before.power_w < 0.0) | (after.power_w < 0.0))[t.string_of]
    now = np.minimum(
        np.where(out, envelope.discharge_now_a, np.inf), np.where(into, envelope.charge_now_a, np.inf)
    )
    return t.min_by_string(now, before.inserted)


def _switch(
    t: Tables,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    lowered: SlotCommand,
    target: SlotCommand,
) -> list[SlotCommand]:
    """Step 2, cut into as many parts as the window needs; each string by its own order, in step."""
    comes = target.inserted & ~lowered.inserted
    goes = ~target.inserted & lowered.inserted
    if not (comes | goes).any():
        return [_with_switches(lowered, target, np.ones(t.n_modules, dtype=np.bool_))]
    source = sources(t, image, estimate)
    low = np.fmax(t.voltage_min_v, envelope.string_voltage_min_v)
    high = np.fmin(t.voltage_max_v, envelope.string_voltage_max_v)
    # a window that is left already may be left as far, never further (as verify judges it)
    now = exposure(t, source, lowered.inserted, lowered.inserted, (lowered,))
    low, high = np.minimum(low, now.voltage_low_v), np.maximum(high, now.voltage_high_v)

    def fits(first: BoolArray, second: BoolArray) -> BoolArray:
        """(S,) every subset of the writes of `first`, then of `second`, keeps the window."""
        middle = np.where(first, target.inserted, lowered.inserted)
        fine = np.ones(t.n_strings, dtype=np.bool_)
        for start, end in ((lowered.inserted, middle), (middle, np.where(second, target.inserted, middle))):
            reach = exposure(t, source, start & end, start | end, (lowered,))
            fine &= (reach.voltage_low_v >= low) & (reach.voltage_high_v <= high)
        return fine

    # a string that stands below its window already may be led out of there: by insertions first
    low = np.fmin(low, now.voltage_low_v)
    nothing = np.zeros(t.n_modules, dtype=np.bool_)
    status = image.strings.status & int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING)
    open_ = image.strings.answered & (status == 0) & ~lowered.contactor
    at_once = open_ | fits(comes | goes, nothing)
    if at_once.all():
        return [_with_switches(lowered, target, np.ones(t.n_modules, dtype=np.bool_))]
    in_first = ~at_once & fits(comes, goes)
    out_first = ~at_once & ~in_first & fits(goes, comes)
    rank = _part(t, comes, goes, source.u_low_v)
    part = np.select(
        [at_once[t.string_of], in_first[t.string_of], out_first[t.string_of]],
        [np.zeros(t.n_modules, dtype=np.int64), goes.astype(np.int64), comes.astype(np.int64)],
        default=rank,
    )
    parts = int(part[comes | goes].max(initial=0)) + 1
    return [_with_switches(lowered, target, part <= number) for number in range(parts)]


def _with_switches(lowered: SlotCommand, target: SlotCommand, done: BoolArray) -> SlotCommand:
    """`lowered` with the switches of `target` on the modules `done`."""
    return replace(
        lowered,
        inserted=np.where(done, target.inserted, lowered.inserted),
        duty_mode=np.where(done, target.duty_mode, lowered.duty_mode),
        duty_frac=np.where(done, target.duty_frac, lowered.duty_frac),
    )


def _part(t: Tables, comes: BoolArray, goes: BoolArray, volts: FloatArray) -> IntArray:
    """(M,) part in which a module switches when neither order has room: pairs, one in and one out at a time.

    Both kinds are ranked by voltage within their string, so that each pair swaps nearly equal voltages.
    """
    rank = np.zeros(t.n_modules, dtype=np.int64)
    for mask in (comes, goes):
        members = np.flatnonzero(mask)
        order = members[np.lexsort((volts[members], t.string_of[members]))]
        strings = t.string_of[order]
        first = np.searchsorted(strings, strings, side="left")
        rank[order] = np.minimum(np.arange(order.size) - first, MAX_PARTS - 1)
    return rank
