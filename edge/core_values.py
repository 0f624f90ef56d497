"""What goes into `ControlCore` and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edge.interval import PlanBook, Rung
from edge.proposals import UNTRIED, PlanTrial
from edge.setpoint import PowerCommand, SetPoint
from optimizer.result import AllocationInput, AllocationResult
from optimizer.schedule import ScheduleState
from reconf.actuation import Receipt, Refused, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.captest.trial import CapacityTest
from reconf.estimation.memory import FilterState
from reconf.estimation.state import Estimate
from reconf.isolation import RELEASED, Maintenance, Statement
from reconf.protection.envelope import Envelope
from reconf.protection.protect import OperatorLimits, ProtectionState
from reconf.readings import SiteImage
from reconf.sequences import SequencerState, SiteMode


@dataclass(frozen=True, slots=True)
class Event:
    """A transition worth telling once."""

    time_s: float
    kind: str
    """E.g. `rung`, `mode`, `string`, `fault_raised`, `fault_gone`, `refused`, `command`, `node`."""
    subject: str
    """Serial, string name or `site`."""
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the core says to a command, at once."""

    accepted: bool
    reason: str
    """Machine-readable: `accepted`, `curtailed`, `cause_persists`, `not_latched`, ..."""
    text: str
    curtailed_to_w: float | None = None


@dataclass(frozen=True, slots=True)
class SetMode:
    """Ask for a mode of the site: `run`, `standby`, `off`."""

    mode: SiteMode
    on_site: bool = False


@dataclass(frozen=True, slots=True)
class ClearFault:
    """Clear a latched fault once its cause is gone."""

    fault: str
    subject: str | None = None
    on_site: bool = False


@dataclass(frozen=True, slots=True)
class EmergencyStop:
    """Leave everything now, latched."""

    source: str = "command"


@dataclass(frozen=True, slots=True)
class HoldMaintenance:
    """Take the maintenance lock or release it; on site only."""

    held: bool
    by: str
    utc: str
    """RFC 3339, a label."""


@dataclass(frozen=True, slots=True)
class HandsInside:
    """Ask for a permit to put hands inside; on site only."""

    statement: Statement
    utc: str


@dataclass(frozen=True, slots=True)
class HandsOut:
    """Give a permit back; on site only."""

    by: str


@dataclass(frozen=True, slots=True)
class BypassModule:
    """Keep a module out of its string, or let it back in."""

    serial: str
    bypassed: bool = True


@dataclass(frozen=True, slots=True)
class SetSocWindow:
    """Soft bounds on SOC for the allocator."""

    soc_min_frac: float
    soc_max_frac: float


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Temporary limits on the site's power; they end at a wall-time deadline."""

    discharge_max_w: float = float("inf")
    charge_max_w: float = float("inf")
    deadline_wall_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class SetBalancing:
    """Active balancing at rest."""

    active: bool


@dataclass(frozen=True, slots=True)
class StartCapacityTest:
    """Measure capacities of the live pack, or stop doing so."""

    string: str | None = None
    """None: every string, one module of each at a time."""
    current_c: float = 0.5
    """Highest C-rate at which a module is carried."""
    active: bool = True


@dataclass(frozen=True, slots=True)
class StrangeModules:
    """Positions whose node reads another serial than the site file says: kept out until that is mended."""

    found: tuple[tuple[str, str], ...]
    """(serial of the site file, serial read), of all there are now."""


Order: TypeAlias = (
    PowerCommand
    | SetMode
    | ClearFault
    | EmergencyStop
    | HoldMaintenance
    | HandsInside
    | HandsOut
    | BypassModule
    | SetSocWindow
    | SetLimits
    | SetBalancing
    | StartCapacityTest
    | StrangeModules
)
"""Everything a person or SCADA may ask of the core."""


@dataclass(frozen=True, slots=True)
class TickInput:
    """One tick's readings and clocks."""

    image: SiteImage
    now_s: float
    """Control time."""
    wall_s: float
    """Monotonic wall time."""
    dt_s: float
    """Control time since the last tick; 0 on the first."""
    second_of_day: float = 0.0
    """UTC, a label: only the local schedule looks at it."""
    allocation: AllocationResult | None = None
    """The optimizer's answer, when it has come."""
    scada_lost: bool = False
    """A heartbeat is expected from SCADA and is missing: the fallback holds."""


