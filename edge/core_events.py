"""Transitions worth one line each: a failure is told once, and its end once."""

from __future__ import annotations

from collections.abc import Sequence

from edge.core_values import Event, TickView
from reconf.actuation import Refused
from reconf.arrays import FloatArray
from reconf.protection.faults import FaultEvent
from reconf.sequences import SequenceEvent
from reconf.site import Site
from reconf.words import quantity

LESS_QUIET_S = 600.0
"""Near a limit a plan is made smaller in many ticks, with others between them."""
TOLD = 3
"""Violations named in one refusal; the record holds all."""


def refusal_text(refused: Refused | None) -> str:
    """What verify found, the first few."""
    if refused is None:
        return ""
    parts = [
        f"{v.rule} on {v.subject} ({quantity(v.found, v.unit)}, allowed {quantity(v.allowed)})"
        for v in refused.violations[:TOLD]
    ]
    more = len(refused.violations) - TOLD
    return "; ".join(parts) + (f"; {more} more" if more > 0 else "")


def less_text(site: Site, share: FloatArray | None, reduced: Refused | None) -> str:
    """How much of the power proposed verify let through, string by string, and why not all of it."""
    if share is None or reduced is None:
        return ""
    parts = [
        f"{string.name} {100.0 * part:.0f} %"
        for string, part in zip(site.strings, share, strict=True)
        if part < 1.0
    ]
    return f"{', '.join(parts)} ({refusal_text(reduced)})" if parts else refusal_text(reduced)


def lessened(now: TickView, last_s: float) -> tuple[Event, ...]:
    """That less power than proposed was let through: once, until that has not happened for a while.

    Args:
        now: this tick.
        last_s: control time at which it happened last.
    """
    if not now.lessened or now.input.now_s - last_s < LESS_QUIET_S:
        return ()
    return (Event(now.input.now_s, "verify", "site", f"less power let through: {now.lessened}"),)


def fault_events(time_s: float, faults: Sequence[FaultEvent]) -> list[Event]:
    """Transitions of faults; the same on many subjects in one tick is one line."""
    groups: dict[tuple[str, str], list[FaultEvent]] = {}
    for event in faults:
        groups.setdefault((event.change, event.fault), []).append(event)
    told: list[Event] = []
    for (change, fault), members in groups.items():
        if len(members) <= TOLD:
            told += [Event(time_s, f"fault_{change}", m.subject, f"{fault}: {m.evidence}") for m in members]
            continue
        names = ", ".join(m.subject for m in members[:TOLD])
        text = f"{fault} on {len(members)}: {names}, ..."
        told.append(Event(time_s, f"fault_{change}", "several", text))
    return told


def finding_events(before: TickView | None, now: TickView) -> list[Event]:
    """Sensors and cells that the estimator has just ceased to believe, or believes again."""
    was = () if before is None else before.estimate.findings
    found = now.estimate.findings
    if found is was or found == was:
        return []
    time_s = now.input.now_s
    told = [
        Event(time_s, "finding", f.serial, f"{f.subject} ({f.test}): {f.evidence}")
        for f in found
        if f not in was
    ]
    told += [
        Event(time_s, "finding_cleared", f.serial, f"{f.subject} ({f.test})") for f in was if f not in found
    ]
    return told


def transitions(
    before: TickView | None,
    now: TickView,
    sequence: Sequence[SequenceEvent],
    faults: Sequence[FaultEvent],
) -> tuple[Event, ...]:
    """What changed in this tick."""
    time_s = now.input.now_s
    events = [Event(time_s, "sequence", e.subject, f"{e.before} -> {e.after}: {e.why}") for e in sequence]
    events += finding_events(before, now)
    events += fault_events(time_s, faults)
    if before is None or before.rung != now.rung:
        events.append(Event(time_s, "rung", "site", f"{now.rung.name.lower()}: {now.rung_reason}"))
    was = refusal_text(before.refused) if before is not None else ""
    text = refusal_text(now.refused)
    if bool(was) != bool(text):
        events.append(Event(time_s, "verify", "site", f"refused: {text}" if text else "accepted again"))
    return tuple(events)


def strangers(
    time_s: float, before: tuple[tuple[str, str], ...], now: tuple[tuple[str, str], ...]
) -> tuple[Event, ...]:
    """Modules that are not those of the site file, and that they are again."""
    if before == now:
        return ()
    events = [
        Event(
            time_s, "strange_module", expected, f"its position reads {found}: kept out until that is mended"
        )
        for expected, found in now
        if (expected, found) not in before
    ]
    gone = {expected for expected, _ in before} - {expected for expected, _ in now}
    events += [
        Event(time_s, "strange_module", expected, "read at its position again") for expected in sorted(gone)
    ]
    return tuple(events)
