"""What a host writes to metrics, as commands of the command contract. Pure.

A Sparkplug command carries no issuer, no expiry and no id. The broker's access list says who may publish
NCMD and DCMD of this node: that identity is the issuer the site file names, with its role. The payload's time
gives sequence, issue and expiry, so that an old or repeated message is refused as any other; the digest of
the payload gives the id, so that the same bytes twice are one command.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from edge.northbound.sparkplug.codec import (
    CommandPayload,
    DataType,
    MetricDef,
    PayloadError,
    Written,
    read_command,
    typed,
)
from edge.northbound.sparkplug.node import REBIRTH, SparkplugNode

FRESH_S = 30.0
"""How long a command holds that is done once; older ones are refused as expired."""
METRICS_MAX = 32
"""Most metrics in one command message."""
ACTIONS_MAX = 16
"""More than there are actions."""
SLOTS = 64
"""Messages of one millisecond that can be told apart."""
WHOLE = "Control/Command"
"""A whole command of the contract as JSON: its own issuer, sequence, expiry and signature."""


@dataclass(frozen=True, slots=True)
class Writable:
    """A metric that stands for an action."""

    name: str
    datatype: DataType
    action: str
    argument: str
    """Argument that takes the value; empty for a flag whose truth is the command."""
    unit: str = ""


NODE_COMMANDS = (
    Writable("Control/SetPower", DataType.DOUBLE, "set_power", "power_w", "W"),
    Writable("Control/DischargeLimit", DataType.DOUBLE, "set_limits", "discharge_max_w", "W"),
    Writable("Control/ChargeLimit", DataType.DOUBLE, "set_limits", "charge_max_w", "W"),
    Writable("Control/StartBalancing", DataType.BOOLEAN, "start_balancing", "active"),
    Writable("Control/EmergencyStop", DataType.BOOLEAN, "emergency_stop", ""),
    Writable("Control/RequestSnapshot", DataType.BOOLEAN, "request_snapshot", ""),
    Writable("Control/Mode", DataType.STRING, "set_mode", "mode"),
    Writable("Control/ClearFault", DataType.STRING, "clear_fault", "fault"),
    Writable("Control/BypassModule", DataType.STRING, "bypass_module", "serial"),
    Writable("Control/ReturnModule", DataType.STRING, "return_module", "serial"),
)
DEVICE_COMMANDS = (
    Writable("Control/StartCapacityTest", DataType.DOUBLE, "start_capacity_test", "current_c", "C"),
    Writable("Control/BypassModule", DataType.STRING, "bypass_module", "serial"),
    Writable("Control/ReturnModule", DataType.STRING, "return_module", "serial"),
)
HELD = frozenset(("set_power", "set_limits"))
"""Actions that hold until they expire."""


@dataclass(slots=True)
class Slots:
    """Sequence numbers from payload times: messages of one millisecond get numbers of their own.

    An older time gives a lower number, which the contract refuses; the same bytes get the same number.
    """

    _utc_ms: int = -1
    _of: dict[bytes, int] = field(default_factory=dict)

    def sequence(self, utc_ms: int, payload: bytes) -> int:
        """First of the `ACTIONS_MAX` numbers of a message."""
        if utc_ms != self._utc_ms:
            self._utc_ms, self._of = utc_ms, {}
        slot = self._of.setdefault(payload, min(len(self._of), SLOTS - 1))
        return (utc_ms * SLOTS + slot) * ACTIONS_MAX


@dataclass(frozen=True, slots=True)
class Asked:
    """What one NCMD or DCMD asks for."""

    rebirth: bool = False
    commands: tuple[bytes, ...] = ()
    """For the command contract."""
    refused: tuple[str, ...] = ()
    """Writes that are no commands, and why."""


def read_asked(
    node: SparkplugNode,
    slots: Slots,
    device: str,
    payload: bytes,
    *,
    issuer: str,
    hold_s: float,
    utc: datetime,
) -> Asked:
    """Understand a command message.

    Args:
        node: knows its metrics.
        slots: gives sequence numbers.
        device: string of a DCMD, empty for an NCMD.
        payload: the bytes.
        issuer: name in the command contract of whom the broker lets publish here; empty: read-only.
        hold_s: how long a set point or a limit holds.
        utc: now.
    """
    try:
        command = read_command(payload)
    except PayloadError as error:
        return Asked(refused=(str(error),))
    if len(command.metrics) > METRICS_MAX:
        return Asked(refused=(f"{len(command.metrics)} metrics; at most {METRICS_MAX} in one message",))
    rebirth = False
    found: list[tuple[MetricDef, float | bool | str]] = []
    refused: list[str] = []
    for written in command.metrics:
        try:
            if not device and written.name == REBIRTH:
                rebirth = rebirth or (written.kind == "boolean_value" and written.raw is True)
                continue
            found.append(_write(node, device, written, issuer))
        except PayloadError as error:
            refused.append(str(error))
    stop = [f for f in found if f[0].name == "Control/EmergencyStop"]
    if found and command.timestamp_ms is None and not stop:
        return Asked(rebirth, refused=(*refused, "a command needs the payload's timestamp"))
    made = tuple(_commands(found, device, payload, command, slots, issuer, hold_s, utc))
    return Asked(rebirth, made, tuple(refused))


def _write(
    node: SparkplugNode, device: str, written: Written, issuer: str
) -> tuple[MetricDef, float | bool | str]:
    """Metric and value of one write.

    Raises:
        PayloadError: no such metric, or it cannot be written with this value.
    """
    definition = node.metric(device, written.name, written.alias)
    if definition is None:
        name = written.name[:64] if written.name else f"alias {written.alias}"
        raise PayloadError(f"no metric {name!r} here")
    if not definition.writable:
        raise PayloadError(f"{definition.name} is read-only")
    if not issuer:
        raise PayloadError("this node takes no commands: sparkplug.issuer is empty in the site file")
    value = typed(definition, written)
    if definition.name == WHOLE:
        _check_issuer(str(value), issuer)
    return definition, value


def _check_issuer(text: str, issuer: str) -> None:
    """Whoever may publish here speaks for `issuer` only; another one has to sign.

    Raises:
        PayloadError: an unsigned command in another's name.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{WHOLE}: not JSON") from error
    if not isinstance(data, dict):
        raise PayloadError(f"{WHOLE}: not a JSON object")
    if data.get("issuer") != issuer and not data.get("signature"):
        raise PayloadError(f"{WHOLE}: unsigned commands are taken from {issuer!r} only")


