"""What protection carries from tick to tick, what it is told from outside, and how latches are cleared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

import numpy as np

from reconf.arrays import BoolArray
from reconf.estimation.state import Finding
from reconf.protection.bounds import build_constants
from reconf.protection.conditions import Trend
from reconf.protection.cooling import CoolingWatch
from reconf.protection.copper import KneeState
from reconf.protection.currents import CurrentStacks
from reconf.protection.envelope import FaultStatus
from reconf.protection.faults import (
    SCOPES,
    FaultEvent,
    FaultRow,
    Machine,
    Scope,
    evidence,
    fault_rows,
    row_index,
)
from reconf.protection.refusing import NONE_REFUSED, RefusedPlans, Words, with_words
from reconf.protection.suspicion import with_evidence
from reconf.protection.thermal import ThermalState
from reconf.replacing import replace
from reconf.site import Site

SITE: Final = "site"
"""Subject of the site's own faults."""
_RANK: Final = {"open_site": 0, "open_string": 1, "bypass": 2, "derate": 3, "warn": 4}


@dataclass(frozen=True, slots=True)
class OperatorLimits:
    """What people, and the daemon's own bookkeeping, ask of protection."""

    max_discharge_c: float = float("inf")
    """C-rate of present capacity."""
    max_charge_c: float = float("inf")
    max_discharge_w: float = float("inf")
    """At the site bus."""
    max_charge_w: float = float("inf")
    soc_min_frac: float = 0.0
    soc_max_frac: float = 1.0
    bypass: frozenset[str] = frozenset()
    """Serials taken out of service by an operator."""
    emergency_stop: bool = False
    """Asked for by command; stands until the command's own latch is taken back."""
    output_failed: bool = False
    """A site output was not confirmed at the last write."""
    opened_unasked: BoolArray | None = None
    """(S,) contactors that read open although they are commanded closed and were read closed, without a latch
    that says why."""
    switches_apart: BoolArray | None = None
    """(M,) modules whose node holds what was asked and says nothing against it, while its switch reads
    otherwise."""
    join_failed: BoolArray | None = None
    """(S,) strings that failed to join too often and wait for a start."""
    refused_plans: RefusedPlans = NONE_REFUSED
    """The optimizer's plans refused in a row."""
    isolation_lost: bool = False
    """Somebody has hands inside, and the readings speak against it."""
    unconfirmed: BoolArray | None = None
    """(M,) nodes whose writes are not confirmed and whose own watchdog has not had its time yet: such a
    module counts as inserted where it last read inserted (FORCED), else as bypassed (FORBIDDEN)."""
    out_of_service: BoolArray | None = None
    """(M,) nodes given up on whose watchdog time has passed: bypassed by themselves (FORBIDDEN)."""


