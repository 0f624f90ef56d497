"""The control core against the twin's physics, in process and as fast as the machine goes.

The very object that the daemon runs over sockets drives `Plant` here: what a benchmark measures is what
a site gets, less the wires. Nodes are taken to answer at once; `Hooks` put lies and faults in between.

    result = run_closed_loop(site, truth, Request.constant(20e3), stop=stop_when_empty())
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edge.core import ControlCore
from edge.core_state import SavedCore
from edge.core_values import Event, SetMode, TickInput, TickOutcome
from edge.interval import Rung
from edge.setpoint import PowerCommand
from optimizer.result import AllocationInput, AllocationResult
from reconf.actuation import NodeWriteFailure, Receipt, SlotCommand, VerifiedCommand
from reconf.arrays import BoolArray, FloatArray
from reconf.readings import SiteImage
from reconf.sequences import SiteMode
from reconf.site import Site
from reconf.twin.observe import TYPICAL, SensorNoise, observe
from reconf.twin.plant import Plant
from reconf.twin.truth import Truth

PHYSICS_STEP_MAX_S = 1.0

Profile = Callable[[float], float]
"""Power asked at the site bus [W], discharge positive, by control time [s]."""
Allocate = Callable[[Site, AllocationInput], AllocationResult]


@dataclass(slots=True)
class Hooks:
    """Where a benchmark may reach in; each is optional."""

    on_image: Callable[[SiteImage, Plant], SiteImage] | None = None
    """Change what is read (lies, silence) before the core sees it."""
    on_write: Callable[[SlotCommand, Plant], tuple[BoolArray, BoolArray]] | None = None
    """(M,), (S,) which nodes take a write; the others stay as they were and do not confirm."""
    on_tick: Callable[[TickOutcome, Plant, ControlCore], None] | None = None
    """After each tick: look, count, send orders, break things in the plant."""


@dataclass(frozen=True, slots=True)
class LoopResult:
    """What a run gave. T ticks, M modules, S strings; sampled at the end of each tick."""

    time_s: FloatArray
    """(T,)"""
    asked_w: FloatArray
    """(T,) by the profile."""
    given_w: FloatArray
    """(T, S) true power at the bus."""
    soc_frac: FloatArray
    """(T, M) true, of the whole module."""
    soc_estimate_frac: FloatArray
    """(T, M)"""
    inserted: BoolArray
    """(T, M)"""
    temperature_degc: FloatArray
    """(T, M) true core."""
    rung: FloatArray
    """(T,) `Rung`"""
    switchings: int
    """Insertions and bypasses of all modules while joined."""
    plant: Plant
    core: ControlCore
    events: tuple[Event, ...]
    solve_ms: FloatArray
    tick_ms: FloatArray
    """(T,) time of the core alone."""
    intervals: int
    fallback_intervals: int
    delivered_kwh: float
    """String side, discharging."""
    delivered_bus_kwh: float
    violations: int
    """Steps in which the true state passed a safety limit."""
    string_kwh: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(T,) string-side energy delivered so far."""


Stop = Callable[["Loop"], bool]


def stop_after(seconds: float) -> Stop:
    """End after so much control time."""
    return lambda loop: loop.plant.time_s >= seconds


def stop_when_undelivered(share: float = 0.5, for_s: float = 60.0, after_s: float = 120.0) -> Stop:
    """End when less than `share` of the request could be delivered for `for_s` (not before `after_s`)."""
    since: list[float] = []

    def stop(loop: Loop) -> bool:
        asked = loop.profile(loop.plant.time_s)
        given = float(loop.plant.true.bus_power_w.sum())
        short = asked != 0.0 and given * math.copysign(1.0, asked) < share * abs(asked)
        if not short or loop.plant.time_s < after_s:
            since.clear()
            return False
        since.append(loop.plant.time_s)
        return loop.plant.time_s - since[0] >= for_s

    return stop


def default_allocate(site: Site, question: AllocationInput) -> AllocationResult:
    """The allocator of the site file."""
    from optimizer.allocate import allocate

    return allocate(site, question)


