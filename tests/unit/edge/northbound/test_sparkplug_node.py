"""The pure parts of the Sparkplug node: what a host may write, STATE, deadbands, history."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edge.northbound.sparkplug import sparkplug_b_pb2 as pb
from edge.northbound.sparkplug.codec import DataType, MetricDef
from edge.northbound.sparkplug.commands import Slots, read_asked
from edge.northbound.sparkplug.host import HostWatch
from edge.northbound.sparkplug.node import Kept, Message, MetricSet, Shown, SparkplugNode, Values

UTC_NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MS = round(UTC_NOW.timestamp() * 1e3)


def make(**options: object) -> SparkplugNode:
    node = MetricSet(
        (
            MetricDef("Power", DataType.DOUBLE, "W", deadband=10.0),
            MetricDef("Control/SetPower", DataType.DOUBLE, "W", writable=True),
            MetricDef("Control/EmergencyStop", DataType.BOOLEAN, writable=True),
            MetricDef("Control/Mode", DataType.STRING, writable=True),
            MetricDef("Control/Command", DataType.STRING, writable=True),
        )
    )
    device = MetricSet((MetricDef("Voltage", DataType.DOUBLE, "V"), MetricDef("State", DataType.STRING)))
    return SparkplugNode("g", "n", node, {"A": device}, **options)  # type: ignore[arg-type]


def seen(power_w: float = 0.0, voltage_v: float | None = 1.0) -> Shown:
    node = Values(np.array([power_w, power_w, 0.0]), ("run", None))
    devices = {} if voltage_v is None else {"A": Values(np.array([voltage_v]), ("open",))}
    return Shown(node, devices)


def born(**options: object) -> SparkplugNode:
    node = make(**options)
    node.show(seen(), MS)
    node.session(7)
    assert [m.topic.split("/")[2] for m in node.birth(MS)] == ["NBIRTH", "DBIRTH"]
    return node


def names(message: Message | Kept) -> list[str]:
    return [m.name for m in pb.Payload.FromString(message.payload).metrics]


def written(node: SparkplugNode, issuer: str = "plc", utc: datetime = UTC_NOW, **metric: object):
    stamp = metric.pop("stamp", MS)
    payload = pb.Payload(timestamp=stamp) if stamp is not None else pb.Payload()  # type: ignore[arg-type]
    payload.metrics.add(**metric)  # type: ignore[arg-type]
    return read_asked(node, Slots(), "", payload.SerializeToString(), issuer=issuer, hold_s=300.0, utc=utc)


def test_deadband_is_measured_from_what_was_last_said() -> None:
    node = born()
    assert node.show(seen(6.0, 1.0), MS + 1)[0].topic.endswith("NDATA/n"), "the set point has no deadband"
    said = [names(m) for p in (9.0, 9.0, 11.0) for m in node.show(seen(p), MS + 2)]
    assert said == [["Control/SetPower"], ["Power", "Control/SetPower"]]


def test_nothing_is_said_before_values_and_unheard_values_are_kept_as_history() -> None:
    node = make()
    node.session(0)
    assert node.birth(MS) == []
    node.show(seen(), MS)
    kept = node.show(seen(500.0), MS + 5)
    assert all(isinstance(k, Kept) for k in kept)
    node.birth(MS + 10)
    late = pb.Payload.FromString(node.late(kept[0], MS + 20).payload)  # type: ignore[arg-type]
    assert (late.seq, late.timestamp) == (2, MS + 20)
    assert all(m.is_historical and m.timestamp == MS + 5 for m in late.metrics)


def test_lost_string_dies_and_comes_back() -> None:
    node = born()
    kinds = [[m.topic.split("/")[2] for m in node.show(seen(0.0, v), MS)] for v in (None, None, 2.0, 2.0)]
    assert kinds == [["DDEATH"], [], ["DBIRTH"], []]


def test_set_point_becomes_a_command_with_its_own_expiry() -> None:
    asked = written(born(), name="Control/SetPower", datatype=10, double_value=-2500.0)
    command = json.loads(asked.commands[0])
    assert command["action"] == "set_power"
    assert command["args"] == {"power_w": -2500.0}
    assert command["issuer"] == "plc"
    assert datetime.fromisoformat(command["expires_at"]) == UTC_NOW + timedelta(seconds=300.0)
    again = written(born(), name="Control/SetPower", datatype=10, double_value=-2500.0)
    assert again.commands == asked.commands, "the same bytes are the same command"
    stale = written(born(), utc=UTC_NOW + timedelta(seconds=100.0), name="Control/SetPower", double_value=1.0)
    expires = datetime.fromisoformat(json.loads(stale.commands[0])["expires_at"])
    assert expires < UTC_NOW + timedelta(seconds=100.0), "an old message is refused as expired"


@pytest.mark.parametrize(
    ("metric", "power_w"),
    [
        ({"int_value": 2**32 - 5}, -5.0),
        ({"long_value": 2**64 - 5}, -5.0),
        ({"float_value": 2.5}, 2.5),
        ({"double_value": 7.0}, 7.0),
    ],
)
def test_numbers_of_hosts(metric: dict[str, float], power_w: float) -> None:
    asked = written(born(), name="Control/SetPower", **metric)
    assert json.loads(asked.commands[0])["args"]["power_w"] == power_w


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ({"name": "Power", "double_value": 1.0}, "read-only"),
        ({"name": "Nothing", "double_value": 1.0}, "no metric"),
        ({"name": "Control/SetPower", "string_value": "1"}, "written as string_value"),
        ({"name": "Control/SetPower", "double_value": float("nan")}, "not a number"),
        ({"name": "Control/SetPower", "is_null": True}, "written as null"),
        ({"name": "Control/SetPower", "double_value": 1.0, "stamp": None}, "timestamp"),
        ({"name": "Control/Mode", "string_value": "run", "issuer": ""}, "takes no commands"),
        ({"name": "Control/Command", "string_value": '{"issuer": "boss"}'}, "unsigned"),
        ({"name": "Control/Command", "string_value": "["}, "not JSON"),
    ],
)
def test_writes_that_are_no_commands(metric: dict[str, object], why: str) -> None:
    asked = written(born(), **metric)  # type: ignore[arg-type]
    assert asked.commands == ()
    assert why in asked.refused[0]


def test_whole_command_passes_as_it_is_and_a_stop_needs_no_time() -> None:
    text = '{"issuer": "plc", "action": "request_snapshot"}'
    assert written(born(), name="Control/Command", string_value=text).commands == (text.encode(),)
    stop = json.loads(
        written(born(), name="Control/EmergencyStop", boolean_value=True, stamp=None).commands[0]
    )
    assert stop["action"] == "emergency_stop"
    assert "sequence" not in stop
    assert written(born(), name="Control/EmergencyStop", boolean_value=False).commands == ()


def test_rubbish_is_refused_and_aliases_are_understood() -> None:
    node = born(aliases=True)
    for rubbish in (b"\xff", b"\x00" * 70_000):
        assert read_asked(node, Slots(), "", rubbish, issuer="plc", hold_s=1.0, utc=UTC_NOW).refused
    births = pb.Payload.FromString(node.birth(MS)[0].payload)
    alias = next(m.alias for m in births.metrics if m.name == "Control/SetPower")
    assert json.loads(written(node, alias=alias, double_value=3.0).commands[0])["args"] == {"power_w": 3.0}
    assert written(node, alias=999, double_value=3.0).refused


def test_messages_of_one_millisecond_are_told_apart_and_older_ones_come_lower() -> None:
    slots = Slots()
    first, second = slots.sequence(MS, b"a"), slots.sequence(MS, b"b")
    assert first < second < slots.sequence(MS + 1, b"c")
    assert slots.sequence(MS, b"a") == first


@pytest.mark.parametrize(
    ("payload", "taken", "online"),
    [
        (b'{"online": true, "timestamp": 5}', True, True),
        (b'{"online": false, "timestamp": 4}', False, True),
        (b'{"online": false, "timestamp": 5}', True, False),
        (b'{"online": 1, "timestamp": 9}', False, True),
        (b'{"online": false}', False, True),
        (b"OFFLINE", False, True),
        (b"[]", False, True),
    ],
)
def test_state_of_the_host(payload: bytes, taken: bool, online: bool) -> None:
    watch = HostWatch("scada")
    assert watch.hear(watch.topic, b'{"online": true, "timestamp": 5}')
    assert not watch.hear("spBv1.0/STATE/other", b'{"online": false, "timestamp": 9}')
    assert watch.hear(watch.topic, payload) is taken
    assert watch.online is online
