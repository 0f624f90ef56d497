"""Lets the twin's time pass: physics in simulated time, watchdogs in wall time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from reconf.twin.firmware import PHYSICS_STEP_MAX_S, NodeBank

PERIOD_MAX_S = 0.05
"""A switch acts within 50 ms of its write."""
PERIOD_MIN_S = 0.004
CATCH_UP_MAX_S = 30.0
"""Simulated time that one turn may make up; beyond it simulated time falls behind, and says so."""


@dataclass(slots=True)
class Pacer:
    """Steps a `NodeBank` at `time_scale` simulated seconds per second of `wall`."""

    bank: NodeBank
    time_scale: float
    wall: Callable[[], float]
    slipped_s: float = 0.0
    """Simulated time lost because the machine was too slow."""
    after_step: Callable[[], None] = lambda: None

    @property
    def period_s(self) -> float:
        """Wall time between turns: one step of the physics each, where the machine can."""
        return min(PERIOD_MAX_S, max(PERIOD_MIN_S, PHYSICS_STEP_MAX_S / self.time_scale))

    async def run(self) -> None:
        """Until cancelled."""
        last = self.wall()
        while True:
            await asyncio.sleep(self.period_s)
            now = self.wall()
            if now <= last:
                continue  # a clock that stood still: the physics takes no step of nothing
            asked_s = (now - last) * self.time_scale
            given_s = min(asked_s, max(CATCH_UP_MAX_S, 0.5 * self.time_scale))
            self.slipped_s += asked_s - given_s
            self.bank.step(now - last, given_s)
            self.after_step()
            last = now