class Loop:
    """One closed loop; `run_closed_loop` is the usual way in."""

    def __init__(
        self,
        site: Site,
        truth: Truth,
        profile: Profile,
        *,
        seed: int = 0,
        noise: SensorNoise = TYPICAL,
        hooks: Hooks | None = None,
        allocate: Allocate = default_allocate,
        saved: SavedCore | None = None,
        ambient_degc: float | None = None,
        plant: Plant | None = None,
        physics_step_s: float = PHYSICS_STEP_MAX_S,
    ) -> None:
        self.site = site
        self.profile = profile
        self.plant = plant or Plant(site, truth, ambient_degc)
        self.core = ControlCore(site, saved)
        self.hooks = hooks or Hooks()
        self.physics_step_s = physics_step_s
        """Longest step of the physics; may be changed between ticks."""
        self._allocate = allocate
        self._rng = np.random.default_rng(seed)
        self._noise = noise
        self._answer: AllocationResult | None = None
        self._asked_w: float | None = None
        self._ticks = 0
        self.outcome: TickOutcome | None = None
        self.events: list[Event] = []
        self.solve_ms: list[float] = []
        self.tick_ms: list[float] = []

    def start(self) -> None:
        """Ask for mode run."""
        self.core.order(SetMode(SiteMode.RUN), self.plant.time_s, self.plant.time_s)

    def step(self) -> TickOutcome:
        """One tick and the physics up to the next."""
        now_s = self.plant.time_s
        self._request(now_s)
        image = observe(self.plant, self._rng, self._ticks, now_s, self._noise)
        if self.hooks.on_image is not None:
            image = self.hooks.on_image(image, self.plant)
        began = time.perf_counter()
        dt_s = self.site.timing.tick_s if self._ticks else 0.0
        outcome = self.core.tick(
            TickInput(image, now_s, now_s, dt_s, second_of_day=now_s % 86400.0, allocation=self._answer)
        )
        step = outcome.step
        while step is not None:
            step = self.core.confirm(self._write(step))
        self.tick_ms.append(1e3 * (time.perf_counter() - began))
        self._answer = self._solve(outcome.question)
        self.events += outcome.events
        self.outcome = outcome
        self._ticks += 1
        if self.hooks.on_tick is not None:
            self.hooks.on_tick(outcome, self.plant, self.core)
        parts = max(1, math.ceil(self.site.timing.tick_s / self.physics_step_s - 1e-9))
        for _ in range(parts):
            self.plant.step(self.site.timing.tick_s / parts)
        return outcome

    def _request(self, now_s: float) -> None:
        asked_w = self.profile(now_s)
        if asked_w != self._asked_w:
            self._asked_w = asked_w
            self.core.order(PowerCommand(asked_w), now_s, now_s)

    def _solve(self, question: AllocationInput | None) -> AllocationResult | None:
        if question is None:
            return None
        began = time.perf_counter()
        answer = self._allocate(self.site, question)
        self.solve_ms.append(1e3 * (time.perf_counter() - began))
        return answer

    def _write(self, step: VerifiedCommand) -> Receipt:
        """Nodes take what they are told; contactors close at once onto a voltage inside the window."""
        topology, plant, command = self.site.topology, self.plant, step.command
        modules = np.ones(topology.n_modules, dtype=np.bool_)
        strings = np.ones(topology.n_strings, dtype=np.bool_)
        if self.hooks.on_write is not None:
            modules, strings = self.hooks.on_write(command, plant)
        held = plant.inputs
        inserted = np.where(modules, command.inserted, held.inserted)
        volts = topology.sum_by_string(np.where(inserted, plant.true.module_voltage_v, 0.0))
        fits = (volts >= plant.converters.voltage_min_v) & (volts <= plant.converters.voltage_max_v)
        closed = command.contactor & (held.contactor_closed | fits)
        closed = np.where(strings, closed, held.contactor_closed)
        duty = np.where(command.duty_mode, command.duty_frac, 1.0)
        plant.apply(
            replace(
                held,
                inserted=inserted,
                duty_frac=np.where(modules, duty, held.duty_frac),
                trim_setpoint_a=np.where(modules, command.trim_current_a, held.trim_setpoint_a),
                mode=np.where(strings, command.mode, held.mode),
                power_setpoint_w=np.where(strings, command.power_w, held.power_setpoint_w),
                bus_voltage_setpoint_v=np.where(strings, command.bus_voltage_v, held.bus_voltage_setpoint_v),
                current_limit_a=np.where(strings, command.current_limit_a, held.current_limit_a),
                contactor_closed=closed,
            )
        )
        failures = tuple(
            NodeWriteFailure("closed_loop", int(i), "commands", "not taken") for i in np.flatnonzero(~modules)
        )
        return Receipt(step.time_s, modules, strings, 0, failures)


