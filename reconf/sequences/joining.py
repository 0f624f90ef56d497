"""Which modules make a string's voltage while it joins, and whether it still has one."""

from __future__ import annotations

import numpy as np

from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray
from reconf.protection.envelope import Envelope, Insertion
from reconf.readings import SiteImage
from reconf.verify.tables import Tables

JOIN_MARGIN_FRAC = 0.01
"""Distance kept from both ends of the window while joining, so that a small load does not leave it."""


def joining_pattern(
    t: Tables, image: SiteImage, envelope: Envelope, out: BoolArray
) -> tuple[BoolArray, BoolArray]:
    """(M,) modules to insert, (S,) whether that meets the window.

    All that may be inserted; where that is too high, the modules with the highest voltage are taken until
    the next would pass the window's upper end (they have the most to give, and fewer stay out).
    """
    volts = np.where(image.modules.voltage_v.good, image.modules.voltage_v.value, 0.0)
    allowed = (envelope.insertion != int(Insertion.FORBIDDEN)) & ~out & (volts > 0.0)
    high = np.fmin(t.voltage_max_v, envelope.string_voltage_max_v) * (1.0 - JOIN_MARGIN_FRAC)
    low = np.fmax(t.voltage_min_v, envelope.string_voltage_min_v) * (1.0 + JOIN_MARGIN_FRAC)
    order = np.lexsort((-np.where(allowed, volts, -1.0), t.string_of))
    ranked = np.where(allowed, volts, 0.0)[order]
    total = np.cumsum(ranked)
    before_string = np.concatenate(([0.0], total))[t.start[:-1]]
    within = total - before_string[t.string_of] <= high[t.string_of]
    pattern = np.zeros(t.n_modules, dtype=np.bool_)
    pattern[order] = within & allowed[order]
    reached = t.sum_by_string(np.where(pattern, volts, 0.0))
    found: BoolArray = (reached >= low) & (reached > 0.0)
    return pattern, found


def window_lost(
    t: Tables, image: SiteImage, envelope: Envelope, in_force: SlotCommand, out: BoolArray
) -> BoolArray:
    """(S,) no choice of trustworthy modules reaches the window any more.

    Modules that are out of service are bypassed by their own watchdogs before long; what remains must reach
    the lower end, and what may still be inserted of them must not pass the upper end.
    """
    volts = np.where(np.isfinite(image.modules.voltage_v.value), image.modules.voltage_v.value, 0.0)
    usable = ((envelope.insertion != int(Insertion.FORBIDDEN)) & ~out) | (
        envelope.insertion == int(Insertion.FORCED)
    )
    reachable = t.sum_by_string(np.where(usable, volts, 0.0))
    forced = t.sum_by_string(
        np.where((envelope.insertion == int(Insertion.FORCED)) | (out & in_force.inserted), volts, 0.0)
    )
    lost: BoolArray = (reachable < t.voltage_min_v) | (forced > t.voltage_max_v)
    return lost
