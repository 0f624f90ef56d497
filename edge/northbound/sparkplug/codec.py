"""Between metrics and the bytes of a Sparkplug B payload (Sparkplug 3.0.0, chapter 6). Pure.

Numbers travel in the protobuf field their data type asks for; signed integers in two's complement. A value
that is not known is `is_null` without a value, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from google.protobuf.message import DecodeError

from edge.northbound.sparkplug import sparkplug_b_pb2 as pb

Value: TypeAlias = float | int | bool | str | None
COMMAND_MAX = 64 * 1024
"""Longest NCMD or DCMD that is read [byte]."""


class DataType(IntEnum):
    """Data types used here (Sparkplug 3.0.0, 6.4.16)."""

    INT32 = 3
    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    TEMPLATE = 19


class PayloadError(ValueError):
    """Bytes that are not a payload, or a value that does not fit its metric."""


@dataclass(frozen=True, slots=True)
class MetricDef:
    """One metric as a birth describes it."""

    name: str
    datatype: DataType
    unit: str = ""
    low: float = math.nan
    """Lowest value the metric can take; NaN where there is no bound."""
    high: float = math.nan
    deadband: float = 0.0
    """Changes up to this much are not published."""
    writable: bool = False
    instance: str = ""
    """Name of the template instance the metric is a member of; empty for a metric of its own."""
    member: str = ""
    """Its name in the template definition."""

    @property
    def numeric(self) -> bool:
        """Whether it is kept as a number (flags are 0 and 1)."""
        return self.datatype is not DataType.STRING


@dataclass(frozen=True, slots=True)
class Written:
    """One metric of an NCMD or DCMD."""

    name: str | None
    alias: int | None
    kind: str
    """Protobuf field that carried it, `int_value` ... `string_value`; empty for null."""
    raw: float | int | bool | str | None


@dataclass(frozen=True, slots=True)
class CommandPayload:
    """An NCMD or DCMD."""

    timestamp_ms: int | None
    metrics: tuple[Written, ...]


def set_value(metric: pb.Payload.Metric, datatype: DataType, value: Value) -> None:
    """Give a metric its value, or say that there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        metric.is_null = True
    elif datatype is DataType.STRING:
        metric.string_value = str(value)
    elif datatype is DataType.BOOLEAN:
        metric.boolean_value = bool(value)
    elif datatype is DataType.DOUBLE:
        metric.double_value = float(value)
    elif datatype is DataType.INT32:
        metric.int_value = int(value) & 0xFFFF_FFFF
    else:
        metric.long_value = int(value) & 0xFFFF_FFFF_FFFF_FFFF


def describe(metric: pb.Payload.Metric, definition: MetricDef) -> None:
    """Unit, limits and whether it can be written, as properties."""
    found: list[tuple[str, DataType, Value]] = [
        ("readOnly", DataType.BOOLEAN, not definition.writable),
        ("engUnit", DataType.STRING, definition.unit or None),
        ("engLow", DataType.DOUBLE, definition.low),
        ("engHigh", DataType.DOUBLE, definition.high),
    ]
    for key, datatype, value in found:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        metric.properties.keys.append(key)
        held = metric.properties.values.add(type=int(datatype))
        if isinstance(value, bool):
            held.boolean_value = value
        elif isinstance(value, str):
            held.string_value = value
        else:
            held.double_value = float(value)


def death(bdseq: int, utc_ms: int) -> bytes:
    """NDEATH: the number of the session and nothing else."""
    payload = pb.Payload(timestamp=utc_ms)
    payload.metrics.add(name="bdSeq", timestamp=utc_ms, datatype=int(DataType.INT64), long_value=bdseq)
    return payload.SerializeToString()


def mark_historical(data: bytes) -> bytes:
    """The same metrics as history: without sequence number, to be sent later."""
    payload = pb.Payload.FromString(data)
    payload.ClearField("seq")
    for metric in payload.metrics:
        metric.is_historical = True
    return payload.SerializeToString()


def numbered(data: bytes, seq: int, utc_ms: int) -> bytes:
    """A payload with its sequence number and time of sending."""
    payload = pb.Payload.FromString(data)
    payload.seq, payload.timestamp = seq, utc_ms
    return payload.SerializeToString()


def read_command(data: bytes) -> CommandPayload:
    """Parse an NCMD or DCMD.

    Raises:
        PayloadError: too long, or not a payload.
    """
    if len(data) > COMMAND_MAX:
        raise PayloadError(f"longer than the {COMMAND_MAX} bytes that are read")
    try:
        payload = pb.Payload.FromString(data)
    except DecodeError as error:
        raise PayloadError("not a Sparkplug B payload") from error
    return CommandPayload(
        int(payload.timestamp) if payload.HasField("timestamp") else None,
        tuple(_written(payload.metrics)),
    )


def _written(metrics: Iterable[pb.Payload.Metric]) -> Iterable[Written]:
    for metric in metrics:
        kind = metric.WhichOneof("value") or ""
        raw = getattr(metric, kind) if kind and not metric.is_null else None
        simple = raw if isinstance(raw, float | int | bool | str) else None
        yield Written(
            metric.name if metric.HasField("name") else None,
            int(metric.alias) if metric.HasField("alias") else None,
            kind if simple is not None else "",
            simple,
        )


def typed(definition: MetricDef, written: Written) -> float | bool | str:
    """The value written to a metric, in the metric's own type.

    Raises:
        PayloadError: null, or of another kind.
    """
    kind, raw = written.kind, written.raw
    match definition.datatype:
        case DataType.STRING if kind == "string_value":
            return str(raw)
        case DataType.BOOLEAN if kind == "boolean_value":
            return bool(raw)
        case DataType.DOUBLE if kind in ("double_value", "float_value") and raw is not None:
            if not math.isfinite(float(raw)):
                raise PayloadError(f"{definition.name}: {raw} is not a number")
            return float(raw)
        case DataType.DOUBLE if kind in ("int_value", "long_value") and isinstance(raw, int):
            # hosts write whole numbers as integers; the sign is in the two's complement
            bits = 32 if kind == "int_value" else 64
            return float(raw - (1 << bits) if raw >= 1 << (bits - 1) else raw)
        case _:
            told = kind or "null"
            raise PayloadError(f"{definition.name} is {definition.datatype.name}, written as {told}")
