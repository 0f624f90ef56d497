"""The catalogue of faults: what breaks, where, and what counts as the reaction to it.

Module faults strike module 2 (of string 0) and, in pairs, module 5; string faults strike string 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edge.bench.fault_nodes import FaultyNodes
from optimizer.result import AllocationInput, AllocationResult, Infeasible, Late, Plan
from reconf.arrays import BoolArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel, Quality, SiteImage
from reconf.twin.plant import Plant

EXCEPTION = "exception 4 device failure"
SILENT = "acknowledged, but it reads what it read before"
Break = Callable[[FaultyNodes, Plant, int], None]
"""Breaks something; called once, with the module (or string) it strikes."""


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One row of the catalogue."""

    fault: str
    strike: Break
    reaction: str
    """`bypass` the module is out; `zero` its string carries nothing; `open` the string is open;
    `open_site` all are; `none` control may go on as it was."""
    common: bool = False
    """Part of the pairs."""
    scene: str = "usual"
    """Name of the state it strikes in (`edge.bench.faults.SCENES`)."""
    run_s: float = 150.0
    """How long control goes on after it."""


def _silent_module(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.silent_modules[m] = True


def _silent_string(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.silent_strings[0] = True


def _half_silent(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.silent_modules[: nodes.first_string_end // 2] = True


def _frozen(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.frozen_modules[m] = True


def _hot_lie(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.temperature_offset_k[m, :] = 15.0


def _cold_lie(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.temperature_offset_k[m, 0] = -15.0


def _sense_open(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.sense_open[m, 3] = True


def _current_lie(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.current_offset_a[m] = 2.0


def _voltage_lie(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.cell_voltage_offset_v[m, :] = 0.05


def _short(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.leakage_ohm[m, 1] = 1.0


def _weak_group(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.resistance_factor[m, 4] = 5.0


def _weak_module(_nodes: FaultyNodes, plant: Plant, m: int) -> None:
    plant.faults.resistance_factor[m, :] = 3.0


def _no_cooling(nodes: FaultyNodes, plant: Plant, _m: int) -> None:
    nodes.fan_dead = True
    plant.apply(replace(plant.inputs, cooling_frac=0.0))


def _no_convection(_nodes: FaultyNodes, plant: Plant, _m: int) -> None:
    # a blocked filter: neither a fan nor the air's own draught carries heat away
    plant.faults.cooling_factor[:] = 0.0


def _deaf_module(how: str) -> Break:
    def strike(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
        nodes.deaf_modules[m] = True
        nodes.deaf_how = how

    return strike


def _deaf_string(how: str) -> Break:
    def strike(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
        nodes.deaf_strings[0] = True
        nodes.deaf_how = how

    return strike


def _stuck_in(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.stuck[m] = True
    nodes.taken_out[m] = True


def _restarted(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.module_bits[m] |= int(Rm1Status.WATCHDOG_EXPIRED)


def _tripped(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.module_bits[m] |= int(Rm1Status.OVER_TEMPERATURE_TRIP)


def _hardware(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.string_bits[0] |= int(Rc1Status.HARDWARE_FAULT)


def _welded(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.welded[0] = True
    nodes.string_bits[0] |= int(Rc1Status.HARDWARE_FAULT)


def _site(**inputs: object) -> Break:
    def strike(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
        nodes.inputs |= inputs

    return strike


def _runaway(nodes: FaultyNodes, _plant: Plant, m: int) -> None:
    nodes.runaway[m] = True


def _bus(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.bus_v = 600.0


def _hang(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.answers = lambda q, _: Late(q.interval, 0.5)


def _infeasible(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    nodes.answers = lambda q, _: Infeasible(q.interval, "said so for ever")


def _mad(nodes: FaultyNodes, _plant: Plant, _m: int) -> None:
    def answer(_question: AllocationInput, honest: AllocationResult) -> AllocationResult:
        if not isinstance(honest, Plan):
            return honest
        return replace(
            honest,
            string_power_w=-3.0 * honest.string_power_w,
            string_current_a=-3.0 * honest.string_current_a,
            duty_frac=1.0 - honest.duty_frac,
            trim_current_a=honest.trim_current_a + 4.0,
        )

    nodes.answers = answer


CATALOGUE: tuple[FaultCase, ...] = (
    FaultCase("module_silent", _silent_module, "bypass", common=True),
    FaultCase("half_string_silent", _half_silent, "open"),
    FaultCase("converter_silent", _silent_string, "open", common=True),
    FaultCase("module_frozen", _frozen, "bypass", common=True),
    FaultCase("temperature_lie_hot", _hot_lie, "none", common=True, run_s=600.0),
    FaultCase("temperature_lie_cold", _cold_lie, "none", scene="charging", run_s=600.0),
    FaultCase("cell_sense_open", _sense_open, "bypass", common=True),
    FaultCase("current_sensor_offset", _current_lie, "none", scene="empty", run_s=400.0),
    FaultCase("cell_voltage_offset", _voltage_lie, "none", scene="empty", run_s=400.0),
    FaultCase("internal_short", _short, "none", scene="resting", run_s=3600.0),
    FaultCase("group_resistance_rise", _weak_group, "none", common=True, scene="empty", run_s=400.0),
    FaultCase("module_resistance_rise", _weak_module, "none", scene="empty", run_s=400.0),
    FaultCase("cooling_failed", _no_cooling, "none", scene="warm", run_s=1500.0),
    FaultCase("convection_lost", _no_convection, "none", scene="warmed", run_s=3600.0),
    FaultCase("module_writes_refused", _deaf_module(EXCEPTION), "bypass"),
    FaultCase("module_writes_swallowed", _deaf_module(SILENT), "bypass"),
    FaultCase("converter_writes_refused", _deaf_string(EXCEPTION), "open"),
    FaultCase("converter_writes_swallowed", _deaf_string(SILENT), "open"),
    FaultCase("switch_stuck", _stuck_in, "none", common=True),
    FaultCase("module_restarted", _restarted, "bypass"),
    FaultCase("module_tripped", _tripped, "bypass"),
    FaultCase("converter_hardware_fault", _hardware, "open"),
    FaultCase("contactor_welded", _welded, "zero"),
    FaultCase("emergency_stop", _site(emergency_stop=True), "open_site"),
    FaultCase("gas_alarm", _site(gas_alarm=True), "open_site"),
    FaultCase("smoke_alarm", _site(smoke_alarm=True), "open_site"),
    FaultCase("fire_alarm", _site(fire_alarm=True), "open_site"),
    FaultCase("insulation_fault", _site(insulation_ohm_per_v=50.0), "open_site"),
    FaultCase("thermal_runaway", _runaway, "open_site"),
    FaultCase("door_open", _site(door_open=True), "none"),
    FaultCase("emergency_stop_unseen", _site(unknown=("emergency_stop",)), "open_site"),
    FaultCase("site_input_unseen", _site(unknown=("gas_alarm",)), "none"),
    FaultCase("ventilation_failed", _site(ventilation_failed=True), "none"),
    FaultCase("bus_lost", _bus, "zero"),
    FaultCase("optimizer_hangs", _hang, "none", common=True),
    FaultCase("optimizer_infeasible", _infeasible, "none"),
    FaultCase("optimizer_mad", _mad, "none"),
)
"""Every fault of the campaign."""


def marked(channel: Channel, mask: BoolArray, quality: Quality) -> Channel:
    """`channel` with another quality where `mask` (over the first axis)."""
    marks = channel.quality.copy()
    marks[mask] = np.uint8(quality)
    return replace(channel, quality=marks)


def unseen(image: SiteImage, silent: BoolArray, frozen: BoolArray, age_s: float) -> SiteImage:
    """`image` as the southbound side gives it with silent and frozen modules."""
    m = image.modules
    changes: dict[str, Channel] = {}
    for name in m.__dataclass_fields__:
        value = getattr(m, name)
        if isinstance(value, Channel):
            value = marked(value, silent, Quality.NO_ANSWER if age_s > 5.0 else Quality.STALE)
            changes[name] = marked(value, frozen, Quality.FROZEN)
    answered = m.answered & ~silent & ~frozen
    age = np.where(answered, m.age_s, age_s)
    return replace(image, modules=replace(m, answered=answered, age_s=age, **changes))  # type: ignore[arg-type]  # only channels are in `changes`
