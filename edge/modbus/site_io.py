"""Site I/O units on the wire: inputs read each tick, outputs written where they do not hold what they should.

Reads go first on their line, so that an emergency stop never waits behind modules. A unit that does not
answer is tried again at growing intervals, `RETRY_MAX_S` at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from edge.modbus.failures import NodeError, NodeEvent
from edge.modbus.line import Batch, Line
from edge.modbus.transport import Link
from reconf.actuation import NodeWriteFailure
from reconf.devices.site_io import OutputWrite, UnitCodec, UnitReading, load_io_profile, site_inputs
from reconf.protection.envelope import SiteOutputs
from reconf.readings import SiteInputs
from reconf.site import IoUnitSpec, Site

RETRY_FIRST_S = 0.25
RETRY_MAX_S = 1.0
STALE_TICKS = 1.9
"""A unit that was not read for so many ticks gives no fresh value."""


@dataclass(slots=True)
class _Unit:
    """One unit and what is known of it."""

    spec: IoUnitSpec
    codec: UnitCodec
    line: Line
    payloads: tuple[bytes, ...] = ()
    """Answers to the codec's requests; empty before the first."""
    values: tuple[tuple[str, float], ...] = ()
    sampled_s: float = float("-inf")
    busy: bool = False
    failures: int = 0
    next_try_s: float = 0.0
    text: str = ""
    """What the last failure said."""


@dataclass(slots=True)
class SiteIo:
    """All site I/O units of a site."""

    site: Site
    wall: Callable[[], float]
    units: list[_Unit] = field(default_factory=list)
    reads: int = 0
    failures: int = 0
    writes: int = 0
    _events: list[NodeEvent] = field(default_factory=list)
    _before_s: float | None = None
    _step_s: float = 0.0

    @classmethod
    def of(cls, site: Site, lines: Mapping[str, Line], wall: Callable[[], float]) -> SiteIo:
        """Units of `site` on `lines`, by gateway.

        Raises:
            ConfigError: a profile cannot be read.
        """
        units = [_Unit(u, UnitCodec(u, load_io_profile(u.profile)), lines[u.gateway]) for u in site.io]
        return cls(site, wall, units)

    # ---- reading -------------------------------------------------------------------------------

    def submit(self, now_s: float) -> list[Batch]:
        """Have every unit read that is due; `now_s` is the control time."""
        if self._before_s is not None:
            self._step_s = now_s - self._before_s
        self._before_s = now_s
        batches = []
        for unit in self.units:
            if unit.busy or (unit.failures and self.wall() < unit.next_try_s):
                continue
            unit.busy = True
            batches.append(unit.line.submit([partial(self._read, unit, now_s)], urgent=True))
        return batches

    async def _read(self, unit: _Unit, asked_s: float, link: Link) -> None:
        try:
            self.reads += 1
            unit.payloads = await self._payloads(unit, link)
            unit.values = unit.codec.inputs(unit.payloads)
            unit.sampled_s = asked_s
            if unit.failures:
                self._note("back", unit, "answers again")
            unit.failures = 0
        except NodeError as error:
            self._failed(unit, error)
        finally:
            unit.busy = False

    async def _payloads(self, unit: _Unit, link: Link) -> tuple[bytes, ...]:
        blocks = unit.codec.blocks
        return tuple([await link.read(unit.spec.unit_id, b.table, b.address, b.count) for b in blocks])

    def _failed(self, unit: _Unit, error: NodeError) -> None:
        self.failures += 1
        if not unit.failures:
            self._note("lost", unit, str(error))
        unit.text = str(error)
        unit.next_try_s = self.wall() + min(RETRY_FIRST_S * 2.0**unit.failures, RETRY_MAX_S)
        unit.failures += 1

    def _note(self, kind: Literal["lost", "back"], unit: _Unit, text: str) -> None:
        self._events.append(NodeEvent(kind, unit.spec.name, unit.spec.gateway, unit.spec.unit_id, text))

    def events(self) -> tuple[NodeEvent, ...]:
        """What happened since the last call."""
        events, self._events = tuple(self._events), []
        return events

    def inputs(self, now_s: float) -> SiteInputs:
        """The site's inputs as they stand."""
        if not self.units:
            return SiteInputs()
        stale_s = STALE_TICKS * max(self.site.timing.tick_s, self._step_s)
        seen = [UnitReading(self._values(u), now_s - u.sampled_s) for u in self.units]
        return site_inputs(self.site, seen, stale_s)

    def _values(self, unit: _Unit) -> tuple[tuple[str, float], ...]:
        """Values by signal; not-a-number before the first answer."""
        return unit.values or tuple((p.signal, float("nan")) for p in unit.spec.inputs)

    # ---- writing -------------------------------------------------------------------------------

    def submit_outputs(self, outputs: SiteOutputs, failures: list[NodeWriteFailure]) -> list[Batch]:
        """Have outputs written and read back that do not hold what they should; `failures` is added to."""
        batches = []
        for unit in self.units:
            if not unit.spec.outputs:
                continue
            if not unit.payloads or unit.failures:
                failures.append(self._failure(unit, "outputs", unit.text or "it was not read yet"))
                continue
            due = unit.codec.writes(unit.payloads, outputs)
            if due:
                batches.append(
                    unit.line.submit([partial(self._write, unit, due, outputs, failures)], urgent=True)
                )
        return batches

    async def _write(
        self,
        unit: _Unit,
        due: tuple[OutputWrite, ...],
        outputs: SiteOutputs,
        failures: list[NodeWriteFailure],
        link: Link,
    ) -> None:
        number = unit.spec.unit_id
        try:
            for write in due:
                self.writes += 1
                if write.point.is_bit:
                    await link.write_coil(number, write.point.address, on=bool(write.words[0]))
                else:
                    await link.write(number, write.point.address, write.words)
            unit.payloads = await self._payloads(unit, link)
        except NodeError as error:
            failures.append(self._failure(unit, due[0].signal, str(error)))
            self._failed(unit, error)
            return
        failures.extend(
            self._failure(unit, left.signal, f"{left.point.name} does not read back as written")
            for left in unit.codec.writes(unit.payloads, outputs)
        )

    @staticmethod
    def _failure(unit: _Unit, register: str, text: str) -> NodeWriteFailure:
        return NodeWriteFailure(unit.spec.gateway, unit.spec.unit_id, register, text)
