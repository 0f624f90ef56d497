"""Looking at a site that is being proven: readings, estimate, envelope, and heartbeats to whom they are due.

One loop and no background task: heartbeats go out with each look at the site, to the nodes that answered it,
so that a test that hangs feeds nobody and the nodes make themselves safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edge.modbus.southbound import Southbound, SouthboundOptions
from reconf.arrays import BoolArray
from reconf.devices.rc1 import Rc1Status
from reconf.estimation.filter import estimate, initial_state
from reconf.estimation.memory import FilterState
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.protection.protect import OperatorLimits, initial_protection, protect
from reconf.readings import SiteImage
from reconf.sequences.nodes import RC1_WATCHDOG_S, RM1_WATCHDOG_S
from reconf.site import Site

LOOK_EVERY_S = 0.1
"""Wall time between two looks."""
SETTLE_SAMPLES = 2
"""New measurement sets of a converter before its voltage counts: the first may be older than the write."""
SETTLE_LIMIT_S = 4.0


@dataclass(frozen=True, slots=True)
class RackOptions:
    """What tests make shorter."""

    module_watchdog_s: float = RM1_WATCHDOG_S
    string_watchdog_s: float = RC1_WATCHDOG_S
    time_scale: float = 1.0
    """Control seconds per second of the wall: 1 but for a twin."""
    look_every_s: float = LOOK_EVERY_S


class RackError(Exception):
    """A trial could not go on; the site was left safe."""


class LiveSite:
    """A site that is looked at again and again.

    Args:
        site: the site.
        options: watchdog times and time scale.
        wall: monotonic wall clock [s].
    """

    def __init__(self, site: Site, options: RackOptions, wall: Callable[[], float]) -> None:
        m, s = site.topology.n_modules, site.topology.n_strings
        self.site = site
        self.options = options
        self.wall = wall
        self.fed_modules: BoolArray = np.zeros(m, dtype=np.bool_)
        self.fed_strings: BoolArray = np.zeros(s, dtype=np.bool_)
        self.asked_closed: BoolArray = np.zeros(s, dtype=np.bool_)
        """(S,) asked to close, and not known to have opened since."""
        self.leaving = False
        """Strings are being left: nothing stops that any more."""
        self.south = Southbound(site, wall=wall, options=SouthboundOptions(scrub_every_s=0.0))
        self._dt_s = LOOK_EVERY_S
        self._started_s = self._looked_s = wall()
        self._tick = 0
        self._image: SiteImage | None = None
        self._filter: FilterState | None = None
        self._protection = initial_protection(site)
        self._known: tuple[Estimate, Envelope] | None = None

    @property
    def image(self) -> SiteImage:
        """The last look."""
        if self._image is None:
            raise RackError("nothing was read yet")
        return self._image

    async def look(self) -> SiteImage:
        """Read everybody, estimate, protect, and feed those who are to be fed and answered."""
        since = self.wall() - self._looked_s
        if self._tick and since < self.options.look_every_s:
            await asyncio.sleep(self.options.look_every_s - since)
        now = self.wall()
        self._dt_s = max((now - self._looked_s) * self.options.time_scale, 1e-3)
        self._looked_s = now
        self._tick += 1
        control_s = (now - self._started_s) * self.options.time_scale
        image = await self.south.read(control_s, self._tick)
        self._image = image
        self._filter = self._filter or initial_state(self.site, image)
        self._filter, estimated = estimate(self.site, self._filter, image, self._dt_s)
        self._protection, envelope = protect(
            self.site, self._protection, image, estimated, self._dt_s, OperatorLimits()
        )
        self._known = estimated, envelope
        await self.south.heartbeat(
            self.fed_modules & image.modules.answered, self.fed_strings & image.strings.answered
        )
        return image

    async def until(self, condition: Callable[[SiteImage], bool], limit_s: float) -> bool:
        """Look until `condition` holds; False when it does not within `limit_s` of wall time."""
        end = self.wall() + limit_s
        while not condition(await self.look()):
            if self.wall() > end:
                return False
            self._raise_if_dangerous()
        return True

    def _raise_if_dangerous(self) -> None:
        """Break off a trial behind a closed contactor when protection would leave that string, or the site.

        Raises:
            RackError: it says why.
        """
        if self.leaving or not self.asked_closed.any():
            return
        _, envelope = self._knowledge()
        if envelope.site_open or bool((self.asked_closed & ~envelope.string_usable).any()):
            grave = [f for f in envelope.faults if f.severity.startswith("open")]
            why = ", ".join(f"{f.fault} on {f.subject}" for f in grave) or "protection says so"
            raise RackError(f"broken off: {why}")

    async def pass_time(self, control_s: float) -> None:
        """Go on looking until so much control time has passed."""
        end = self.image.time_s + control_s
        await self.until(lambda image: image.time_s >= end, control_s / self.options.time_scale + 1.0)

    async def settle(self, samples: int = SETTLE_SAMPLES) -> SiteImage:
        """Wait for new measurement sets of every converter and module that is being fed.

        They are counted from a look of its own: sets that came before the last write say nothing of it.
        Whoever has not answered in time shows it in the image (`answered`).
        """
        first = await self.look()
        strings, modules = first.strings.sample_counter, first.modules.sample_counter

        def moved(image: SiteImage) -> bool:
            new_s = (image.strings.sample_counter - strings) % 0x10000
            new_m = (image.modules.sample_counter - modules) % 0x10000
            fresh_s = ~self.fed_strings | (image.strings.answered & (new_s >= samples))
            fresh_m = ~self.fed_modules | (image.modules.answered & (new_m >= 1))
            return bool(fresh_s.all() and fresh_m.all())

        await self.until(moved, SETTLE_LIMIT_S)
        return self.image

    async def average(self, looks: int = 3) -> SiteImage:
        """The last of `looks` settled looks, its string voltages and module currents averaged over them."""
        images = [await self.settle(1) for _ in range(looks)]
        last = images[-1]
        volts = np.mean([i.strings.voltage_v.value for i in images], axis=0)
        amps = np.mean([i.modules.current_a.value for i in images], axis=0)
        return replace(
            last,
            strings=replace(last.strings, voltage_v=replace(last.strings.voltage_v, value=volts)),
            modules=replace(last.modules, current_a=replace(last.modules.current_a, value=amps)),
        )

    @property
    def contactor_open(self) -> BoolArray:
        """(S,) freshly read open, and not precharging."""
        s = self.image.strings
        mask: BoolArray = s.answered & (
            (s.status & int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.PRECHARGING)) == 0
        )
        return mask

    @property
    def estimated(self) -> Estimate:
        """What is believed since the last look."""
        return self._knowledge()[0]

    def _knowledge(self) -> tuple[Estimate, Envelope]:
        if self._known is None:
            raise RackError("nothing was read yet")
        return self._known
