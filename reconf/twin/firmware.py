"""All nodes of a site on top of its physics: what answers on the wire of the twin. Pure, no clock.

bank = NodeBank(site, plant, rng)
bank.write("gateway-a", 1, 3, [1])          # as the wire does
bank.step(wall_dt_s=0.02, sim_dt_s=5.0)     # watchdogs run in wall time, physics in simulated time
words = bank.read("gateway-a", 1, "input", 0, 32)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.devices.profile import DeviceProfile, Table, load_profile
from reconf.devices.site_io import BitTable
from reconf.replacing import replace
from reconf.site import Site
from reconf.twin.firmware_io import IoFirmware
from reconf.twin.firmware_rc1 import Rc1Firmware
from reconf.twin.firmware_registers import ExceptionCode, RefusedError
from reconf.twin.firmware_rm1 import Rm1Firmware
from reconf.twin.observe import TYPICAL, SensorNoise, SensorValues, sense
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs

PHYSICS_STEP_MAX_S = 2.5
SAMPLE_PERIOD_S = 0.25
"""Simulated time between measurement sets."""
AVERAGING_S = 1.0
"""MODULE_VOLTAGE and MODULE_CURRENT are means over this time."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Who answers to a unit id."""

    kind: Literal["rm1", "rc1"]
    row: int


