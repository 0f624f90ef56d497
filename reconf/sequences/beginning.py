"""Where a (re)start begins: what the nodes show they do is what is in force."""

from __future__ import annotations

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences.modes import HELD, SiteMode
from reconf.sequences.nodes import Nodes
from reconf.sequences.phases import Phase
from reconf.sequences.state import SequencerState
from reconf.site import Site
from reconf.verify.tables import Tables, build_tables


def initial_state(
    t: Tables, image: SiteImage, wall_s: float, saved_mode: SiteMode | None = None
) -> SequencerState:
    """State at (re)start: what is open stays open; what is found closed stays, at power 0.

    Args:
        t: of the site.
        image: the first image (nodes may be silent).
        wall_s: wall time.
        saved_mode: mode that was persisted; FAULT, ESTOP and MAINTENANCE live on, RUN does not.
    """
    closed = image.strings.answered & ((image.strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)
    mode = SiteMode.STANDBY if closed.any() else SiteMode.OFF
    if saved_mode in HELD or saved_mode is SiteMode.MAINTENANCE:
        mode = saved_mode
    phase = np.where(closed, int(Phase.JOINED), int(Phase.OPEN))
    phase = np.where(image.strings.answered, phase, int(Phase.LOST))
    return SequencerState(
        mode=mode,
        wanted=mode if mode is SiteMode.STANDBY else SiteMode.OFF,
        clear_seen=False,
        phase=phase.astype(np.int64),
        entered_s=np.full(t.n_strings, image.time_s),
        entered_wall_s=np.full(t.n_strings, wall_s),
        ticks=np.zeros(t.n_strings, dtype=np.int64),
        armed=np.zeros(t.n_strings, dtype=np.bool_),
        starting=np.zeros(t.n_strings, dtype=np.bool_),
        failed=np.zeros(t.n_strings, dtype=np.int64),
        waits=np.zeros(t.n_strings, dtype=np.bool_),
        found_closed=closed,
        pattern=np.zeros(t.n_modules, dtype=np.bool_),
        shown_inserted=(image.modules.status & int(Rm1Status.INSERTED)) != 0,
        modules=Nodes.fresh(t.n_modules, wall_s),
        strings=Nodes.fresh(t.n_strings, wall_s),
        began_wall_s=wall_s,
        wall_s=wall_s,
    )


def adopt(site: Site, image: SiteImage) -> SlotCommand:
    """The command taken to be in force before anything was written: what the nodes show they do.

    The current limit is taken as the converter's rating, its power-up value.
    """
    t = site.derived(build_tables)
    modules, strings, trim = image.modules, image.strings, image.modules.trim_current_a
    closed = strings.answered & ((strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0)
    runs = closed & ((strings.status & int(Rc1Status.RUNNING)) != 0)
    power = np.where(runs & strings.power_w.good, np.nan_to_num(strings.power_w.value), 0.0)
    return replace(
        SlotCommand.safe(t.n_modules, t.n_strings),
        inserted=(modules.status & int(Rm1Status.INSERTED)) != 0,
        trim_current_a=np.where(trim.good, np.nan_to_num(trim.value), 0.0),
        mode=np.where(runs, int(ConverterMode.POWER), int(ConverterMode.OFF)).astype(np.int64),
        power_w=power,
        current_limit_a=np.where(runs, t.current_rating_a, 0.0),
        contactor=closed,
    )
