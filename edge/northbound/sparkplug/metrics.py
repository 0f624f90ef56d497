"""Metrics of a site: one row each, with unit, limits, deadband and where the value comes from. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edge.core_values import TickView
from edge.northbound.sparkplug.codec import DataType, MetricDef
from edge.northbound.sparkplug.commands import DEVICE_COMMANDS, NODE_COMMANDS, WHOLE, Writable
from edge.northbound.sparkplug.node import MetricSet, Shown, SparkplugNode, Values
from edge.status import delivered_w, module_counts, shown_inserted
from reconf import __version__
from reconf.arrays import BoolArray, FloatArray
from reconf.protection.energy import available_energy_kwh
from reconf.readings import Channel
from reconf.site import Site
from reconf.site_links import SparkplugSpec

LOST_S = 5.0
"""Control time without an answer after which a string or a module counts as lost."""
MODULE_FOLDER = "Modules"
TOLD = ("Reply/Id", "Reply/Result", "Reply/Reason", "Reply/Text", "Reply/CurtailedTo", "History/Dropped")
"""Node metrics that are told by events, not by ticks."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A number of the node: `value(site, view)`, NaN where it is not known."""

    name: str
    datatype: DataType
    unit: str
    deadband: float
    value: Callable[[Site, TickView], float]


