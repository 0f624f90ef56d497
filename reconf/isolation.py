"""Maintenance as a lock, and the gate before hands go inside. Pure.

The lock is held beside the mode machine, not in it: an emergency stop or a gas alarm during maintenance
changes the mode and leaves the lock where it is. Whoever has hands inside holds a permit of their own; the
lock cannot be released while one is out (lock-out and tag-out, OSHA 29 CFR 1910.147; EN 50110-1, 6.2).

The software cannot see whether a conductor is dead. It refuses where its own readings speak against it, and
otherwise records what the person confirms and has measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final

SAFE_VOLTAGE_V: Final = 60.0
"""Ripple-free DC under which touching is not held dangerous in dry rooms (IEC 61140, limit of SELV)."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Somebody has hands inside."""

    by: str
    since_utc: str
    """RFC 3339, a label."""
    measured_v: float
    """What the person measured where the work is."""
    strings: tuple[str, ...]
    """Strings the person works on; empty: all."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The lock, who holds it, and whose hands are inside."""

    held: bool = False
    by: str = ""
    since_utc: str = ""
    permits: tuple[Permit, ...] = ()

    @classmethod
    def from_json(cls, saved: Any) -> Maintenance:
        """What the store kept; a record that cannot be read counts as held, never as released."""
        if saved is None:
            return cls()
        try:
            permits = tuple(
                Permit(str(p["by"]), str(p["since_utc"]), float(p["measured_v"]), tuple(p["strings"]))
                for p in saved["permits"]
            )
            return cls(bool(saved["held"]), str(saved["by"]), str(saved["since_utc"]), permits)
        except (KeyError, TypeError, ValueError):
            return UNREADABLE


RELEASED: Final = Maintenance()
UNREADABLE: Final = Maintenance(held=True, by="unknown: what an earlier run left cannot be read")
"""Somebody may be inside, and a fault may be latched: a person at the site has to look."""


@dataclass(frozen=True, slots=True)
class StringIsolation:
    """What the readings say of one string."""

    name: str
    read: bool
    """Its converter answered within this tick."""
    contactor_open: bool
    voltage_v: float
    """At the string's terminals; NaN where it is not known."""
    link_v: float = 0.0
    """Behind the contactor; it discharges after opening. NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What the person says."""

    by: str
    disconnect_locked: bool
    measured_v: float
    strings: tuple[str, ...] = ()


def hands_inside_refusals(
    lock: Maintenance, strings: Sequence[StringIsolation], statement: Statement, *, fresh: bool
) -> tuple[str, ...]:
    """Why hands may not go inside yet, in the order in which to do it; empty: they may.

    Args:
        lock: maintenance as it stands.
        strings: readings of every string of the site.
        statement: what the person confirms and has measured.
        fresh: the readings are those of a tick that has just been completed.
    """
    refusals: list[str] = []
    if not lock.held:
        refusals.append("maintenance is not taken: take it first")
    names = [s.name for s in strings]
    refusals += [
        f"there is no string {name!r}: this site has {', '.join(names)}"
        for name in statement.strings
        if name not in names
    ]
    if not fresh:
        refusals.append("the last readings are too old")
    concerned = [s for s in strings if not statement.strings or s.name in statement.strings]
    for string in concerned:
        refusals.extend(_against(string))
    if not statement.disconnect_locked:
        refusals.append("the disconnect is not confirmed as locked")
    if not isfinite(statement.measured_v):
        refusals.append("the voltage measured at the place of work is missing")
    elif abs(statement.measured_v) >= SAFE_VOLTAGE_V:
        refusals.append(f"{statement.measured_v:g} V were measured; under {SAFE_VOLTAGE_V:g} V is needed")
    return tuple(refusals)


def _against(string: StringIsolation) -> list[str]:
    """What the readings of one string say against it."""
    if not string.read:
        return [f"{string.name}: its converter does not answer, the contactor is not known to be open"]
    against = []
    if not string.contactor_open:
        against.append(f"{string.name}: the contactor reads closed, precharging or not following")
    if not isfinite(string.voltage_v):
        against.append(f"{string.name}: the string voltage is not known")
    elif abs(string.voltage_v) >= SAFE_VOLTAGE_V:
        against.append(
            f"{string.name}: {string.voltage_v:.1f} V at the string, under {SAFE_VOLTAGE_V:g} V is needed"
        )
    if not abs(string.link_v) < SAFE_VOLTAGE_V:
        stands = f"{string.link_v:.1f} V" if isfinite(string.link_v) else "an unknown voltage"
        against.append(f"{string.name}: {stands} behind the contactor; it should discharge within seconds")
    return against


def take(lock: Maintenance, by: str, utc: str) -> Maintenance:
    """The lock held; it stays with who has it."""
    return lock if lock.held else Maintenance(held=True, by=by, since_utc=utc)


def release_refusal(lock: Maintenance) -> str:
    """Why the lock may not be released; empty: it may."""
    if not lock.held:
        return "maintenance is not taken"
    if lock.permits:
        who = ", ".join(p.by for p in lock.permits)
        return f"hands are still inside: {who}"
    return ""


def grant(lock: Maintenance, statement: Statement, utc: str) -> Maintenance:
    """The lock with one more permit; a person has one at most.

    Who asks again is inside on more strings, not on other ones: the first are watched until that person is
    out of all of them.
    """
    before = next((p for p in lock.permits if p.by == statement.by), None)
    strings = statement.strings
    if before is not None:
        everywhere = not before.strings or not strings
        strings = () if everywhere else tuple(dict.fromkeys((*before.strings, *strings)))
    others = tuple(p for p in lock.permits if p.by != statement.by)
    permit = Permit(statement.by, utc, statement.measured_v, strings)
    return replace(lock, permits=(*others, permit))


def hand_back(lock: Maintenance, by: str) -> Maintenance | None:
    """The lock without the permit of `by`; None where there is none."""
    others = tuple(p for p in lock.permits if p.by != by)
    return None if len(others) == len(lock.permits) else replace(lock, permits=others)


def broken_isolation(lock: Maintenance, strings: Mapping[str, StringIsolation]) -> tuple[str, ...]:
    """Strings on which somebody works and whose readings now speak against it."""
    if not lock.permits:
        return ()
    concerned = {name for p in lock.permits for name in (p.strings or tuple(strings)) if name in strings}
    return tuple(
        name
        for name in sorted(concerned)
        if strings[name].read
        and (not strings[name].contactor_open or abs(strings[name].voltage_v) >= SAFE_VOLTAGE_V)
    )
