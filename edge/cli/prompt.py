"""A person at a command that writes: asked before, and free to end it at any time, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    from edge.wires.rack import Rack

T = TypeVar("T")
GIVE_UP_PRESSES = 3
"""Presses of Ctrl-C after which a contactor that does not open is left to the person."""


def console() -> Console:
    """Where a guided command speaks: stderr, lines broken between words."""
    return Console(stderr=True, highlight=False)


class InterruptedByPersonError(Exception):
    """Ctrl-C, SIGTERM or a closed terminal; what was under way has been left in order."""


async def guarded(work: Coroutine[Any, Any, T], rack: Callable[[], Rack | None]) -> T:
    """Do `work`; a signal cancels it, and whatever it holds is left in order before this ends.

    Raises:
        InterruptedByPersonError: it was cancelled.
    """
    task = asyncio.ensure_future(work)
    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        held = rack()
        if presses >= GIVE_UP_PRESSES and held is not None:
            held.abandoned = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, pressed)
    try:
        return await task
    except asyncio.CancelledError:
        raise InterruptedByPersonError from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def confirm(at: Console, question: str, *, yes: bool) -> bool:
    """Ask for y or n; without a terminal only `--yes` says yes."""
    if yes:
        return True
    if not sys.stdin.isatty():
        at.print(f"{question} Not done: no terminal to ask at (--yes does it without asking).", markup=False)
        return False
    while True:
        at.print(f"{question} [y/n] ", end="", markup=False)
        answer = (await _line()).strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no", ""):
            return False


async def _line() -> str:
    """One line from the terminal; empty at its end."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[str] = loop.create_future()

    def readable() -> None:
        if not came.done():
            came.set_result(os.read(sys.stdin.fileno(), 1024).decode(errors="replace"))

    loop.add_reader(sys.stdin.fileno(), readable)
    try:
        return await came
    finally:
        loop.remove_reader(sys.stdin.fileno())