@dataclass(frozen=True, slots=True)
class StringRow:
    """A number of every string: `values(site, view)` -> (S,)."""

    name: str
    datatype: DataType
    unit: str
    deadband: float
    values: Callable[[Site, TickView], FloatArray]


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A number of every module: `values(view)` -> (M,)."""

    name: str
    datatype: DataType
    unit: str
    deadband: float
    values: Callable[[TickView], FloatArray]
    high: float = math.nan


def _usable(channel: Channel) -> FloatArray:
    """Values that may be believed, else NaN."""
    return np.where(channel.usable, channel.value, np.nan)


def _numbers(values: BoolArray | FloatArray) -> FloatArray:
    return values.astype(np.float64)


def _soc(view: TickView) -> float:
    """SOC of the site: charge left over present capacity."""
    capacity = float(np.nansum(view.estimate.capacity_ah))
    left = float(np.nansum(view.estimate.soc_frac * view.estimate.capacity_ah))
    return left / capacity if capacity > 0.0 else math.nan


def _delivered_w(view: TickView) -> float:
    given = delivered_w(view)
    return math.nan if given is None else given


def _energy_kwh(site: Site, view: TickView) -> float:
    return available_energy_kwh(site, view.estimate, view.envelope, view.setpoint.power_w)


def _inserted_in_strings(site: Site, view: TickView) -> FloatArray:
    return site.topology.sum_by_string(_numbers(shown_inserted(view)))


def _plating_margin(view: TickView) -> FloatArray:
    margin = view.envelope.plating_margin_v
    return np.full(len(view.envelope.charge_now_a), np.nan) if margin is None else margin


D, N, B = DataType.DOUBLE, DataType.INT32, DataType.BOOLEAN
NODE_ROWS = (
    NodeRow("Power/Asked", D, "W", 0.5, lambda _, v: v.setpoint.power_w),
    NodeRow("Power/Delivered", D, "W", 10.0, lambda _, v: _delivered_w(v)),
    NodeRow("Power/DischargeLimit", D, "W", 10.0, lambda _, v: float(v.envelope.capability.discharge_w[0])),
    NodeRow("Power/ChargeLimit", D, "W", 10.0, lambda _, v: float(v.envelope.capability.charge_w[0])),
    NodeRow("Energy/Available", D, "kWh", 0.01, _energy_kwh),
    NodeRow("Energy/SOC", D, "1", 1e-4, lambda _, v: _soc(v)),
    NodeRow("State/Rung", N, "1", 0.0, lambda _, v: float(v.rung)),
    NodeRow("State/Alarms", N, "1", 0.0, lambda _, v: float(sum(f.active for f in v.envelope.faults))),
    NodeRow("Modules/Inserted", N, "1", 0.0, lambda _, v: float(module_counts(v).inserted)),
    NodeRow("Modules/Bypassed", N, "1", 0.0, lambda _, v: float(module_counts(v).bypassed)),
    NodeRow("Modules/OutOfService", N, "1", 0.0, lambda _, v: float(module_counts(v).out_of_service)),
    NodeRow("Strings/Connected", N, "1", 0.0, lambda _, v: float(v.connected.sum())),
)
NODE_TEXTS: tuple[tuple[str, Callable[[TickView], str]], ...] = (
    ("State/Mode", lambda v: v.mode.value),
    ("State/RungReason", lambda v: v.rung_reason),
    ("State/PowerSource", lambda v: v.setpoint.source),
    ("State/AlarmText", lambda v: "; ".join(f"{f.fault} {f.subject}" for f in v.envelope.faults if f.active)),
    ("Properties/Version", lambda _: __version__),
)
STRING_ROWS = (
    StringRow("Voltage", D, "V", 0.1, lambda _, v: _usable(v.input.image.strings.voltage_v)),
    StringRow("Current", D, "A", 0.05, lambda _, v: _usable(v.input.image.strings.current_a)),
    StringRow("Power", D, "W", 5.0, lambda _, v: _usable(v.input.image.strings.power_w)),
    StringRow("BusVoltage", D, "V", 0.1, lambda _, v: _usable(v.input.image.strings.bus_voltage_v)),
    StringRow(
        "HeatsinkTemperature",
        D,
        "degC",
        0.2,
        lambda _, v: _usable(v.input.image.strings.heatsink_temperature_degc),
    ),
    StringRow("EnergyOut", D, "kWh", 0.01, lambda _, v: _usable(v.input.image.strings.energy_out_kwh)),
    StringRow("EnergyIn", D, "kWh", 0.01, lambda _, v: _usable(v.input.image.strings.energy_in_kwh)),
    StringRow("PowerSetpoint", D, "W", 0.5, lambda _, v: v.in_force.power_w),
    StringRow("DischargeLimit", D, "W", 5.0, lambda _, v: v.envelope.string_discharge_w),
    StringRow("ChargeLimit", D, "W", 5.0, lambda _, v: v.envelope.string_charge_w),
    StringRow("Inserted", N, "1", 0.0, _inserted_in_strings),
    StringRow("Connected", B, "", 0.0, lambda _, v: _numbers(v.connected)),
)
MODULE_ROWS = (
    ModuleRow("Inserted", B, "", 0.0, lambda v: _numbers(shown_inserted(v))),
    ModuleRow("InService", B, "", 0.0, lambda v: _numbers(~v.out_of_service)),
    ModuleRow("Voltage", D, "V", 0.05, lambda v: _usable(v.input.image.modules.voltage_v)),
    ModuleRow("Current", D, "A", 0.1, lambda v: _usable(v.input.image.modules.current_a)),
    ModuleRow(
        "Temperature",
        D,
        "degC",
        0.2,
        lambda v: _warmest(v.input.image.modules.temperature_degc),
    ),
    ModuleRow("CellVoltageMin", D, "V", 0.005, lambda v: v.estimate.cell_voltage_min_v),
    ModuleRow("CellVoltageMax", D, "V", 0.005, lambda v: v.estimate.cell_voltage_max_v),
    ModuleRow("SOC", D, "1", 1e-3, lambda v: v.estimate.soc_frac, high=1.0),
    ModuleRow("Capacity", D, "Ah", 0.05, lambda v: v.estimate.capacity_ah),
    ModuleRow("Remaining", D, "Ah", 0.05, lambda v: v.estimate.remaining_ah),
    ModuleRow("DischargeLimit", D, "A", 0.1, lambda v: v.envelope.discharge_now_a),
    ModuleRow("ChargeLimit", D, "A", 0.1, lambda v: v.envelope.charge_now_a),
    ModuleRow("PlatingMargin", D, "V", 0.002, _plating_margin),
)


def _warmest(channel: Channel) -> FloatArray:
    """(M,) the warmer sensor of each module, NaN where neither is believed."""
    values = np.where(channel.usable, channel.value, -np.inf).max(axis=1)
    return np.where(np.isneginf(values), np.nan, values)


def make_node(site: Site) -> SparkplugNode:
    """The node of a site as its site file asks for it."""
    spec = site.sparkplug
    template = tuple(_module_def(row, "", "templates") for row in MODULE_ROWS)
    return SparkplugNode(
        spec.group,
        spec.node or site.name,
        MetricSet(_node_defs(site, spec)),
        {string.name: MetricSet(_string_defs(site, s, spec)) for s, string in enumerate(site.strings)},
        aliases=spec.aliases,
        types_always=spec.types == "always",
        template=template if spec.modules == "templates" else (),
    )


def shown(site: Site, view: TickView) -> Shown:
    """The site as a tick saw it. Strings that are lost are left out; lost modules are null."""
    spec, topology, image = site.sparkplug, site.topology, view.input.image
    writable = bool(spec.issuer)
    numbers = [row.value(site, view) for row in NODE_ROWS]
    numbers += [math.nan, 0.0]  # Reply/CurtailedTo, History/Dropped: told
    numbers += [_commanded(w, view) for w in NODE_COMMANDS if w.datatype is not DataType.STRING and writable]
    texts: list[str | None] = [text(view) for _, text in NODE_TEXTS]
    texts += [None] * 4  # Reply/...: told
    if writable:
        texts += [
            view.mode.value if w.action == "set_mode" else None
            for w in NODE_COMMANDS
            if w.datatype is DataType.STRING
        ]
        texts.append(None)  # the whole command
    strings = np.column_stack([row.values(site, view) for row in STRING_ROWS])
    lost = image.modules.age_s > LOST_S
    modules = np.column_stack([np.where(lost, np.nan, row.values(view)) for row in MODULE_ROWS])
    devices: dict[str, Values] = {}
    for s, string in enumerate(site.strings):
        if image.strings.age_s[s] > LOST_S:
            continue
        parts = [strings[s]]
        if writable:
            parts.append(np.full(1, np.nan))  # capacity test: nothing to show between tests
        if spec.modules != "none":
            parts.append(modules[topology.slice_of(s)].ravel())
        device_texts = (view.phases[s], *((None, None) if writable else ()))
        devices[string.name] = Values(np.concatenate(parts), device_texts)
    return Shown(Values(np.array(numbers, dtype=np.float64), tuple(texts)), devices)


def _commanded(writable: Writable, view: TickView) -> float:
    """What stands of a command now; NaN where there is nothing to show."""
    if writable.action == "set_power":
        return view.setpoint.power_w
    if writable.datatype is DataType.BOOLEAN:
        return float(writable.action == "emergency_stop" and view.mode.value == "emergency_stop")
    return math.nan


def _node_defs(site: Site, spec: SparkplugSpec) -> tuple[MetricDef, ...]:
    rated_w = sum(s.converter.power_rating_w for s in site.strings)
    bounds = {
        "Power/Asked": -1.0,
        "Power/Delivered": -1.0,
        "Power/DischargeLimit": 0.0,
        "Power/ChargeLimit": 0.0,
    }
    found = [MetricDef(r.name, r.datatype, r.unit, deadband=r.deadband) for r in NODE_ROWS]
    found = [
        replace(d, low=bounds[d.name] * rated_w, high=rated_w)
        if d.name in bounds
        else replace(d, low=0.0, high=1.0)
        if d.name == "Energy/SOC"
        else d
        for d in found
    ]
    found += [
        MetricDef("Reply/CurtailedTo", DataType.DOUBLE, "W"),
        MetricDef("History/Dropped", DataType.INT64, "1"),
    ]
    writable = [_writable_def(w) for w in NODE_COMMANDS] if spec.issuer else []
    limits = {"Control/SetPower": -rated_w, "Control/DischargeLimit": 0.0, "Control/ChargeLimit": 0.0}
    writable = [replace(d, low=limits[d.name], high=rated_w) if d.name in limits else d for d in writable]
    found += [d for d in writable if d.numeric]
    found += [MetricDef(name, DataType.STRING) for name, _ in NODE_TEXTS]
    found += [MetricDef(name, DataType.STRING) for name in TOLD[:4]]
    found += [d for d in writable if not d.numeric]
    if spec.issuer:
        found.append(MetricDef(WHOLE, DataType.STRING, writable=True))
    return tuple(found)


def _string_defs(site: Site, s: int, spec: SparkplugSpec) -> tuple[MetricDef, ...]:
    converter = site.strings[s].converter
    bounds = {
        "Voltage": (0.0, converter.voltage_max_v),
        "Current": (-converter.current_rating_a, converter.current_rating_a),
        "Power": (-converter.power_rating_w, converter.power_rating_w),
        "PowerSetpoint": (-converter.power_rating_w, converter.power_rating_w),
        "DischargeLimit": (0.0, converter.power_rating_w),
        "ChargeLimit": (0.0, converter.power_rating_w),
        "Inserted": (0.0, float(len(site.strings[s].positions))),
    }
    none = (math.nan, math.nan)
    found = [
        MetricDef(r.name, r.datatype, r.unit, *bounds.get(r.name, none), r.deadband) for r in STRING_ROWS
    ]
    writable = [_writable_def(w) for w in DEVICE_COMMANDS] if spec.issuer else []
    found += [d for d in writable if d.numeric]
    if spec.modules != "none":
        for position in site.strings[s].positions:
            found += [_module_def(row, position.module.serial, spec.modules) for row in MODULE_ROWS]
    found.append(MetricDef("State", DataType.STRING))
    found += [d for d in writable if not d.numeric]
    return tuple(found)


def _module_def(row: ModuleRow, serial: str, form: Literal["metrics", "templates", "none"]) -> MetricDef:
    folder = f"{MODULE_FOLDER}/{serial}"
    low = 0.0 if not math.isnan(row.high) else math.nan
    return MetricDef(
        f"{folder}/{row.name}",
        row.datatype,
        row.unit,
        low,
        row.high,
        row.deadband,
        instance=folder if form == "templates" else "",
        member=row.name,
    )


def _writable_def(writable: Writable) -> MetricDef:
    return MetricDef(writable.name, writable.datatype, writable.unit, writable=True)
