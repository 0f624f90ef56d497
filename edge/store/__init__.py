"""Data at rest: SQLite in the state directory."""

from __future__ import annotations

from edge.store.history import Gap, History, JournalEntry, Unsent
from edge.store.ledger import AuditCheck, Event, Ledger, StoredReply
from edge.store.store import Store, StoreBounds

__all__ = [
    "AuditCheck",
    "Event",
    "Gap",
    "History",
    "JournalEntry",
    "Ledger",
    "Store",
    "StoreBounds",
    "StoredReply",
    "Unsent",
]
