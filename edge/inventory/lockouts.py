"""Lock-outs of a running site into the passports: a module that was locked out is never used again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from edge.inventory.store import Entry, Inventory
from reconf.protection.faults import evidence, row_of
from reconf.protection.state import SavedFault

KIND = "locked_out"


def lockouts(rows: Sequence[Mapping[str, Any]]) -> tuple[SavedFault, ...]:
    """Of the latched faults that a daemon keeps, those that are never cleared."""
    faults = tuple(SavedFault.from_json(row) for row in rows)
    return tuple(f for f in faults if _is_lockout(f.fault))


def _is_lockout(fault: str) -> bool:
    try:
        return row_of(fault).latching == "lockout"
    except StopIteration:
        return False


def note_lockouts(
    inventory: Inventory, faults: Sequence[SavedFault], utc: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write new lock-outs into the passports.

    Returns serials that were marked now, and serials that the inventory does not know.
    """
    histories = inventory.histories()
    fresh = [f for f in faults if f.subject in histories and not _noted(histories[f.subject], f.fault)]
    inventory.append(((f.subject, KIND, _data(f)) for f in fresh), utc)
    unknown = tuple(f.subject for f in faults if f.subject not in histories)
    return tuple(f.subject for f in fresh), unknown


def _noted(history: Sequence[Entry], fault: str) -> bool:
    return any(e.kind == KIND and e.data["fault"] == fault for e in history)


def _data(fault: SavedFault) -> dict[str, Any]:
    row = row_of(fault.fault)
    seen = evidence(fault.fault, fault.value, fault.bound, row.unit)
    return {"fault": fault.fault, "text": f"{row.text} {seen}".strip(), "action": row.action}
