"""A site under test: reading, heartbeats, and states that were let through, written and read back.

One loop and no background task: heartbeats go out with each look at the site, to the nodes that answered it,
so that a test that hangs feeds nobody and the nodes make themselves safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from edge.modbus.southbound import Southbound, SouthboundOptions
from reconf.actuation import Receipt, Refused, SlotCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.permit import Known, permit
from reconf.commissioning.rules import Trial
from reconf.devices.rc1 import LATCHES as RC1_LATCHES
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import LATCHES as RM1_LATCHES
from reconf.devices.rm1 import Rm1Status
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
OPEN_LIMIT_S = 3.0
CLEAR_LIMIT_S = 3.0
WRITE_TRIES = 3
ANSWER_LIMIT_S = 2.0
SILENT_MARGIN_S = 1.0
"""Doubt in a converter's own clock and in when its last heartbeat arrived."""


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


class Rack:
    """A site whose nodes are moved one trial at a time; an async context manager that always leaves it safe.

    Args:
        site: the site.
        options: watchdog times and time scale.
        say: told what takes long or goes wrong.
        wall: monotonic wall clock [s].
    """

    def __init__(
        self,
        site: Site,
        options: RackOptions | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.site = site
        self.options = options or RackOptions()
        m, s = site.topology.n_modules, site.topology.n_strings
        self.in_force = SlotCommand.safe(m, s)
        self.fed_modules: BoolArray = np.zeros(m, dtype=np.bool_)
        self.fed_strings: BoolArray = np.zeros(s, dtype=np.bool_)
        self.faulty_strings: BoolArray = np.zeros(s, dtype=np.bool_)
        self._asked_closed: BoolArray = np.zeros(s, dtype=np.bool_)
        self._heard_s: FloatArray = np.full(s, wall())
        self.unconfirmed: BoolArray = np.zeros(m, dtype=np.bool_)
        """(M,) modules whose switch could not be brought to what was asked: nothing is said of them."""
        self.abandoned = False
        """Set by a person who takes over what a contactor that does not open leaves behind."""
        self._module_watchdog_s: FloatArray = np.full(m, np.nan)
        self._string_watchdog_s: FloatArray = np.full(s, np.nan)
        self._say = say
        self._wall = wall
        self._started_s = self._looked_s = wall()
        self._tick = 0
        self._dirty = False
        self._image: SiteImage | None = None
        self._filter: FilterState | None = None
        self._protection = initial_protection(site)
        self._known: tuple[Estimate, Envelope] | None = None
        self._dt_s = LOOK_EVERY_S
        self.south = Southbound(site, wall=wall, options=SouthboundOptions(scrub_every_s=0.0))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.south)
        await self.look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leaving = asyncio.ensure_future(self.leave())
        try:
            while not leaving.done():
                try:
                    await asyncio.shield(leaving)
                except asyncio.CancelledError:
                    self._say("leaving the strings in order first, a few seconds")
        finally:
            await self._stack.aclose()

    def wall(self) -> float:
        """Monotonic wall time [s]."""
        return self._wall()

    # ---- looking -------------------------------------------------------------------------------

    @property
    def image(self) -> SiteImage:
        """The last look."""
        if self._image is None:
            raise RackError("nothing was read yet")
        return self._image

    async def look(self) -> SiteImage:
        """Read everybody, estimate, protect, and feed those who are to be fed and answered."""
        since = self._wall() - self._looked_s
        if self._tick and since < self.options.look_every_s:
            await asyncio.sleep(self.options.look_every_s - since)
        now = self._wall()
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
        end = self._wall() + limit_s
        while not condition(await self.look()):
            if self._wall() > end:
                return False
        return True

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

    # ---- writing -------------------------------------------------------------------------------

    async def arm(self, modules: BoolArray, strings: BoolArray) -> tuple[BoolArray, BoolArray]:
        """Set watchdogs, clear lone watchdog latches in safe order, and go on feeding these nodes.

        Returns:
            (M,) and (S,) whether each node is ready: fed, watchdog set, no latch.
        """
        o = self.options
        set_m, set_s = await self.south.set_watchdogs(o.string_watchdog_s, o.module_watchdog_s)
        self._module_watchdog_s = np.where(set_m, o.module_watchdog_s, np.nan)
        self._string_watchdog_s = np.where(set_s, o.string_watchdog_s, np.nan)
        self.fed_modules, self.fed_strings = modules & set_m, strings & set_s
        await self.look()
        # whatever somebody left in the command registers goes before a latch clears over it
        await self.put(SlotCommand.safe(modules.size, strings.size), Trial.CONNECT, less=True)
        image = await self.look()
        late_m = modules & ((image.modules.status & int(RM1_LATCHES)) == int(Rm1Status.WATCHDOG_EXPIRED))
        late_s = strings & ((image.strings.status & int(RC1_LATCHES)) == int(Rc1Status.WATCHDOG_EXPIRED))
        await self.south.clear(late_m, late_s)

        def ready(image: SiteImage) -> tuple[BoolArray, BoolArray]:
            m, s = image.modules, image.strings
            return (
                self.fed_modules & m.answered & ((m.status & int(RM1_LATCHES)) == 0),
                self.fed_strings & s.answered & ((s.status & int(RC1_LATCHES)) == 0),
            )

        await self.until(
            lambda i: bool(ready(i)[0][modules].all() and ready(i)[1][strings].all()), CLEAR_LIMIT_S
        )
        return ready(self.image)

    async def put(self, proposed: SlotCommand, trial: Trial, *, less: bool = False) -> Receipt | Refused:
        """Have `proposed` judged, write it and read it back."""
        estimated, envelope = self._knowledge()
        known = Known(
            image=self.image,
            estimate=estimated,
            envelope=envelope,
            in_force=self.in_force,
            module_watchdog_s=self._module_watchdog_s,
            string_watchdog_s=self._string_watchdog_s,
            faulty=self.faulty_strings,
            dt_s=max(self._dt_s, self.site.timing.tick_s),
            watchdogs_s=(self.options.module_watchdog_s, self.options.string_watchdog_s),
        )
        outcome = permit(self.site, known, proposed, trial, less=less)
        if isinstance(outcome, Refused):
            return outcome
        self._dirty = True
        self._asked_closed |= proposed.contactor
        receipt = await self.south.write(outcome)
        # what was not confirmed may stand either way: until it reads back, the larger of both counts
        kept = receipt.module_confirmed
        self.in_force = replace(
            proposed,
            inserted=np.where(kept, proposed.inserted, proposed.inserted | self.in_force.inserted),
        )
        return receipt

    def expired(self, rows: BoolArray) -> None:
        """These modules (M,) have bypassed themselves: their watchdog erased their commands."""
        self.in_force = replace(self.in_force, inserted=self.in_force.inserted & ~rows)

    async def insert(self, wanted: BoolArray, trial: Trial = Trial.SWITCHES) -> Receipt | Refused:
        """Bring the switches to `wanted` (M,); those that go leave before others come."""
        staying = wanted & self.in_force.inserted
        leaving, coming = (staying != self.in_force.inserted).any(), (staying != wanted).any()
        if trial is Trial.SWITCHES and leaving and coming:
            gone = await self._confirmed(staying, trial)
            if isinstance(gone, Refused):
                return gone
            await self.settle(1)
        return await self._confirmed(wanted, trial)

    async def _confirmed(self, wanted: BoolArray, trial: Trial) -> Receipt | Refused:
        """Write switches, and what did not read back again once its node answers: judged anew each time."""
        touched = wanted | self.in_force.inserted
        for _ in range(WRITE_TRIES - 1):
            outcome = await self.put(replace(self.in_force, inserted=wanted), trial)
            if isinstance(outcome, Refused) or bool(outcome.module_confirmed[touched].all()):
                return outcome
            await self.until(lambda image: bool(image.modules.answered[touched].all()), ANSWER_LIMIT_S)
        outcome = await self.put(replace(self.in_force, inserted=wanted), trial)
        if isinstance(outcome, Receipt):
            self.unconfirmed |= touched & ~outcome.module_confirmed
        return outcome

    # ---- leaving -------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Power 0, MODE 0, contactors open and read open, only then everything bypassed."""
        if not self._dirty:
            return
        await self.look()
        none_w, off = np.zeros_like(self.in_force.power_w), np.zeros_like(self.in_force.mode)
        await self.put(replace(self.in_force, power_w=none_w, mode=off), Trial.CONNECT, less=True)
        await self.look()
        none = np.zeros_like(self.in_force.contactor)
        await self.put(replace(self.in_force, contactor=none), Trial.CONNECT, less=True)
        await self._until_open()
        await self._bypass_open()
        self.fed_modules[:] = self.fed_strings[:] = False
        await self.look()
        self._dirty = False

    async def _bypass_open(self) -> None:
        """Bypass every string that is read open; the others are left to their watchdogs, in their order."""
        open_ = self.contactor_open[self.site.topology.string_of]
        await self.put(
            replace(
                self.in_force,
                inserted=self.in_force.inserted & ~open_,
                trim_current_a=np.zeros_like(self.in_force.trim_current_a),
            ),
            Trial.CONNECT,
            less=True,
        )

    async def _until_open(self) -> None:
        """Hold the modules of strings that were asked to close inserted and fed until they read open."""
        if await self.until(lambda _: not self._maybe_closed().any(), OPEN_LIMIT_S):
            return
        names = [self.site.strings[k].name for k in np.flatnonzero(self._maybe_closed())]
        self._say(
            f"string {', '.join(names)}: the contactor is not read open. Its modules stay inserted and fed, "
            "because bypassing all of them behind a closed contactor shorts the converter's link. "
            "Open its disconnect; pressing Ctrl-C three times gives it up to you."
        )
        while not self.abandoned and self._maybe_closed().any():
            await self.look()

    def _maybe_closed(self) -> BoolArray:
        """(S,) asked to close, and not known to have opened since.

        A converter that is silent for longer than its watchdog has opened by itself.
        """
        now = self._wall()
        answered = self.image.strings.answered
        self._heard_s = np.where(answered, now, self._heard_s)
        gone = now - self._heard_s > self.options.string_watchdog_s + SILENT_MARGIN_S
        self._asked_closed &= ~(self.contactor_open | gone)
        return self._asked_closed
