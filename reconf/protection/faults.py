"""The fault table and the machine that runs it: debounce, hysteresis, latches, events.

A row's state machine, one per subject, all of them stepped together as arrays::

    quiet ──condition for debounce_s──> active ──condition gone for release_s──> latched ──clear──> quiet
                                          └── rows that do not latch go straight back to quiet ──────┘

A fault counts while it is active or latched. Values that are missing neither raise nor release a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.devices.profile import load_profile
from reconf.replacing import replace
from reconf.words import quantity

Severity = Literal["warn", "derate", "bypass", "open_string", "open_site"]
Scope = Literal["module", "string", "site"]
Latching = Literal["none", "latch", "lockout"]
SCOPES: Final[tuple[Scope, ...]] = ("module", "string", "site")


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One kind of fault."""

    fault: str
    scope: Scope
    severity: Severity
    latching: Latching
    meaning: str
    clear: str
    """When it may be cleared, in words."""
    text: str
    """What the operator reads."""
    action: str
    """What the operator is to do."""
    unit: str
    """Unit of its evidence, empty where it is a bit."""
    limit: tuple[str, str, str] | None
    """(quantity, side, tier) of the limit that raises it; None where a condition in code does."""
    debounce_s: float | None
    """None: that of the limit's row."""
    release_s: float


@dataclass(frozen=True, slots=True)
class RuleNumbers:
    """Numbers of the rules that are conditions in code."""

    runaway_rate_k_per_s: float
    runaway_for_s: float
    runaway_voltage_drop_frac: float
    runaway_slack_k: float
    runaway_step_k_per_s: float
    runaway_steady_k: float
    runaway_memory_s: float
    copper_exposure_v: float
    reversed_v: float
    stale_ticks: float
    discrepancy_frac: float
    bus_margin_frac: float
    refused_writes: int
    refused_plans: int
    refused_ticks: int


