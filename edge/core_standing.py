"""What a tick finds already in force, and the rung it leaves the site on."""

from __future__ import annotations

import numpy as np

from edge.interval import PlanBook, Rung
from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import LATCHES, Rm1Status
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences import SequencerState
from reconf.sequences.nodes import RC1_WATCHDOG_S, RM1_WATCHDOG_S, WATCHDOG_MARGIN_S, Nodes

APART_WALL_S = 0.5
"""Wall time for which a switch must read otherwise than asked: it follows within 50 ms, however fast control
time runs."""


def known_in_force(in_force: SlotCommand, image: SiteImage, sequence: SequencerState) -> SlotCommand:
    """`in_force` without what has surely ended by itself: nodes out of service past their own watchdog.

    A module that is silent so long has bypassed itself; a converter that is silent, or reads open, carries no
    power. Its contactor still counts as closed, since nobody has read it open. Without this the power of a
    lost string would stand in the books for ever, and no other string could take its share.
    """
    modules, strings = sequence.modules, sequence.strings
    gone = ~image.modules.answered & _past_watchdog(modules, RM1_WATCHDOG_S, sequence.wall_s)
    closed = image.strings.answered & ((image.strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)
    dead = ~closed & _past_watchdog(strings, RC1_WATCHDOG_S, sequence.wall_s)
    if not ((gone & in_force.inserted).any() or (dead & (in_force.power_w != 0.0)).any()):
        return in_force
    return replace(
        in_force,
        inserted=in_force.inserted & ~gone,
        trim_current_a=np.where(gone, 0.0, in_force.trim_current_a),
        power_w=np.where(dead, 0.0, in_force.power_w),
    )


def _past_watchdog(nodes: Nodes, watchdog_s: float, wall_s: float) -> BoolArray:
    """Out of service for so long that their own watchdog has surely expired."""
    mask: BoolArray = nodes.out_of_service & (wall_s >= nodes.beat_until_s + watchdog_s + WATCHDOG_MARGIN_S)
    return mask


def opened_unasked(image: SiteImage, sequence: SequencerState, in_force: SlotCommand) -> BoolArray:
    """(S,) joined strings that read open now, with nothing in the converter that says why."""
    status = image.strings.status
    explained = Rc1Status.WATCHDOG_EXPIRED | Rc1Status.HARDWARE_FAULT | Rc1Status.EMERGENCY_STOP
    still = int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING | explained)
    mask: BoolArray = sequence.joined & in_force.contactor & image.strings.answered & ((status & still) == 0)
    return mask


def switches_apart(
    image: SiteImage, sequence: SequencerState, in_force: SlotCommand, moved: BoolArray | None
) -> BoolArray:
    """(M,) modules in service whose switch reads otherwise than asked, and their node does not say why.

    The command stands in their registers (it was read back), and not only since the last tick.
    """
    modules, nodes = image.modules, sequence.modules
    explained = int(LATCHES | Rm1Status.SWITCH_FAULT)
    reads_in = (modules.status & int(Rm1Status.INSERTED)) != 0
    sure = modules.answered & ~nodes.out_of_service & (nodes.unconfirmed_ticks == 0) & ~in_force.duty_mode
    sure &= (modules.status & explained) == 0
    if moved is not None:
        sure &= ~moved
    mask: BoolArray = sure & (reads_in != in_force.inserted)
    return mask


def apart_since(before_s: FloatArray | None, apart: BoolArray, wall_s: float) -> FloatArray:
    """(M,) wall time since when each switch is `apart`; inf where it is not."""
    since = np.full(apart.size, np.inf) if before_s is None else before_s
    result: FloatArray = np.where(apart, np.minimum(since, wall_s), np.inf)
    return result


def turned(before: PlanBook, after: PlanBook) -> bool:
    """A new plan moves power the other way: its first slot begins at once."""
    if before.plan is None or after.plan is None:
        return True
    return before.plan is not after.plan and (before.plan.power_asked_w * after.plan.power_asked_w <= 0.0)


def standing(book: PlanBook, envelope: Envelope, refused: str, lessened: str = "") -> tuple[Rung, str]:
    """The rung the site stands on, the worst of all that apply, and why.

    A plan of which less was let through is still in force: that is told, and is no rung.
    """
    severe = [f for f in envelope.faults if f.severity in {"open_site", "open_string"}]
    if severe:
        f = severe[0]
        return Rung.LEFT, f"{f.fault} on {f.subject}: {f.evidence or f.action}"
    if refused and book.rung < Rung.ZERO:
        return Rung.ZERO, f"verify refused: {refused}"
    if lessened and book.rung < Rung.ZERO:
        return book.rung, f"{book.reason}; verify let less through: {lessened}"
    return book.rung, book.reason
