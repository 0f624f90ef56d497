"""What orders leave behind: it outlives the process, and is on the disk before the order is acknowledged.

Deadlines are monotonic inside and dates on the disk. Without a trusted date nobody can tell what has expired:
then a set point counts as expired (the fallback holds) and temporary limits go on holding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from edge.core_captest import saved_test
from edge.core_values import CoreState, SetLimits, TickView
from edge.setpoint import PowerCommand, SetPoint
from reconf.isolation import RELEASED, Maintenance
from reconf.protection.protect import OperatorLimits
from reconf.sequences import SiteMode

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on all three clocks."""

    utc: datetime
    wall_s: float
    control_s: float
    scale: float = 1.0
    """Control seconds per wall second."""
    trusted: bool = True
    """The date is known to be right."""

    def date(self, wall_s: float) -> datetime | None:
        """Date of a monotonic wall time, None for one that never comes."""
        return None if math.isinf(wall_s) else self.utc + (wall_s - self.wall_s) * SECOND

    def wall(self, date: datetime | None, unknown_s: float) -> float:
        """Monotonic wall time of a date; `unknown_s` when today's date is not known."""
        if date is None:
            return math.inf
        return self.wall_s + (date - self.utc) / SECOND if self.trusted else unknown_s


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _SetPoint(_Stored):
    power_w: float
    ramp_w_per_s: float | None = None
    expires_at: AwareDatetime | None = None
    reverts_at: AwareDatetime | None = None
    command_id: str = ""
    schedule: tuple[tuple[AwareDatetime, float], ...] = ()


class _Limits(_Stored):
    discharge_max_w: float | None = None
    charge_max_w: float | None = None
    expires_at: AwareDatetime | None = None


class _Operator(_Stored):
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    balancing: bool = False


@dataclass(frozen=True, slots=True)
class Lasting:
    """What earlier orders left behind."""

    mode: SiteMode | None = None
    bypassed: frozenset[str] = frozenset()
    setpoint: SetPoint = field(default_factory=SetPoint)
    limits: SetLimits = field(default_factory=SetLimits)
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    balancing: bool = False
    maintenance: Maintenance = RELEASED

    def operator(self) -> OperatorLimits:
        """As the core remembers it."""
        return OperatorLimits(
            bypass=self.bypassed,
            soc_min_frac=self.soc_min_frac,
            soc_max_frac=self.soc_max_frac,
            max_discharge_w=self.limits.discharge_max_w,
            max_charge_w=self.limits.charge_max_w,
        )


LASTING_KEYS = ("mode", "bypassed", "operator", "limits", "setpoint", "maintenance")


def watched(state: CoreState, view: TickView | None) -> dict[str, Any]:
    """What `documents` is made of, by key: equal as long as nothing changed (dates of deadlines drift)."""
    operator = state.operator
    return {
        "mode": _mode(state, view),
        "bypassed": operator.bypass,
        "operator": (operator.soc_min_frac, operator.soc_max_frac, state.balancing),
        "limits": state.limits,
        "setpoint": state.setpoint.command,
        "maintenance": state.maintenance,
        "capacity_test": saved_test(state.capacity_test),
    }


def documents(state: CoreState, view: TickView | None, now: Moment) -> dict[str, Any]:
    """JSON values by key for the store: what orders have changed, those of this moment included."""
    found: dict[str, Any] = {
        "bypassed": sorted(state.operator.bypass),
        "operator": {
            "soc_min_frac": state.operator.soc_min_frac,
            "soc_max_frac": state.operator.soc_max_frac,
            "balancing": state.balancing,
        },
        "limits": _limits(state.limits, now),
        "setpoint": _setpoint(state.setpoint.command, now),
        "maintenance": asdict(state.maintenance),
        "capacity_test": saved_test(state.capacity_test),
    }
    mode = _mode(state, view)
    if mode is not None:
        found["mode"] = mode.value
    return found


def _mode(state: CoreState, view: TickView | None) -> SiteMode | None:
    """The mode that holds, or is about to."""
    if state.pending.emergency_stop:
        return SiteMode.ESTOP
    if state.pending.mode in (SiteMode.STANDBY, SiteMode.OFF):
        return state.pending.mode
    return None if view is None else view.mode


def _limits(limits: SetLimits, now: Moment) -> dict[str, Any] | None:
    if limits == SetLimits():
        return None
    return _Limits(
        discharge_max_w=_finite(limits.discharge_max_w),
        charge_max_w=_finite(limits.charge_max_w),
        expires_at=now.date(limits.deadline_wall_s),
    ).model_dump(mode="json")


def _setpoint(command: PowerCommand | None, now: Moment) -> dict[str, Any] | None:
    if command is None:
        return None
    steps = [(now.date(at_s), power_w) for at_s, power_w in command.schedule]
    reverts_s = now.wall_s + (command.revert_at_s - now.control_s) / now.scale
    return _SetPoint(
        power_w=command.power_w,
        ramp_w_per_s=_finite(command.ramp_w_per_s),
        expires_at=now.date(command.deadline_wall_s),
        reverts_at=now.date(reverts_s),
        command_id=command.command_id,
        schedule=tuple((date, power_w) for date, power_w in steps if date is not None),
    ).model_dump(mode="json")


def lasting(stored: Mapping[str, Any], now: Moment) -> Lasting:
    """What `documents` left, at a later moment.

    Raises:
        ValueError: something in it cannot be read.
    """
    mode = stored.get("mode")
    try:
        operator = _Operator.model_validate(stored.get("operator") or {})
        return Lasting(
            mode=SiteMode(mode) if mode in {m.value for m in SiteMode} else None,
            bypassed=frozenset(stored.get("bypassed") or ()),
            setpoint=_restored(stored.get("setpoint"), now),
            limits=_limited(stored.get("limits"), now),
            soc_min_frac=operator.soc_min_frac,
            soc_max_frac=operator.soc_max_frac,
            balancing=operator.balancing,
            maintenance=Maintenance.from_json(stored.get("maintenance")),
        )
    except ValidationError as error:
        raise ValueError(f"{error.title}: {error.error_count()} values cannot be read") from error


def _restored(row: Any, now: Moment) -> SetPoint:
    """The set point, at 0 W until the site runs again."""
    if row is None:
        return SetPoint()
    kept = _SetPoint.model_validate(row)
    reverts_s = now.wall(kept.reverts_at, -math.inf)
    command = PowerCommand(
        power_w=kept.power_w,
        ramp_w_per_s=math.inf if kept.ramp_w_per_s is None else kept.ramp_w_per_s,
        deadline_wall_s=now.wall(kept.expires_at, -math.inf),
        revert_at_s=now.control_s + (reverts_s - now.wall_s) * now.scale,
        command_id=kept.command_id,
        schedule=tuple((now.wall(date, -math.inf), power_w) for date, power_w in kept.schedule),
    )
    return replace(SetPoint(), command=command, source="command")


def _limited(row: Any, now: Moment) -> SetLimits:
    if row is None:
        return SetLimits()
    kept = _Limits.model_validate(row)
    return SetLimits(
        math.inf if kept.discharge_max_w is None else kept.discharge_max_w,
        math.inf if kept.charge_max_w is None else kept.charge_max_w,
        now.wall(kept.expires_at, math.inf),
    )


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