@cache
def _data() -> dict[str, Any]:
    """data/faults.yaml as read."""
    from ruamel.yaml import YAML

    text = files("reconf.protection").joinpath("data/faults.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return data


@cache
def fault_rows(scope: Scope) -> tuple[FaultRow, ...]:
    """Rows of `scope` in table order; the first axis of that scope's arrays."""
    return tuple(_row(name, raw) for name, raw in _data()["faults"].items() if raw["scope"] == scope)


@cache
def row_index(scope: Scope) -> dict[str, int]:
    """Row number by fault id."""
    return {row.fault: i for i, row in enumerate(fault_rows(scope))}


def is_fault(fault: str) -> bool:
    """Whether the table has a row of that id."""
    return any(fault in row_index(s) for s in SCOPES)


def row_of(fault: str) -> FaultRow:
    """The row of a fault id, whatever its scope."""
    scope = next(s for s in SCOPES if fault in row_index(s))
    return fault_rows(scope)[row_index(scope)[fault]]


@cache
def rule_numbers() -> RuleNumbers:
    """Numbers of the rules in code."""
    data = _data()
    return RuleNumbers(
        runaway_rate_k_per_s=float(data["runaway"]["rate_k_per_s"]),
        runaway_for_s=float(data["runaway"]["for_s"]),
        runaway_voltage_drop_frac=float(data["runaway"]["voltage_drop_frac"]),
        runaway_slack_k=float(data["runaway"]["slack_k"]),
        runaway_step_k_per_s=float(data["runaway"]["step_k_per_s"]),
        runaway_steady_k=float(data["runaway"]["steady_k"]),
        runaway_memory_s=float(data["runaway"]["memory_s"]),
        copper_exposure_v=float(data["copper"]["exposure_v"]),
        reversed_v=float(data["copper"]["reversed_v"]),
        stale_ticks=float(data["stale_ticks"]),
        discrepancy_frac=float(data["discrepancy_frac"]),
        bus_margin_frac=float(data["bus_margin_frac"]),
        refused_writes=int(data["refused_writes"]),
        refused_plans=int(data["refused_plans"]["in_a_row"]),
        refused_ticks=int(data["refused_plans"]["ticks"]),
    )


def _row(name: str, raw: dict[str, Any]) -> FaultRow:
    limit = raw.get("limit")
    debounce = raw.get("debounce_s")
    return FaultRow(
        fault=name,
        scope=raw["scope"],
        severity=raw["severity"],
        latching=raw["latching"],
        meaning=raw["meaning"],
        clear=raw["clear"],
        text=raw["text"],
        action=raw["action"],
        unit=raw["unit"],
        limit=None if limit is None else (str(limit[0]), str(limit[1]), str(limit[2])),
        debounce_s=None if debounce is None else float(debounce),
        release_s=float(raw["release_s"]),
    )


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the machine of one scope is told each tick; arrays (F, N): rows by subjects."""

    raised: BoolArray
    """The condition is there."""
    released: BoolArray
    """The condition is gone, hysteresis included; neither: nothing is known, or inside the hysteresis."""
    value: FloatArray
    """Evidence; NaN where the row is a bit."""
    bound: FloatArray
    """What the evidence is held against."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Constants of one scope's machine."""

    debounce_s: FloatArray
    """(F, N)"""
    release_s: FloatArray
    """(F, 1)"""
    latches: BoolArray
    """(F, 1)"""


@dataclass(frozen=True, slots=True)
class Machine:
    """State of one scope; arrays (F, N)."""

    active: BoolArray
    latched: BoolArray
    pending_s: FloatArray
    """How long the condition has been there (or, while active, gone); -1 where it is not."""
    since_s: FloatArray
    """Control time of the last onset."""
    value: FloatArray
    """Evidence at onset."""
    bound: FloatArray

    @classmethod
    def quiet(cls, n_rows: int, n_subjects: int) -> Machine:
        """No fault anywhere."""
        shape = (n_rows, n_subjects)
        return cls(
            active=np.zeros(shape, dtype=np.bool_),
            latched=np.zeros(shape, dtype=np.bool_),
            pending_s=np.full(shape, -1.0),
            since_s=np.zeros(shape),
            value=np.full(shape, np.nan),
            bound=np.full(shape, np.nan),
        )

    @property
    def present(self) -> BoolArray:
        """Active or latched."""
        counts: BoolArray = self.active | self.latched
        return counts


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A transition of one fault, with its evidence."""

    time_s: float
    fault: str
    subject: str
    change: Literal["raised", "released", "cleared"]
    value: float
    bound: float
    unit: str
    words: str = ""
    """Evidence that no number tells."""

    @property
    def evidence(self) -> str:
        """Measured value against its limit, or what there is in words."""
        return self.words or evidence(self.fault, self.value, self.bound, self.unit)


MODULE_REFUSES: Final = "module_writes_refused"
STRING_REFUSES: Final = "converter_writes_refused"
PLANS_REFUSED: Final = "plans_refused"
_DEVICES: Final = {MODULE_REFUSES: "rm1", STRING_REFUSES: "rc1"}
"""Rows whose evidence is a holding register (value) of a unit (bound), and the device's profile."""

CONCLUDED: Final = {
    "sensors_untrusted": "concluded from its readings, or from their absence; a finding names the sensor",
    "module_cannot_leave": "concluded: its switch still reads inserted",
    "contactor_opened": "concluded: it reads open, was not asked to open, and no latch says why",
    "insulation_unknown": "the monitor gives no value, does not answer, or reports a fault of its own",
    "emergency_stop_unknown": "its input gives no value",
    "site_output_failed": "what was asked could not be written, or does not read back",
    "isolation_lost": "concluded: a contactor reads closed, or the string voltage is 60 V or more",
    "join_failed": "three joins in a row failed, or were ended by a fault within ten minutes",
    **dict.fromkeys(
        ("sensor_untrue", "cell_leakage", "cell_resistance_high", "sense_wire_open"),
        "concluded; the finding says from what",
    ),
}
"""Bits that no device reports."""


STOP_LOOP, STOP_CONVERTER, STOP_COMMAND = 1.0, 2.0, 3.0
"""Evidence of `emergency_stop`: where it was asked for; `bound` is the converter's place in the site file."""
WIRED: Final = (
    "emergency_stop", "gas_alarm", "smoke_alarm", "fire_alarm", "door_open", "ventilation_failed",
    "cooling_failed", "ambient_degc",
)  # fmt: skip
"""Evidence of `site_input_unknown`: bit k of its number stands for signal k."""


def signals_code(names: frozenset[str]) -> float:
    """Evidence that names these signals."""
    return float(sum(1 << k for k, name in enumerate(WIRED) if name in names))


def _origin(fault: str, value: float, bound: float) -> str:
    """Where a fault comes from whose evidence is a code; empty for the others."""
    if fault in ("site_input_unknown", "emergency_stop") and value == 0.0:
        return "no longer"
    if fault == "site_input_unknown":
        return "no value from " + ", ".join(n for k, n in enumerate(WIRED) if int(value) >> k & 1)
    if fault != "emergency_stop":
        return ""
    if value == STOP_CONVERTER and not np.isnan(bound):
        return f"pressed at converter {bound:.0f} of the site file"
    plain = {STOP_LOOP: "the site's emergency-stop loop is open", STOP_COMMAND: "asked for by command"}
    return plain.get(value, "")


def evidence(fault: str, value: float, bound: float, unit: str) -> str:
    """`4.262 V against 4.250 V`; for a bit, where it comes from; for a refused write, unit and register."""
    if fault in _DEVICES and not np.isnan(value):
        names = {r.address: r.name for r in load_profile(_DEVICES[fault]).of_table("holding")}
        return f"unit {bound:.0f}, holding register {value:.0f} {names.get(int(value), '')}".rstrip()
    origin = "" if np.isnan(value) else _origin(fault, value, bound)
    if origin:
        return origin
    if np.isnan(value):
        return CONCLUDED.get(fault, "reported by the device" if not unit else "")
    endless = "nothing since the start" if unit == "s" else "without bound"
    told = quantity(value, unit, endless=endless)
    return told if np.isnan(bound) else f"{told} against {quantity(bound, unit)}"


def step_machine(
    machine: Machine, timing: Timing, now: Conditions, dt_s: float, time_s: float
) -> tuple[Machine, BoolArray, BoolArray]:
    """Advance every row of one scope by one tick.

    Returns the new machine, and where a fault was raised and where it was released in this tick.
    """
    waiting = np.where(machine.active, now.released, now.raised)
    seen_before = machine.pending_s >= 0.0
    pending = np.where(waiting, np.where(seen_before, machine.pending_s + dt_s, 0.0), -1.0)
    due = np.where(machine.active, timing.release_s, timing.debounce_s)
    fires = waiting & (pending >= due - 1e-9)
    if not fires.any():
        return replace(machine, pending_s=pending), fires, fires
    onset = fires & ~machine.active
    end = fires & machine.active
    new = Machine(
        active=machine.active ^ fires,
        latched=machine.latched | (onset & timing.latches),
        pending_s=np.where(fires, -1.0, pending),
        since_s=np.where(onset, time_s, machine.since_s),
        value=np.where(onset, now.value, machine.value),
        bound=np.where(onset, now.bound, machine.bound),
    )
    return new, onset, end
