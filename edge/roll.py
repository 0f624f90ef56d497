"""Who answers where: serials on the wire against those of the site file.

A module that somebody has moved would be judged by the limits, and learned under the name, of the one that
sat there before. So serials are read when the daemon starts, and again where a node's uptime does not go
on as time does: it was restarted, or it is another node. The thresholds of its own trips are read with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import structlog

from edge.core_values import Answer, Order, StrangeModules, TickView
from edge.modbus.identity import ModuleIdentity
from edge.modbus.southbound import Southbound
from reconf.arrays import BoolArray
from reconf.commissioning.backstop import TripRemark, trip_remarks
from reconf.site import Site

log = structlog.get_logger("daemon")

LOOK_S = 1.0
"""Wall time between two looks at uptimes."""
AGAIN_S = 10.0
"""Wall time before nodes that did not answer are asked again."""
SLACK_S = 5.0
"""Uptime counts whole seconds, and readings may be some ticks old."""


class RollCall:
    """Reads serials when there is reason to, and tells the core whose modules are not what they should be.

    Args:
        site: who should sit where.
        south: the lines to ask on.
        view: the last tick, None before the first.
        order: gives the core an order.
    """

    def __init__(
        self,
        site: Site,
        south: Southbound,
        view: Callable[[], TickView | None],
        order: Callable[[Order], Answer],
    ) -> None:
        self._site, self._south, self._view, self._order = site, south, view, order
        m = site.topology.n_modules
        self._found: list[str | None] = [None] * m
        self._unsure: BoolArray = np.ones(m, dtype=np.bool_)
        self._uptime_s = np.full(m, -1.0)
        self._read_s = np.zeros(m)
        self._told: tuple[tuple[str, str], ...] = ()
        self._trips: dict[int, tuple[TripRemark, ...]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            if self._unsure.any() and self._view() is not None:
                await self._call()
                await asyncio.sleep(AGAIN_S if self._unsure.any() else LOOK_S)
            else:
                await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Note nodes whose uptime did not go on as control time did."""
        view = self._view()
        if view is None:
            return
        readings, now_s = view.input.image.modules, view.input.now_s
        heard = readings.answered
        uptime = readings.uptime_s.astype(np.float64)
        expected = self._uptime_s + (now_s - self._read_s)
        slack = SLACK_S + 2.0 * self._site.timing.tick_s
        # an uptime that goes back is a start, however young the node was
        broken = heard & ((uptime < self._uptime_s) | (np.abs(uptime - expected) > slack))
        broken &= self._uptime_s >= 0.0
        self._unsure |= broken
        self._uptime_s = np.where(heard, uptime, self._uptime_s)
        self._read_s = np.where(heard, now_s, self._read_s)

    async def _call(self) -> None:
        """Read serials; tell the core where that changes anything."""
        who = await self._south.identities()
        for m, identity in enumerate(who.modules):
            if identity is not None:
                self._found[m] = identity.serial
                self._unsure[m] = False
                self._look_at_trips(m, identity)
        strange = tuple(
            (spec.serial, found)
            for spec, found in zip(self._site.modules, self._found, strict=True)
            if found is not None and found != spec.serial
        )
        if strange != self._told:
            self._told = strange
            self._order(StrangeModules(strange))

    def _look_at_trips(self, m: int, identity: ModuleIdentity) -> None:
        """Log trips that do not fit the site's limits, once as long as they stay the same."""
        position = self._site.positions[m]
        module = position.module
        if identity.serial != module.serial:
            return  # another module: it is kept out, and told
        remarks = trip_remarks(module.chemistry, self._site.limits[module.chemistry], identity.trips)
        for remark in remarks if remarks != self._trips.get(m, ()) else ():
            log.warning(
                "node_trip",
                node=module.serial,
                gateway=position.gateway,
                unit_id=position.unit_id,
                register=remark.register,
                found=remark.found,
                expected=remark.expected,
                remedy=remark.remedy,
            )
        self._trips[m] = remarks