@dataclass(frozen=True, slots=True)
class NodeActions:
    """What to do on nodes besides commands."""

    clear_modules: BoolArray
    """(M,) zero, read back, clear."""
    clear_strings: BoolArray
    set_watchdogs: bool

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.set_watchdogs or self.clear_modules.any() or self.clear_strings.any())


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Nodes that have earned their heartbeat."""

    modules: BoolArray
    strings: BoolArray

    @classmethod
    def none(cls, n_modules: int, n_strings: int) -> Heartbeats:
        """Nobody has."""
        return cls(np.zeros(n_modules, dtype=np.bool_), np.zeros(n_strings, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Looked:
    """The first half of a tick: what is known."""

    estimate: Estimate
    envelope: Envelope
    sequence: SequencerState
    in_force: SlotCommand
    """What the nodes do now."""


@dataclass(frozen=True, slots=True)
class TickView:
    """Everything publishing and benches want to know of a tick. Nothing here is computed twice."""

    input: TickInput
    estimate: Estimate
    envelope: Envelope
    setpoint: SetPoint
    rung: Rung
    rung_reason: str
    mode: SiteMode
    phases: tuple[str, ...]
    """(S,) where each string stands."""
    book: PlanBook
    in_force: SlotCommand
    out_of_service: BoolArray
    """(M,) modules that may not take part."""
    connected: BoolArray
    """(S,) joined: may carry power."""
    refused: Refused | None
    lessened: str = ""
    """How much of its power which string was let through and why not all; empty where all was, or none."""
    maintenance: Maintenance = RELEASED
    capacity_test: CapacityTest | None = None


@dataclass(frozen=True, slots=True)
class TickOutcome:
    """What a tick asks of the outside."""

    step: VerifiedCommand | None
    """First step to write; `ControlCore.confirm(receipt)` gives the next one."""
    actions: NodeActions
    question: AllocationInput | None
    """For the optimizer, when an interval begins."""
    view: TickView
    events: tuple[Event, ...] = ()
    record: IntervalRecord | None = None
    """The interval that has just ended, whole."""


RecordedInput: TypeAlias = "TickInput | Receipt | RecordedOrder | RecordedClears"


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """An order with the clocks it came at."""

    order: Order
    now_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class RecordedClears:
    """Nodes whose latch was cleared, and with it every command."""

    modules: BoolArray
    strings: BoolArray


@dataclass(frozen=True, slots=True)
class IntervalRecord:
    """One interval: the state it began with, everything that came in, everything that went out."""

    site: str
    interval: int
    start: CoreState
    inputs: tuple[RecordedInput, ...]
    steps: tuple[VerifiedCommand, ...]
    end: Summary


@dataclass(frozen=True, slots=True)
class Summary:
    """The interval in few numbers, for plots and tables."""

    time_s: float
    rung: Rung
    reason: str
    asked_w: float
    given_w: FloatArray
    """(S,) mean power at the bus, measured."""
    soc_frac: FloatArray
    """(M,) at the end."""
    inserted_frac: FloatArray
    """(M,) share of the ticks inserted."""
    solve_ms: float
    loss_w: float
    gap_frac: float
    policy: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Orders that wait for the next tick; each is an edge, gone once the tick has seen it."""

    mode: SiteMode | None = None
    emergency_stop: bool = False
    cleared: bool = False
    clear_modules: BoolArray | None = None
    clear_strings: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class CoreState:
    """Everything `ControlCore` remembers; frozen, so that a reference is a snapshot."""

    tick: int
    time_s: float
    filter: FilterState | None
    protection: ProtectionState
    sequence: SequencerState | None
    schedule: ScheduleState | None
    """Filled in snapshots only: the scheduler keeps its own between them."""
    setpoint: SetPoint
    book: PlanBook
    in_force: SlotCommand | None
    """What stands in the nodes, as far as it was confirmed."""
    target: SlotCommand | None
    """The slot that is being held."""
    next_slot_s: float
    operator: OperatorLimits
    limits: SetLimits = SetLimits()
    balancing: bool = False
    maintenance: Maintenance = RELEASED
    """Held on site; commands from afar are refused and nothing closes."""
    capacity_test: CapacityTest | None = None
    strange: tuple[tuple[str, str], ...] = ()
    """(serial of the site file, serial read) where they differ."""
    connected: BoolArray | None = None
    """(S,) strings that the open plan counts on."""
    asked_w: float = 0.0
    """Power of the last question."""
    receipt: Receipt | None = None
    """Of the last tick: confirmed only where every step of it was."""
    verified: bool = True
    """The last tick ended with a verified command."""
    moved: BoolArray | None = None
    """(M,) switched in the last tick and read back: the switch acts within 50 ms, and an image that was taken
    sooner still shows the old state. One tick later that is no excuse any more."""
    switched_s: FloatArray | None = None
    """(M,) control time at which each module was last switched and read back; None: not since the start."""
    switches: FloatArray | None = None
    """(M,) switchings of the open interval."""
    refused: str = ""
    """Why verify said no in the last tick; empty if it did not."""
    trial: PlanTrial = UNTRIED
    """Whether the optimizer's plans are let through."""
    apart_wall_s: FloatArray | None = None
    """(M,) wall time since when a switch reads otherwise than asked; inf where it does not."""
    pending: Pending = Pending()
