"""Behaviour of the RC1 string converters: watchdog, contactor with precharge, latches, registers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices import rc1
from reconf.devices.profile import DeviceProfile
from reconf.devices.rc1 import Rc1Status
from reconf.registers import encode_text
from reconf.site import Site
from reconf.twin.firmware_registers import InputEncoder, RegisterBank
from reconf.twin.observe import SensorValues

POWER_UP_WATCHDOG_S = 5.0
PRECHARGE_S = 1.0
PRECHARGE_LIMIT_S = 5.0
LINK_RISE_S = 0.25
"""Time constant of the link's precharge resistor."""
LINK_FALL_S = 2.0
"""Time constant of the link's bleeder."""
CONTACTOR_SETTLE_S = 0.2
"""Commanded and sensed state may differ for this long without a mismatch."""
HEATSINK_LIMIT_DEGC = 95.0
MODE, POWER, BUS_VOLTAGE, LIMIT, CONTACTOR = 2, 3, 5, 6, 7

SHOWN_BITS = np.array(
    [
        Rc1Status.RUNNING,
        Rc1Status.CONTACTOR_CLOSED,
        Rc1Status.PRECHARGING,
        Rc1Status.WATCHDOG_EXPIRED,
        Rc1Status.LIMITING,
        Rc1Status.OVER_TEMPERATURE,
        Rc1Status.HARDWARE_FAULT,
        Rc1Status.OUTSIDE_WINDOW,
        Rc1Status.EMERGENCY_STOP,
        Rc1Status.CONTACTOR_MISMATCH,
    ],
    dtype=np.int64,
)
"""STATUS bits in the order in which `show_state` finds them."""


@dataclass(slots=True)
class ContactorFaults:
    """What may break in a converter; arrays may be written to at any time."""

    welded: BoolArray
    """(S,) the contactor does not open any more (it must have closed once)."""
    stuck_open: BoolArray
    """(S,) the contactor does not close."""
    hardware: BoolArray
    """(S,) a hardware fault is present."""
    frozen: BoolArray
    """(S,) the measurement set, and its counter, stand still."""
    watchdog_dead: BoolArray
    """(S,) the watchdog never runs out."""


@dataclass(frozen=True, slots=True)
class ConverterStage:
    """What the converters do; (S,)."""

    mode: IntArray
    power_w: FloatArray
    bus_voltage_v: FloatArray
    current_limit_a: FloatArray


