"""From phases to a command: what each string's actuators are asked, by the outputs table."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Envelope, Insertion
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.sequences.modes import SiteMode
from reconf.sequences.phases import OUTPUTS, Phase, among
from reconf.site import Site
from reconf.verify.tables import Tables, build_tables


class OverlayInputs(Protocol):
    """What the overlay needs of a tick's inputs."""

    @property
    def image(self) -> SiteImage:
        """Readings of this tick."""

    @property
    def in_force(self) -> SlotCommand:
        """The command in the nodes now."""

    @property
    def envelope(self) -> Envelope:
        """Limits of this tick."""

    @property
    def proposal(self) -> SlotCommand | None:
        """The scheduler's slot command."""


def overlay(
    site: Site,
    phase: IntArray,
    mode: SiteMode,
    pattern: BoolArray,
    modules_out: BoolArray,
    inputs: OverlayInputs,
) -> SlotCommand:
    """The proposal for joined strings, the sequence's own states for all others."""
    t = site.derived(build_tables)
    held = inputs.in_force
    wanted = inputs.proposal or held
    of = t.string_of
    rows = [OUTPUTS[Phase(number)] for number in range(len(Phase))]
    contactor = np.array([row.contactor for row in rows])[phase]
    power = np.array([row.power for row in rows])[phase]
    kinds = np.array([row.switches for row in rows])[phase][of]
    status = inputs.image.modules.status
    joined, holds = kinds == "proposal", kinds == "hold"
    takes = joined & ~modules_out
    inserted = np.select(
        [takes, holds, kinds == "pattern"], [wanted.inserted, held.inserted, pattern], default=False
    )
    # a switch that cannot move is commanded where it stands
    stuck = inputs.image.modules.answered & ((status & int(Rm1Status.SWITCH_FAULT)) != 0)
    shown = (status & int(Rm1Status.INSERTED)) != 0
    forced = inputs.envelope.insertion == int(Insertion.FORCED)
    inserted = np.where(joined & stuck, shown, inserted | (joined & forced))
    running = power & (mode is SiteMode.RUN) & (inputs.proposal is not None)
    running &= held_bus(site, t, inputs)
    is_master = t.is_master & power & (mode in {SiteMode.RUN, SiteMode.STANDBY})
    modes = np.where(running, int(ConverterMode.POWER), int(ConverterMode.OFF))
    modes = np.where(is_master, int(ConverterMode.BUS_VOLTAGE), modes)
    carries = running | is_master
    return SlotCommand(
        inserted=inserted.astype(np.bool_),
        duty_mode=np.select([takes, holds], [wanted.duty_mode, held.duty_mode], default=False),
        duty_frac=np.select([takes, holds], [wanted.duty_frac, held.duty_frac], default=0.0),
        trim_current_a=np.where(takes, wanted.trim_current_a, 0.0),
        mode=modes.astype(np.int64),
        power_w=np.where(running & ~is_master, wanted.power_w, 0.0),
        bus_voltage_v=np.where(is_master, site.bus.nominal_v, 0.0),
        current_limit_a=np.where(
            among(phase, Phase.RAMP_DOWN, Phase.OPENING), held.current_limit_a, _limits(carries, wanted, held)
        ),
        contactor=contactor,
    )


def _limits(carries: BoolArray, wanted: SlotCommand, held: SlotCommand) -> FloatArray:
    """The proposal's limit where power may flow, else no more than is in force.

    A string that is being left keeps the one it has: MODE 0 and the contactor wait for no other write.
    """
    return np.where(carries, wanted.current_limit_a, np.minimum(held.current_limit_a, wanted.current_limit_a))


def held_bus(site: Site, t: Tables, inputs: OverlayInputs) -> BoolArray:
    """(S,) somebody holds the DC bus inside its window: the master runs, and the bus voltage is right.

    Without a master every converter goes to MODE 0.
    """
    strings = inputs.image.strings
    bus = strings.bus_voltage_v
    right = ~bus.good | ((bus.value >= site.bus.min_v) & (bus.value <= site.bus.max_v))
    if not t.is_master.any():
        mask: BoolArray = right
        return mask
    runs = strings.answered & ((strings.status & int(Rc1Status.RUNNING)) != 0)
    in_mode = inputs.in_force.mode == int(ConverterMode.BUS_VOLTAGE)
    held = bool(np.any(t.is_master & runs & in_mode))
    alive: BoolArray = right & held
    return alive


def hold_zero(in_force: SlotCommand) -> SlotCommand:
    """Power 0 with everything else as it stands: the rung on which strings stay connected."""
    return replace(
        in_force,
        power_w=np.zeros_like(in_force.power_w),
        mode=np.where(
            in_force.mode == int(ConverterMode.POWER), int(ConverterMode.POWER), int(ConverterMode.OFF)
        ),
        trim_current_a=np.zeros_like(in_force.trim_current_a),
    )
