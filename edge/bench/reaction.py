"""Reaction on the wire: from a register that shows a safety-tier value to the write that answers it.

The daemon runs against the twin over real Modbus TCP. A cell group of an inserted module is made to read
above its safety voltage (debounce 0) at a random moment of the tick; the clock starts when the module's
registers can first show it, and stops when the server receives the write that bypasses the module or stops
its converter. Each string is a trial of its own, again and again. Both ends read one clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge.core_values import ClearFault, SetMode
from edge.figures import Stamps
from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.setpoint import PowerCommand
from edge.supervisor import Daemon
from edge.wiring import RunOptions, daemon
from reconf.devices.rc1 import COMMAND_FIRST as RC1_MODE
from reconf.devices.rc1 import CURRENT_LIMIT_COLUMN
from reconf.devices.rm1 import COMMAND_FIRST as RM1_INSERT_MODE
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
from reconf.twin.firmware import SAMPLE_PERIOD_S, NodeBank
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

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
RC1_LIMIT = RC1_MODE + CURRENT_LIMIT_COLUMN


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


@dataclass(slots=True)
class _Strike:
    """One trial."""

    module: int
    string: int
    from_sample: int
    shown_s: float = float("nan")
    """Wall time at which the registers can first show it."""
    answered_s: float = float("nan")
    void: bool = False
    """The schedule bypassed the module before anybody could have seen it: no trial."""
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Watch:
    """Both ends of every open trial."""

    site: Site
    bank: NodeBank
    open: dict[int, _Strike] = field(default_factory=dict)
    """By string."""
    stamps: deque[Stamps] = field(default_factory=deque)
    """Stages of the daemon's last ticks."""
    stages: list[dict[str, float]] = field(default_factory=list)
    """Where the time of each answered trial went [ms]."""

    def note_stages(self, strike: _Strike) -> None:
        """Split an answered trial into the stages of the tick that answered it."""
        tick = next((t for t in self.stamps if t.began_s <= strike.answered_s <= t.written_s), None)
        if tick is None:
            return
        seen_s = max(tick.began_s, strike.shown_s)
        self.stages.append(
            {
                "reaction_ms": 1e3 * (strike.answered_s - strike.shown_s),
                "waited_ms": 1e3 * (seen_s - strike.shown_s),
                "read_ms": 1e3 * (tick.read_s - seen_s),
                "decided_ms": 1e3 * (tick.decided_s - tick.read_s),
                "latches_ms": 1e3 * (tick.acted_s - tick.decided_s),
                "written_ms": 1e3 * (strike.answered_s - tick.acted_s),
            }
        )

    def after_step(self) -> None:
        """Time has passed in the twin: which strikes can be seen now?"""
        sample = self.sample
        for strike in self.open.values():
            if np.isnan(strike.shown_s) and sample > strike.from_sample:
                strike.shown_s = time.monotonic()

    @property
    def sample(self) -> int:
        """Number of the measurement set."""
        return int(self.bank.plant.time_s / SAMPLE_PERIOD_S + 1e-9)

    def tap(self, _gateway: str, unit: int, pdu: bytes) -> None:
        """A request arrives at the server."""
        if pdu[0] not in (6, 16):
            return
        address = int.from_bytes(pdu[1:3], "big")
        data = pdu[3:5] if pdu[0] == 6 else pdu[6:]
        words = {address + k // 2: int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2)}
        for strike in self.open.values():
            position = self.site.positions[strike.module]
            converter = self.site.strings[strike.string].converter
            bypassed = unit == position.unit_id and words.get(RM1_INSERT_MODE + 1) == 0
            stopped = unit == converter.unit_id and 0 in (words.get(RC1_MODE), words.get(RC1_LIMIT))
            if strike.done.is_set() or not (bypassed or stopped):
                continue
            strike.answered_s = time.monotonic()
            strike.void = bool(np.isnan(strike.shown_s))
            strike.done.set()


async def measure(
    trials: int, *, strings: int, tick_s: float, seed: int = 1, note: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """At least `trials` trials; times in ticks."""
    site = reaction_site(strings, tick_s)
    rng = np.random.default_rng(seed)
    truth = draw_truth(site, rng, soc_frac=SOC_FRAC)
    bank = NodeBank(site, Plant(site, truth), rng)
    watch = _Watch(site, bank)
    async with TwinServer(bank, any_port=True, tap=watch.tap) as server:
        pacer = Pacer(bank, 1.0, time.monotonic, after_step=watch.after_step)
        pacing = asyncio.create_task(pacer.run())
        options = RunOptions(gateways=server.endpoints, northbound=False)
        async with daemon(site, options) as made:
            running = asyncio.create_task(made.run())
            try:
                await _in_power(made)
                watch.stamps = made.figures.stamps
                found = await _all_trials(made, watch, trials, rng, note)
            finally:
                made.stop()
                await asyncio.wait({running}, timeout=60.0)
                running.cancel()
                pacing.cancel()
    return figures(found, made, tick_s) | {"worst": worst(watch.stages, tick_s)}


def figures(found: list[float], made: Daemon, tick_s: float) -> dict[str, Any]:
    """The result; a trial without an answer counts as infinite."""
    ticks = np.array(found) / tick_s
    answered = ticks[np.isfinite(ticks)]
    return {
        "trials": len(found),
        "unanswered": int(ticks.size - answered.size),
        "tick_s": tick_s,
        "reaction_ticks_p50": _percentile(answered, 50.0),
        "reaction_ticks_p99": _percentile(answered, 99.0),
        "reaction_ticks_p999": _percentile(answered, 99.9),
        "reaction_ticks_max": float(answered.max()) if answered.size else None,
        "tick_work_ms_p50": _percentile(np.array(made.figures.tick_ms), 50.0),
        "tick_work_ms_p99": _percentile(np.array(made.figures.tick_ms), 99.0),
        "overruns": made.figures.overruns,
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


async def _in_power(made: Daemon) -> None:
    """Every string joined and loaded.

    Raises:
        TimeoutError: it does not come up.
    """
    made.order(SetMode(SiteMode.RUN))
    await _until(made, lambda: made.outcome is not None and bool(made.outcome.view.connected.all()), START_S)
    made.order(PowerCommand(0.2 * sum(s.converter.power_rating_w for s in made.parts.site.strings)))
    await asyncio.sleep(5.0 * made.parts.site.timing.tick_s)


async def _until(made: Daemon, condition: Callable[[], bool], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - the daemon tells nobody when a tick is over; a bench may poll
            await asyncio.sleep(0.2 * made.parts.site.timing.tick_s)


async def _all_trials(
    made: Daemon, watch: _Watch, trials: int, rng: np.random.Generator, note: Callable[[int], None] | None
) -> list[float]:
    """Strings in parallel until enough trials are done."""
    found: list[float] = []
    strings = range(watch.site.topology.n_strings)
    seeds = rng.integers(0, 2**32, len(strings))

    async def one(string: int) -> None:
        own = np.random.default_rng(seeds[string])
        while len(found) < trials:
            took_s = await _trial(made, watch, string, own)
            if took_s is None:
                return
            if np.isnan(took_s):
                continue
            found.append(took_s)
            if note is not None:
                note(len(found))

    await asyncio.gather(*(one(s) for s in strings))
    return found


async def _trial(made: Daemon, watch: _Watch, string: int, rng: np.random.Generator) -> float | None:
    """One strike and its answer [s]: infinite where none came, NaN where it was no trial.

    None where the string cannot go on.
    """
    topology, tick_s = watch.site.topology, watch.site.timing.tick_s
    rows = np.arange(topology.n_modules)[topology.slice_of(string)]
    try:
        await _until(made, lambda: _ready(made, watch, rows, string), RECOVER_TICKS * tick_s)
    except TimeoutError:
        return None
    await asyncio.sleep(float(rng.uniform(0.0, 1.5)) * tick_s)
    inserted = rows[watch.bank.plant.inputs.inserted[rows]]
    if not inserted.size:
        return None
    module = int(rng.choice(inserted))
    offset = watch.bank.plant.faults.cell_voltage_offset_v
    strike = _Strike(module, string, watch.sample)
    if watch.bank.shown_sample != watch.sample:
        strike.shown_s = time.monotonic()  # the next read takes a new set
    watch.open[string] = strike
    offset[module, int(rng.integers(CELLS))] = EXCESS_V
    try:
        async with asyncio.timeout(PATIENCE_TICKS * tick_s):
            await strike.done.wait()
    except TimeoutError:
        pass
    del watch.open[string]
    offset[module, :] = 0.0
    ticks = made.figures.ticks
    await _until(made, lambda: made.figures.ticks >= ticks + SEEN_TICKS, RECOVER_TICKS * tick_s)
    if strike.void:
        return float("nan")
    if strike.done.is_set():
        watch.note_stages(strike)
    return strike.answered_s - strike.shown_s if strike.done.is_set() else float("inf")


def _ready(made: Daemon, watch: _Watch, rows: np.ndarray, string: int) -> bool:
    """The string carries power with every module in service; latches whose cause is gone are cleared."""
    outcome = made.outcome
    if outcome is None:
        return False
    names = {watch.site.modules[int(m)].serial for m in rows} | {watch.site.strings[string].name}
    for fault in outcome.view.envelope.faults:
        if fault.subject in names and fault.latched and not fault.active:
            made.order(ClearFault(fault.fault, fault.subject, on_site=True))
    view = outcome.view
    sound = not any(f.subject in names for f in view.envelope.faults)
    return sound and bool(view.connected[string]) and not bool(view.out_of_service[rows].any())
