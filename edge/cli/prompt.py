"""Asking a person while an event loop runs: Ctrl-C at the question ends the command like everywhere else."""

from __future__ import annotations

import asyncio
import os
import sys

from rich.console import Console


async def confirm(console: Console, question: str, *, yes: bool) -> bool:
    """Ask for y or n; without a terminal only `--yes` says yes."""
    if yes:
        return True
    if not sys.stdin.isatty():
        console.print(
            f"{question} Not done: no terminal to ask at (--yes does it without asking).", markup=False
        )
        return False
    while True:
        console.print(f"{question} [y/n] ", end="", markup=False)
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
