"""What the daemon keeps on disk and takes up again: faults, mode, estimates, records.

Everything that waits for the disk runs in one thread of its own; a disk that is full or gone is told and
never felt by control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, ItemsView, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from edge.core_captest import restored_test
from edge.core_state import SavedCore
from edge.core_values import CoreState, Event, IntervalRecord, TickView
from edge.lasting import LASTING_KEYS, Moment, documents, lasting, watched
from edge.record_codec import encode
from edge.store.store import Store
from reconf.errors import StoreError
from reconf.estimation.memory import SavedModule
from reconf.protection.protect import SavedFault
from reconf.site import Site

SAVE_ESTIMATES_S = 30.0
"""Wall time between saves: well under the minute that may be lost."""
WHOLE_RECORD_S = 1.0
"""Wall time between whole records: above time scale 1 the others are kept as summaries only."""

log = structlog.get_logger("keeper")


def shared_tables(site: Site) -> dict[int, str]:
    """Objects a record names instead of holding: the site and the tables derived from it."""
    names = {id(table): f"{b.__module__}:{b.__qualname__}" for b, table in site.derived_tables.items()}
    return {id(site): "site", **names}


def load_saved(store: Store, now: Moment, site: Site) -> SavedCore:
    """Memory of an earlier run.

    Raises:
        StoreError: the state directory cannot be read.
    """
    ledger, utc = store.ledger, now.utc
    faults = tuple(SavedFault.from_json(row) for row in ledger.get("faults") or ())
    stored = {key: ledger.get(key) for key in LASTING_KEYS}
    try:
        left = lasting(stored, now)
    except ValueError as error:
        # a newer or damaged value: what makes safe is kept, the rest is told and asked for anew
        log.warning("orders_not_read", error=str(error))
        left = lasting({key: stored[key] for key in ("mode", "bypassed", "maintenance")}, now)
    modules: dict[str, SavedModule] = {}
    oldest = utc
    serials = set(site.topology.serials)
    for serial, (row, saved_at) in store.history.estimates().items():
        if serial not in serials:
            continue
        try:
            modules[serial] = SavedModule.from_json(row)
        except (TypeError, ValueError, KeyError) as error:
            log.warning("estimate_not_read", serial=serial, error=str(error))
            continue
        oldest = min(oldest, saved_at.astimezone(UTC))
    return SavedCore(
        modules=modules,
        # the date may have jumped while we were away: never a negative time
        away_s=max(0.0, (utc - oldest).total_seconds()),
        faults=faults,
        lasting=left,
        capacity_test=restored_test(site, ledger.get("capacity_test")),
    )


def _faults(state: CoreState, view: TickView) -> list[dict[str, Any]]:
    """Latched faults as rows."""
    if not view.envelope.faults and not state.protection.elsewhere:
        return []  # nothing is latched: not worth a search
    return [f.to_json() for f in state.protection.saved()]


@dataclass(frozen=True, slots=True)
class _Newest(Mapping[str, Any]):
    """All documents as they are when they are written, not when somebody asked for it.

    A job that waited for the disk must not put an older mode over the emergency stop that was acknowledged
    meanwhile. Nor may it write a part of what a later order has left behind: killed then, the set point would
    be gone for a standby that is not there, a state that never was.
    """

    read: Callable[[], Mapping[str, Any]]

    def items(self) -> ItemsView[str, Any]:
        """Of one moment, however long it takes to go through them."""
        return self.read().items()

    def __getitem__(self, name: str) -> Any:
        return self.read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())


class Keeper:
    """Writes what must survive, from one thread, and says when it cannot."""

    def __init__(
        self,
        site: Site,
        store: Store | None,
        executor: ThreadPoolExecutor,
        *,
        now: Callable[[], Moment],
    ) -> None:
        self._site, self._store, self._executor = site, store, executor
        self._now = now
        self.trouble = "" if store is not None else "there is no state directory"
        self._critical: dict[str, Any] = {}
        self._newest: dict[str, Any] = {}
        """Replaced, never changed: the disk's thread reads it."""
        self._estimates_at_s = self._wall_s()
        self._record_at_s = -WHOLE_RECORD_S
        self._jobs: asyncio.Queue[Callable[[], None]] = asyncio.Queue(64)
        self.dropped = 0

    def _utc(self) -> datetime:
        return self._now().utc

    def _wall_s(self) -> float:
        return self._now().wall_s

    def effect(self, state: CoreState, view: TickView | None) -> Mapping[str, Any]:
        """What an order has just left behind: to be on the disk before the order is acknowledged."""
        if self._store is None:
            return {}
        values = documents(state, view, self._now())
        self._newest = self._newest | values
        return _Newest(lambda: self._newest)

    def tick(self, state: CoreState, view: TickView, record: IntervalRecord | None) -> None:
        """After a tick: hand over what changed. Never waits."""
        store = self._store
        if store is None:
            return
        utc = self._utc()
        critical = watched(state, view) | {"faults": _faults(state, view)}
        changed = {k: v for k, v in critical.items() if k not in self._critical or self._critical[k] != v}
        if changed:
            values = documents(state, view, self._now()) | {"faults": critical["faults"]}
            self._newest = self._newest | values
            kept = _Newest(lambda: self._newest)
            self._critical.update(changed)
            self._put(lambda: store.ledger.put_all(kept, utc), key=tuple(changed))
        if state.filter is not None and self._wall_s() - self._estimates_at_s >= SAVE_ESTIMATES_S:
            self._estimates_at_s = self._wall_s()
            self.save_estimates(state)
        if record is not None:
            self._record(store, record, utc)

    async def record(self, entry: Mapping[str, Any], effect: Mapping[str, Any]) -> str:
        """An entry of the audit log with the effect of its order; on the disk when this returns.

        Returns why it is not on record, empty when it is.
        """
        store = self._store
        if store is None:
            return self.trouble or "there is no state directory"
        utc = self._utc()

        def work() -> None:
            store.ledger.settle(
                utc=utc, command_id=None, digest="", reply={}, sequence=None, audit=entry, documents=effect
            )

        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except StoreError as error:
            return str(error)
        return ""

    def save_estimates(self, state: CoreState) -> None:
        """Estimates of all modules, by serial.

        Not while the site is held for maintenance: a module that changes places would leave its readings
        under the serial of the one before it.
        """
        store, memory = self._store, state.filter
        if store is None or memory is None or state.maintenance.held:
            return
        utc = self._utc()
        strange = {expected for expected, _ in state.strange}
        self._put(
            lambda: store.history.save_estimates(
                {k: v.to_json() for k, v in memory.saved().items() if k not in strange}, utc
            )
        )

    def events(self, events: tuple[Event, ...]) -> None:
        """Transitions into the history."""
        store = self._store
        if store is None or not events:
            return
        utc = self._utc()
        rows = [(e.kind, e.subject, {"text": e.text, "control_s": e.time_s}) for e in events]
        self._put(lambda: store.ledger.append_events(rows, utc))

    def _record(self, store: Store, record: IntervalRecord, utc: datetime) -> None:
        whole = self._wall_s() - self._record_at_s >= WHOLE_RECORD_S
        if whole:
            self._record_at_s = self._wall_s()

        def work() -> None:
            rows = [(record.interval, "summary", encode(record.end))]
            if whole:
                rows.append((record.interval, "interval", encode(record, shared_tables(self._site))))
            store.history.append_records(rows, utc)

        self._put(work)

    def _put(self, work: Callable[[], None], key: tuple[str, ...] = ()) -> None:
        """Queue work for the disk; a disk that is too slow loses telemetry, never faults and mode."""
        try:
            self._jobs.put_nowait(work)
        except asyncio.QueueFull:
            self.dropped += 1
            for name in key:
                self._critical.pop(name, None)  # comes again with the next tick

    async def run(self) -> None:
        """Write what is queued until cancelled."""
        while True:
            await self._do(await self._jobs.get())

    async def flush(self) -> None:
        """Write everything that is still queued, and wait for what is being written."""
        while not self._jobs.empty():
            await self._do(self._jobs.get_nowait())
        # one thread, one after the other: with this everything that was given to it before is done
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: None)

    async def _do(self, work: Callable[[], None]) -> None:
        written = False
        try:
            # what waits for the thread behind somebody else's work is not given up with who waits for it
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._executor, work))
            written = True
        except StoreError as error:
            if not self.trouble:
                log.warning("store_not_written", error=str(error))
            self.trouble = str(error)
        finally:
            if not written:
                self._critical.clear()  # faults and mode are tried again with the next tick
        if written:
            if self.trouble:
                log.info("store_written_again")
            self.trouble = ""
