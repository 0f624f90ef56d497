"""Both ends of a strike of the reaction bench: what was on the wire, what the daemon decided, and when.

A strike makes a cell group of an inserted module read far too high. Its clock starts when the module's
registers can first show that, and stops when a write arrives that bypasses the module or stops its converter.
Such a write answers only if a reading that shows the strike went out before it; else the schedule bypassed
the module of its own accord, and the strike is no trial. Everything about an open strike is written down, so
that one which nobody answers can be explained.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.core_values import TickOutcome
from edge.figures import Stamps
from edge.modbus.server import TwinServer
from reconf.arrays import IntArray
from reconf.devices import rc1, rm1
from reconf.site import Site
from reconf.twin.firmware import SAMPLE_PERIOD_S, NodeBank
from reconf.twin.firmware_rm1 import DUTY, INSERT, INSERT_MODE

RC1_MODE = rc1.COMMAND_FIRST
RC1_LIMIT = rc1.COMMAND_FIRST + rc1.CURRENT_LIMIT_COLUMN
CELL_STEP_V = 0.001

UNSEEN = "bypassed by the schedule before any reading could show the strike"


@dataclass(slots=True)
class Strike:
    """One trial."""

    module: int
    string: int
    cell: int
    from_sample: int
    phase_ticks: float
    """When in the daemon's tick it was struck, as a share of the tick."""
    begun_s: float
    shown_s: float = float("nan")
    """Wall time at which the registers can first show it."""
    read_s: float = float("nan")
    """Wall time of the first reading that shows it."""
    answered_s: float = float("nan")
    void: str = ""
    """Why it is no trial."""
    trace: list[dict[str, Any]] = field(default_factory=list)
    """What went over the wire about it, and each tick's decision."""
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Watch:
    """Both ends of every open trial."""

    site: Site
    bank: NodeBank
    wall: Callable[[], float]
    safety_v: float
    """A cell that reads above it shows the strike."""
    tick_s: float
    open: dict[int, Strike] = field(default_factory=dict)
    """By string."""
    outcome: Callable[[], TickOutcome | None] = lambda: None
    """The daemon's last tick."""
    stamps: deque[Stamps] = field(default_factory=deque)
    """Stages of the daemon's last ticks."""
    stages: list[dict[str, float]] = field(default_factory=list)
    """Where the time of each answered trial went [ms]."""
    voids: Counter[str] = field(default_factory=Counter)
    moving: dict[int, tuple[asyncio.Event, bool]] = field(default_factory=dict)
    """Strings of which somebody waits for a switch to be written, and whether only for a bypass."""
    raced: float = 0.0
    """How many strikes would have met a module whose bypass was written already, were those not left out."""
    gave_up: list[dict[str, Any]] = field(default_factory=list)
    """Strings that did not come back into service, and what stood against it."""
    _told: TickOutcome | None = None

    # ---- beginning and ending ------------------------------------------------------------------

    def candidates(self, rows: IntArray) -> IntArray:
        """Modules among `rows` that are inserted and have not been told otherwise.

        The switch follows its register with the twin's next step; a module in between is bypassed already for
        the daemon, which then has nothing to write about it.
        """
        held = self.bank.rm1.bank.holding[rows]
        told_in = np.where(held[:, INSERT_MODE] == 1, held[:, DUTY] > 0, held[:, INSERT] == 1)
        chosen: IntArray = rows[self.bank.plant.inputs.inserted[rows] & told_in]
        return chosen

    def count_races(self, rows: IntArray) -> None:
        """Note with what chance a module that still reads inserted would have been one told to bypass."""
        inserted = int(self.bank.plant.inputs.inserted[rows].sum())
        self.raced += 1.0 - self.candidates(rows).size / inserted if inserted else 0.0

    def begin(self, module: int, string: int, cell: int, excess_v: float, phase_ticks: float) -> Strike:
        """Strike `module`."""
        strike = Strike(module, string, cell, self.sample, phase_ticks, self.wall())
        if self.bank.shown_sample != self.sample:
            strike.shown_s = strike.begun_s  # the next read takes a new set
        self.open[string] = strike
        self.bank.plant.faults.cell_voltage_offset_v[module, cell] = excess_v
        self._note(strike, "struck", **self._registers(strike))
        return strike

    async def switching(self, string: int, *, only_out: bool) -> None:
        """Until a switch of `string` is being written, or a bypass alone."""
        event = asyncio.Event()
        self.moving[string] = (event, only_out)
        await event.wait()

    def end(self, strike: Strike) -> None:
        """The trial is over."""
        self._note_tick()
        self._note(strike, "ended", **self._registers(strike))
        del self.open[strike.string]
        self.bank.plant.faults.cell_voltage_offset_v[strike.module, :] = 0.0
        if strike.void:
            self.voids[strike.void] += 1

    # ---- what happens meanwhile ----------------------------------------------------------------

    @property
    def sample(self) -> int:
        """Number of the measurement set."""
        return int(self.bank.plant.time_s / SAMPLE_PERIOD_S + 1e-9)

    def after_step(self) -> None:
        """Time has passed in the twin: which strikes can be seen now?"""
        sample = self.sample
        for strike in self.open.values():
            if np.isnan(strike.shown_s) and sample > strike.from_sample:
                strike.shown_s = self.wall()

    def arrives(self, unit: int, pdu: bytes) -> None:
        """A request arrives at the server: does it answer a strike?"""
        words = written(pdu)
        if not words:
            return
        if INSERT in words:
            self._moves(unit, out=words[INSERT] == 0)
        for strike in self.open.values():
            position = self.site.positions[strike.module]
            converter = self.site.strings[strike.string].converter
            bypassed = unit == position.unit_id and words.get(INSERT) == 0
            stopped = unit == converter.unit_id and 0 in (words.get(RC1_MODE), words.get(RC1_LIMIT))
            if strike.done.is_set() or not (bypassed or stopped):
                continue
            strike.answered_s = self.wall()
            strike.void = UNSEEN if np.isnan(strike.read_s) else ""
            strike.done.set()

    def _moves(self, unit: int, *, out: bool) -> None:
        for string, (event, only_out) in self.moving.items():
            if (out or not only_out) and unit in {self.site.positions[i].unit_id for i in self._rows(string)}:
                event.set()

    def _rows(self, string: int) -> range:
        rows = self.site.topology.slice_of(string)
        return range(rows.start, rows.stop)

    def answered(self, unit: int, pdu: bytes, reply: bytes | None) -> None:
        """What the server said to a request; about the struck module and its converter."""
        self._note_tick()
        for strike in self.open.values():
            module = unit == self.site.positions[strike.module].unit_id
            if not module and unit != self.site.strings[strike.string].converter.unit_id:
                continue
            who = "module" if module else "converter"
            refused = reply is None or bool(reply[0] & 0x80)
            if words := written(pdu):
                beats = set(words) == {rm1.HEARTBEAT}
                if not beats:
                    self._note(strike, "write", unit=who, registers=words, refused=refused)
            elif pdu[0] == 4 and module and reply is not None and not refused:
                volts = cell_voltages_v(reply)
                highest_v = max(volts, default=float("nan"))
                if highest_v > self.safety_v and np.isnan(strike.read_s):
                    strike.read_s = self.wall()
                self._note(strike, "read", unit=who, highest_cell_v=highest_v)
            elif refused:
                self._note(strike, "refused", unit=who, function=pdu[0])

    def _note_tick(self) -> None:
        """What the daemon decided in its last tick about every struck module, once a tick."""
        outcome = self.outcome()
        if outcome is None or outcome is self._told:
            return
        self._told = outcome
        view = outcome.view
        for strike in self.open.values():
            serial = self.site.modules[strike.module].serial
            names = {serial, self.site.strings[strike.string].name}
            step = outcome.step
            self._note(
                strike,
                "tick",
                began_ticks=self._since(strike, self.stamps[-1].began_s) if self.stamps else None,
                read_ticks=self._since(strike, self.stamps[-1].read_s) if self.stamps else None,
                faults=[f"{f.fault} on {f.subject}" for f in view.envelope.faults if f.subject in names],
                phase=view.phases[strike.string],
                was_inserted=bool(view.in_force.inserted[strike.module]),
                first_step_inserts=None if step is None else bool(step.command.inserted[strike.module]),
                refused=[] if view.refused is None else [v.text for v in view.refused.violations],
                out_of_service=bool(view.out_of_service[strike.module]),
            )

    def _registers(self, strike: Strike) -> dict[str, Any]:
        """What stands in the nodes now."""
        held = self.bank.rm1.bank.holding[strike.module]
        converter = self.bank.rc1.bank.holding[strike.string]
        return {
            "insert_mode": int(held[INSERT_MODE]),
            "insert": int(held[INSERT]),
            "switch_in": bool(self.bank.plant.inputs.inserted[strike.module]),
            "converter_mode": int(converter[RC1_MODE]),
            "current_limit": int(converter[RC1_LIMIT]),
        }

    def _since(self, strike: Strike, wall_s: float) -> float:
        return round((wall_s - strike.begun_s) / self.tick_s, 4)

    def _note(self, strike: Strike, what: str, **rest: Any) -> None:
        strike.trace.append({"at_ticks": self._since(strike, self.wall()), "what": what} | rest)

    # ---- figures -------------------------------------------------------------------------------

    def told(self, strike: Strike) -> dict[str, Any]:
        """Everything about one strike, for the reader of the result."""
        return {
            "module": self.site.modules[strike.module].serial,
            "string": self.site.strings[strike.string].name,
            "cell": strike.cell,
            "phase_ticks": round(strike.phase_ticks, 4),
            "shown_ticks": self._since(strike, strike.shown_s),
            "read_ticks": self._since(strike, strike.read_s),
            "trace": strike.trace,
        }

    def note_stages(self, strike: Strike) -> None:
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


class WatchedServer(TwinServer):
    """The twin's server with both ends of every exchange shown to a `Watch`."""

    def __init__(self, bank: NodeBank, watch: Watch) -> None:
        super().__init__(bank, any_port=True)
        self._watch = watch

    def serve(self, gateway: str, unit_id: int, pdu: bytes) -> bytes | None:
        """One request."""
        self._watch.arrives(unit_id, pdu)
        reply = super().serve(gateway, unit_id, pdu)
        self._watch.answered(unit_id, pdu, reply)
        return reply


def written(pdu: bytes) -> dict[int, int]:
    """Registers that a request writes; empty for a request that only reads."""
    if pdu[0] not in (6, 16):
        return {}
    address = int.from_bytes(pdu[1:3], "big")
    data = pdu[3:5] if pdu[0] == 6 else pdu[6:]
    return {address + k // 2: int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2)}


def cell_voltages_v(reply: bytes) -> list[float]:
    """Cell voltages of an answer that holds a module's whole input block [V]."""
    words = struct.unpack(f">{(len(reply) - 2) // 2}H", reply[2:])
    return [CELL_STEP_V * w for w in words[rm1.INPUT_FIXED :]]
