"""When the garbage collector runs: after a tick's writes, never between a reading and its answer.

A full collection of a daemon's heap takes tens of milliseconds on a small machine, and by itself it comes
whenever the count of new objects says so. Here the collector is switched off while ticks run; what lives
for ever is frozen once, and each tick ends with a collection of what is young.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SETTLED_TICKS = 10
"""After so many ticks modules are imported and tables built: what is left is frozen."""
FULL_EVERY_TICKS = 600
"""Ticks between two full collections, of what has been made since."""


class Rubbish:
    """Collects at the end of ticks."""

    def __init__(self) -> None:
        self._ticks = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this is open the collector runs only when it is told; as before afterwards."""
        was_on = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            gc.unfreeze()
            if was_on:
                gc.enable()

    def after_tick(self) -> None:
        """Everything of this tick has been written and told."""
        self._ticks += 1
        if self._ticks == SETTLED_TICKS:
            gc.collect()
            gc.freeze()
        elif self._ticks % FULL_EVERY_TICKS == 0:
            gc.collect()
        else:
            gc.collect(1)
