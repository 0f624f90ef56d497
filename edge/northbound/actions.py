"""What a site can be told: arguments of every action, and who may say it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Role = Literal["observer", "operator", "engineer"]
_Watt = Annotated[float, Field(ge=-1e9, le=1e9)]
_Serial = Annotated[str, Field(min_length=1, max_length=16)]


class Args(BaseModel):
    """Base: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SetPower(Args):
    """Deliver this power at the site bus until the command expires."""

    power_w: _Watt = Field(description="discharge positive")
    ramp_w_per_s: float | None = Field(
        default=None, gt=0.0, le=1e9, description="largest change of the set point"
    )
    revert_s: float | None = Field(
        default=None,
        gt=0.0,
        le=172_800.0,
        description="go to the fallback after this time even before expiry",
    )


class SetSchedule(Args):
    """A day of set points, replacing the one before."""

    start: AwareDatetime = Field(strict=False, description="when the first set point begins")
    step_s: float = Field(ge=1.0, le=86_400.0, description="how long each holds")
    power_w: Annotated[list[_Watt], Field(min_length=1, max_length=300)]


class SetLimits(Args):
    """Temporary limits on the site's power, until the command expires."""

    discharge_max_w: float | None = Field(default=None, ge=0.0, le=1e9)
    charge_max_w: float | None = Field(default=None, ge=0.0, le=1e9, description="magnitude")

    @model_validator(mode="after")
    def _something(self) -> SetLimits:
        if self.discharge_max_w is None and self.charge_max_w is None:
            raise ValueError("discharge_max_w or charge_max_w")
        return self


class SetMode(Args):
    """Change the site's mode. Maintenance is taken and released on site only."""

    mode: Literal["standby", "run", "maintenance"]


class ClearFault(Args):
    """Clear a latched fault whose cause is gone."""

    fault: str = Field(min_length=1, max_length=64)
    subject: str | None = Field(default=None, max_length=64, description="serial or string; null for all")


class EmergencyStop(Args):
    """Open every string now. Latched until cleared on site."""


class BypassModule(Args):
    """Keep a module out of its string."""

    serial: _Serial


class ReturnModule(Args):
    """Let a module back in."""

    serial: _Serial


class SetSocWindow(Args):
    """Bounds on SOC for planning."""

    soc_min_frac: float = Field(ge=0.0, le=1.0)
    soc_max_frac: float = Field(ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _ordered(self) -> SetSocWindow:
        if self.soc_min_frac >= self.soc_max_frac:
            raise ValueError("soc_min_frac below soc_max_frac")
        return self


class StartBalancing(Args):
    """Bring the modules to one SOC at rest."""

    active: bool = Field(default=True, description="false stops it")


class StartCapacityTest(Args):
    """Measure capacities of the live pack, module by module, while it serves power."""

    string: str | None = Field(
        default=None, max_length=64, description="null for all, one module of each at a time"
    )
    current_c: float = Field(
        default=0.5, gt=0.0, le=1.0, description="highest C-rate at which a module is carried"
    )
    active: bool = Field(default=True, description="false stops it")


class RequestSnapshot(Args):
    """Publish everything once."""


ActionArgs: TypeAlias = (
    SetPower
    | SetSchedule
    | SetLimits
    | SetMode
    | ClearFault
    | EmergencyStop
    | BypassModule
    | ReturnModule
    | SetSocWindow
    | StartBalancing
    | StartCapacityTest
    | RequestSnapshot
)

ARGS: dict[str, type[ActionArgs]] = {
    "set_power": SetPower,
    "set_schedule": SetSchedule,
    "set_limits": SetLimits,
    "set_mode": SetMode,
    "clear_fault": ClearFault,
    "emergency_stop": EmergencyStop,
    "bypass_module": BypassModule,
    "return_module": ReturnModule,
    "set_soc_window": SetSocWindow,
    "start_balancing": StartBalancing,
    "start_capacity_test": StartCapacityTest,
    "request_snapshot": RequestSnapshot,
}

_EVERYBODY: frozenset[Role] = frozenset(("observer", "operator", "engineer"))
_OPERATING: frozenset[Role] = frozenset(("operator", "engineer"))

MAY: dict[str, frozenset[Role]] = dict.fromkeys(ARGS, _OPERATING) | {
    "emergency_stop": _EVERYBODY,
    "request_snapshot": _EVERYBODY,
    "start_capacity_test": frozenset(("engineer",)),
}
"""Roles that may give each action. Stopping is everybody's."""