class Rc1Firmware:
    """All converters of a site."""

    def __init__(self, site: Site, profile: DeviceProfile) -> None:
        s = site.topology.n_strings
        self.bank = RegisterBank(profile, s)
        self.faults = ContactorFaults(*(np.zeros(s, dtype=np.bool_) for _ in range(5)))
        self.emergency_stop: BoolArray = np.zeros(s, dtype=np.bool_)
        """(S,) the emergency-stop input is active."""
        self.closed: BoolArray = np.zeros(s, dtype=np.bool_)
        """(S,) the contacts conduct."""
        self.opened_under_load = 0
        """Openings at 1 A or more."""
        self._unfed_s: FloatArray = np.zeros(s)
        self._watchdog_latch: BoolArray = np.zeros(s, dtype=np.bool_)
        self._hardware_latch: BoolArray = np.zeros(s, dtype=np.bool_)
        self._expired: BoolArray = np.zeros(s, dtype=np.bool_)
        self._precharging_s: FloatArray = np.zeros(s)
        self._in_window_s: FloatArray = np.zeros(s)
        self._precharge_failed: BoolArray = np.zeros(s, dtype=np.bool_)
        self._precharged: BoolArray = np.zeros(s, dtype=np.bool_)
        self._differs_s: FloatArray = np.zeros(s)
        self._link_v: FloatArray = np.zeros(s)
        self._energy_zero_kwh = np.zeros((2, s))
        c = [x.converter for x in site.strings]
        self._rating_a = np.array([x.current_rating_a for x in c])
        self._low_v = np.array([x.voltage_min_v for x in c])
        self._high_v = np.array([x.voltage_max_v for x in c])
        self._measurements = InputEncoder(
            self.bank,
            (
                "STRING_VOLTAGE",
                "STRING_CURRENT",
                "BUS_VOLTAGE",
                "BUS_CURRENT",
                "HEATSINK_TEMPERATURE",
                "POWER",
                "ENERGY_OUT",
                "ENERGY_IN",
                "LINK_VOLTAGE",
            ),
        )
        self._describe(site)
        self._power_up(np.ones(s, dtype=np.bool_))
        self.stage = self.drive()

    def _describe(self, site: Site) -> None:
        bank = self.bank
        bank.only("CLEAR", frozenset({0, rc1.CLEAR_CODE}))
        bank.input[:, 0], bank.input[:, 1] = bank.profile.magic, bank.profile.map_version
        for s, string in enumerate(site.strings):
            c = string.converter
            bank.holding[s, 100:108] = encode_text(f"RC1-{string.name}"[:16], 8)
            bank.holding[s, 108:117] = [
                round(c.voltage_min_v / 0.1),
                round(c.voltage_max_v / 0.1),
                round(c.current_rating_a / 0.1),
                round(c.power_rating_w / 100.0),
                round(c.loss_fixed_w),
                round(c.loss_linear_frac / 0.0001),
                round(c.loss_quadratic_w_per_a2 / 0.0001),
                round(site.bus.min_v / 0.1),
                round(site.bus.max_v / 0.1),
            ]

    def _power_up(self, rows: BoolArray) -> None:
        self.bank.holding[rows, : rc1.CLEAR + 1] = 0
        self.bank.holding[rows, rc1.WATCHDOG] = round(POWER_UP_WATCHDOG_S / 0.1)
        self.bank.holding[rows, LIMIT] = np.rint(self._rating_a[rows] / 0.1).astype(np.int64)
        self._unfed_s[rows] = 0.0
        self._watchdog_latch[rows] = self._hardware_latch[rows] = self._expired[rows] = False

    def restart(self, rows: BoolArray, energy_kwh: FloatArray) -> None:
        """Converters lose their supply and come back; (2, S) energy out and in so far."""
        self._power_up(rows)
        self._energy_zero_kwh[:, rows] = energy_kwh[:, rows]

    # ---- the wire ------------------------------------------------------------------------------

    def write(self, row: int, address: int, words: Sequence[int]) -> None:
        """A write request of the host.

        Raises:
            RefusedError: nothing was changed.
        """
        values = self.bank.check_write(row, address, words)
        old_heartbeat = int(self.bank.holding[row, rc1.HEARTBEAT])
        self.bank.holding[row, address : address + len(words)] = words
        if values.get(rc1.HEARTBEAT, old_heartbeat) != old_heartbeat:
            self._unfed_s[row] = 0.0
            self._expired[row] = False
        if values.get(rc1.CLEAR):
            self._watchdog_latch[row] &= self._expired[row]
            self._hardware_latch[row] &= self.faults.hardware[row]
        self.bank.holding[row, rc1.CLEAR] = 0

    # ---- time ----------------------------------------------------------------------------------

    def run_watchdogs(self, wall_dt_s: float) -> None:
        """Wall time passes; an expiring watchdog, a fault or the emergency stop erases the commands."""
        self._unfed_s += wall_dt_s
        late = (self._unfed_s > self.bank.holding[:, rc1.WATCHDOG] * 0.1) & ~self.faults.watchdog_dead
        erase = (late & ~self._expired) | (self.faults.hardware & ~self._hardware_latch) | self.emergency_stop
        self._watchdog_latch |= late & ~self._expired
        self._expired |= late
        self._hardware_latch |= self.faults.hardware
        self.bank.holding[erase, MODE:BUS_VOLTAGE] = 0
        self.bank.holding[erase, CONTACTOR] = 0

    @property
    def _active(self) -> BoolArray:
        """Commands have an effect."""
        active: BoolArray = ~(self._watchdog_latch | self._hardware_latch | self.emergency_stop)
        return active

    @property
    def _asked_closed(self) -> BoolArray:
        asked: BoolArray = (self.bank.holding[:, CONTACTOR] == 1) & self._active
        return asked

    def run_contactors(self, string_v: FloatArray, string_a: FloatArray, dt_s: float) -> None:
        """Precharge, close and open; (S,) voltage on the string's side, current that flows."""
        asked = self._asked_closed
        conducting = self.closed.copy()
        self._precharge_failed &= asked
        self._precharged &= asked
        busy = asked & ~self._precharged & ~self._precharge_failed
        in_window = (string_v >= self._low_v) & (string_v <= self._high_v)
        self._precharging_s = np.where(busy, self._precharging_s + dt_s, 0.0)
        self._in_window_s = np.where(busy & in_window, self._in_window_s + dt_s, 0.0)
        self._precharged |= busy & (self._in_window_s >= PRECHARGE_S - 1e-9)
        self._precharge_failed |= busy & ~self._precharged & (self._precharging_s >= PRECHARGE_LIMIT_S)
        wanted = asked & self._precharged
        self.closed = (wanted & ~self.faults.stuck_open) | (conducting & self.faults.welded)
        self.opened_under_load += int((conducting & ~self.closed & (np.abs(string_a) >= 1.0)).sum())
        # nothing is commanded "closed" until the precharge is through
        self._differs_s = np.where(wanted != self.closed, self._differs_s + dt_s, 0.0)
        self._run_links(string_v, busy & in_window & ~self._precharged, dt_s)

    def _run_links(self, string_v: FloatArray, charging: BoolArray, dt_s: float) -> None:
        rising = string_v + (self._link_v - string_v) * np.exp(-dt_s / LINK_RISE_S)
        falling = self._link_v * np.exp(-dt_s / LINK_FALL_S)
        self._link_v = np.where(self.closed, string_v, np.where(charging, rising, falling))

    def drive(self) -> ConverterStage:
        """What the hardware does with the commands that stand now."""
        on = self.closed & self._active
        holding = self.bank.holding
        self.stage = ConverterStage(
            mode=np.where(on, holding[:, MODE], int(ConverterMode.OFF)).astype(np.int64),
            power_w=np.where(on, self.bank.number(POWER), 0).astype(np.float64),
            bus_voltage_v=holding[:, BUS_VOLTAGE].astype(np.float64) * 0.1,
            current_limit_a=holding[:, LIMIT].astype(np.float64) * 0.1,
        )
        return self.stage

    # ---- showing -------------------------------------------------------------------------------

    def show_measurements(self, seen: SensorValues, counter: int) -> None:
        """A new measurement set."""
        rows = ~self.faults.frozen
        values = (
            seen.string_voltage_v,
            seen.string_current_a,
            seen.bus_voltage_v,
            seen.bus_current_a,
            seen.heatsink_degc,
            seen.bus_power_w,
            seen.energy_out_kwh - self._energy_zero_kwh[0],
            seen.energy_in_kwh - self._energy_zero_kwh[1],
            np.where(self.closed, seen.string_voltage_v, self._link_v),
        )
        self._measurements.show(values, rows)
        self.bank.input[rows, 13] = counter & 0xFFFF

    def show_state(self, seen: SensorValues, limiting: BoolArray, outside: BoolArray) -> None:
        """Status and echo, which never wait for a measurement set."""
        bank, rows = self.bank, ~self.faults.frozen
        flags = (
            self.stage.mode != ConverterMode.OFF,
            self.closed,
            self._asked_closed & ~self._precharged & ~self._precharge_failed,
            self._watchdog_latch,
            limiting,
            seen.heatsink_degc > HEATSINK_LIMIT_DEGC,
            self._hardware_latch,
            outside,
            self.emergency_stop,
            self._differs_s > CONTACTOR_SETTLE_S,
        )
        bank.input[rows, 2] = (SHOWN_BITS @ np.stack(flags))[rows]
        bank.input[rows, 8] = bank.holding[rows, rc1.HEARTBEAT]
