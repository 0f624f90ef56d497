"""What the nodes' sensors show of the plant: biased, noisy, and quantised as the registers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.actuation import ConverterMode
from reconf.arrays import FloatArray, IntArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel, ModuleReadings, SiteImage, SiteInputs, StringReadings
from reconf.twin.plant import Plant

MODULE_VOLTAGE_STEP_V = 0.001
MODULE_CURRENT_STEP_A = 0.01
TEMPERATURE_STEP_K = 0.1
CELL_VOLTAGE_STEP_V = 0.001
CHARGE_STEP_AH = 0.001
DUTY_STEP_FRAC = 0.0001
STRING_STEP = 0.1
"""Volt and ampere alike."""
ENERGY_STEP_KWH = 0.001


@dataclass(frozen=True, slots=True)
class SensorNoise:
    """Standard deviations of white noise on single readings."""

    cell_voltage_v: float = 0.001
    module_voltage_v: float = 0.004
    module_current_a: float = 0.02
    temperature_k: float = 0.1
    string_voltage_v: float = 0.1
    string_current_a: float = 0.03

    @classmethod
    def none(cls) -> SensorNoise:
        """Quiet sensors."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


QUIET = SensorNoise.none()
TYPICAL = SensorNoise()


@dataclass(frozen=True, slots=True)
class SensorValues:
    """Sensor outputs before they are put into registers."""

    module_voltage_v: FloatArray
    """(M,)"""
    module_current_a: FloatArray
    temperature_degc: FloatArray
    """(M, 2)"""
    cell_voltage_v: FloatArray
    """(M, C), NaN beyond a module's groups, never below 0."""
    trim_current_a: FloatArray
    """(M,)"""
    charge_counter_ah: FloatArray
    """(M,) as the node's own current sensor counts it."""
    string_voltage_v: FloatArray
    """(S,)"""
    string_current_a: FloatArray
    bus_power_w: FloatArray
    bus_voltage_v: FloatArray
    bus_current_a: FloatArray
    heatsink_degc: FloatArray
    energy_out_kwh: FloatArray
    energy_in_kwh: FloatArray


def sense(plant: Plant, rng: np.random.Generator, noise: SensorNoise = TYPICAL) -> SensorValues:
    """One sample of every sensor of `plant`; the same `rng` state gives the same sample."""
    true, truth, faults = plant.true, plant.truth, plant.faults

    def noisy(values: FloatArray, std: float) -> FloatArray:
        result: FloatArray = values + std * rng.standard_normal(values.shape) if std > 0.0 else values
        return result

    gain = 1.0 + truth.current_gain_frac
    offset = truth.current_offset_a + faults.current_offset_a
    cells = true.cell_voltage_v + truth.cell_voltage_offset_v + faults.cell_voltage_offset_v
    cells = faults.sense_polarity[:, None] * cells
    cells = np.maximum(noisy(cells, noise.cell_voltage_v), 0.0)
    cells = np.where(faults.sense_open & plant.bank.mask, 0.0, cells)
    warm = np.stack([true.surface_degc, true.surface_degc], axis=1)
    warm = warm + truth.temperature_offset_k + faults.temperature_offset_k
    bus_v = np.full(plant.topology.n_strings, true.bus_voltage_v)
    return SensorValues(
        module_voltage_v=np.maximum(
            noisy(faults.sense_polarity * true.module_voltage_v, noise.module_voltage_v), 0.0
        ),
        module_current_a=noisy(
            faults.sense_polarity * true.module_current_a * gain + offset, noise.module_current_a
        ),
        temperature_degc=noisy(warm, noise.temperature_k),
        cell_voltage_v=cells,
        trim_current_a=true.trim_current_a,
        charge_counter_ah=plant.charge_out_ah * gain + offset * (plant.time_s / 3600.0),
        string_voltage_v=np.maximum(
            noisy(faults.string_sense * true.string_voltage_v, noise.string_voltage_v), 0.0
        ),
        string_current_a=noisy(true.string_current_a, noise.string_current_a),
        bus_power_w=true.bus_power_w,
        bus_voltage_v=bus_v,
        bus_current_a=true.bus_power_w / bus_v,
        heatsink_degc=plant.heatsink_degc,
        energy_out_kwh=plant.energy.bus_out_j / 3.6e6,
        energy_in_kwh=plant.energy.bus_in_j / 3.6e6,
    )


