"""The daemon: one task each for ticks, heartbeats, commands, broker and disk, wired in one place.

The tick is the only task that decides. Heartbeats follow what the last *completed* tick has earned;
the optimizer, the broker and the disk may hang, fail or vanish without the tick waiting for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
import structlog

from edge.core import ControlCore
from edge.core_plan import rated_w
from edge.core_values import (
    Answer,
    EmergencyStop,
    HandsOut,
    Heartbeats,
    HoldMaintenance,
    Order,
    SetMode,
    TickInput,
    TickOutcome,
)
from edge.figures import Figures, Stamps
from edge.interval import serves
from edge.parts import Parts
from edge.remote import Remote
from edge.roll import RollCall
from edge.rubbish import Rubbish
from edge.telling import Telling
from optimizer.result import AllocationInput, AllocationResult, Plan, Request
from reconf.actuation import VerifiedCommand
from reconf.sequences import SiteMode

HEARTBEAT_TURN_S = 0.25
"""Wall time between two looks at which heartbeats are due."""
STALE_BEATS_S = 1.0
"""Wall time a tick may be late before heartbeats stop."""
BEATS_LEAST_S = 2.5
"""Heartbeats go on for this after a completed tick, however short ticks are: time that runs faster than life
makes no bus faster."""
LEAVING_TICK_S = 0.4
"""Longest wall time between ticks while strings are being left."""
LEAVING_MAX_S = 25.0
"""Wall time after which the process ends with strings not left: the nodes' watchdogs finish it."""
READ_BUDGET_FRAC = 0.6
READ_BUDGET_S = 1.0
READ_BUDGET_SCALED_S = 1.5
"""Wall time for reading all nodes: this share of a tick, or this where ticks are short (the longer one where
time runs faster than life). A late tick is better than half an image, as long as converters (3 s) do not run
out of heartbeats."""
FAILED_TICKS_MAX = 5
"""Ticks in a row that may fail before the process gives up (systemd starts it anew)."""
RESTART_TASK_S = 2.0
"""Wall time before a failed helper task is started again."""
HURRY_MIN_FRAC = 0.2
"""Orders bring the next tick forward, but not closer than this share of a tick."""
LEFT = frozenset({"open", "lost", "welded"})

log = structlog.get_logger("daemon")


