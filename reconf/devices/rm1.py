"""RM1 module node: what its registers mean to us. Pure: words in, readings out; commands in, words out."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.marks import NodeMarks, marked
from reconf.devices.profile import DeviceProfile
from reconf.readings import Channel, ModuleReadings
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
        self._no_cell = np.arange(self._n_cells_max) >= n_cells[:, None]
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

    def readings(self, words: WordArray, marks: NodeMarks) -> ModuleReadings:
        """(M, 35) register words, the last whole block of each node -> readings."""
        columns = self._decoder.columns
        values = self._decoder.values(words)
        values[np.isinf(marks.age_s)] = np.nan

        def integer(name: str) -> IntArray:
            column = values[:, columns[name].start]
            whole: IntArray = np.where(np.isnan(column), 0.0, column).astype(np.int64)
            return whole

        def channel(name: str, low: float = -np.inf, high: float | FloatArray = np.inf) -> Channel:
            part = values[:, columns[name]]
            value = part[:, 0] if part.shape[1] == 1 else part
            return marked(value, marks.quality, marks.age_s, (value < low) | (value > high))

        cells = values[:, columns["CELL_VOLTAGE"]][:, : self._n_cells_max].copy()
        cells[self._no_cell] = np.nan
        warm = slice(columns["TEMPERATURE_1"].start, columns["TEMPERATURE_2"].stop)
        degc = values[:, warm]
        return ModuleReadings(
            answered=marks.answered,
            age_s=marks.age_s,
            status=integer("STATUS"),
            voltage_v=channel(
                "MODULE_VOLTAGE", high=CELL_VOLTAGE_CEILING_V * self.n_cells.astype(np.float64)
            ),
            current_a=channel("MODULE_CURRENT"),
            temperature_degc=marked(
                degc,
                marks.quality,
                marks.age_s,
                (degc < TEMPERATURE_FLOOR_DEGC) | (degc > TEMPERATURE_CEILING_DEGC),
            ),
            cell_voltage_v=marked(cells, marks.quality, marks.age_s, cells > CELL_VOLTAGE_CEILING_V),
            trim_current_a=channel("TRIM_CURRENT"),
            charge_counter_ah=channel("CHARGE_COUNTER"),
            duty_frac=channel("DUTY_ECHO", high=1.0 + 1e-9),
            sample_counter=integer("SAMPLE_COUNTER"),
            heartbeat_echo=integer("HEARTBEAT_ECHO"),
            uptime_s=integer("UPTIME"),
            insert_count=integer("INSERT_COUNT"),
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
