"""A site under test: states that were let through, written and read back, and left in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import numpy as np

from edge.wires.looking import LiveSite, RackOptions
from reconf.actuation import ConverterMode, Receipt, Refused, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.commissioning.permit import Known, permit
from reconf.commissioning.rules import Trial
from reconf.devices.rc1 import LATCHES as RC1_LATCHES
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import LATCHES as RM1_LATCHES
from reconf.devices.rm1 import Rm1Status
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.site import Site

UNLOADED_A = 1.0
UNLOADED_LIMIT_S = 0.6
"""A contactor is opened under load rather than later than this: 0.5 s, and the time to look."""
OPEN_LIMIT_S = 3.0
CLEAR_LIMIT_S = 3.0
BYPASS_LIMIT_S = 1.0
"""A switch acts within 50 ms of its write; a slow bus shows it later."""
WRITE_TRIES = 3
ANSWER_LIMIT_S = 2.0
SILENT_MARGIN_S = 1.0
"""Doubt in a converter's own clock and in when its last heartbeat arrived."""


class Rack(LiveSite):
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
        super().__init__(site, options or RackOptions(), wall)
        m, s = site.topology.n_modules, site.topology.n_strings
        self.in_force = SlotCommand.safe(m, s)
        self.faulty_strings: BoolArray = np.zeros(s, dtype=np.bool_)
        """(S,) strings that must not be closed."""
        self.unconfirmed: BoolArray = np.zeros(m, dtype=np.bool_)
        """(M,) modules whose switch could not be brought to what was asked: nothing is said of them."""
        self.abandoned = False
        """Set by a person who takes over what a contactor that does not open leaves behind."""
        self._heard_s: FloatArray = np.full(s, wall())
        self._module_watchdog_s: FloatArray = np.full(m, np.nan)
        self._string_watchdog_s: FloatArray = np.full(s, np.nan)
        self._say = say
        self._dirty = False
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
        self.asked_closed |= proposed.contactor
        return await self._write(outcome, proposed)

    async def _write(self, verified: VerifiedCommand, proposed: SlotCommand) -> Receipt:
        """Write to the end, whoever interrupts: what stands in the nodes must be known when they are left."""
        writing = asyncio.ensure_future(self.south.write(verified))
        interrupted = False
        while not writing.done():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                interrupted = True
        receipt = writing.result()
        # what was not confirmed may stand either way: until it reads back, the larger of both counts
        kept, before = receipt.module_confirmed, self.in_force.inserted
        self.in_force = replace(
            proposed, inserted=np.where(kept, proposed.inserted, proposed.inserted | before)
        )
        if interrupted:
            raise asyncio.CancelledError
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
        self.leaving = True
        await self.look()
        running = self.in_force.mode != ConverterMode.OFF
        none_w, off = np.zeros_like(self.in_force.power_w), np.zeros_like(self.in_force.mode)
        await self.put(replace(self.in_force, power_w=none_w, mode=off), Trial.CONNECT, less=True)
        await self._until_unloaded(running)
        none = np.zeros_like(self.in_force.contactor)
        await self.put(replace(self.in_force, contactor=none), Trial.CONNECT, less=True)
        await self._until_open()
        await self._bypass_open()
        await self.until(lambda _: not self._staying().any(), BYPASS_LIMIT_S)
        self.fed_modules[:] = self.fed_strings[:] = False
        self._say_who_stays()
        self._dirty = self.leaving = False

    async def _until_unloaded(self, running: BoolArray) -> None:
        """Wait, a while at most, until a new set of readings of every converter that ran shows below 1 A."""
        counters = self.image.strings.sample_counter

        def unloaded(image: SiteImage) -> bool:
            s = image.strings
            calm = s.answered & (s.sample_counter != counters) & (np.abs(s.current_a.value) < UNLOADED_A)
            return bool((~running | calm).all())

        await self.until(unloaded, UNLOADED_LIMIT_S)

    def _staying(self) -> BoolArray:
        """(M,) modules that read inserted; a switch that is known to be stuck is no news."""
        status = self.image.modules.status
        mask: BoolArray = ((status & int(Rm1Status.INSERTED)) != 0) & (
            (status & int(Rm1Status.SWITCH_FAULT)) == 0
        )
        return mask

    def _say_who_stays(self) -> None:
        """Name modules that still read inserted."""
        staying = [self.site.positions[i].label for i in map(int, np.flatnonzero(self._staying()))]
        if staying:
            self._say(
                f"{', '.join(staying)} still read inserted; they are not fed any more, so their watchdog "
                f"bypasses them within {self.options.module_watchdog_s:.0f} s. Look again before you touch."
            )

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
        now = self.wall()
        answered = self.image.strings.answered
        self._heard_s = np.where(answered, now, self._heard_s)
        gone = now - self._heard_s > self.options.string_watchdog_s + SILENT_MARGIN_S
        self.asked_closed &= ~(self.contactor_open | gone)
        return self.asked_closed
