"""What the site looks like to somebody who stands before it."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from edge.onsite_orders import string_isolation

if TYPE_CHECKING:
    from edge.supervisor import Daemon


def site_report(made: Daemon) -> dict[str, Any]:
    """Mode, lock, permits, contactors and voltages, faults; as JSON."""
    site, outcome = made.parts.site, made.outcome
    report: dict[str, Any] = {
        "site": site.name,
        "read_only": made.parts.read_only,
        "maintenance": asdict(made.core.maintenance),
        "mode": None,
        "strings": [],
        "faults": [],
        "readings_age_s": None,
    }
    if outcome is None:
        return report
    view = outcome.view
    report["mode"] = view.mode.value
    report["rung"] = view.rung.name.lower()
    report["rung_reason"] = view.rung_reason
    report["readings_age_s"] = round(made.parts.clock.wall_s() - view.input.wall_s, 2)
    report["strings"] = [
        {
            "name": s.name,
            "phase": phase,
            "read": s.read,
            "contactor": ("open" if s.contactor_open else "closed") if s.read else None,
            "voltage_v": round(s.voltage_v, 2) if isfinite(s.voltage_v) else None,
            "link_v": round(s.link_v, 2) if isfinite(s.link_v) else None,
        }
        for s, phase in zip(string_isolation(site, view.input.image), view.phases, strict=True)
    ]
    report["faults"] = [
        {
            "fault": f.fault,
            "subject": f.subject,
            "severity": f.severity,
            "active": f.active,
            "latched": f.latched,
            "evidence": f.evidence,
            "action": f.action,
        }
        for f in view.envelope.faults
    ]
    return report
