"""Readings: every measured value with its quality and its age; an image is all of one tick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from reconf.arrays import BoolArray, ByteArray, FloatArray, IntArray


class Quality(IntEnum):
    """How far a value can be trusted, best first. Compare with `<=`: lower is better."""

    GOOD = 0
    SUBSTITUTED = 1
    """A model value stands in for a sensor judged untrue."""
    STALE = 2
    """The last good value, older than one tick (see the age)."""
    FROZEN = 3
    """The node's SAMPLE_COUNTER stands still."""
    IMPLAUSIBLE = 4
    """Decoded, but outside what physics allows."""
    UNAVAILABLE = 5
    """The register holds its not-available pattern; the value is NaN."""
    NO_ANSWER = 6
    """Never read, or not any more; the value is NaN or the last one known."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured quantity over all modules (or strings)."""

    value: FloatArray
    quality: ByteArray
    """`Quality` of each value, same shape."""
    age_s: FloatArray
    """Control time since the sample was taken, same shape."""

    @property
    def good(self) -> BoolArray:
        """Where the value is fresh and measured."""
        mask: BoolArray = self.quality == np.uint8(Quality.GOOD)
        return mask

    @property
    def usable(self) -> BoolArray:
        """Where a number stands that may be computed with (good or substituted)."""
        mask: BoolArray = self.quality <= np.uint8(Quality.SUBSTITUTED)
        return mask

    @classmethod
    def of(cls, value: FloatArray, quality: Quality = Quality.GOOD, age_s: float = 0.0) -> Channel:
        """A channel whose values all have one quality and age (NaN becomes UNAVAILABLE)."""
        marks = np.empty(value.shape, dtype=np.uint8)
        marks.fill(int(quality))
        marks[np.isnan(value)] = int(Quality.UNAVAILABLE)
        ages = np.empty(value.shape)
        ages.fill(age_s)
        return cls(value=value, quality=marks, age_s=ages)


@dataclass(frozen=True, slots=True)
class ModuleReadings:
    """RM1 input registers of all modules. Status bits: `reconf.devices.rm1.Rm1Status`."""

    answered: BoolArray
    """(M,) a whole, fresh block came this tick."""
    age_s: FloatArray
    """(M,) control time since the last whole fresh block; inf before the first."""
    status: IntArray
    """(M,) STATUS bits of the last block, 0 before the first."""
    voltage_v: Channel
    """(M,) at the module's own terminals, also while bypassed."""
    current_a: Channel
    """(M,) through the module's cells, string and trim together, 1 s mean."""
    temperature_degc: Channel
    """(M, 2)"""
    cell_voltage_v: Channel
    """(M, C); NaN + UNAVAILABLE beyond a module's n_cells; 0 V is a value (reversed or open)."""
    trim_current_a: Channel
    """(M,)"""
    charge_counter_ah: Channel
    """(M,) net discharged since power-up."""
    duty_frac: Channel
    """(M,) DUTY_ECHO."""
    sample_counter: IntArray
    heartbeat_echo: IntArray
    uptime_s: IntArray
    insert_count: IntArray


@dataclass(frozen=True, slots=True)
class StringReadings:
    """RC1 input registers of all strings. Status bits: `reconf.devices.rc1.Rc1Status`."""

    answered: BoolArray
    """(S,)"""
    age_s: FloatArray
    status: IntArray
    voltage_v: Channel
    current_a: Channel
    bus_voltage_v: Channel
    bus_current_a: Channel
    power_w: Channel
    """(S,) at the bus."""
    link_voltage_v: Channel
    heatsink_temperature_degc: Channel
    energy_out_kwh: Channel
    energy_in_kwh: Channel
    sample_counter: IntArray
    heartbeat_echo: IntArray


@dataclass(frozen=True, slots=True)
class SiteInputs:
    """Site I/O; NaN or False where nothing is fitted."""

    emergency_stop: bool = False
    gas_alarm: bool = False
    smoke_alarm: bool = False
    fire_alarm: bool = False
    door_open: bool = False
    ventilation_failed: bool = False
    cooling_failed: bool = False
    insulation_ohm_per_v: float = float("nan")
    ambient_degc: float = float("nan")
    unknown: tuple[str, ...] = ()
    """Signals that are wired but give no fresh value; a bit then shows its last value."""
    age_s: float = 0.0
    """Control time since the oldest site I/O unit was read."""


@dataclass(frozen=True, slots=True)
class WriteRefusal:
    """A node that answers and does not take what is written."""

    kind: Literal["module", "string"]
    row: int
    """Module, or string of the converter."""
    unit_id: int
    address: int
    """Holding register, as in the PDU."""
    register: str
    """Its name in the device profile, empty where it has none."""
    how: str
    """The exception, or what the register reads instead."""
    ticks: int
    """Ticks in a row (those in which something was written) that ended so."""


@dataclass(frozen=True, slots=True)
class SiteImage:
    """All readings of one tick, immutable."""

    tick: int
    time_s: float
    """Control time, monotonic."""
    modules: ModuleReadings
    strings: StringReadings
    inputs: SiteInputs = SiteInputs()
    refusals: tuple[WriteRefusal, ...] = ()
    """Nodes that did not take the last write to them."""
