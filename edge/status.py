"""From a tick to payloads: what the site, its strings and its modules say of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from edge.core_values import TickView
from edge.northbound.payloads import (
    Alarm,
    Health,
    Limits,
    Link,
    ModuleCounts,
    ModulePayload,
    QualityName,
    Reading,
    ReasonPayload,
    Status,
    StringPayload,
)
from reconf import __version__
from reconf.arrays import BoolArray, FloatArray
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.estimation.health import forecast_now
from reconf.estimation.state import Estimate
from reconf.estimation.told import told_soc_std_frac
from reconf.protection.energy import available_energy_kwh
from reconf.protection.envelope import Reason
from reconf.readings import Channel, Quality
from reconf.site import Site

QUALITY_NAMES: Mapping[int, QualityName] = {
    int(Quality.GOOD): "good",
    int(Quality.SUBSTITUTED): "substituted",
    int(Quality.STALE): "stale",
    int(Quality.FROZEN): "frozen",
    int(Quality.IMPLAUSIBLE): "implausible",
    int(Quality.UNAVAILABLE): "unavailable",
    int(Quality.NO_ANSWER): "no_answer",
}
REASONS_MAX = 24
"""Reasons told in one status; each module's payload has its own."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a tick was, on the label clock, and how control time turns into dates."""

    utc: datetime
    control_s: float
    time_scale: float

    def date_of(self, control_s: float) -> datetime:
        """The date at which control time was `control_s`."""
        return self.utc - timedelta(seconds=(self.control_s - control_s) / self.time_scale)


def number(value: float) -> float | None:
    """JSON has no NaN: what is not known is null."""
    return float(value) if math.isfinite(value) else None


def _of(values: FloatArray | None, m: int, scale: float = 1.0) -> float | None:
    """A module's value where anything computes it."""
    return None if values is None else number(scale * float(values[m]))


def reading(channel: Channel, index: int | tuple[int, int]) -> Reading:
    """One value of a channel."""
    return Reading(
        value=number(channel.value[index]),
        quality=QUALITY_NAMES[int(channel.quality[index])],
        age_s=number(channel.age_s[index]),
    )


def reason_payload(reason: Reason) -> ReasonPayload:
    """A reason of the envelope."""
    return ReasonPayload(
        subject=reason.subject,
        limit=reason.limit,
        rule=reason.rule,
        value=number(reason.value),
        text=reason.text,
        lift=reason.lift,
    )


def shown_inserted(view: TickView) -> BoolArray:
    """(M,) modules that say they are inserted."""
    mask: BoolArray = (view.input.image.modules.status & int(Rm1Status.INSERTED)) != 0
    return mask


def module_counts(view: TickView) -> ModuleCounts:
    """How the modules stand; out of service counts first."""
    inserted, out = shown_inserted(view), view.out_of_service
    return ModuleCounts(
        inserted=int((inserted & ~out).sum()),
        bypassed=int((~inserted & ~out).sum()),
        out_of_service=int(out.sum()),
    )


def delivered_w(view: TickView) -> float | None:
    """Measured power at the bus; None while no converter is heard."""
    power = view.input.image.strings.power_w
    heard = power.good
    return float(power.value[heard].sum()) if heard.any() else None


def site_status(site: Site, view: TickView, stamp: Stamp, link: Link, health: Health) -> Status:
    """The retained status of the site."""
    able = view.envelope.capability
    estimate = view.estimate
    capacity = float(np.nansum(estimate.capacity_ah))
    soc = (
        float(np.nansum(estimate.soc_frac * estimate.capacity_ah)) / capacity if capacity > 0.0 else math.nan
    )
    command = view.setpoint.command
    return Status(
        site=site.name,
        utc=stamp.utc,
        mode=view.mode.value,
        rung=int(view.rung),
        rung_name=view.rung.name.lower(),
        rung_reason=view.rung_reason,
        power_asked_w=view.setpoint.power_w,
        power_delivered_w=delivered_w(view),
        power_source=view.setpoint.source,
        command_id=command.command_id or None if command and view.setpoint.source == "command" else None,
        energy_available_kwh=number(
            available_energy_kwh(site, estimate, view.envelope, view.setpoint.power_w)
        ),
        soc_frac=number(soc),
        modules=module_counts(view),
        strings_connected=int(view.connected.sum()),
        limits=Limits(
            horizon_s=list(able.horizon_s),
            discharge_w=list(able.discharge_w),
            charge_w=list(able.charge_w),
            reasons=[reason_payload(r) for r in view.envelope.reasons[:REASONS_MAX]],
        ),
        alarms=[
            Alarm(
                fault=f.fault,
                subject=f.subject,
                severity=f.severity,
                active=f.active,
                latched=f.latched,
                since=stamp.date_of(f.since_s),
                evidence=f.evidence,
                action=f.action,
            )
            for f in view.envelope.faults
        ],
        link=link,
        health=health,
        version=__version__,
    )