class NodeBank:
    """Every RM1 and RC1 of a site.

    Args:
        site: who sits where.
        plant: the physics beneath.
        rng: sensor noise and the nodes' past.
        noise: of the sensors.
        rm1_profile: registers of the module nodes; the shipped profile by default.
        rc1_profile: registers of the converters; the shipped profile by default.
    """

    def __init__(
        self,
        site: Site,
        plant: Plant,
        rng: np.random.Generator,
        *,
        noise: SensorNoise = TYPICAL,
        rm1_profile: DeviceProfile | None = None,
        rc1_profile: DeviceProfile | None = None,
    ) -> None:
        self.site = site
        self.plant = plant
        self.units: dict[tuple[str, int], Unit] = {}
        for i, position in enumerate(site.positions):
            self.units[position.gateway, position.unit_id] = Unit("rm1", i)
        for s, string in enumerate(site.strings):
            self.units[string.converter.gateway, string.converter.unit_id] = Unit("rc1", s)
        past: IntArray = rng.integers(0, 200_000, site.topology.n_modules)
        self.rm1 = Rm1Firmware(site, rm1_profile or load_profile("rm1"), past)
        self.rc1 = Rc1Firmware(site, rc1_profile or load_profile("rc1"))
        self.io = IoFirmware(site)
        self.link_shorts = 0
        """Steps in which a string was bypassed as a whole behind a closed contactor."""
        self._rng = rng
        self._noise = noise
        self._window: deque[tuple[float, FloatArray, FloatArray]] = deque()
        self._sample = -1
        self._seen = sense(plant, rng, noise)
        self._stale = True
        self._refresh()

    # ---- the wire ------------------------------------------------------------------------------

    def read(self, gateway: str, unit_id: int, table: Table, address: int, count: int) -> bytes | None:
        """Registers as they go on the wire; None where nobody has that unit id.

        Raises:
            RefusedError: the node answers with an exception.
        """
        if (gateway, unit_id) in self.io.units:
            return self.io.read((gateway, unit_id), table, address, count)
        unit = self.units.get((gateway, unit_id))
        if unit is None:
            return None
        if table == "input" and self._stale:
            self._refresh()
        bank = self.rm1.bank if unit.kind == "rm1" else self.rc1.bank
        return bank.read(unit.row, table, address, count)

    def write(self, gateway: str, unit_id: int, address: int, words: Sequence[int]) -> bool:
        """A write request; False where nobody has that unit id.

        Raises:
            RefusedError: the node answers with an exception; nothing was changed.
        """
        if (gateway, unit_id) in self.io.units:
            self.io.write((gateway, unit_id), "holding", address, words)
            return True
        unit = self.units.get((gateway, unit_id))
        if unit is None:
            return False
        (self.rm1 if unit.kind == "rm1" else self.rc1).write(unit.row, address, words)
        self._stale = True
        return True

    def read_bits(
        self, gateway: str, unit_id: int, table: BitTable, address: int, count: int
    ) -> bytes | None:
        """Discrete inputs or coils, the first in the lowest place; only site I/O units have any.

        Raises:
            RefusedError: the unit answers with an exception.
        """
        if (gateway, unit_id) in self.io.units:
            return self.io.read_bits((gateway, unit_id), table, address, count)
        if (gateway, unit_id) in self.units:
            raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)
        return None

    def write_coil(self, gateway: str, unit_id: int, address: int, *, on: bool) -> bool:
        """A coil; False where nobody has that unit id.

        Raises:
            RefusedError: the unit answers with an exception.
        """
        if (gateway, unit_id) in self.io.units:
            self.io.write((gateway, unit_id), "coil", address, (int(on),))
            return True
        if (gateway, unit_id) in self.units:
            raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)
        return False

    # ---- time ----------------------------------------------------------------------------------

    def step(self, wall_dt_s: float, sim_dt_s: float) -> None:
        """Let wall time (watchdogs) and simulated time (everything else) pass."""
        parts = max(1, int(np.ceil(sim_dt_s / PHYSICS_STEP_MAX_S - 1e-9)))
        for _ in range(parts):
            self._step(wall_dt_s / parts, sim_dt_s / parts)
        self._stale = True

    def _step(self, wall_dt_s: float, dt_s: float) -> None:
        self.rm1.run_watchdogs(wall_dt_s)
        self.rc1.run_watchdogs(wall_dt_s)
        true = self.plant.true
        self.rc1.run_contactors(true.string_voltage_v, true.string_current_a, dt_s)
        inputs = self._inputs()
        all_out = ~self.site.topology.sum_by_string(inputs.inserted.astype(np.float64)).astype(np.bool_)
        self.link_shorts += int((all_out & inputs.contactor_closed).sum())
        self.plant.apply(inputs)
        self.plant.step(dt_s)
        if self.io.units and self.io.signals["ambient_degc"] is not None:
            self.io.set("ambient_degc", self.plant.ambient_degc)
        true = self.plant.true
        self.rm1.run_trips(true.cell_voltage_v, np.maximum(true.surface_degc, true.core_degc))
        self.rm1.count_switching(dt_s)
        self._window.append((dt_s, true.module_voltage_v, true.module_current_a))
        while len(self._window) > 1 and sum(w[0] for w in self._window) - self._window[0][0] >= AVERAGING_S:
            self._window.popleft()

    def _inputs(self) -> PlantInputs:
        modules, converters = self.rm1.drive(), self.rc1.drive()
        return PlantInputs(
            inserted=modules.inserted,
            duty_frac=modules.duty_frac,
            trim_setpoint_a=modules.trim_a,
            mode=converters.mode,
            power_setpoint_w=converters.power_w,
            bus_voltage_setpoint_v=converters.bus_voltage_v,
            current_limit_a=converters.current_limit_a,
            contactor_closed=self.rc1.closed,
            cooling_frac=self.io.outputs.cooling_frac,
        )

    @property
    def shown_sample(self) -> int:
        """Number of the measurement set in the input registers; a new one is taken when somebody reads."""
        return self._sample

    # ---- showing -------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Bring the input registers up to date: when somebody reads, not at every step."""
        sample = int(self.plant.time_s / SAMPLE_PERIOD_S + 1e-9)
        if sample != self._sample:
            self._sample = sample
            self._seen = self._averaged(sense(self.plant, self._rng, self._noise))
            self.rm1.show_measurements(self._seen, sample)
            self.rc1.show_measurements(self._seen, sample)
        self.rm1.show_state(self._seen, self.plant.time_s)
        true = self.plant.true
        self.rc1.show_state(self._seen, true.limiting, true.outside_window)
        self._stale = False

    def _averaged(self, seen: SensorValues) -> SensorValues:
        """Voltage and current as means over the last second."""
        if len(self._window) < 2:
            return seen
        weight = np.array([w[0] for w in self._window])
        weight /= weight.sum()
        mean_v = weight @ np.stack([w[1] for w in self._window])
        mean_a = weight @ np.stack([w[2] for w in self._window])
        true, way = self.plant.true, self.plant.faults.sense_polarity
        return replace(
            seen,
            module_voltage_v=np.maximum(seen.module_voltage_v + way * (mean_v - true.module_voltage_v), 0.0),
            module_current_a=seen.module_current_a + way * (mean_a - true.module_current_a),
        )
