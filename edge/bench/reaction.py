"""Reaction on the wire: from a register that shows a safety-tier value to the write that answers it.

The daemon runs against the twin over real Modbus TCP. A cell group of an inserted module is made to read
above its safety voltage (debounce 0) at a random moment of the tick; the clock starts when the module's
registers can first show it, and stops when the server receives the write that bypasses the module or stops
its converter. Each string is a trial of its own, again and again. Both ends read one clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from edge.bench.reaction_watch import Strike, Watch, WatchedServer
from edge.clock import ScaledClock
from edge.core_values import ClearFault, SetMode
from edge.modbus.pacer import Pacer
from edge.setpoint import PowerCommand
from edge.supervisor import Daemon
from edge.wiring import RunOptions, daemon
from reconf.arrays import IntArray
from reconf.protection.limits import default_limits
from reconf.sequences import SiteMode
from reconf.site import (
    BusSpec,
    Chemistry,
    ConverterSpec,
    GatewaySpec,
    ModuleSpec,
    PositionSpec,
    Site,
    StringSpec,
    TimingSpec,
)
from reconf.twin.firmware import NodeBank
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

Aim = Literal["phase", "switch", "bypass"]
"""When to strike: swept over the tick, while a switch of the string is being written, or a bypass."""
POSITIONS = 4
CELLS = 4
SOC_FRAC = 0.55
EXCESS_V = 0.8
"""Added to one cell group's reading: far above any safety tier."""
PATIENCE_TICKS = 6.0
RECOVER_TICKS = 60.0
START_S = 90.0
SEEN_TICKS = 2
"""Ticks after which everybody knows of a strike."""
WORST = 10
"""Trials whose stages are told."""
TOLD = 10
"""Unanswered trials that are told in full."""
GOLDEN = 0.6180339887498949
"""Multiples of it spread evenly over a tick, however many there are."""


def reaction_site(strings: int, tick_s: float) -> Site:
    """Strings of four small modules each, all on one gateway, of which three reach the window."""
    gateway = GatewaySpec("line", "tcp", port=0, connections=8, timeout_s=0.5)
    module = ModuleSpec(
        serial="", chemistry=Chemistry.NMC, cell_model="nmc_generic", n_cells=CELLS, n_parallel=1,
        rated_capacity_ah=60.0, soh_frac=0.8, soh_std_frac=0.05, resistance_scale=1.2,
        trim_rating_a=0.0, trim_efficiency_frac=0.92,
    )  # fmt: skip
    converter = ConverterSpec(
        gateway="line", unit_id=201, power_rating_w=2000.0, current_rating_a=50.0,
        voltage_min_v=CELLS * 3.0 * (POSITIONS - 1), voltage_max_v=CELLS * 4.3 * POSITIONS,
        loss_fixed_w=5.0, loss_linear_frac=0.01, loss_quadratic_w_per_a2=0.02,
    )  # fmt: skip
    return Site(
        name="reaction",
        gateways=(gateway,),
        strings=tuple(
            StringSpec(
                f"S{s}",
                replace(converter, unit_id=201 + s),
                tuple(
                    PositionSpec(
                        f"S{s}-{k}", "line", 1 + POSITIONS * s + k,
                        replace(module, serial=f"S{s}M{k}"), 0.0005,
                    )
                    for k in range(POSITIONS)
                ),
            )
            for s in range(strings)
        ),
        bus=BusSpec("pcs", 400.0, 360.0, 440.0),
        limits={Chemistry.NMC: default_limits(Chemistry.NMC)},
        timing=TimingSpec(tick_s, 2.0 * tick_s, 30.0 * tick_s),
    )  # fmt: skip


