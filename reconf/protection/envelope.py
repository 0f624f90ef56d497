"""The envelope: what each module, string and the site may do now, each limit with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from reconf.arrays import BoolArray, ByteArray, FloatArray


class Insertion(IntEnum):
    """Whether a module may, must or must not be in its string."""

    ALLOWED = 0
    FORBIDDEN = 1
    """Must be bypassed."""
    FORCED = 2
    """Must stay inserted (e.g. its switch is stuck, or its bypass is not confirmed)."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a limit is what it is."""

    subject: str
    """Module serial, string name, or `site`."""
    limit: str
    """Field of the envelope, e.g. `charge_now_a`."""
    rule: str
    """Stable id of the rule that set it, e.g. `plating`, `thermal_forecast`, `cell_voltage_min`."""
    value: float
    """The value the rule asks for, in the unit of `limit`."""
    text: str
    """One plain sentence."""
    lift: str
    """What would lift it, one plain sentence."""


@dataclass(frozen=True, slots=True)
class FaultStatus:
    """One fault that is active or latched."""

    fault: str
    """Id of a row of the fault table."""
    subject: str
    severity: Literal["warn", "derate", "bypass", "open_string", "open_site"]
    active: bool
    """The cause is present now."""
    latched: bool
    since_s: float
    evidence: str
    """Measured value against its limit, with units."""
    action: str
    """What the operator is to do."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Power the site can give and take for each horizon [s], at the bus."""

    horizon_s: tuple[float, ...]
    discharge_w: tuple[float, ...]
    charge_w: tuple[float, ...]
    """Magnitudes."""


@dataclass(frozen=True, slots=True)
class SiteOutputs:
    """What protection asks of the site's own outputs."""

    cooling_frac: float = 0.0
    """Asked of the cooling system, 0 off .. 1 full."""
    alarm: bool = False
    """Sounder and lamp."""
    ventilate: bool = False
    """Gas extraction."""


NO_OUTPUTS: Final = SiteOutputs()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Limits in force. Currents are magnitudes [A]; a forbidden module has zeros."""

    time_s: float
    discharge_now_a: FloatArray
    """(M,) largest string current at which the module may be inserted."""
    charge_now_a: FloatArray
    """(M,)"""
    discharge_avg_a: FloatArray
    """(M,) largest duty-averaged current (heat, energy) over the next interval."""
    charge_avg_a: FloatArray
    """(M,)"""
    insertion: ByteArray
    """(M,) `Insertion`."""
    trim_give_a: FloatArray
    """(M,) largest trim current out of the module."""
    trim_take_a: FloatArray
    """(M,) largest trim current into the module, magnitude."""
    string_voltage_min_v: FloatArray
    """(S,) converter window with margin."""
    string_voltage_max_v: FloatArray
    string_discharge_a: FloatArray
    """(S,) converter and wiring."""
    string_charge_a: FloatArray
    string_discharge_w: FloatArray
    """(S,) at the bus."""
    string_charge_w: FloatArray
    string_usable: BoolArray
    """(S,) may be connected; False asks the sequencer to leave the string."""
    site_open: bool
    """An open-site fault or emergency stop: leave every string."""
    reasons: tuple[Reason, ...]
    """All reasons, the binding one of each limit first."""
    faults: tuple[FaultStatus, ...]
    capability: Capability
    outputs: SiteOutputs = SiteOutputs()
    charge_minutes_a: FloatArray | None = None
    """(M,) largest charge current that plating allows to stand for the next `PLATING_MINUTES_S`; None where
    nothing computes it."""
    plating_margin_v: FloatArray | None = None
    """(M,) anode potential against lithium at the present charge current; None where nothing computes it."""
    joining_difference_v: FloatArray | None = None
    """(S,) largest difference between string and converter over which the contactor may close, so that the
    inrush stays inside what the modules bear; None where nothing computes it."""
    auxiliary_w: float = 0.0
    """Taken by the site's own cooling as it is asked for now."""