def module_soc(plant: Plant) -> FloatArray:
    """(M,) true charge left over true capacity, over the groups of each module."""
    mask = plant.bank.mask
    charge = np.where(mask, plant.cells.soc_frac * plant.truth.capacity_ah, 0.0).sum(axis=1)
    soc: FloatArray = charge / np.where(mask, plant.truth.capacity_ah, 0.0).sum(axis=1)
    return soc


def run_closed_loop(
    site: Site,
    truth: Truth,
    profile: Profile,
    *,
    stop: Stop,
    seed: int = 0,
    noise: SensorNoise = TYPICAL,
    hooks: Hooks | None = None,
    allocate: Allocate = default_allocate,
    saved: SavedCore | None = None,
    ambient_degc: float | None = None,
    keep_every: int = 1,
    physics_step_s: float = PHYSICS_STEP_MAX_S,
) -> LoopResult:
    """Run the core against the plant until `stop` says so.

    Args:
        site: what is controlled.
        truth: what it really is.
        profile: power asked by time.
        stop: looked at after every tick.
        seed: of sensor noise.
        noise: of the sensors.
        hooks: where to reach in.
        allocate: the allocator; answers arrive one tick after their question, as with the worker.
        saved: memory of an earlier run.
        ambient_degc: overrides the site's.
        keep_every: ticks per kept sample.
        physics_step_s: longest step of the physics.
    """
    loop = Loop(
        site, truth, profile, seed=seed, noise=noise, hooks=hooks, allocate=allocate, saved=saved,
        ambient_degc=ambient_degc, physics_step_s=physics_step_s,
    )  # fmt: skip
    loop.start()
    kept = _Samples()
    switchings, last = 0, None
    while True:
        outcome = loop.step()
        inserted = loop.plant.inputs.inserted
        if last is not None and outcome.view.connected.any():
            switchings += int(np.count_nonzero(inserted != last))
        last = inserted
        if len(loop.tick_ms) % keep_every == 0:
            kept.add(loop, outcome)
        if stop(loop):
            break
    return kept.result(loop, switchings)


class _Samples:
    """Columns of the result while they grow."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def add(self, loop: Loop, outcome: TickOutcome) -> None:
        """Note the state after a tick."""
        plant = loop.plant
        self._rows.append(
            (
                plant.time_s,
                loop.profile(outcome.view.input.now_s),
                plant.true.bus_power_w,
                module_soc(plant),
                outcome.view.estimate.soc_frac,
                plant.inputs.inserted,
                plant.core_degc,
                float(outcome.view.rung),
                plant.energy.string_energy_out_kwh,
            )
        )

    def result(self, loop: Loop, switchings: int) -> LoopResult:
        """Everything as arrays."""
        time_s, asked, given, soc, guess, inserted, degc, rung, kwh = (
            np.array(column) for column in zip(*self._rows, strict=True)
        )
        book = loop.core.state.book
        return LoopResult(
            time_s=time_s,
            asked_w=asked,
            given_w=given,
            soc_frac=soc,
            soc_estimate_frac=guess,
            inserted=inserted,
            temperature_degc=degc,
            rung=rung,
            switchings=switchings,
            plant=loop.plant,
            core=loop.core,
            events=tuple(loop.events),
            solve_ms=np.array(loop.solve_ms),
            tick_ms=np.array(loop.tick_ms),
            intervals=book.interval,
            fallback_intervals=book.fallback_intervals,
            delivered_kwh=loop.plant.energy.string_energy_out_kwh,
            delivered_bus_kwh=float(loop.plant.energy.bus_out_j.sum()) / 3.6e6,
            violations=loop.plant.violations.steps,
            string_kwh=kwh,
        )


def worst_rung(result: LoopResult) -> Rung:
    """The worst rung of a run."""
    return Rung(int(result.rung.max(initial=0)))
