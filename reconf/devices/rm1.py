"""RM1 module node: what its registers mean to us. Pure: words in, readings out; commands in, words out."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.marks import MarkedTable, NodeMarks
from reconf.devices.profile import DeviceProfile
from reconf.readings import ModuleReadings
from reconf.registers import BlockDecoder, ReadBlock, WordArray, encode_values

INPUT_FIXED = 20
"""Input registers before the first cell voltage."""
CELLS_MAX = 15
CLEAR_CODE = 0xC1EA
COMMAND_FIRST = 2
"""Address of INSERT_MODE; the command registers are INSERT_MODE, INSERT, DUTY, TRIM_CURRENT_SETPOINT."""
COMMAND_COUNT = 4
HEARTBEAT, WATCHDOG, CLEAR, IDENTIFY = 0, 1, 6, 7
IDENTITY = ReadBlock("holding", 100, 17)


class Rm1Status(IntFlag):
    """STATUS bits."""

    INSERTED = 1 << 0
    SWITCH_FAULT = 1 << 1
    """Commanded and sensed state differ."""
    WATCHDOG_EXPIRED = 1 << 2
    """Latched."""
    TRIM_RUNNING = 1 << 3
    TRIM_FAULT = 1 << 4
    CELL_SENSING_FAULT = 1 << 5
    TEMPERATURE_SENSOR_FAULT = 1 << 6
    OVER_VOLTAGE_TRIP = 1 << 7
    """Latched."""
    UNDER_VOLTAGE_TRIP = 1 << 8
    """Latched."""
    OVER_TEMPERATURE_TRIP = 1 << 9
    """Latched."""


TRIPS = Rm1Status.OVER_VOLTAGE_TRIP | Rm1Status.UNDER_VOLTAGE_TRIP | Rm1Status.OVER_TEMPERATURE_TRIP
LATCHES = TRIPS | Rm1Status.WATCHDOG_EXPIRED

# What physics allows, far outside any operating limit: beyond these a register is not believed.
CELL_VOLTAGE_CEILING_V = 5.0
"""No lithium-ion cell of these chemistries reaches it; RM1's own trips lie below 4.5 V."""
TEMPERATURE_FLOOR_DEGC = -45.0
TEMPERATURE_CEILING_DEGC = 200.0
"""Venting cells have been seen near 200 degC; above it the sensor is broken."""


class Rm1Codec:
    """Decodes the input registers of M modules and encodes their commands."""

    def __init__(self, profile: DeviceProfile, n_cells: IntArray) -> None:
        self.profile = profile
        self.n_cells = n_cells
        self.block = ReadBlock("input", 0, INPUT_FIXED + CELLS_MAX)
        self.read_counts: IntArray = INPUT_FIXED + n_cells
        """(M,) registers asked of each node: no further than its last cell."""
        self._decoder = BlockDecoder(profile.of_table("input"), self.block)
        self._n_cells_max = int(n_cells.max(initial=1))
        self._no_cell = np.arange(CELLS_MAX) >= n_cells[:, None]
        self._low, self._high = self._plausible()
        names = ("INSERT_MODE", "INSERT", "DUTY", "TRIM_CURRENT_SETPOINT")
        self._commands = tuple(profile.register("holding", name) for name in names)

    def genuine(self, words: WordArray) -> BoolArray:
        """(M,) whether a block carries RM1's mark, its map version and the module's number of cells."""
        whole: BoolArray = (
            (words[:, 0] == self.profile.magic)
            & (words[:, 1] == self.profile.map_version)
            & (words[:, 2] == self.n_cells)
        )
        return whole

    def _plausible(self) -> tuple[FloatArray, FloatArray]:
        """(M, V) what physics allows; cells that a module does not have are marked elsewhere."""
        at, shape = self._decoder.columns, (self.n_cells.size, self._decoder.n_values)
        low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
        high[:, at["MODULE_VOLTAGE"]] = CELL_VOLTAGE_CEILING_V * self.n_cells[:, None]
        high[:, at["CELL_VOLTAGE"]] = CELL_VOLTAGE_CEILING_V
        high[:, at["DUTY_ECHO"]] = 1.0 + 1e-9
        for name in ("TEMPERATURE_1", "TEMPERATURE_2"):
            low[:, at[name]], high[:, at[name]] = TEMPERATURE_FLOOR_DEGC, TEMPERATURE_CEILING_DEGC
        return low, high

    def readings(self, words: WordArray, marks: NodeMarks) -> ModuleReadings:
        """(M, 35) register words, the last whole block of each node -> readings."""
        at = self._decoder.columns
        values = self._decoder.values(words)
        cells = slice(at["CELL_VOLTAGE"].start, at["CELL_VOLTAGE"].start + self._n_cells_max)
        # holes are never asked for, so what stands in the words of absent cells means nothing
        values[:, at["CELL_VOLTAGE"]][self._no_cell] = np.nan
        table = MarkedTable.of(values, marks, self._low, self._high)
        return ModuleReadings(
            answered=marks.answered,
            age_s=marks.age_s,
            status=table.integers(at["STATUS"].start),
            voltage_v=table.channel(at["MODULE_VOLTAGE"].start),
            current_a=table.channel(at["MODULE_CURRENT"].start),
            temperature_degc=table.channel(slice(at["TEMPERATURE_1"].start, at["TEMPERATURE_2"].stop)),
            cell_voltage_v=table.channel(cells),
            trim_current_a=table.channel(at["TRIM_CURRENT"].start),
            charge_counter_ah=table.channel(at["CHARGE_COUNTER"].start),
            duty_frac=table.channel(at["DUTY_ECHO"].start),
            sample_counter=table.integers(at["SAMPLE_COUNTER"].start),
            heartbeat_echo=table.integers(at["HEARTBEAT_ECHO"].start),
            uptime_s=table.integers(at["UPTIME"].start),
            insert_count=table.integers(at["INSERT_COUNT"].start),
        )

    def command_words(self, command: SlotCommand) -> IntArray:
        """(M, 4) words for INSERT_MODE, INSERT, DUTY and TRIM_CURRENT_SETPOINT.

        The register that the mode does not use is held at 0, so that nothing old acts when the mode changes.
        """
        host = ~command.duty_mode
        columns = (
            command.duty_mode.astype(np.float64),
            (command.inserted & host).astype(np.float64),
            np.where(command.duty_mode, command.duty_frac, 0.0),
            command.trim_current_a,
        )
        return np.concatenate(
            [encode_values(r, c) for r, c in zip(self._commands, columns, strict=True)], axis=1
        )
