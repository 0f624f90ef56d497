"""The edge node's state, pure: values and times go in, messages come out. No clock, socket or disk.

    connected ──birth()──> NBIRTH seq 0, DBIRTH per string ──show()──> NDATA, DDATA, DBIRTH, DDEATH
    not born  ──show()──> Kept (is_historical), sent by `late` after the next birth

One sequence counter 0..255 numbers every message of the node and its devices; a rebirth starts it anew with
the same bdSeq (Sparkplug 3.0.0, 6.4.4 and 6.4.7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np

from edge.northbound.sparkplug import sparkplug_b_pb2 as pb
from edge.northbound.sparkplug.codec import (
    DataType,
    MetricDef,
    Value,
    death,
    describe,
    mark_historical,
    numbered,
    set_value,
)
from reconf.arrays import BoolArray, FloatArray

SEQ_CYCLE = 256
REBIRTH = "Node Control/Rebirth"
TEMPLATE = "Module"
"""Name of the template definition of a module."""


@dataclass(frozen=True)
class MetricSet:
    """Metrics of the node or of one device: numbers first, texts after them."""

    defs: tuple[MetricDef, ...]

    @cached_property
    def n_numbers(self) -> int:
        """How many are numbers."""
        return sum(d.numeric for d in self.defs)

    @cached_property
    def deadband(self) -> FloatArray:
        """(K,) of the numbers, in their units."""
        return np.array([d.deadband for d in self.defs[: self.n_numbers]])

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each metric by name."""
        return {d.name: k for k, d in enumerate(self.defs)}


@dataclass(frozen=True, slots=True)
class Values:
    """Present values of a `MetricSet`."""

    numbers: FloatArray
    """(K,) NaN: not known."""
    texts: tuple[str | None, ...]

    def at(self, k: int) -> Value:
        """Value of metric `k`."""
        n = len(self.numbers)
        return float(self.numbers[k]) if k < n else self.texts[k - n]


@dataclass(frozen=True, slots=True)
class Shown:
    """The site at one moment."""

    node: Values
    devices: Mapping[str, Values]
    """Strings that are heard; one that is missing is lost."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the node: QoS 0, not retained."""

    topic: str
    payload: bytes

    @property
    def data(self) -> bool:
        """NDATA or DDATA: history if it does not arrive."""
        return self.topic.split("/")[2] in ("NDATA", "DDATA")