def string_payloads(site: Site, view: TickView, stamp: Stamp) -> list[StringPayload]:
    """All strings."""
    strings, inserted = view.input.image.strings, shown_inserted(view)
    closed = (strings.status & int(Rc1Status.CONTACTOR_CLOSED)) != 0
    return [
        StringPayload(
            site=site.name,
            utc=stamp.utc,
            name=string.name,
            state=view.phases[s],
            contactor_closed=bool(closed[s]) if strings.answered[s] else None,
            voltage_v=reading(strings.voltage_v, s),
            current_a=reading(strings.current_a, s),
            power_w=reading(strings.power_w, s),
            bus_voltage_v=reading(strings.bus_voltage_v, s),
            heatsink_temperature_degc=reading(strings.heatsink_temperature_degc, s),
            energy_out_kwh=reading(strings.energy_out_kwh, s),
            energy_in_kwh=reading(strings.energy_in_kwh, s),
            power_setpoint_w=float(view.in_force.power_w[s]),
            current_limit_a=float(view.in_force.current_limit_a[s]),
            inserted=int(inserted[site.topology.slice_of(s)].sum()),
            discharge_limit_w=number(view.envelope.string_discharge_w[s]),
            charge_limit_w=number(view.envelope.string_charge_w[s]),
        )
        for s, string in enumerate(site.strings)
    ]


def _life(site: Site, estimate: Estimate, m: int) -> dict[str, float]:
    """State of health, its trend, and what is left of the module's life; empty where it is not known."""
    rated = float(site.topology.rated_capacity_ah[m])
    soh, std = float(estimate.capacity_ah[m]) / rated, float(estimate.capacity_std_ah[m]) / rated
    if estimate.trend is None or not (math.isfinite(soh) and math.isfinite(std)):
        return {}
    ahead = forecast_now(estimate.trend, m, soh, std)
    return {
        "soh_frac": soh,
        "soh_std_frac": std,
        "soh_per_year_frac": ahead.slope_per_year,
        "end_of_life_years": ahead.years_left,
        "end_of_life_years_low": ahead.years_left_low,
        "end_of_life_years_high": ahead.years_left_high,
    }


def module_payload(site: Site, view: TickView, stamp: Stamp, m: int) -> ModulePayload:
    """One module."""
    modules, estimate, envelope = view.input.image.modules, view.estimate, view.envelope
    position, serial = site.positions[m], site.topology.serials[m]
    plan = view.book.plan
    return ModulePayload(
        site=site.name,
        utc=stamp.utc,
        serial=serial,
        string=site.strings[int(site.topology.string_of[m])].name,
        position=position.label,
        inserted=bool(modules.status[m] & int(Rm1Status.INSERTED)),
        in_service=not bool(view.out_of_service[m]),
        duty_frac=number(plan.duty_frac[m]) if plan is not None else None,
        voltage_v=reading(modules.voltage_v, m),
        current_a=reading(modules.current_a, m),
        temperature_degc=[reading(modules.temperature_degc, (m, k)) for k in (0, 1)],
        cell_voltage_min_v=number(estimate.cell_voltage_min_v[m]),
        cell_voltage_max_v=number(estimate.cell_voltage_max_v[m]),
        trim_current_a=reading(modules.trim_current_a, m),
        soc_frac=number(estimate.soc_frac[m]),
        soc_std_frac=number(told_soc_std_frac(site, estimate.soc_std_frac)[m]),
        capacity_ah=number(estimate.capacity_ah[m]),
        capacity_std_ah=number(estimate.capacity_std_ah[m]),
        remaining_ah=number(estimate.remaining_ah[m]),
        resistance_ohm=number(estimate.resistance_ohm[m]),
        **_life(site, estimate, m),
        discharge_limit_a=number(envelope.discharge_now_a[m]),
        charge_limit_a=number(envelope.charge_now_a[m]),
        charge_limit_15min_a=_of(envelope.charge_minutes_a, m),
        plating_margin_mv=_of(envelope.plating_margin_v, m, 1e3),
        reasons=[reason_payload(r) for r in envelope.reasons if r.subject == serial],
    )
