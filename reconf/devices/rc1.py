"""RC1 string converter: what its registers mean. Pure: words in, readings out; commands in, words out."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

from reconf.actuation import ConverterMode, SlotCommand
from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.devices.marks import MarkedTable, NodeMarks
from reconf.devices.profile import DeviceProfile
from reconf.readings import StringReadings
from reconf.registers import BlockDecoder, ReadBlock, WordArray, encode_values

CLEAR_CODE = 0xC1EA
COMMAND_FIRST = 2
"""Address of MODE; the command registers are MODE, POWER_SETPOINT (two), BUS_VOLTAGE_SETPOINT,
STRING_CURRENT_LIMIT and CONTACTOR."""
COMMAND_COUNT = 6
BUS_VOLTAGE_COLUMN = 3
"""Column of BUS_VOLTAGE_SETPOINT among the command words."""
CURRENT_LIMIT_COLUMN = 4
CONTACTOR_ADDRESS = 7
HEARTBEAT, WATCHDOG, CLEAR = 0, 1, 8
IDENTITY = ReadBlock("holding", 100, 17)


class Rc1Status(IntFlag):
    """STATUS bits."""

    RUNNING = 1 << 0
    CONTACTOR_CLOSED = 1 << 1
    PRECHARGING = 1 << 2
    WATCHDOG_EXPIRED = 1 << 3
    """Latched."""
    LIMITING = 1 << 4
    OVER_TEMPERATURE = 1 << 5
    HARDWARE_FAULT = 1 << 6
    """Latched."""
    OUTSIDE_WINDOW = 1 << 7
    """String-side voltage outside the window."""
    EMERGENCY_STOP = 1 << 8
    """The emergency-stop input is active."""
    CONTACTOR_MISMATCH = 1 << 9
    """Commanded and sensed state differ: welded or not closing."""


LATCHES = Rc1Status.WATCHDOG_EXPIRED | Rc1Status.HARDWARE_FAULT
ERASING = LATCHES | Rc1Status.EMERGENCY_STOP
"""Bits whose coming erases commands in the node."""

# What physics allows, far outside any operating limit: beyond these a register is not believed.
VOLTAGE_CEILING_V = 1500.0
"""Low-voltage DC ends here (IEC 60364)."""
TEMPERATURE_FLOOR_DEGC = -45.0
TEMPERATURE_CEILING_DEGC = 200.0


class Rc1Codec:
    """Decodes the input registers of S converters and encodes their commands."""

    def __init__(self, profile: DeviceProfile) -> None:
        self.profile = profile
        self.block = ReadBlock("input", 0, max(r.end for r in profile.of_table("input")))
        self._decoder = BlockDecoder(profile.of_table("input"), self.block)
        self._low, self._high = self._plausible()
        names = ("MODE", "POWER_SETPOINT", "BUS_VOLTAGE_SETPOINT", "STRING_CURRENT_LIMIT", "CONTACTOR")
        self._commands = tuple(profile.register("holding", name) for name in names)

    def genuine(self, words: WordArray) -> BoolArray:
        """(S,) whether a block carries RC1's mark and its map version."""
        whole: BoolArray = (words[:, 0] == self.profile.magic) & (words[:, 1] == self.profile.map_version)
        return whole

    def _plausible(self) -> tuple[FloatArray, FloatArray]:
        """(V,) what physics allows."""
        at = self._decoder.columns
        low, high = np.full(self._decoder.n_values, -np.inf), np.full(self._decoder.n_values, np.inf)
        for name in ("STRING_VOLTAGE", "BUS_VOLTAGE", "LINK_VOLTAGE"):
            high[at[name]] = VOLTAGE_CEILING_V
        low[at["HEATSINK_TEMPERATURE"]] = TEMPERATURE_FLOOR_DEGC
        high[at["HEATSINK_TEMPERATURE"]] = TEMPERATURE_CEILING_DEGC
        return low, high

    def readings(self, words: WordArray, marks: NodeMarks) -> StringReadings:
        """(S, 17) register words, the last whole block of each node -> readings."""
        at = {name: where.start for name, where in self._decoder.columns.items()}
        table = MarkedTable.of(self._decoder.values(words), marks, self._low, self._high)
        return StringReadings(
            answered=marks.answered,
            age_s=marks.age_s,
            status=table.integers(at["STATUS"]),
            voltage_v=table.channel(at["STRING_VOLTAGE"]),
            current_a=table.channel(at["STRING_CURRENT"]),
            bus_voltage_v=table.channel(at["BUS_VOLTAGE"]),
            bus_current_a=table.channel(at["BUS_CURRENT"]),
            power_w=table.channel(at["POWER"]),
            link_voltage_v=table.channel(at["LINK_VOLTAGE"]),
            heatsink_temperature_degc=table.channel(at["HEATSINK_TEMPERATURE"]),
            energy_out_kwh=table.channel(at["ENERGY_OUT"]),
            energy_in_kwh=table.channel(at["ENERGY_IN"]),
            sample_counter=table.integers(at["SAMPLE_COUNTER"]),
            heartbeat_echo=table.integers(at["HEARTBEAT_ECHO"]),
        )

    def command_words(self, command: SlotCommand) -> IntArray:
        """(S, 6) words for MODE, POWER_SETPOINT, BUS_VOLTAGE_SETPOINT, STRING_CURRENT_LIMIT, CONTACTOR."""
        columns = (
            command.mode.astype(np.float64),
            command.power_w,
            command.bus_voltage_v,
            command.current_limit_a,
            command.contactor.astype(np.float64),
        )
        return np.concatenate(
            [encode_values(r, c) for r, c in zip(self._commands, columns, strict=True)], axis=1
        )

    @staticmethod
    def relevant(command: SlotCommand) -> BoolArray:
        """(S, 6) which command words matter: BUS_VOLTAGE_SETPOINT does in MODE 2 only."""
        out = np.ones((command.mode.size, COMMAND_COUNT), dtype=np.bool_)
        out[:, BUS_VOLTAGE_COLUMN] = command.mode == ConverterMode.BUS_VOLTAGE
        return out
