"""From a stored interval record back to the situation it describes: replay it and look."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from datetime import datetime

from edge.core import ControlCore
from edge.core_values import IntervalRecord, RecordedClears, RecordedOrder, TickInput
from edge.record_codec import PACKAGES, decode
from edge.store.history import JournalEntry
from optimizer.explain import Situation
from reconf.actuation import Receipt
from reconf.errors import DataFileError
from reconf.site import Site


def pick(entries: Sequence[JournalEntry], at: datetime | None) -> JournalEntry | None:
    """The last whole record, or the last one not after `at`."""
    whole = [e for e in entries if e.kind == "interval"]
    if at is not None:
        whole = [e for e in whole if datetime.fromisoformat(e.utc) <= at]
    return whole[-1] if whole else None


class SiteTables(dict[str, object]):
    """The site's derived tables by the names records use; a table not yet made is made when asked for."""

    def __init__(self, site: Site) -> None:
        super().__init__(site=site)
        self._site = site

    def __missing__(self, name: str) -> object:
        """Import the function that builds the table, and let the site keep what it builds."""
        module, _, function = name.partition(":")
        if module.partition(".")[0] not in PACKAGES or "." in function:
            raise DataFileError(f"the record names a table {name!r} that is not one of ours")
        made: object = self._site.derived(getattr(importlib.import_module(module), function))
        self[name] = made
        return made


def read_record(site: Site, entry: JournalEntry) -> IntervalRecord:
    """The record with the site's own tables put back in place of their names.

    Raises:
        DataFileError: the entry is no record of this program.
    """
    record: IntervalRecord = decode(entry.payload, SiteTables(site))
    return record


def situation(site: Site, record: IntervalRecord) -> Situation | None:
    """The last tick of `record`, None if it holds none."""
    core = ControlCore.resumed(site, record.start)
    for value in record.inputs:
        match value:
            case TickInput():
                core.tick(value)
            case Receipt():
                core.confirm(value)
            case RecordedOrder():
                core.order(value.order, value.now_s, value.wall_s)
            case RecordedClears():
                core.cleared(value.modules, value.strings)
    view = core.view
    if view is None:
        return None
    return Situation(view.envelope, view.estimate, view.book.plan, view.in_force.inserted, view.mode)