class Daemon:
    """Runs a site until `stop` is called and its strings are left."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.core = ControlCore(parts.site, parts.saved)
        self.figures = Figures()
        self.outcome: TickOutcome | None = None
        self._answer: AllocationResult | None = None
        self._asking: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._beats = Heartbeats.none(parts.site.topology.n_modules, parts.site.topology.n_strings)
        self._completed_s = float("-inf")
        self._hurry = asyncio.Event()
        self._stopping_since_s: float | None = None
        self._tick_number = 0
        self._last_control_s: float | None = None
        self._telling = Telling(parts, self.figures)
        self._rubbish = Rubbish()
        self.remote = Remote(self)

    @property
    def maintenance(self) -> bool:
        """Somebody works on the site: taken on site, and commands from afar are refused."""
        return self.core.maintenance.held

    @property
    def stopping(self) -> bool:
        """It was told to end."""
        return self._stopping_since_s is not None

    def publish_all(self) -> None:
        """Publish everything with the next tick, changed or not."""
        if self._telling.publisher is not None:
            self._telling.publisher.force()

    # ---- life ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Leave every string, then end."""
        if self._stopping_since_s is not None:
            return
        self._stopping_since_s = self.parts.clock.wall_s()
        log.info("stopping")
        self.parts.notifier.stopping()
        self.order(SetMode(SiteMode.OFF, on_site=True))
        self._hurry.set()

    async def run(self) -> None:
        """Until stopped and left. The parts are entered and left by whoever made them."""
        with self._rubbish.held():
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._helper("keeper", self.parts.keeper.run))]
            helpers.append(group.create_task(self._helper("heartbeats", self._heartbeats)))
            roll = RollCall(
                self.parts.site,
                self.parts.south,
                lambda: None if self.outcome is None else self.outcome.view,
                self.order,
            )
            helpers.append(group.create_task(self._helper("roll call", roll.run)))
            link = self.parts.link
            if link is not None:
                helpers.append(group.create_task(self._helper("northbound", link.run)))
                helpers += [
                    group.create_task(self._helper(name, partial(self.remote.serve, queue)))
                    for name, queue in (("commands", link.commands), ("emergency stops", link.stops))
                ]
            try:
                await self._ticks()
            finally:
                self._beats = Heartbeats.none(
                    self.parts.site.topology.n_modules, self.parts.site.topology.n_strings
                )
                for helper in helpers:
                    helper.cancel()
                for task in (self._asking, self._warming):
                    if task is not None:
                        task.cancel()
        self.parts.keeper.save_estimates(self.core.state)
        await self.parts.keeper.flush()

    async def _helper(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a helper for ever; control does not fall with it."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("helper_failed", helper=name)
            await asyncio.sleep(RESTART_TASK_S)

    # ---- ticks ---------------------------------------------------------------------------------

    async def _ticks(self) -> None:
        """The tick loop on the grid of control time; an overrun skips ticks and is counted."""
        clock, period_s = self.parts.clock, self.parts.site.timing.tick_s
        failed = 0
        number = int(clock.control_s() / period_s)
        while not self._left():
            began_s = clock.wall_s()
            try:
                await self._tick()
                failed = 0
            except Exception:
                failed += 1
                self.figures.failed_ticks += 1
                log.exception("tick_failed", in_a_row=failed)
                if failed >= FAILED_TICKS_MAX:
                    raise
            self.figures.tick_ms.append(1e3 * (clock.wall_s() - began_s))
            now_number = int(clock.control_s() / period_s)
            self.figures.overruns += max(0, now_number - number - 1)
            number = now_number + 1
            await self._sleep_until(number * period_s, began_s)

    async def _sleep_until(self, control_s: float, began_s: float) -> None:
        """Until the next tick is due, or an order hurries it."""
        clock = self.parts.clock
        tick_wall_s = self.parts.site.timing.tick_s / clock.scale
        wait_s = max(0.0, (control_s - clock.control_s()) / clock.scale)
        if self._stopping_since_s is not None:
            wait_s = min(wait_s, LEAVING_TICK_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), wait_s)
        if self._hurry.is_set():
            self._hurry.clear()
            rest_s = began_s + min(HURRY_MIN_FRAC * tick_wall_s, LEAVING_TICK_S) - clock.wall_s()
            await asyncio.sleep(max(0.0, rest_s))

    async def _tick(self) -> None:
        """Read, decide, write and confirm, tell."""
        parts, clock = self.parts, self.parts.clock
        tick_wall_s = parts.site.timing.tick_s / clock.scale
        began_s = clock.wall_s()
        now_s = clock.control_s()
        least_s = READ_BUDGET_S if clock.scale == 1.0 else READ_BUDGET_SCALED_S
        image = await parts.south.read(
            now_s, self._tick_number, budget_s=max(READ_BUDGET_FRAC * tick_wall_s, least_s)
        )
        read_s = clock.wall_s()
        dt_s = 0.0 if self._last_control_s is None else now_s - self._last_control_s
        answer, self._answer = self._answer, None
        utc = clock.utc()
        outcome = self.core.tick(
            TickInput(
                image=image,
                now_s=now_s,
                wall_s=read_s,
                dt_s=dt_s,
                second_of_day=utc.hour * 3600.0 + utc.minute * 60.0 + utc.second,
                allocation=answer,
                scada_lost=self._scada_lost(),
            )
        )
        self._tick_number += 1
        self._last_control_s = now_s
        core_s = acted_s = clock.wall_s()
        if not parts.read_only:
            await self._act(outcome)
            acted_s = clock.wall_s()
            await self._write(outcome.step)
        self._beats = self.core.heartbeats
        self._completed_s = clock.wall_s()
        self.outcome = outcome
        self.figures.ticks += 1
        self.figures.read_ms.append(1e3 * (read_s - began_s))
        self.figures.core_ms.append(1e3 * (core_s - read_s))
        self.figures.write_ms.append(1e3 * (self._completed_s - core_s))
        self.figures.stamps.append(Stamps(began_s, read_s, core_s, acted_s, self._completed_s))
        if outcome.question is not None:
            self._ask(outcome.question, outcome.view.book.plan)
        elif self.figures.ticks == 1:
            self._warm_up(outcome)
        self._telling.tick(outcome, self.core.state)
        self.remote.follow_up()
        self._rubbish.after_tick()

    async def _act(self, outcome: TickOutcome) -> None:
        """Watchdog times and latches, before any command."""
        actions = outcome.actions
        if actions.set_watchdogs:
            await self.parts.south.set_watchdogs()
        if actions.clear_modules.any() or actions.clear_strings.any():
            modules, strings = await self.parts.south.clear(actions.clear_modules, actions.clear_strings)
            self.core.cleared(modules, strings)

    async def _write(self, step: VerifiedCommand | None) -> None:
        """Each verified step, read back before the next."""
        while step is not None:
            step = self.core.confirm(await self.parts.south.write(step))

    def _ask(self, question: AllocationInput, plan: Plan | None) -> None:
        """Give the optimizer its question; an older one that still runs is given up.

        Where `plan`, which is in force, cannot serve the request, the answer brings the next tick forward.
        """
        if self._asking is not None:
            self._asking.cancel()

        async def ask() -> None:
            began_s = self.parts.clock.wall_s()
            self._answer = await self.parts.worker.ask(question)
            if plan is None or not serves(plan, question):
                self._hurry.set()
            self.figures.solve_ms.append(1e3 * (self.parts.clock.wall_s() - began_s))

        self._asking = asyncio.create_task(ask())

    def _warm_up(self, outcome: TickOutcome) -> None:
        """Have the optimizer compile before it is needed: a question as if every string were connected."""
        site, view = self.parts.site, outcome.view
        request = Request(
            power_w=0.1 * rated_w(site), connected=np.ones(site.topology.n_strings, dtype=np.bool_)
        )
        question = AllocationInput(0, view.estimate, view.envelope, request, view.in_force.inserted)
        self._warming = asyncio.create_task(self.parts.worker.warm_up(question))

    def _left(self) -> bool:
        """Whether a stop was asked for and every string is left."""
        since_s, outcome = self._stopping_since_s, self.outcome
        if since_s is None:
            return False
        if self.parts.read_only or (outcome is not None and set(outcome.view.phases) <= LEFT):
            return outcome is not None and (self.parts.read_only or outcome.view.mode is not SiteMode.RUN)
        late = self.parts.clock.wall_s() - since_s > LEAVING_MAX_S
        if late:
            log.error("left_by_watchdogs", text="strings were not left in time; their watchdogs open them")
        return late

    def _scada_lost(self) -> bool:
        """A heartbeat is expected and has been missing for too long."""
        timeout_s = self.parts.site.fallback.heartbeat_timeout_s
        if timeout_s <= 0.0 or self.parts.link is None:
            return False
        age_s = self.parts.link.heartbeat_age_s()
        return age_s is None or age_s > timeout_s

    # ---- heartbeats and orders ---------------------------------------------------------------

    async def _heartbeats(self) -> None:
        """In wall time, while ticks are completed: nodes that were fresh, verified and confirmed."""
        clock = self.parts.clock
        tick_wall_s = self.parts.site.timing.tick_s / clock.scale
        while True:
            recent = clock.wall_s() - self._completed_s <= max(
                1.5 * tick_wall_s + STALE_BEATS_S, BEATS_LEAST_S
            )
            if recent and not self.parts.read_only:
                beats = self._beats
                await self.parts.south.heartbeat(beats.modules, beats.strings)
            await asyncio.sleep(HEARTBEAT_TURN_S)

    def order(self, order: Order) -> Answer:
        """Give the core an order and bring the next tick forward."""
        clock = self.parts.clock
        if self.stopping and not (_only_safer(order)):
            return Answer(accepted=False, reason="stopping", text="the edge is being stopped")
        answer = self.core.order(order, clock.control_s(), clock.wall_s())
        if answer.accepted:
            self._hurry.set()
        if isinstance(order, EmergencyStop):
            log.warning("emergency_stop", source=order.source)
        return answer


def _only_safer(order: Order) -> bool:
    """Nothing that could close anything again, or let it."""
    match order:
        case EmergencyStop() | HandsOut():
            return True
        case SetMode(mode=mode):
            return mode is SiteMode.OFF
        case HoldMaintenance(held=held):
            return held
        case _:
            return False