def quantised(values: FloatArray, step: float) -> FloatArray:
    """`values` rounded to whole `step`s, as a register holds them."""
    result: FloatArray = np.round(values / step) * step
    return result


def _floor(values: FloatArray, step: float) -> FloatArray:
    result: FloatArray = np.floor(values / step) * step
    return result


def observe(
    plant: Plant,
    rng: np.random.Generator,
    tick: int,
    time_s: float,
    noise: SensorNoise = TYPICAL,
    inputs: SiteInputs | None = None,
) -> SiteImage:
    """An image as the southbound side would read it, without wires; every node answers."""
    seen = sense(plant, rng, noise)
    return SiteImage(
        tick=tick,
        time_s=time_s,
        modules=_module_readings(plant, seen, tick),
        strings=_string_readings(plant, seen, tick),
        inputs=SiteInputs(ambient_degc=plant.ambient_degc) if inputs is None else inputs,
    )


def _module_readings(plant: Plant, seen: SensorValues, tick: int) -> ModuleReadings:
    m = plant.topology.n_modules
    true = plant.true
    status: IntArray = np.where(true.duty_frac > 0.0, int(Rm1Status.INSERTED), 0).astype(np.int64)
    status |= np.where(true.trim_current_a != 0.0, int(Rm1Status.TRIM_RUNNING), 0)
    return ModuleReadings(
        answered=np.ones(m, dtype=np.bool_),
        age_s=np.zeros(m),
        status=status,
        voltage_v=Channel.of(quantised(seen.module_voltage_v, MODULE_VOLTAGE_STEP_V)),
        current_a=Channel.of(quantised(seen.module_current_a, MODULE_CURRENT_STEP_A)),
        temperature_degc=Channel.of(quantised(seen.temperature_degc, TEMPERATURE_STEP_K)),
        cell_voltage_v=Channel.of(quantised(seen.cell_voltage_v, CELL_VOLTAGE_STEP_V)),
        trim_current_a=Channel.of(quantised(seen.trim_current_a, MODULE_CURRENT_STEP_A)),
        charge_counter_ah=Channel.of(quantised(seen.charge_counter_ah, CHARGE_STEP_AH)),
        duty_frac=Channel.of(quantised(true.duty_frac, DUTY_STEP_FRAC)),
        sample_counter=np.full(m, tick & 0xFFFF, dtype=np.int64),
        heartbeat_echo=np.zeros(m, dtype=np.int64),
        uptime_s=np.full(m, int(plant.time_s), dtype=np.int64),
        insert_count=plant.insert_count,
    )


def _string_readings(plant: Plant, seen: SensorValues, tick: int) -> StringReadings:
    s = plant.topology.n_strings
    closed = plant.inputs.contactor_closed
    running = closed & (plant.inputs.mode != int(ConverterMode.OFF))
    status: IntArray = np.where(closed, int(Rc1Status.CONTACTOR_CLOSED), 0).astype(np.int64)
    status |= np.where(running, int(Rc1Status.RUNNING), 0)
    status |= np.where(plant.true.limiting, int(Rc1Status.LIMITING), 0)
    status |= np.where(plant.true.outside_window, int(Rc1Status.OUTSIDE_WINDOW), 0)
    voltage = quantised(seen.string_voltage_v, STRING_STEP)
    return StringReadings(
        answered=np.ones(s, dtype=np.bool_),
        age_s=np.zeros(s),
        status=status,
        voltage_v=Channel.of(voltage),
        current_a=Channel.of(quantised(seen.string_current_a, STRING_STEP)),
        bus_voltage_v=Channel.of(quantised(seen.bus_voltage_v, STRING_STEP)),
        bus_current_a=Channel.of(quantised(seen.bus_current_a, STRING_STEP)),
        power_w=Channel.of(np.round(seen.bus_power_w)),
        link_voltage_v=Channel.of(np.where(closed, voltage, 0.0)),
        heatsink_temperature_degc=Channel.of(quantised(seen.heatsink_degc, TEMPERATURE_STEP_K)),
        energy_out_kwh=Channel.of(_floor(seen.energy_out_kwh, ENERGY_STEP_KWH)),
        energy_in_kwh=Channel.of(_floor(seen.energy_in_kwh, ENERGY_STEP_KWH)),
        sample_counter=np.full(s, tick & 0xFFFF, dtype=np.int64),
        heartbeat_echo=np.zeros(s, dtype=np.int64),
    )
