"""What is asked of the allocator and what it answers: outcomes as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Request:
    """What the site is asked to do over the coming interval."""

    power_w: float
    """At the site bus, discharge positive (already within ramps)."""
    connected: BoolArray
    """(S,) strings that are joined and may carry power."""
    balance: bool = False
    """Active balancing at rest was asked for."""
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    horizon_power_w: tuple[float, ...] = ()
    """Power at the site bus in the next intervals (schedule or forecast), signed; empty for none."""


@dataclass(frozen=True, slots=True)
class AllocationInput:
    """Everything one answer depends on; picklable, so that it can go to the worker."""

    interval: int
    estimate: Estimate
    envelope: Envelope
    request: Request
    inserted: BoolArray
    """(M,) switch states now, for the price of switching."""


class Policy(StrEnum):
    """Who made a plan."""

    STRUCTURED = "structured"
    REFERENCE = "reference"
    LARGEST_REMAINING = "largest_remaining"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class Binding:
    """A named constraint that binds, with its price; the stuff explanations are made of."""

    constraint: str
    """E.g. `site_power`, `window_min`, `module_avg_discharge`, `ineligible`."""
    subject: str
    price: float
    """Dual [W of cost per unit of the constraint]."""
    unit: str
    cost_w: float = float("nan")
    """What the constraint costs in all [W], where a closed form tells; NaN where none does."""
    limit: float = float("nan")
    """The limit as it stands [V, A or W]."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the optimizer proposes for one interval. Average values over the interval."""

    interval: int
    policy: Policy
    string_current_a: FloatArray
    """(S,) discharge positive."""
    string_power_w: FloatArray
    """(S,) at the bus."""
    duty_frac: FloatArray
    """(M,)"""
    trim_current_a: FloatArray
    """(M,) out of the module positive."""
    power_asked_w: float
    power_planned_w: float
    unserved_w: float
    loss_w: float
    """Module, switch, trim and converter losses together."""
    cost_w: float
    """Whole objective in W-equivalents."""
    lower_bound_w: float
    """True lower bound of the objective; NaN where none was computed."""
    gap_frac: float
    """(cost - bound) over the plan's own losses; NaN without a bound."""
    bindings: tuple[Binding, ...]
    solve_ms: float
    switching_w: float = 0.0
    """Cost of the switchings that its schedule expects; not in `cost_w`, since no bound knows of it."""


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No plan exists inside the envelope, not even power 0 with every string connected."""

    interval: int
    reason: str


@dataclass(frozen=True, slots=True)
class Inaccurate:
    """A solver answered, but not well enough to act on."""

    interval: int
    reason: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Late:
    """No answer by the deadline."""

    interval: int
    waited_s: float


AllocationResult: TypeAlias = Plan | Infeasible | Inaccurate | Late
