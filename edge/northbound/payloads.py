"""Everything the site says over MQTT, as pydantic models; their JSON Schemas are in docs/protocols/schemas.

Discharge is positive. Physical names end in their unit. A value that is not known is null, never a number.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

QualityName = Literal["good", "substituted", "stale", "frozen", "implausible", "unavailable", "no_answer"]
Severity = Literal["warn", "derate", "bypass", "open_string", "open_site"]


class Payload(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Telemetry(Payload):
    """Base of messages that wait in the outbox while the broker is away."""

    site: str
    utc: AwareDatetime = Field(description="when it was made")
    late: bool = Field(default=False, description="it waited for the broker and is not the present state")


class Reading(Payload):
    """A measured value with its quality and age."""

    value: float | None = Field(description="null where there is none")
    quality: QualityName
    age_s: float | None = Field(description="control time since the sample; null before the first")


class ModuleCounts(Payload):
    """How the modules stand."""

    inserted: int = Field(ge=0)
    bypassed: int = Field(ge=0)
    out_of_service: int = Field(ge=0, description="may not take part: stale, faulty or taken out")


class ReasonPayload(Payload):
    """Why a limit is what it is."""

    subject: str = Field(description="module serial, string name or `site`")
    limit: str
    rule: str
    value: float | None
    text: str
    lift: str = Field(description="what would lift it")


class Limits(Payload):
    """What the site can do, at the bus, as magnitudes, for each horizon."""

    horizon_s: list[float]
    discharge_w: list[float]
    charge_w: list[float]
    reasons: list[ReasonPayload] = []


class Alarm(Payload):
    """A fault that is present or latched."""

    fault: str
    subject: str
    severity: Severity
    active: bool = Field(description="the cause is present now")
    latched: bool
    since: AwareDatetime | None = None
    evidence: str = Field(description="measured value against its limit")
    action: str = Field(description="what the operator is to do")


class Link(Payload):
    """The way to the broker."""

    outbox: int = Field(default=0, ge=0, description="messages waiting on disk")
    dropped: int = Field(default=0, ge=0, description="messages lost since start because the outbox was full")
    publish_refused: int = Field(default=0, ge=0, description="publishes the broker refused since start")
    commands_refused: int = Field(default=0, ge=0, description="commands refused since start")
    insecure: bool = Field(default=False, description="plain text to an address that is not loopback")
    certificate_days: float | None = Field(
        default=None, description="until the client certificate ends; null without one"
    )
    text: str = Field(default="", description="what is wrong, empty when nothing is")


class Health(Payload):
    """Whether what is behind control works."""

    store_ok: bool = True
    store_text: str = ""
    clock_synchronised: bool = True
    optimizer_ready: bool = Field(default=True, description="the worker has answered since it was started")
    ticks_overrun: int = Field(default=0, ge=0)
    audit_head: str = Field(default="", description="hash of the last entry of the audit log")


class Status(Telemetry):
    """How the site is. Retained."""

    mode: str = Field(description="off, precharge, standby, run, maintenance, fault, emergency_stop")
    rung: int = Field(ge=0, le=4, description="step of the failure ladder, 0 is normal")
    rung_name: str = ""
    rung_reason: str
    power_asked_w: float
    power_delivered_w: float | None
    power_source: str = Field(default="", description="command, schedule or which fallback")
    command_id: str | None = Field(default=None, description="the set point in force came with this command")
    energy_available_kwh: float | None = Field(
        description="at the present power, until it can no longer be held"
    )
    soc_frac: float | None = None
    modules: ModuleCounts
    strings_connected: int = Field(default=0, ge=0)
    limits: Limits
    alarms: list[Alarm] = []
    link: Link = Link()
    health: Health = Health()
    version: str = ""


class StringPayload(Telemetry):
    """One string."""

    name: str
    state: str = Field(description="state of the sequence that joins and leaves strings")
    contactor_closed: bool | None
    voltage_v: Reading
    current_a: Reading
    power_w: Reading
    bus_voltage_v: Reading
    heatsink_temperature_degc: Reading
    energy_out_kwh: Reading
    energy_in_kwh: Reading
    power_setpoint_w: float
    current_limit_a: float
    inserted: int = Field(ge=0)
    discharge_limit_w: float | None = None
    charge_limit_w: float | None = None


class ModulePayload(Telemetry):
    """One module, by serial."""

    serial: str
    string: str
    position: str
    inserted: bool
    in_service: bool
    duty_frac: float | None = None
    voltage_v: Reading
    current_a: Reading
    temperature_degc: list[Reading]
    cell_voltage_min_v: float | None
    cell_voltage_max_v: float | None
    trim_current_a: Reading
    soc_frac: float | None
    soc_std_frac: float | None
    capacity_ah: float | None
    capacity_std_ah: float | None
    remaining_ah: float | None
    resistance_ohm: float | None = None
    soh_frac: float | None = Field(default=None, description="present capacity over rated capacity")
    soh_std_frac: float | None = Field(default=None, description="one sigma of soh_frac")
    soh_per_year_frac: float | None = Field(
        default=None, description="trend of soh_frac over the module's life here, negative while it fades"
    )
    end_of_life_years: float | None = Field(
        default=None,
        description="until soh_frac meets 0.60 by a straight line; 50: that or more",
    )
    end_of_life_years_low: float | None = Field(default=None, description="lower end of its 90 % interval")
    end_of_life_years_high: float | None = Field(default=None, description="upper end of its 90 % interval")
    discharge_limit_a: float | None = None
    charge_limit_a: float | None = None
    charge_limit_15min_a: float | None = Field(
        default=None, description="charge current that plating allows to stand for 15 minutes"
    )
    plating_margin_mv: float | None = Field(
        default=None, description="anode potential against lithium at the present current, on the low side"
    )
    reasons: list[ReasonPayload] = []


class Availability(Payload):
    """Whether the site's edge is connected. Retained; the will says offline."""

    site: str
    state: Literal["online", "offline"]
    utc: AwareDatetime | None = Field(default=None, description="null in the will, which is made beforehand")


class EventPayload(Telemetry):
    """A transition, told once."""

    kind: str
    subject: str
    text: str


class GapPayload(Telemetry):
    """Telemetry that was lost because the outbox was full."""

    dropped: int = Field(gt=0)
    first: AwareDatetime
    last: AwareDatetime


class Reply(Payload):
    """The answer to a command, to its id."""

    id: str | None = Field(description="null when the command had no readable id")
    result: Literal["accepted", "refused", "done", "superseded"]
    reason: str = Field(description="machine-readable")
    text: str = Field(description="one plain sentence")
    curtailed_to_w: float | None = Field(
        default=None,
        description="what the envelope leaves of the power asked for; null when nothing is curtailed",
    )
    site: str
    utc: AwareDatetime


class Heartbeat(Payload):
    """Sign of life from SCADA on `.../heartbeat`."""

    issuer: Annotated[str, Field(min_length=1, max_length=63)]
    utc: AwareDatetime | None = None