def _commands(
    found: Iterable[tuple[MetricDef, float | bool | str]],
    device: str,
    payload: bytes,
    command: CommandPayload,
    slots: Slots,
    issuer: str,
    hold_s: float,
    utc: datetime,
) -> Iterator[bytes]:
    """One command for each action; limits written together are one."""
    table = {w.name: w for w in (DEVICE_COMMANDS if device else NODE_COMMANDS)}
    actions: dict[str, dict[str, Any]] = {}
    for definition, value in found:
        if definition.name == WHOLE:
            yield str(value).encode()
            continue
        row = table[definition.name]
        if not row.argument and value is not True:
            continue  # hosts write a flag back to false after they have set it
        args = actions.setdefault(row.action, {})
        if row.argument:
            args[row.argument] = value
        if row.action == "start_capacity_test":
            args["string"] = device
    issued = _issued(command, utc)
    digest = hashlib.sha256(device.encode() + b"\0" + payload)
    first = slots.sequence(round(issued.timestamp() * 1e3), digest.digest())
    for k, (action, args) in enumerate(actions.items()):
        life_s = hold_s if action in HELD and (utc - issued).total_seconds() <= FRESH_S else FRESH_S
        envelope = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{digest.hexdigest()}/{action}")),
            "issuer": issuer,
            "sequence": None if action == "emergency_stop" else first + k,
            "issued_at": issued.isoformat(),
            "expires_at": (issued + timedelta(seconds=life_s)).isoformat(),
            "action": action,
            "args": args,
        }
        yield json.dumps({key: v for key, v in envelope.items() if v is not None}).encode()


def _issued(command: CommandPayload, utc: datetime) -> datetime:
    """When the host sent it; now for a stop without a time, and for a time no calendar has."""
    if command.timestamp_ms is None:
        return utc
    try:
        return datetime.fromtimestamp(command.timestamp_ms / 1e3, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC, year=9000)  # refused by the contract as future-dated
