"""Faulty nodes between the control core and the twin: silence, deafness, stuck switches, watchdogs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edge.core import ControlCore
from edge.core_values import TickOutcome
from optimizer.result import AllocationInput, AllocationResult
from reconf.actuation import SlotCommand
from reconf.arrays import BoolArray, IntArray
from reconf.devices import rc1, rm1
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel, Quality, SiteImage, WriteRefusal
from reconf.site import Site
from reconf.twin.plant import Plant

RC1_WATCHDOG_S = 3.0
RM1_WATCHDOG_S = 6.0
RUNAWAY_K_PER_S = 2.0
Answers = Callable[[AllocationInput, AllocationResult], AllocationResult]


@dataclass(slots=True)
class FaultyNodes:
    """State of what is broken; the three hooks of the closed loop read it."""

    silent_modules: BoolArray
    silent_strings: BoolArray
    frozen_modules: BoolArray
    deaf_modules: BoolArray
    """Take no writes, heartbeats included, yet answer."""
    deaf_strings: BoolArray
    stuck: BoolArray
    """Switch stands where it stood."""
    taken_out: BoolArray
    """An operator bypasses these at the time of the fault (so that a stuck switch shows)."""
    welded: BoolArray
    module_bits: IntArray
    string_bits: IntArray
    beaten_modules_s: list[float]
    beaten_strings_s: list[float]
    first_string_end: int
    runaway: BoolArray
    """Read as in a beginning thermal runaway: 2 K/s up, a cell group down by a third."""
    runaway_s: float = 0.0
    """Control time at which that began."""
    deaf_how: str = ""
    """What deaf nodes say to a write."""
    refusals: dict[tuple[str, int], WriteRefusal] = field(default_factory=dict)
    """What stands of deaf nodes, by kind and row."""
    refused: set[tuple[str, int, int, str]] = field(default_factory=set)
    """Kind, row, register of the writes refused since the last image."""
    inputs: dict[str, object] = field(default_factory=dict)
    bus_v: float = float("nan")
    fan_dead: bool = False
    """The cooling takes its order and does not turn."""
    answers: Answers | None = None
    held: SiteImage | None = None
    """Last image before a module fell silent or froze."""
    since_s: float = 0.0

    @classmethod
    def sound(cls, site: Site) -> FaultyNodes:
        """Nothing is broken."""
        t = site.topology
        m, s = t.n_modules, t.n_strings

        def none(size: int) -> BoolArray:
            return np.zeros(size, dtype=np.bool_)

        return cls(
            silent_modules=none(m), silent_strings=none(s), frozen_modules=none(m), deaf_modules=none(m),
            deaf_strings=none(s), stuck=none(m), taken_out=none(m), welded=none(s), runaway=none(m),
            module_bits=np.zeros(m, dtype=np.int64), string_bits=np.zeros(s, dtype=np.int64),
            beaten_modules_s=[0.0] * m, beaten_strings_s=[0.0] * s, first_string_end=int(t.start[1]),
        )  # fmt: skip

    # ---- hooks ---------------------------------------------------------------------------------

    def on_image(self, image: SiteImage, plant: Plant) -> SiteImage:
        """What the southbound side would give with these nodes."""
        from edge.bench.fault_cases import unseen

        quiet = self.silent_modules | self.frozen_modules
        if not quiet.any() and not self.silent_strings.any():
            self.since_s = image.time_s
        age_s = image.time_s - self.since_s
        image = self._burning(self._statuses(image, plant))
        image = unseen(image, self.silent_modules, self.frozen_modules, age_s)
        image = replace(self._strings(image, age_s), refusals=self._refusals(plant.site))
        return replace(image, inputs=replace(image.inputs, **self.inputs))  # type: ignore[arg-type]  # names of SiteInputs

    def _refusals(self, site: Site) -> tuple[WriteRefusal, ...]:
        """What the southbound side would tell of nodes that take no writes."""
        for kind, row, address, register in sorted(self.refused):
            unit = site.positions[row].unit_id if kind == "module" else site.strings[row].converter.unit_id
            before = self.refusals.get((kind, row))
            ticks = 1 if before is None else before.ticks + 1
            self.refusals[kind, row] = WriteRefusal(
                "module" if kind == "module" else "string", row, unit, address, register, self.deaf_how, ticks
            )
        self.refused.clear()
        return tuple(self.refusals.values())

    def _burning(self, image: SiteImage) -> SiteImage:
        """Temperatures that rise and a cell that falls, where a runaway begins."""
        if not self.runaway.any():
            self.runaway_s = image.time_s
            return image
        m = image.modules
        rise_k = RUNAWAY_K_PER_S * (image.time_s - self.runaway_s)
        degc, cells = m.temperature_degc.value.copy(), m.cell_voltage_v.value.copy()
        degc[self.runaway] += rise_k
        cells[self.runaway, 0] *= 0.67
        return replace(
            image,
            modules=replace(
                m,
                temperature_degc=replace(m.temperature_degc, value=degc),
                cell_voltage_v=replace(m.cell_voltage_v, value=cells),
            ),
        )

    def _statuses(self, image: SiteImage, plant: Plant) -> SiteImage:
        """Latches, stuck switches, welded contactors."""
        bits = image.modules.status | self.module_bits
        fault = self.stuck & (plant.inputs.inserted == self.taken_out)
        bits = np.where(fault, bits | int(Rm1Status.SWITCH_FAULT), bits)
        status = image.strings.status | self.string_bits
        live = self.welded & (plant.true.string_voltage_v > 1.0)
        closed = np.where(live, status | int(Rc1Status.CONTACTOR_CLOSED), status)
        mismatch = live & ~plant.inputs.contactor_closed
        closed = np.where(mismatch, closed | int(Rc1Status.CONTACTOR_MISMATCH), closed)
        return replace(
            image,
            modules=replace(image.modules, status=bits),
            strings=replace(image.strings, status=closed),
        )

    def _strings(self, image: SiteImage, age_s: float) -> SiteImage:
        """Silent converters, and the bus as they see it."""
        s, quiet = image.strings, self.silent_strings
        changes: dict[str, Channel] = {}
        for name in s.__dataclass_fields__:
            value = getattr(s, name)
            if isinstance(value, Channel):
                marks = value.quality.copy()
                marks[quiet] = np.uint8(Quality.NO_ANSWER)
                changes[name] = replace(value, quality=marks)
        if np.isfinite(self.bus_v):
            changes["bus_voltage_v"] = Channel.of(np.full(quiet.size, self.bus_v))
        age = np.where(quiet, age_s, s.age_s)
        answered = s.answered & ~quiet
        return replace(image, strings=replace(s, answered=answered, age_s=age, **changes))  # type: ignore[arg-type]  # only channels are in `changes`

    def on_write(self, command: SlotCommand, plant: Plant) -> tuple[BoolArray, BoolArray]:
        """(M,), (S,) which nodes take and confirm a write."""
        held = plant.inputs
        latched = self.module_bits != 0
        same = command.inserted == held.inserted
        deaf_m = self.deaf_modules & ~(same & (command.trim_current_a == held.trim_setpoint_a))
        deaf_s = self.deaf_strings & (
            (command.power_w != held.power_setpoint_w)
            | (command.mode != held.mode)
            | (command.contactor != held.contactor_closed)
            | (command.current_limit_a != held.current_limit_a)
        )
        self.refused |= {("module", int(m), rm1.COMMAND_FIRST + 1, "INSERT") for m in np.flatnonzero(deaf_m)}
        self.refused |= {("string", int(s), rc1.COMMAND_FIRST, "MODE") for s in np.flatnonzero(deaf_s)}
        modules = ~(self.silent_modules | deaf_m) & ~(latched & ~same)
        return modules & ~(self.stuck & ~same), ~(self.silent_strings | deaf_s)

    def on_tick(self, outcome: TickOutcome, plant: Plant, core: ControlCore) -> None:
        """Watchdogs of the nodes, and what a latched node does by itself."""
        now_s = plant.time_s
        beats = core.heartbeats
        for index in np.flatnonzero(beats.modules & ~self.silent_modules & ~self.deaf_modules):
            self.beaten_modules_s[int(index)] = now_s
        for index in np.flatnonzero(beats.strings & ~self.silent_strings & ~self.deaf_strings):
            self.beaten_strings_s[int(index)] = now_s
        deaf = {("module", int(m)) for m in np.flatnonzero(beats.modules & self.deaf_modules)}
        deaf |= {("string", int(s)) for s in np.flatnonzero(beats.strings & self.deaf_strings)}
        written = {(kind, row) for kind, row, _, _ in self.refused}
        self.refused |= {(kind, row, 0, "HEARTBEAT") for kind, row in deaf - written}
        dead_m = now_s - np.array(self.beaten_modules_s) > RM1_WATCHDOG_S
        dead_s = now_s - np.array(self.beaten_strings_s) > RC1_WATCHDOG_S
        out = (dead_m | (self.module_bits != 0)) & ~self.stuck
        off = (dead_s | (self.string_bits & int(Rc1Status.HARDWARE_FAULT) != 0)) & ~self.welded
        held = plant.inputs
        if (
            (out & held.inserted).any()
            or (off & held.contactor_closed).any()
            or (off & (held.mode != 0)).any()
        ):
            plant.apply(
                replace(
                    held,
                    inserted=held.inserted & ~out,
                    trim_setpoint_a=np.where(out, 0.0, held.trim_setpoint_a),
                    mode=np.where(off, 0, held.mode),
                    power_setpoint_w=np.where(off, 0.0, held.power_setpoint_w),
                    contactor_closed=held.contactor_closed & ~off,
                )
            )
        # without heartbeats for so long the nodes latch
        self.module_bits = np.where(
            dead_m, self.module_bits | int(Rm1Status.WATCHDOG_EXPIRED), self.module_bits
        )
        self.string_bits = np.where(
            dead_s, self.string_bits | int(Rc1Status.WATCHDOG_EXPIRED), self.string_bits
        )
        clears = outcome.actions
        unreached_m = self.silent_modules | self.deaf_modules
        unreached_s = self.silent_strings | self.deaf_strings
        lone = self.module_bits == int(Rm1Status.WATCHDOG_EXPIRED)
        self.module_bits = np.where(clears.clear_modules & lone & ~unreached_m, 0, self.module_bits)
        lone = self.string_bits == int(Rc1Status.WATCHDOG_EXPIRED)
        self.string_bits = np.where(clears.clear_strings & lone & ~unreached_s, 0, self.string_bits)