@dataclass(frozen=True, slots=True)
class Kept:
    """Data nobody could hear; becomes a message when somebody can."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class SparkplugNode:
    """One edge node and its devices."""

    group: str
    name: str
    node: MetricSet
    devices: Mapping[str, MetricSet]
    aliases: bool = False
    types_always: bool = False
    """Data types in data too, for hosts that do not remember them from the birth."""
    template: tuple[MetricDef, ...] = ()
    """Members of the template definition `Module`; empty where modules are plain metrics."""
    bdseq: int = 0
    born: bool = False
    _seq: int = 0
    _alive: set[str] = field(default_factory=set)
    _now: Shown | None = None
    _told: dict[str, Value] = field(default_factory=dict)
    _sent: dict[str, Values] = field(default_factory=dict)
    _alias_of: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Number all metrics, node first, devices in order."""
        everything = chain([("", self.node)], self.devices.items())
        names = [(device, d.name) for device, metrics in everything for d in metrics.defs]
        self._alias_of = {key: k for k, key in enumerate(names, start=2)}

    # topics ---------------------------------------------------------------------------------------

    def topic(self, kind: str, device: str = "") -> str:
        """`spBv1.0/<group>/<kind>/<node>[/<device>]`."""
        base = f"spBv1.0/{self.group}/{kind}/{self.name}"
        return f"{base}/{device}" if device else base

    # session --------------------------------------------------------------------------------------

    def session(self, bdseq: int) -> None:
        """A new MQTT session is about to be asked for; nothing was said in it yet."""
        self.bdseq, self.born = bdseq, False

    def death(self, utc_ms: int) -> bytes:
        """NDEATH of this session, as will or said by the node itself."""
        return death(self.bdseq, utc_ms)

    def birth(self, utc_ms: int) -> list[Message]:
        """NBIRTH, then a DBIRTH of every string that is heard; nothing before the first values."""
        if self._now is None:
            return []
        self.born, self._seq, self._alive = True, 0, set()
        payload = pb.Payload(timestamp=utc_ms)
        head = payload.metrics.add(name="bdSeq", timestamp=utc_ms, datatype=int(DataType.INT64))
        head.long_value = self.bdseq
        if self.aliases:
            head.alias = 1
        payload.metrics.add(
            name=REBIRTH, timestamp=utc_ms, datatype=int(DataType.BOOLEAN), boolean_value=False
        )
        if self.template:
            self._definition(payload, utc_ms)
        self._fill(payload, "", self.node, self._now.node, range(len(self.node.defs)), utc_ms, birth=True)
        self._sent[""] = self._now.node
        found = [self._out("NBIRTH", "", payload)]
        return found + [self._device_birth(device, self._now, utc_ms) for device in self._now.devices]

    def show(self, shown: Shown, utc_ms: int) -> list[Message] | list[Kept]:
        """New values: what changed beyond its deadband, as messages when born, else to be kept."""
        shown = Shown(self._with_told(shown.node), shown.devices)
        self._now = shown
        found: list[Message] = []
        kept: list[Kept] = []
        for device, values in chain([("", shown.node)], shown.devices.items()):
            if device and self.born and device not in self._alive:
                found.append(self._device_birth(device, shown, utc_ms))
                continue
            payload = self._changes(device, values, utc_ms)
            if payload is None:
                continue
            kind: Literal["DDATA", "NDATA"] = "DDATA" if device else "NDATA"
            if self.born:
                found.append(self._out(kind, device, payload))
            else:
                data = mark_historical(payload.SerializeToString())
                kept.append(Kept(self.topic(kind, device), data))
        for device in sorted(self._alive - set(shown.devices)) if self.born else ():
            self._alive.discard(device)
            found.append(self._out("DDEATH", device, pb.Payload(timestamp=utc_ms)))
        return found if self.born else kept

    def tell(self, values: Mapping[str, Value], utc_ms: int) -> list[Message]:
        """Node metrics that are said at once and in full, such as replies; they stay as they are told."""
        self._told.update(values)
        if self._now is None:
            return []
        self._now = Shown(self._with_told(self._now.node), self._now.devices)
        if not self.born:
            return []
        self._sent[""] = self._with_told(self._sent[""])
        which = [self.node.index[name] for name in values]
        payload = pb.Payload(timestamp=utc_ms)
        self._fill(payload, "", self.node, self._now.node, which, utc_ms, birth=False)
        return [self._out("NDATA", "", payload)]

    def _with_told(self, values: Values) -> Values:
        """The node's values with what was told put in."""
        numbers, texts, n = values.numbers.copy(), list(values.texts), len(values.numbers)
        for name, value in self._told.items():
            k = self.node.index[name]
            if k < n:
                numbers[k] = np.nan if value is None else float(value)
            else:
                texts[k - n] = None if value is None else str(value)
        return Values(numbers, tuple(texts))

    def late(self, kept: Kept, utc_ms: int) -> Message:
        """What was kept, now that somebody listens."""
        return Message(kept.topic, numbered(kept.payload, self._next(), utc_ms))

    def metric(self, device: str, name: str | None, alias: int | None) -> MetricDef | None:
        """The metric a command means, by name or by alias."""
        metrics = self.devices.get(device) if device else self.node
        if metrics is None:
            return None
        if name is None:
            name = next((n for (d, n), a in self._alias_of.items() if d == device and a == alias), None)
        k = metrics.index.get(name) if name is not None else None
        return None if k is None else metrics.defs[k]

    # payloads -------------------------------------------------------------------------------------

    def _next(self) -> int:
        self._seq = (self._seq + 1) % SEQ_CYCLE
        return self._seq

    def _out(
        self, kind: Literal["NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH"], device: str, payload: pb.Payload
    ) -> Message:
        payload.seq = 0 if kind == "NBIRTH" else self._next()
        return Message(self.topic(kind, device), payload.SerializeToString())

    def _device_birth(self, device: str, shown: Shown, utc_ms: int) -> Message:
        metrics, values = self.devices[device], shown.devices[device]
        payload = pb.Payload(timestamp=utc_ms)
        self._fill(payload, device, metrics, values, range(len(metrics.defs)), utc_ms, birth=True)
        self._sent[device] = values
        self._alive.add(device)
        return self._out("DBIRTH", device, payload)

    def _changes(self, device: str, values: Values, utc_ms: int) -> pb.Payload | None:
        """Metrics that changed since they were last said; None when none did."""
        metrics = self.devices[device] if device else self.node
        last = self._sent.get(device)
        if last is None:
            which = list(range(len(metrics.defs)))
            self._sent[device] = values
        else:
            moved = changed(last.numbers, values.numbers, metrics.deadband)
            texts = [k for k, (a, b) in enumerate(zip(last.texts, values.texts, strict=True)) if a != b]
            which = [*np.flatnonzero(moved).tolist(), *(metrics.n_numbers + k for k in texts)]
            # a value within its deadband is measured against what was last said, not against what was seen
            self._sent[device] = Values(np.where(moved, values.numbers, last.numbers), values.texts)
        if not which:
            return None
        payload = pb.Payload(timestamp=utc_ms)
        self._fill(payload, device, metrics, values, which, utc_ms, birth=False)
        return payload

    def _fill(
        self,
        payload: pb.Payload,
        device: str,
        metrics: MetricSet,
        values: Values,
        which: Sequence[int],
        utc_ms: int,
        *,
        birth: bool,
    ) -> None:
        """Add metrics to a payload; members of one template instance share a metric."""
        instances: dict[str, pb.Payload.Template] = {}
        for k in which:
            definition = metrics.defs[k]
            if definition.instance:
                template = instances.get(definition.instance)
                if template is None:
                    template = self._instance(payload, definition.instance, utc_ms, birth=birth)
                    instances[definition.instance] = template
                metric = template.metrics.add(name=definition.member, timestamp=utc_ms)
            else:
                metric = payload.metrics.add(timestamp=utc_ms)
                if birth or not self.aliases:
                    metric.name = definition.name
                if self.aliases:
                    metric.alias = self._alias_of[device, definition.name]
            if birth or self.types_always:
                metric.datatype = int(definition.datatype)
            if birth:
                describe(metric, definition)
            set_value(metric, definition.datatype, values.at(k))

    def _instance(self, payload: pb.Payload, name: str, utc_ms: int, *, birth: bool) -> pb.Payload.Template:
        """A template instance in a payload, without members yet."""
        metric = payload.metrics.add(name=name, timestamp=utc_ms)
        if birth or self.types_always:
            metric.datatype = int(DataType.TEMPLATE)
        metric.template_value.is_definition = False
        metric.template_value.template_ref = TEMPLATE
        return metric.template_value

    def _definition(self, payload: pb.Payload, utc_ms: int) -> None:
        """The template definition of a module."""
        metric = payload.metrics.add(name=TEMPLATE, timestamp=utc_ms, datatype=int(DataType.TEMPLATE))
        metric.template_value.is_definition = True
        for definition in self.template:
            member = metric.template_value.metrics.add(
                name=definition.member, timestamp=utc_ms, datatype=int(definition.datatype), is_null=True
            )
            describe(member, definition)


def changed(last: FloatArray, now: FloatArray, deadband: FloatArray) -> BoolArray:
    """(K,) values that moved by more than their deadband, appeared or vanished."""
    gone = np.isnan(now)
    with np.errstate(invalid="ignore"):
        moved: BoolArray = (np.isnan(last) != gone) | (~gone & (np.abs(now - last) > deadband))
    return moved
