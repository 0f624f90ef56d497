"""Orders to a running twin: faults to inject, truth to report. For tests and demonstrations only.

One JSON object per line. `{"do": "unit", "gateway": "gateway-a", "unit": 3, "silent": true}` makes a unit
misbehave on the wire (the fields of `UnitFault`), `{"do": "heal", ...}` ends that; the others act on the
hardware or the physics beneath.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from edge.modbus.server import TwinServer
from edge.modbus.wire_faults import UnitFault
from reconf.errors import ConfigError, ParameterError
from reconf.twin.firmware_ledger import Ledger
from reconf.twin.moving import swap_modules
from reconf.twin.wiring_faults import FaultOrder, build_in

Order = Mapping[str, Any]


def obey(server: TwinServer, ledger: Ledger, order: Order) -> dict[str, Any]:
    """Carry out one order and give its answer.

    Raises:
        ConfigError: the order cannot be understood.
    """
    name = order.get("do")
    action = ACTIONS.get(str(name))
    if action is None:
        raise ConfigError(f"unknown order {name!r}; there are {', '.join(sorted(ACTIONS))}")
    try:
        return action(server, ledger, order)
    except KeyError as error:
        raise ConfigError(f"order {name!r} lacks {error}, or there is none of that name") from error
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"order {name!r}: {error!r}") from error


def _unit(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Let a unit misbehave on the wire."""
    fault = server.faults.unit(str(order["gateway"]), int(order["unit"]))
    known = {f.name for f in fields(UnitFault)}
    for key, value in order.items():
        if key in ("do", "gateway", "unit"):
            continue
        if key not in known:
            raise ConfigError(f"a unit has no fault {key!r}; there are {', '.join(sorted(known))}")
        setattr(fault, key, _as_like(getattr(fault, key), value))
    return {"ok": True}


def _as_like(standing: Any, value: Any) -> Any:
    """`value` as the kind that stands there; names of registers are text in JSON."""
    if isinstance(standing, dict):
        return {int(address): int(word) for address, word in value.items()}
    return type(standing)(value)


def _heal(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    server.faults.heal(str(order["gateway"]), int(order["unit"]))
    return {"ok": True}


def _fault(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Build in a fault of wiring: `{"do": "fault", "fault": "reversed@SERIAL"}`."""
    build_fault(server, str(order["fault"]))
    return {"ok": True}


def build_fault(server: TwinServer, text: str) -> None:
    """Build `KIND@SUBJECT[=VALUE]` into the site behind `server`; `noise@GATEWAY=RATE` onto its wires.

    Raises:
        ConfigError: no such fault, or nothing it could act on.
    """
    order = FaultOrder.parse(text)
    if order.kind != "noise":
        build_in(server.bank, order)
        return
    names = [g.name for g in server.bank.site.gateways]
    rate = order.number(0.03)
    if order.subject not in names or not 0.0 <= rate <= 1.0:
        raise ConfigError(f"fault {text!r}: allowed is noise@GATEWAY=RATE, 0..1, of {', '.join(names)}")
    server.faults.noise[order.subject] = rate


def _cut(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    server.cut_connections()
    return {"ok": True}


def _module(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Break a module's hardware: stuck (-1, 0, 1), trim_broken, frozen."""
    faults, row = server.bank.rm1.faults, int(order["module"])
    for key in ("stuck", "trim_broken", "frozen"):
        if key in order:
            getattr(faults, key)[row] = order[key]
    return {"ok": True}


def _string(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Break a converter: welded, stuck_open, hardware, frozen, emergency_stop."""
    rc1, row = server.bank.rc1, int(order["string"])
    for key in ("welded", "stuck_open", "hardware", "frozen"):
        if key in order:
            getattr(rc1.faults, key)[row] = bool(order[key])
    if "emergency_stop" in order:
        rc1.emergency_stop[row] = bool(order["emergency_stop"])
    return {"ok": True}


def _plant(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Set a physical fault: a field of `PlantFaults`, an index, a value."""
    faults = server.bank.plant.faults
    known = [f.name for f in fields(faults)]
    if order["fault"] not in known:
        raise ConfigError(f"the plant has no fault {order['fault']!r}; there are {', '.join(known)}")
    array = getattr(faults, str(order["fault"]))
    array[tuple(order["index"]) if isinstance(order["index"], list) else int(order["index"])] = order["value"]
    return {"ok": True}


def _restart(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """A module node, or a converter, loses its supply and comes back."""
    bank = server.bank
    if "module" in order:
        rows = np.zeros(bank.site.topology.n_modules, dtype=np.bool_)
        rows[int(order["module"])] = True
        bank.rm1.restart(rows, bank.plant.time_s, bank.plant.charge_out_ah)
    else:
        rows = np.zeros(bank.site.topology.n_strings, dtype=np.bool_)
        rows[int(order["string"])] = True
        books = bank.plant.energy
        bank.rc1.restart(rows, np.stack([books.bus_out_j, books.bus_in_j]) / 3.6e6)
    return {"ok": True}


def _input(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Set a signal of site I/O: `{"do": "input", "signal": "gas_alarm", "value": 1}`; null: no value."""
    value, signal, io = order["value"], order["signal"], server.bank.io
    if signal not in io.signals:
        raise ConfigError(f"there is no signal {signal!r}; there are {', '.join(sorted(io.signals))}")
    io.set(signal, None if value is None else float(value))
    return {"ok": True}


def _outputs(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    """What the site I/O units' outputs ask for."""
    held = server.bank.io.outputs
    return {"ok": True, "alarm": held.alarm, "ventilate": held.ventilate, "cooling_frac": held.cooling_frac}


def _swap(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    """Two modules change places: `{"do": "swap", "places": ["A03", "B17"]}`, contactors open."""
    first, second = order["places"]
    try:
        swap_modules(server.bank, str(first), str(second))
    except ParameterError as error:
        raise ConfigError(str(error)) from error
    return {"ok": True}


def _ambient(server: TwinServer, _: Ledger, order: Order) -> dict[str, Any]:
    server.bank.plant.ambient_degc = float(order["degc"])
    return {"ok": True}


def _ledger(server: TwinServer, ledger: Ledger, order: Order) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    return {"ok": True, "ledger": ledger.report()}


ACTIONS: dict[str, Callable[[TwinServer, Ledger, Order], dict[str, Any]]] = {
    "unit": _unit,
    "heal": _heal,
    "fault": _fault,
    "cut": _cut,
    "module": _module,
    "string": _string,
    "plant": _plant,
    "restart": _restart,
    "ambient": _ambient,
    "swap": _swap,
    "input": _input,
    "outputs": _outputs,
    "ledger": _ledger,
}
