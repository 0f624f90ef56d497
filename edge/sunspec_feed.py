"""Shows the daemon's last tick on its SunSpec server, once a second; control never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import structlog

from edge.core_values import TickView
from edge.northbound.link import MqttLink
from edge.northbound.sunspec.server import SunSpecServer
from edge.northbound.sunspec.start import sunspec_server
from edge.northbound.sunspec.view import SiteState
from reconf.site import Site

FEED_PERIOD_S = 1.0
"""Hb of model 802 counts seconds."""


@asynccontextmanager
async def sunspec_feed(
    site: Site,
    view: Callable[[], TickView | None],
    link: MqttLink | None,
    *,
    wall: Callable[[], float],
    utc: Callable[[], datetime],
) -> AsyncIterator[SunSpecServer | None]:
    """Serve SunSpec while the daemon runs, where the site file asks for it.

    Args:
        site: has the server's address.
        view: what the last completed tick says; None before the first.
        link: takes set points and signs of life; None: read-only whatever the site file says.
        wall: monotonic wall clock [s].
        utc: the date.

    Raises:
        ConfigError: a certificate file cannot be used.
    """

    async def submit(payload: bytes) -> None:
        if link is not None:
            await link.gate.take(payload, retained=False)

    log = structlog.get_logger("sunspec")
    writes = None if link is None else submit
    server = sunspec_server(site, writes, wall, utc, beat=link.beat if link is not None else lambda: None)
    async with AsyncExitStack() as stack:
        if server is not None:
            try:
                await stack.enter_async_context(server)
            except OSError as error:
                log.warning("not_served", host=site.sunspec.host, port=site.sunspec.port, error=str(error))
                server = None
            else:
                log.info("serving", host=site.sunspec.host, port=server.port, writer=site.sunspec.writer)
                task = asyncio.create_task(_feed(server, view))
                stack.callback(task.cancel)
                certificates = server.certificates
                if link is not None and certificates is not None:
                    link.alarms.append(lambda: certificates.watch.text)
                if link is not None:
                    link.reply_heard.append(server.hear)
                    stack.callback(link.reply_heard.remove, server.hear)
        yield server


async def _feed(server: SunSpecServer, view: Callable[[], TickView | None]) -> None:
    while True:
        seen = view()
        if seen is not None:
            server.show(
                SiteState(
                    image=seen.input.image,
                    estimate=seen.estimate,
                    envelope=seen.envelope,
                    mode=seen.mode.value,
                    local=seen.maintenance.held,
                )
            )
        await asyncio.sleep(FEED_PERIOD_S)
