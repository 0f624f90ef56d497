"""Ending tasks, and waiting for an event no longer than so long."""

from __future__ import annotations

import asyncio

CANCEL_AGAIN_S = 0.5


async def end_tasks(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended, whatever they end with.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, which aiomqtt uses, can swallow a
    cancellation.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not complain


async def until(event: asyncio.Event) -> None:
    """Wait for `event`."""
    await event.wait()


async def pause(seconds: float, event: asyncio.Event) -> None:
    """Wait so long, but not past `event`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