@dataclass(frozen=True, slots=True)
class SavedFault:
    """A latched fault as the store keeps it; the subject is a serial number, so it follows the module."""

    fault: str
    subject: str
    value: float
    """Evidence at onset; NaN for a bit."""
    bound: float

    def to_json(self) -> dict[str, Any]:
        """As JSON, which has no NaN: what is a bit has no evidence."""
        return {
            "fault": self.fault,
            "subject": self.subject,
            "value": float(self.value) if isfinite(self.value) else None,
            "bound": float(self.bound) if isfinite(self.bound) else None,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> SavedFault:
        """The inverse of `to_json`; evidence that cannot be read does not lose the latch."""

        def number(key: str) -> float:
            value = saved.get(key)
            return float(value) if isinstance(value, (int, float)) else float("nan")

        return cls(str(saved["fault"]), str(saved["subject"]), number("value"), number("bound"))


@dataclass(frozen=True, slots=True)
class ProtectionState:
    """What protection carries from tick to tick."""

    time_s: float
    machines: Mapping[Scope, Machine]
    trend: Trend
    knee: KneeState
    thermal: ThermalState
    subjects: Mapping[Scope, tuple[str, ...]]
    """Names along the second axis of each machine."""
    events: tuple[FaultEvent, ...] = ()
    """Transitions of the last tick."""
    statuses: tuple[FaultStatus, ...] = ()
    """Present faults, worst first."""
    findings: tuple[Finding, ...] = ()
    """What the estimator had found in the last tick: the evidence of some statuses."""
    stacks: CurrentStacks | None = None
    """Every rule's answer of the last tick, for `explain`."""
    words: Words = field(default_factory=dict)
    """Evidence that no number tells, of the faults that are present."""
    cooling: CoolingWatch | None = None
    """Whether the cooling that runs cools; None before the first tick."""
    elsewhere: tuple[SavedFault, ...] = ()
    """Latches of modules that are not in the site now: kept for the day they come back."""

    def saved(self) -> tuple[SavedFault, ...]:
        """Latched faults, for the store."""
        here = tuple(
            SavedFault(row.fault, name, float(machine.value[f, n]), float(machine.bound[f, n]))
            for machine, row, name, f, n in self._entries("latched")
        )
        return here + self.elsewhere

    def present(self) -> tuple[FaultStatus, ...]:
        """Active and latched faults in words, worst first."""
        found = [
            FaultStatus(
                fault=row.fault,
                subject=name,
                severity=row.severity,
                active=bool(machine.active[f, n]),
                latched=bool(machine.latched[f, n]),
                since_s=float(machine.since_s[f, n]),
                evidence=evidence(
                    row.fault, float(machine.value[f, n]), float(machine.bound[f, n]), row.unit
                ),
                action=row.action,
            )
            for machine, row, name, f, n in self._entries("present")
        ]
        worst_first = tuple(sorted(found, key=lambda s: _RANK[s.severity]))
        told = with_evidence(worst_first, self.findings)
        return with_words(told, self.words)

    def _entries(self, mask: str) -> list[tuple[Machine, FaultRow, str, int, int]]:
        """Machine, row, subject and indices of everything set in `mask`."""
        return [
            (machine, fault_rows(scope)[f], self.subjects[scope][n], int(f), int(n))
            for scope, machine in self.machines.items()
            for f, n in np.argwhere(getattr(machine, mask))
        ]


@dataclass(frozen=True, slots=True)
class Cleared:
    """A latch was reset; nodes that hold a latch of their own are to be told as well."""

    state: ProtectionState
    clear_modules: BoolArray
    """(M,)"""
    clear_strings: BoolArray
    """(S,)"""


@dataclass(frozen=True, slots=True)
class ClearRefused:
    """The fault stays, and why."""

    reason: str


def initial_protection(site: Site, saved: Sequence[SavedFault] | None = None) -> ProtectionState:
    """State before the first tick; `saved` latches come back, those of modules no longer here are kept."""
    constants = site.derived(build_constants)
    subjects: dict[Scope, tuple[str, ...]] = {
        "module": constants.topology.serials,
        "string": constants.names,
        "site": (SITE,),
    }
    machines = {scope: Machine.quiet(len(fault_rows(scope)), len(subjects[scope])) for scope in SCOPES}
    elsewhere: list[SavedFault] = []
    for entry in saved or ():
        if not any(entry.fault in row_index(s) and entry.subject in subjects[s] for s in SCOPES):
            elsewhere.append(entry)
        for scope in SCOPES:
            f = row_index(scope).get(entry.fault)
            if f is None or entry.subject not in subjects[scope]:
                continue
            n = subjects[scope].index(entry.subject)
            machines[scope].latched[f, n] = True
            # whether its cause is gone is not known before the readings say so
            machines[scope].active[f, n] = True
            machines[scope].value[f, n] = entry.value
            machines[scope].bound[f, n] = entry.bound
    state = ProtectionState(
        time_s=0.0,
        machines=machines,
        trend=Trend.start(constants),
        knee=KneeState.start(constants.n_modules),
        thermal=ThermalState.start(constants.n_modules),
        subjects=subjects,
        elsewhere=tuple(elsewhere),
    )
    return replace(state, statuses=state.present())


PRESENT_MAX = 8
"""Most faults that a refused clear names."""


def clear_fault(
    state: ProtectionState, fault: str, subject: str | None = None, *, on_site: bool = False
) -> Cleared | ClearRefused:
    """Reset the latch of `fault` on `subject` (None: on every subject that has it).

    Refused while the cause persists, for lock-outs, and for open-site faults unless `on_site`. The
    returned state's `events` are those of the clearing.
    """
    scope = next((s for s in SCOPES if fault in row_index(s)), None)
    if scope is None:
        return ClearRefused(f"there is no fault {fault!r}; {_present_words(state.statuses)}")
    f = row_index(scope)[fault]
    row, machine, names = fault_rows(scope)[f], state.machines[scope], state.subjects[scope]
    chosen = np.array([subject is None or name == subject for name in names]) & machine.present[f]
    if not chosen.any():
        return ClearRefused(not_present(fault, subject, scope, state.statuses))
    refusal = _refusal(row, names, chosen, machine.active[f], on_site=on_site)
    if refusal is not None:
        return ClearRefused(refusal)
    latched = machine.latched.copy()
    latched[f, chosen] = False
    events = tuple(
        FaultEvent(state.time_s, fault, names[n], "cleared", float("nan"), float("nan"), row.unit)
        for n in np.flatnonzero(chosen)
    )
    after = replace(
        state, machines={**state.machines, scope: replace(machine, latched=latched)}, events=events
    )
    return Cleared(
        state=replace(after, statuses=after.present()),
        clear_modules=chosen
        if scope == "module"
        else np.zeros(len(state.subjects["module"]), dtype=np.bool_),
        clear_strings=chosen
        if scope == "string"
        else np.zeros(len(state.subjects["string"]), dtype=np.bool_),
    )


def _refusal(
    row: FaultRow, names: tuple[str, ...], chosen: BoolArray, active: BoolArray, *, on_site: bool
) -> str | None:
    """Why the latch of `row` may not be reset on the `chosen` subjects, or None."""
    if row.latching == "lockout":
        return f"{row.fault} is never cleared: {row.action}"
    if (chosen & active).any():
        where = ", ".join(names[n] for n in np.flatnonzero(chosen & active))
        return f"{row.fault} persists on {where}; it may be cleared when: {row.clear}"
    if row.severity == "open_site" and not on_site:
        return f"{row.fault} is cleared on site only: {row.action}"
    return None


def not_present(fault: str, subject: str | None, scope: str, statuses: Sequence[FaultStatus]) -> str:
    """Where a fault was looked for in vain, and what could be meant instead."""
    where = f"on any {scope}" if subject is None and scope != "site" else f"on {subject or 'the site'}"
    return f"{fault} is not present {where}; {_present_words(statuses)}"


def _present_words(statuses: Sequence[FaultStatus]) -> str:
    present = sorted({f"{s.fault} on {s.subject}" for s in statuses})
    more = f" and {len(present) - PRESENT_MAX} more" if len(present) > PRESENT_MAX else ""
    return f"present are {', '.join(present[:PRESENT_MAX])}{more}" if present else "no fault is present"
