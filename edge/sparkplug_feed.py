"""Shows the daemon's last tick on its Sparkplug node; control never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import structlog

from edge.core_values import TickView
from edge.northbound.link import MqttLink
from edge.northbound.payloads import Reply
from edge.northbound.sparkplug.history import HistoryFile
from edge.northbound.sparkplug.metrics import make_node, shown
from edge.northbound.sparkplug.session import SparkplugSession
from edge.northbound.tasks import end_tasks
from edge.store.store import Store
from reconf.site import Site

REPLIES_MAX = 100
"""Replies that wait to be told; older ones go (the reply topic has them all)."""


@asynccontextmanager
async def sparkplug_feed(
    site: Site,
    view: Callable[[], TickView | None],
    link: MqttLink | None,
    *,
    store: Store | None,
    executor: Executor,
    read_only: bool,
    utc: Callable[[], datetime],
    wall_s: Callable[[], float],
) -> AsyncIterator[SparkplugSession | None]:
    """Be a Sparkplug edge node while the daemon runs, where the site file asks for it.

    Args:
        site: says so.
        view: what the last completed tick says; None before the first.
        link: its gate takes commands; None: no northbound at all.
        store: keeps bdSeq and what nobody could hear.
        executor: one thread for the disk.
        read_only: no commands whatever the site file says.
        utc: the date.
        wall_s: monotonic wall clock [s].
    """
    if link is None or not site.sparkplug.group:
        yield None
        return

    async def blocking(work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    async def submit(payload: bytes, retained: bool) -> None:
        await link.gate.take(payload, retained=retained)

    history = HistoryFile(store.folder if store else None, blocking, rows_max=site.mqtt.outbox_max_rows)
    await history.open()
    session = SparkplugSession(
        site,
        make_node(site),
        ledger=store.ledger if store else None,
        history=history,
        blocking=blocking,
        submit=None if read_only else submit,
        utc=utc,
        wall_s=wall_s,
    )
    replies: asyncio.Queue[Reply] = asyncio.Queue(REPLIES_MAX)

    def hear(reply: Reply) -> None:
        if replies.full():
            replies.get_nowait()
        replies.put_nowait(reply)

    link.reply_heard.append(hear)
    tasks = {
        asyncio.create_task(session.run()),
        asyncio.create_task(_feed(site, session, view)),
        asyncio.create_task(_replies(session, replies)),
    }
    for task in tasks:
        task.add_done_callback(_tell_failure)
    try:
        yield session
    finally:
        link.reply_heard.remove(hear)
        await end_tasks(tasks)
        history.close()


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A task of the node that ends by itself has failed: control goes on, and the log says so."""
    if not task.cancelled() and (error := task.exception()) is not None:
        structlog.get_logger("sparkplug").error("node_failed", error=str(error), exc_info=error)


async def _feed(site: Site, session: SparkplugSession, view: Callable[[], TickView | None]) -> None:
    """Show each new tick, not more often than the site file says."""
    last: TickView | None = None
    while True:
        seen = view()
        if seen is not None and seen is not last:
            last = seen
            await session.show(shown(site, seen))
        await asyncio.sleep(site.sparkplug.period_s)


async def _replies(session: SparkplugSession, replies: asyncio.Queue[Reply]) -> None:
    while True:
        await session.reply(await replies.get())
