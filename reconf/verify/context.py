"""Everything one run of verify looks at, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.verify.circuit import Case, Exposure, Sources, exposures, inserted_bounds
from reconf.verify.tables import Tables

CAPACITY_DOUBT_FRAC = 0.13
"""A capacity believed 15 % too large is 13 % smaller than believed."""


@dataclass(frozen=True, slots=True)
class History:
    """What verify must be told of the past; everything optional that it cannot see in the image."""

    since_switch_s: FloatArray | None = None
    """(M,) control time since each module was last switched; None: long ago."""
    switches: FloatArray | None = None
    """(M,) switchings of this interval so far; None: none."""
    unsure: BoolArray | None = None
    """(M,) modules whose switch may stand either way (unconfirmed, or silent and their watchdog not surely
    run out); None: every module that did not answer this tick."""
    settled: BoolArray | None = None
    """(M,) modules read back in their in-force state since the image was taken (an earlier step)."""
    ramp_w_per_s: float = float("inf")
    """Site ramp in force."""
    ramp_from_w: float | None = None
    """Site power commanded when the tick began; None: that of the command in force."""
    locked: bool = False
    """Maintenance is held on site: no contactor closes."""
    hold_s: float = 0.0
    """Control time for which the command may stand before verify sees it again; 0: `dt_s`."""

    def after_step(self, before: SlotCommand, step: SlotCommand) -> History:
        """The history as the next step of one change sees it: what this step moved was read back."""
        moved = (before.inserted != step.inserted) | (before.duty_frac != step.duty_frac)
        settled = moved if self.settled is None else (self.settled | moved)
        since, count = self.since_switch_s, self.switches
        return replace(
            self,
            settled=settled,
            since_switch_s=None if since is None else np.where(moved, 0.0, since),
            switches=None if count is None else count + moved,
            ramp_from_w=before.running_w if self.ramp_from_w is None else self.ramp_from_w,
        )


@dataclass(frozen=True, slots=True)
class Context:
    """One question: may `proposed` follow `in_force`, given what is known?"""

    tables: Tables
    image: SiteImage
    estimate: Estimate
    envelope: Envelope
    in_force: SlotCommand
    proposed: SlotCommand
    history: History
    dt_s: float
    hold_s: float
    source: Sources
    before: Exposure
    after: Exposure
    between: Exposure
    """Every register as before or as after."""
    fresh: BoolArray
    """(S,) the converter answered this tick."""
    closed: BoolArray
    """(S,) the contactor is not known to be open: read closed, precharging, or not read at all."""
    read_closed: BoolArray
    """(S,) freshly read closed."""
    resting: BoolArray
    """(S,) the command asks nothing new and only less of the string: never refused."""
    running: BoolArray
    """(S,) the converter would run."""
    aged_frac: FloatArray
    """(M,) share of its rated currents that a module still bears: that of its charge that is surely left."""


def resting(
    in_force: SlotCommand, proposed: SlotCommand, string_of: IntArray, read_open: BoolArray
) -> BoolArray:
    """(S,) strings of which the command only asks for less than is in force.

    Less is: no power (mode OFF, or power mode at exactly 0 W where it ran before), no contactor closed that
    was not, no trim current raised, and no switch moved; behind a contactor that was *read* open modules may
    be bypassed too, since no current can flow there. Such a command adds no exposure to any module or device
    in whatever order its writes arrive, so it is let through whatever image, estimate and envelope say:
    leaving a string can never be refused.
    """
    n_strings = proposed.mode.size
    quiet = (proposed.mode == int(ConverterMode.OFF)) | (
        (proposed.mode == int(ConverterMode.POWER)) & (in_force.mode == int(ConverterMode.POWER))
    )
    quiet &= (proposed.power_w == 0.0) & (~proposed.contactor | in_force.contactor)
    same = (
        (proposed.inserted == in_force.inserted)
        & (proposed.duty_mode == in_force.duty_mode)
        & (~proposed.duty_mode | (proposed.duty_frac == in_force.duty_frac))
    )
    bypassed = ~proposed.inserted & ~proposed.duty_mode & read_open[string_of]
    trim_less = (np.abs(proposed.trim_current_a) <= np.abs(in_force.trim_current_a)) & (
        proposed.trim_current_a * in_force.trim_current_a >= 0.0
    )
    more = np.bincount(string_of[~((same | bypassed) & trim_less)], minlength=n_strings) > 0
    calm: BoolArray = quiet & ~more
    return calm


def build_context(
    tables: Tables,
    image: SiteImage,
    estimate: Estimate,
    envelope: Envelope,
    in_force: SlotCommand,
    proposed: SlotCommand,
    history: History,
    dt_s: float,
    source: Sources,
) -> Context:
    """Compute what the rules need; `source` of the same image and estimate."""
    strings = image.strings
    is_closed = (strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0
    precharging = (strings.status & int(Rc1Status.PRECHARGING)) != 0
    read_open = strings.answered & ~is_closed & ~precharging
    unsure = _unsure(image, in_force, history)
    surely_a, maybe_a = inserted_bounds(in_force, image, unsure)
    surely_b, maybe_b = inserted_bounds(proposed, image, unsure)
    before, after, between = exposures(
        tables,
        source,
        (
            Case(surely_a, maybe_a, (0,)),
            Case(surely_b, maybe_b, (1,)),
            Case(surely_a & surely_b, maybe_a | maybe_b, (0, 1)),
        ),
        (in_force, proposed),
    )
    return Context(
        tables=tables,
        image=image,
        estimate=estimate,
        envelope=envelope,
        in_force=in_force,
        proposed=proposed,
        history=history,
        dt_s=dt_s,
        hold_s=history.hold_s or dt_s,
        source=source,
        before=before,
        after=after,
        between=between,
        fresh=strings.answered,
        closed=~read_open,
        read_closed=strings.answered & is_closed,
        resting=resting(in_force, proposed, tables.string_of, read_open),
        running=proposed.mode != int(ConverterMode.OFF),
        aged_frac=_aged_frac(tables, estimate),
    )


def _aged_frac(tables: Tables, estimate: Estimate) -> FloatArray:
    """(M,) present over rated capacity, two standard deviations low but at most as far as they may be off.

    Beyond that the doubt has room between the operating and the safety tier of the currents.
    """
    doubt = np.fmin(2.0 * estimate.capacity_std_ah, CAPACITY_DOUBT_FRAC * estimate.capacity_ah)
    left = (estimate.capacity_ah - doubt) / tables.rated_capacity_ah
    share: FloatArray = np.clip(np.fmin(left, 1.0), 0.0, 1.0)
    return share


def _unsure(image: SiteImage, in_force: SlotCommand, history: History) -> BoolArray:
    """(M,) modules that may stand inserted or bypassed whatever was commanded.

    A silent module is unsure: its watchdog may have bypassed it, or not. One that shows another state than
    the one in force is too, unless that state was read back since (an earlier step of the same change).
    """
    shown = (image.modules.status & int(Rm1Status.INSERTED)) != 0
    wanted = np.where(in_force.duty_mode, in_force.duty_frac > 0.0, in_force.inserted)
    differs = image.modules.answered & (shown != wanted)
    if history.settled is not None:
        differs &= ~history.settled
    silent = ~image.modules.answered if history.unsure is None else history.unsure
    mask: BoolArray = silent | differs
    return mask