async def measure(
    trials: int,
    *,
    strings: int,
    tick_s: float,
    seed: int = 1,
    aim: Aim = "phase",
    time_scale: float = 1.0,
    note: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """At least `trials` trials; times in ticks.

    Args:
        trials: strikes that count.
        strings: struck in parallel.
        tick_s: control time.
        seed: of modules and moments.
        aim: when to strike.
        time_scale: control time against wall time. Faster than life there are many more trials an hour, to
            look for those that nobody answers; the times then say less: wires and watchdogs are no faster.
        note: told how many there are.
    """
    site = reaction_site(strings, tick_s)
    rng = np.random.default_rng(seed)
    truth = draw_truth(site, rng, soc_frac=SOC_FRAC)
    bank = NodeBank(site, Plant(site, truth), rng)
    safety_v = site.limits[Chemistry.NMC]["cell_voltage_v", "max"].safety
    tick_wall_s = tick_s / time_scale
    watch = Watch(site, bank, time.monotonic, safety_v, tick_wall_s)
    async with WatchedServer(bank, watch) as server:
        pacer = Pacer(bank, time_scale, time.monotonic, after_step=watch.after_step)
        pacing = asyncio.create_task(pacer.run())
        options = RunOptions(gateways=server.endpoints, northbound=False)
        async with daemon(site, options, clock=ScaledClock(scale=time_scale)) as made:
            running = asyncio.create_task(made.run())
            try:
                await _in_power(made, tick_wall_s)
                watch.stamps, watch.outcome = made.figures.stamps, lambda: made.outcome
                done = await _Trials(made, watch, aim, note).run(trials, rng)
            finally:
                made.stop()
                await asyncio.wait({running}, timeout=60.0)
                running.cancel()
                pacing.cancel()
    return figures(done, watch, made, tick_wall_s) | {"worst": worst(watch.stages, tick_wall_s)}


def figures(done: Sequence[Strike], watch: Watch, made: Daemon, tick_s: float) -> dict[str, Any]:
    """The result; a trial without an answer counts as infinite, and is told in full."""
    ticks = np.array([(s.answered_s - s.shown_s) / tick_s for s in done])
    answered = ticks[np.isfinite(ticks)]
    unanswered = [s for s in done if not s.done.is_set()]
    return {
        "trials": len(done),
        "unanswered": len(unanswered),
        "no_trials": dict(watch.voids),
        "gave_up": watch.gave_up,
        "races_left_out": round(watch.raced, 2),
        "tick_s": tick_s,
        "reaction_ticks_p50": _percentile(answered, 50.0),
        "reaction_ticks_p99": _percentile(answered, 99.0),
        "reaction_ticks_p999": _percentile(answered, 99.9),
        "reaction_ticks_max": float(answered.max()) if answered.size else None,
        "tick_work_ms_p50": _percentile(np.array(made.figures.tick_ms), 50.0),
        "tick_work_ms_p99": _percentile(np.array(made.figures.tick_ms), 99.0),
        "overruns": made.figures.overruns,
        "unanswered_trials": [watch.told(s) for s in unanswered[:TOLD]],
    }


def worst(stages: list[dict[str, float]], tick_s: float, at_most: int = WORST) -> list[dict[str, float]]:
    """The slowest trials by what the tick that answered them did, the waiting for that tick taken off first.

    Waiting is at most one tick where ticks are punctual; `late_ms` is what it was more than that.
    """
    slowest = sorted(stages, key=lambda s: s["reaction_ms"], reverse=True)[:at_most]
    return [
        {name: round(ms, 1) for name, ms in s.items()}
        | {"late_ms": round(max(s["waited_ms"] - 1e3 * tick_s, 0.0), 1)}
        for s in slowest
    ]


def _percentile(values: np.ndarray, share: float) -> float | None:
    return float(np.percentile(values, share, method="higher")) if values.size else None


async def _in_power(made: Daemon, tick_s: float) -> None:
    """Every string joined and loaded.

    Raises:
        TimeoutError: it does not come up.
    """
    made.order(SetMode(SiteMode.RUN))
    await _until(made, lambda: made.outcome is not None and bool(made.outcome.view.connected.all()), START_S)
    made.order(PowerCommand(0.2 * sum(s.converter.power_rating_w for s in made.parts.site.strings)))
    await asyncio.sleep(5.0 * tick_s)


async def _until(made: Daemon, condition: Callable[[], bool], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - the daemon tells nobody when a tick is over; a bench may poll
            await asyncio.sleep(0.2 * made.parts.site.timing.tick_s / made.parts.clock.scale)


@dataclass(slots=True)
class _Trials:
    """Strikes on all strings in parallel until there are enough."""

    made: Daemon
    watch: Watch
    aim: Aim
    note: Callable[[int], None] | None
    done: list[Strike] = field(default_factory=list)

    @property
    def tick_s(self) -> float:
        """Wall time."""
        return self.watch.tick_s

    async def run(self, trials: int, rng: np.random.Generator) -> list[Strike]:
        """At least `trials` strikes that were trials; fewer where every string gave up."""
        strings = range(self.watch.site.topology.n_strings)
        seeds = rng.integers(0, 2**32, len(strings))
        await asyncio.gather(*(self._on(s, trials, np.random.default_rng(seeds[s])) for s in strings))
        return self.done

    async def _on(self, string: int, trials: int, rng: np.random.Generator) -> None:
        """One string's strikes, each at another moment of the tick."""
        topology = self.watch.site.topology
        rows = np.arange(topology.n_modules)[topology.slice_of(string)]
        phase = float(rng.uniform())
        while len(self.done) < trials:
            try:
                await _until(self.made, lambda: self._ready(rows, string), RECOVER_TICKS * self.tick_s)
            except TimeoutError:
                self.watch.gave_up.append(self._state_of(rows, string))
                return
            phase = (phase + GOLDEN) % 1.0
            await self._moment(string, phase)
            strike = await self._strike(string, rows, rng)
            if strike is None or strike.void:
                continue
            self.done.append(strike)
            if self.note is not None:
                self.note(len(self.done))

    @property
    def _now_ticks(self) -> float:
        return self.made.parts.clock.control_s() / self.watch.site.timing.tick_s

    async def _moment(self, string: int, phase: float) -> None:
        """Wait for the moment to strike: that share of the tick, or a write to a switch of the string."""
        if self.aim == "phase":
            now = self._now_ticks
            await asyncio.sleep(((phase - now) % 1.0) * self.tick_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVER_TICKS * self.tick_s):
                await self.watch.switching(string, only_out=self.aim == "bypass")

    async def _strike(self, string: int, rows: IntArray, rng: np.random.Generator) -> Strike | None:
        """One strike and its answer; None where no module is inserted."""
        made, watch = self.made, self.watch
        watch.count_races(rows)
        candidates = watch.candidates(rows)
        if not candidates.size:
            return None
        phase = self._now_ticks % 1.0
        strike = watch.begin(int(rng.choice(candidates)), string, int(rng.integers(CELLS)), EXCESS_V, phase)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_TICKS * self.tick_s):
                await strike.done.wait()
        watch.end(strike)
        ticks = made.figures.ticks
        await _until(made, lambda: made.figures.ticks >= ticks + SEEN_TICKS, RECOVER_TICKS * self.tick_s)
        if strike.done.is_set() and not strike.void:
            watch.note_stages(strike)  # of a tick that is over by now
        return strike

    def _state_of(self, rows: IntArray, string: int) -> dict[str, Any]:
        """Why a string is not ready, for the reader of the result."""
        site, outcome = self.watch.site, self.made.outcome
        told: dict[str, Any] = {"string": site.strings[string].name}
        if outcome is None:
            return told
        view = outcome.view
        names = {site.modules[int(m)].serial for m in rows} | {site.strings[string].name}
        return told | {
            "phase": view.phases[string],
            "faults": [
                f"{f.fault} on {f.subject}: {f.evidence}" for f in view.envelope.faults if f.subject in names
            ],
            "out_of_service": [site.modules[int(m)].serial for m in rows if view.out_of_service[m]],
        }

    def _ready(self, rows: IntArray, string: int) -> bool:
        """The string carries power, every module in service; latches whose cause is gone are cleared."""
        made, site = self.made, self.watch.site
        if made.outcome is None:
            return False
        view = made.outcome.view
        names = {site.modules[int(m)].serial for m in rows} | {site.strings[string].name}
        for fault in view.envelope.faults:
            if fault.subject in names and fault.latched and not fault.active:
                made.order(ClearFault(fault.fault, fault.subject, on_site=True))
        sound = not any(f.subject in names for f in view.envelope.faults)
        return sound and bool(view.connected[string]) and not bool(view.out_of_service[rows].any())
