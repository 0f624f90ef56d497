"""Behaviour of the RM1 module nodes: watchdog, latches, trips, switch, registers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices import rm1
from reconf.devices.profile import DeviceProfile
from reconf.devices.rm1 import Rm1Status
from reconf.registers import encode_text
from reconf.site import Chemistry, Site
from reconf.twin.firmware_registers import InputEncoder, RegisterBank
from reconf.twin.observe import SensorValues

FIRMWARE_VERSION = 103
"""Register FIRMWARE: 1.03."""
POWER_UP_WATCHDOG_S = 5.0
INSERT_MODE, INSERT, DUTY, TRIM = 2, 3, 4, 5

SHOWN_BITS = np.array(
    [
        Rm1Status.INSERTED,
        Rm1Status.SWITCH_FAULT,
        Rm1Status.WATCHDOG_EXPIRED,
        Rm1Status.TRIM_RUNNING,
        Rm1Status.TRIM_FAULT,
        Rm1Status.CELL_SENSING_FAULT,
        Rm1Status.TEMPERATURE_SENSOR_FAULT,
    ],
    dtype=np.int64,
)
"""STATUS bits in the order in which `show_state` finds them; the trips come as bits."""

# Last resort of the hardware, beyond any operating limit: (cell max V, cell min V, max degC).
TRIPS: dict[Chemistry, tuple[float, float, float]] = {
    Chemistry.LMO: (4.35, 2.20, 70.0),
    Chemistry.NMC: (4.35, 2.20, 70.0),
    Chemistry.LFP: (3.90, 1.80, 75.0),
    Chemistry.NCA: (4.35, 2.20, 70.0),
}


@dataclass(slots=True)
class SwitchFaults:
    """What may break in a node; arrays may be written to at any time."""

    stuck: IntArray
    """(M,) -1 free, 0 stuck bypassed, 1 stuck inserted."""
    trim_broken: BoolArray
    """(M,) the trim converter does not run."""
    frozen: BoolArray
    """(M,) the measurement set, and its counter, stand still."""
    sense_blind: BoolArray
    """(M,) the node takes its switch for what was commanded: a stuck one shows nowhere."""
    watchdog_dead: BoolArray
    """(M,) the watchdog never runs out."""


@dataclass(frozen=True, slots=True)
class PowerStage:
    """What the half bridges and trim converters do; (M,)."""

    wanted: BoolArray
    inserted: BoolArray
    duty_frac: FloatArray
    trim_a: FloatArray


class Rm1Firmware:
    """All module nodes of a site."""

    def __init__(self, site: Site, profile: DeviceProfile, insert_count: IntArray) -> None:
        topology = site.topology
        m = topology.n_modules
        cells = np.arange(rm1.CELLS_MAX)[None, :] < topology.n_cells[:, None]
        present = np.ones((m, rm1.INPUT_FIXED + rm1.CELLS_MAX), dtype=np.bool_)
        present[:, rm1.INPUT_FIXED :] = cells
        self.bank = RegisterBank(profile, m, present)
        self.faults = SwitchFaults(
            stuck=np.full(m, -1, dtype=np.int64),
            trim_broken=np.zeros(m, dtype=np.bool_),
            frozen=np.zeros(m, dtype=np.bool_),
            sense_blind=np.zeros(m, dtype=np.bool_),
            watchdog_dead=np.zeros(m, dtype=np.bool_),
        )
        self._cells = cells
        self._unfed_s: FloatArray = np.zeros(m)
        self._watchdog_latch: BoolArray = np.zeros(m, dtype=np.bool_)
        self._expired: BoolArray = np.zeros(m, dtype=np.bool_)
        self._trips: IntArray = np.zeros(m, dtype=np.int64)
        self._trip_cause: IntArray = np.zeros(m, dtype=np.int64)
        self._born_s = np.zeros(m)
        self._charge_zero_ah = np.zeros(m)
        self._insert_count = insert_count.copy()
        self._was_in: BoolArray = np.zeros(m, dtype=np.bool_)
        trips = np.array([TRIPS[x.chemistry] for x in site.modules])
        self._cell_max_v, self._cell_min_v, self._hot_degc = trips[:, 0], trips[:, 1], trips[:, 2]
        self._measurements = InputEncoder(
            self.bank,
            (
                "MODULE_VOLTAGE",
                "MODULE_CURRENT",
                "TEMPERATURE_1",
                "TEMPERATURE_2",
                "TRIM_CURRENT",
                "CHARGE_COUNTER",
                "CELL_VOLTAGE",
            ),
        )
        self._counters = InputEncoder(self.bank, ("UPTIME", "INSERT_COUNT", "DUTY_ECHO"))
        self._describe(site)
        self._power_up(np.ones(m, dtype=np.bool_))
        self.stage = self.drive()

    def _describe(self, site: Site) -> None:
        """Identity registers, and what each node takes as a trim set point and as CLEAR."""
        bank = self.bank
        bank.only("CLEAR", frozenset({0, rm1.CLEAR_CODE}))
        bank.input[:, 0], bank.input[:, 1] = bank.profile.magic, bank.profile.map_version
        bank.input[:, 2] = site.topology.n_cells
        for i, position in enumerate(site.positions):
            module = position.module
            rating = round(module.trim_rating_a / 0.01)
            bank.limit(i, "TRIM_CURRENT_SETPOINT", -rating, rating)
            bank.holding[i, 100:108] = encode_text(module.serial[:16], 8)
            bank.holding[i, 108:117] = [
                module.chemistry.code,
                round(module.rated_capacity_ah / 0.1),
                rating,
                round(position.r_on_ohm / 1e-5),
                FIRMWARE_VERSION,
                round(self._cell_max_v[i] / 0.001),
                round(self._cell_min_v[i] / 0.001),
                round(self._hot_degc[i] / 0.1),
                round(module.trim_efficiency_frac / 0.0001),
            ]

    def _power_up(self, rows: BoolArray) -> None:
        self.bank.holding[rows, : rm1.IDENTIFY + 1] = 0
        self.bank.holding[rows, rm1.WATCHDOG] = round(POWER_UP_WATCHDOG_S / 0.1)
        self._unfed_s[rows] = 0.0
        self._watchdog_latch[rows] = self._expired[rows] = False
        self._trips[rows] = 0

    def restart(self, rows: BoolArray, time_s: float, charge_ah: FloatArray) -> None:
        """Nodes lose their supply and come back: everything volatile is gone."""
        self._power_up(rows)
        self._born_s[rows] = time_s
        self._charge_zero_ah[rows] = charge_ah[rows]

    # ---- the wire ------------------------------------------------------------------------------

    def write(self, row: int, address: int, words: Sequence[int]) -> None:
        """A write request of the host.

        Raises:
            RefusedError: nothing was changed.
        """
        values = self.bank.check_write(row, address, words)
        old_heartbeat = int(self.bank.holding[row, rm1.HEARTBEAT])
        self.bank.holding[row, address : address + len(words)] = words
        if values.get(rm1.HEARTBEAT, old_heartbeat) != old_heartbeat:
            self._unfed_s[row] = 0.0
            self._expired[row] = False
        if values.get(rm1.CLEAR):
            self._clear(row)
        self.bank.holding[row, rm1.CLEAR] = 0

    def _clear(self, row: int) -> None:
        """Reset the latched bits whose cause is gone."""
        if not self._expired[row]:
            self._watchdog_latch[row] = False
        self._trips[row] &= self._trip_cause[row]

    # ---- time ----------------------------------------------------------------------------------

    def run_watchdogs(self, wall_dt_s: float) -> None:
        """Wall time passes; an expiring watchdog erases the node's commands and latches."""
        self._unfed_s += wall_dt_s
        late = (self._unfed_s > self.bank.holding[:, rm1.WATCHDOG] * 0.1) & ~self.faults.watchdog_dead
        now = late & ~self._expired
        self._expired |= late
        self._watchdog_latch |= now
        self.bank.holding[now, INSERT_MODE : TRIM + 1] = 0

    def run_trips(self, cell_v: FloatArray, degc: FloatArray) -> None:
        """Compare the cells with the last-resort thresholds; (M, C) volt with NaN for none, (M,) degC."""
        high = np.nan_to_num(cell_v, nan=0.0).max(axis=1) > self._cell_max_v
        low = np.nan_to_num(cell_v, nan=np.inf).min(axis=1) < self._cell_min_v
        hot = degc > self._hot_degc
        cause: IntArray = np.zeros(hot.size, dtype=np.int64)
        cause[high] |= int(Rm1Status.OVER_VOLTAGE_TRIP)
        cause[low] |= int(Rm1Status.UNDER_VOLTAGE_TRIP)
        cause[hot] |= int(Rm1Status.OVER_TEMPERATURE_TRIP)
        self._trip_cause = cause
        self._trips |= cause

    @property
    def _active(self) -> BoolArray:
        """Commands have an effect."""
        active: BoolArray = ~self._watchdog_latch & (self._trips == 0)
        return active

    def drive(self) -> PowerStage:
        """What the hardware does with the commands that stand now."""
        active = self._active
        pwm = self.bank.holding[:, INSERT_MODE] == 1
        duty = self.bank.holding[:, DUTY] * 0.0001
        wanted = np.where(pwm, duty > 0.0, self.bank.holding[:, INSERT] == 1) & active
        stuck = self.faults.stuck
        self.stage = PowerStage(
            wanted=wanted,
            inserted=np.where(stuck >= 0, stuck == 1, wanted),
            duty_frac=np.where(pwm & (stuck < 0), duty, 1.0),
            trim_a=np.where(active & ~self.faults.trim_broken, self.bank.number(TRIM) * 0.01, 0.0),
        )
        return self.stage

    def count_switching(self, dt_s: float) -> None:
        """INSERT_COUNT: transitions of the switch; PWM makes two a second."""
        stage = self.stage
        moved = stage.inserted != self._was_in
        pwm = stage.inserted & (stage.duty_frac > 0.0) & (stage.duty_frac < 1.0)
        self._insert_count += moved + np.where(pwm, round(2.0 * dt_s), 0)
        self._was_in = stage.inserted

    # ---- showing -------------------------------------------------------------------------------

    def show_measurements(self, seen: SensorValues, counter: int) -> None:
        """A new measurement set."""
        rows = ~self.faults.frozen
        cells = np.full((rows.size, rm1.CELLS_MAX), np.nan)
        cells[:, : seen.cell_voltage_v.shape[1]] = seen.cell_voltage_v
        cells[~self._cells] = np.nan
        values = (
            seen.module_voltage_v,
            seen.module_current_a,
            seen.temperature_degc,
            seen.trim_current_a,
            seen.charge_counter_ah - self._charge_zero_ah,
            cells,
        )
        self._measurements.show(values, rows)
        self.bank.input[rows, 16] = counter & 0xFFFF

    def show_state(self, seen: SensorValues, time_s: float) -> None:
        """Status, echoes and counters, which never wait for a measurement set."""
        bank, rows, stage = self.bank, ~self.faults.frozen, self.stage
        cells = self._cells[:, : seen.cell_voltage_v.shape[1]]
        shown = np.where(self.faults.sense_blind, stage.wanted, stage.inserted)
        flags = (
            shown,
            stage.wanted != shown,
            self._watchdog_latch,
            (stage.trim_a != 0.0) & (seen.trim_current_a != 0.0),
            self.faults.trim_broken,
            ((seen.cell_voltage_v <= 0.0) & cells).any(axis=1),
            np.isnan(seen.temperature_degc).any(axis=1),
        )
        status = SHOWN_BITS @ np.stack(flags) | self._trips
        bank.input[rows, 3] = status[rows]
        bank.input[rows, 9] = bank.holding[rows, rm1.HEARTBEAT]
        duty = np.where(shown, stage.duty_frac, 0.0)
        uptime = np.floor(time_s - self._born_s)
        self._counters.show((uptime, self._insert_count.astype(np.float64), duty), rows)
