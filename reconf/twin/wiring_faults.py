"""Faults that people build in: what commissioning has to find. Named on the command line of the twin.

    reversed@DEMO-A07        swapped@DEMO-A03,DEMO-B11        temperature@DEMO-B02=2.0

Each one acts on the nodes or the physics of a `NodeBank`; what happens on the wire between them (a noisy
line) is the server's part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reconf.errors import ConfigError
from reconf.twin.firmware import NodeBank


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """`KIND@SUBJECT` or `KIND@SUBJECT=VALUE`, taken apart."""

    kind: str
    subject: str
    value: str

    @classmethod
    def parse(cls, text: str) -> FaultOrder:
        """Take `text` apart.

        Raises:
            ConfigError: it has no kind or no subject.
        """
        kind, _, rest = text.partition("@")
        subject, _, value = rest.partition("=")
        if not kind or not subject:
            raise ConfigError(f"fault {text!r}: allowed is KIND@SUBJECT or KIND@SUBJECT=VALUE")
        return cls(kind, subject, value)

    def number(self, default: float) -> float:
        """The value as a number, or `default` where none was given.

        Raises:
            ConfigError: it is no number.
        """
        try:
            return float(self.value) if self.value else default
        except ValueError as error:
            raise ConfigError(f"fault {self.kind}@{self.subject}: {self.value!r} is no number") from error


def _row(bank: NodeBank, serial: str) -> int:
    serials = bank.site.topology.serials
    if serial not in serials:
        raise ConfigError(f"no module {serial!r} at this site; there are {serials[0]} .. {serials[-1]}")
    return serials.index(serial)


def _string(bank: NodeBank, name: str) -> int:
    names = [s.name for s in bank.site.strings]
    if name not in names:
        raise ConfigError(f"no string {name!r} at this site; there are {', '.join(names)}")
    return names.index(name)


def _swapped(bank: NodeBank, order: FaultOrder) -> None:
    """Two nodes sit in each other's position."""
    one, _, other = order.subject.partition(",")
    rows = [_row(bank, one), _row(bank, other)]
    identity = bank.rm1.bank.holding[:, 100:108]
    identity[rows] = identity[rows[::-1]]


def _reversed(bank: NodeBank, order: FaultOrder) -> None:
    row = _row(bank, order.subject)
    bank.plant.faults.polarity[row] = bank.plant.faults.sense_polarity[row] = -1.0


def _crossed(bank: NodeBank, order: FaultOrder) -> None:
    bank.plant.faults.polarity[_row(bank, order.subject)] = -1.0


def _stuck(state: int, *, blind: bool = False) -> Callable[[NodeBank, FaultOrder], None]:
    def act(bank: NodeBank, order: FaultOrder) -> None:
        row = _row(bank, order.subject)
        bank.rm1.faults.stuck[row] = state
        bank.rm1.faults.sense_blind[row] = blind

    return act


def _unit(bank: NodeBank, order: FaultOrder) -> None:
    """The node answers to another unit id."""
    position = bank.site.positions[_row(bank, order.subject)]
    wrong = position.gateway, int(order.number(199.0))
    if wrong in bank.units:
        raise ConfigError(f"unit {wrong[1]} of {wrong[0]} is taken")
    bank.units[wrong] = bank.units.pop((position.gateway, position.unit_id))


def _watchdog(bank: NodeBank, order: FaultOrder) -> None:
    bank.rm1.faults.watchdog_dead[_row(bank, order.subject)] = True


def _temperature(bank: NodeBank, order: FaultOrder) -> None:
    bank.plant.faults.temperature_offset_k[_row(bank, order.subject), 0] = order.number(2.0)


def _trim(bank: NodeBank, order: FaultOrder) -> None:
    bank.rm1.faults.trim_broken[_row(bank, order.subject)] = True


def _sense(bank: NodeBank, order: FaultOrder) -> None:
    bank.plant.faults.sense_open[_row(bank, order.subject), int(order.number(1.0)) - 1] = True


def _contactor(bank: NodeBank, order: FaultOrder) -> None:
    bank.rc1.faults.stuck_open[_string(bank, order.subject)] = True


def _string_leads(bank: NodeBank, order: FaultOrder) -> None:
    bank.plant.faults.string_sense[_string(bank, order.subject)] = -1.0


def _converter_watchdog(bank: NodeBank, order: FaultOrder) -> None:
    bank.rc1.faults.watchdog_dead[_string(bank, order.subject)] = True


def _gradient(bank: NodeBank, order: FaultOrder) -> None:
    """The rack is warmer at its end: what a healthy site shows too."""
    topology, row = bank.site.topology, _string(bank, order.subject)
    count = int((topology.string_of == row).sum())
    rise = np.linspace(0.0, order.number(4.0), count)[:, None]
    bank.plant.faults.temperature_offset_k[topology.slice_of(row)] += rise


@dataclass(frozen=True, slots=True)
class WiringFault:
    """One row of the table."""

    act: Callable[[NodeBank, FaultOrder], None]
    text: str


WIRING_FAULTS: dict[str, WiringFault] = {
    "swapped": WiringFault(_swapped, "SERIAL,SERIAL: two nodes sit in each other's position"),
    "reversed": WiringFault(_reversed, "SERIAL: module reversed at its node, cells read 0"),
    "crossed": WiringFault(_crossed, "SERIAL: node wired backwards into the string, readings look right"),
    "stuck-bypassed": WiringFault(_stuck(0), "SERIAL: switch never inserts"),
    "stuck-inserted": WiringFault(_stuck(1), "SERIAL: switch never bypasses"),
    "stuck-bypassed-unseen": WiringFault(_stuck(0, blind=True), "SERIAL: and its node does not notice"),
    "stuck-inserted-unseen": WiringFault(_stuck(1, blind=True), "SERIAL: and its node does not notice"),
    "unit": WiringFault(_unit, "SERIAL=ID: node answers to another unit id (199)"),
    "watchdog": WiringFault(_watchdog, "SERIAL: module watchdog never runs out"),
    "temperature": WiringFault(_temperature, "SERIAL=K: first sensor is off by so much (2.0)"),
    "trim": WiringFault(_trim, "SERIAL: trim converter does not run"),
    "sense": WiringFault(_sense, "SERIAL=N: sense wire of cell group N is open (1)"),
    "contactor": WiringFault(_contactor, "STRING: contactor does not close"),
    "string-leads": WiringFault(_string_leads, "STRING: its leads are crossed at the converter"),
    "converter-watchdog": WiringFault(_converter_watchdog, "STRING: converter watchdog never runs out"),
    "gradient": WiringFault(_gradient, "STRING=K: rack is so much warmer at its end (4.0); no fault"),
}
"""Everything that can be ordered, but for `noise@GATEWAY=RATE`, which is the server's."""


def build_in(bank: NodeBank, order: FaultOrder) -> None:
    """Build one fault into the site behind `bank`.

    Raises:
        ConfigError: no such fault, or nothing it could act on.
    """
    fault = WIRING_FAULTS.get(order.kind)
    if fault is None:
        raise ConfigError(f"no fault {order.kind!r}; there are {', '.join(sorted(WIRING_FAULTS))}, noise")
    fault.act(bank, order)
