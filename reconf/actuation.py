"""What goes to the actuators, and what came back.

A *proposal* is a `SlotCommand`; only `reconf.verify.verify` turns one into a `VerifiedCommand`,
and only that is accepted by the southbound side. (While a site is commissioned
`reconf.commissioning.permit.permit` stands before it, and alone judges switches behind open contactors.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.protection.envelope import NO_OUTPUTS, SiteOutputs


class ConverterMode(IntEnum):
    """RC1 MODE."""

    OFF = 0
    POWER = 1
    BUS_VOLTAGE = 2


@dataclass(frozen=True, slots=True)
class SlotCommand:
    """The commanded state of every actuator of the site."""

    inserted: BoolArray
    """(M,) INSERT; with `duty_mode` it is whether DUTY > 0."""
    duty_mode: BoolArray
    """(M,) INSERT_MODE = 1: the node runs `duty_frac` by itself."""
    duty_frac: FloatArray
    """(M,) DUTY, used where `duty_mode`."""
    trim_current_a: FloatArray
    """(M,) TRIM_CURRENT_SETPOINT, out of the module positive."""
    mode: IntArray
    """(S,) `ConverterMode`."""
    power_w: FloatArray
    """(S,) POWER_SETPOINT at the bus, discharge positive."""
    bus_voltage_v: FloatArray
    """(S,) BUS_VOLTAGE_SETPOINT, used in MODE 2."""
    current_limit_a: FloatArray
    """(S,) STRING_CURRENT_LIMIT, magnitude."""
    contactor: BoolArray
    """(S,) close (with precharge) or open."""

    @classmethod
    def safe(cls, n_modules: int, n_strings: int) -> SlotCommand:
        """Everything off: bypassed, no trim, power 0, MODE 0, contactor open."""
        return cls(
            inserted=np.zeros(n_modules, dtype=np.bool_),
            duty_mode=np.zeros(n_modules, dtype=np.bool_),
            duty_frac=np.zeros(n_modules),
            trim_current_a=np.zeros(n_modules),
            mode=np.zeros(n_strings, dtype=np.int64),
            power_w=np.zeros(n_strings),
            bus_voltage_v=np.zeros(n_strings),
            current_limit_a=np.zeros(n_strings),
            contactor=np.zeros(n_strings, dtype=np.bool_),
        )

    @property
    def running_w(self) -> float:
        """Power asked of the site [W]; a number in the register of a converter that is off is none."""
        return float(np.sum(self.power_w[self.mode != int(ConverterMode.OFF)]))


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule of `verify` that a proposal breaks."""

    rule: str
    """Stable id, e.g. `window_max`, `module_current`, `converter_power`, `switch_subset`."""
    subject: str
    """String name or module serial, or `site`."""
    found: float
    allowed: float
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class VerifiedCommand:
    """A command that `verify` (or `permit`, above) let through. Nothing else makes one (a test checks)."""

    command: SlotCommand
    time_s: float
    """Control time of the image it was verified against."""
    min_margin_frac: float
    """Smallest distance to any checked limit, as a share of that limit."""
    closes: BoolArray | None = None
    """(S,) contactors that may go from open to closed with it; None: any. A converter that opened by itself
    meanwhile is not closed again by a command that takes it for closed."""
    outputs: SiteOutputs = NO_OUTPUTS
    """Sounder, ventilation and cooling."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`verify` said no; every broken rule, not only the first."""

    violations: tuple[Violation, ...]
    time_s: float


@dataclass(frozen=True, slots=True)
class NodeWriteFailure:
    """One node's write that could not be confirmed."""

    gateway: str
    unit_id: int
    register: str
    text: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written and read back."""

    time_s: float
    module_confirmed: BoolArray
    """(M,) every register asked of the node now reads back as asked (True if nothing was due)."""
    string_confirmed: BoolArray
    """(S,)"""
    registers_written: int
    failures: tuple[NodeWriteFailure, ...] = ()
    outputs_confirmed: bool = True
    """Every site output reads back as asked (True where none is fitted)."""
