"""MQTT packets of the listener: against bytes from the specification, in any cut, and against nonsense."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.northbound import wire


def publish(
    topic: str, payload: bytes, *, qos: int, retain: bool, number: int, version: int, extra: bytes
) -> bytes:
    """A PUBLISH as a broker would send it (3.3)."""
    body = len(topic.encode()).to_bytes(2, "big") + topic.encode()
    body += number.to_bytes(2, "big") if qos else b""
    if version == 5:
        body += varint(len(extra)) + extra
    body += payload
    return bytes((0x30 | qos << 1 | retain,)) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """2.1.4, written another way than in the module."""
    digits = []
    while value >= 128:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


MESSAGES = st.builds(
    dict,
    topic=st.sampled_from(["reconf/demo/command", "t", "reconf/é/command"]),
    payload=st.binary(max_size=300),
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
    number=st.integers(1, 65_535),
    extra=st.binary(max_size=200),
)


@given(st.lists(MESSAGES, max_size=8), st.sampled_from([4, 5]), st.data())
def test_messages_come_whole_in_any_cut(messages: list[dict], version: int, data: st.DataObject) -> None:
    stream = b"".join(publish(version=version, **m) for m in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    splitter, found = wire.Splitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += [wire.published(first, body, version) for first, body in splitter.feed(stream[start:end])]
    assert [(m.topic.decode(), m.payload, m.qos, m.retain) for m in found] == [
        (m["topic"], m["payload"], m["qos"], m["retain"]) for m in messages
    ]
    assert [m.number for m in found] == [m["number"] if m["qos"] else 0 for m in messages]


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_nonsense_ends_in_an_error_of_our_own(data: bytes, version: int) -> None:
    with contextlib.suppress(wire.WireError):
        for first, body in wire.Splitter().feed(data):
            wire.connack(body)
            wire.suback(body, version)
            wire.published(first, body, version)


@given(st.integers(1, 70_000), st.lists(st.integers(1, 60_000), max_size=6))
def test_a_packet_that_is_too_long_is_cut_short_and_its_rest_thrown_away(over: int, cuts: list[int]) -> None:
    long = publish("t", b"x" * (wire.PACKET_MAX + over), qos=1, retain=False, number=7, version=4, extra=b"")
    after = publish("t", b"good", qos=0, retain=False, number=1, version=4, extra=b"")
    stream, splitter, found = long + after, wire.Splitter(), []
    while stream:
        size = cuts.pop() if cuts else 30_000
        found += [wire.published(first, body, 4) for first, body in splitter.feed(stream[:size])]
        assert len(splitter._left) <= wire.PACKET_MAX + 5
        stream = stream[size:]
    assert [m.payload for m in found[1:]] == [b"good"]
    assert found[0].number == 7  # it can still be acknowledged
    assert len(found[0].payload) < wire.PACKET_MAX


def test_a_length_that_never_ends() -> None:
    with pytest.raises(wire.WireError, match="four bytes"):
        list(wire.Splitter().feed(b"\x30\xff\xff\xff\xff\x01"))


def test_packets_of_ours() -> None:
    # name, version, flags, keep alive, properties, then identifier, user and password (3.1.2, 3.1.3)
    login = wire.Login("x", 5, 15, 20, "me", "pw")
    assert wire.connect(login) == (
        b"\x10\x1e" b"\x00\x04MQTT" b"\x05" b"\xc2" b"\x00\x0f" b"\x08\x21\x00\x14\x27\x00\x01\x00\x00"
        b"\x00\x01x" b"\x00\x02me" b"\x00\x02pw"
    )  # fmt: skip
    assert wire.connect(wire.Login("x", 4, 15, 20)) == b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0f\x00\x01x"
    assert wire.subscribe(1, ["a/b"], 5) == b"\x82\x09\x00\x01\x00\x00\x03a/b\x01"
    assert wire.subscribe(1, ["a/b"], 4) == b"\x82\x08\x00\x01\x00\x03a/b\x01"
    assert wire.puback(0x1234) == b"\x40\x02\x12\x34"
    assert wire.connack(b"\x00\x87\x00") == 0x87
    assert wire.suback(b"\x00\x01\x00\x01\x87", 5) == b"\x01\x87"
    assert wire.suback(b"\x00\x01\x80", 4) == b"\x80"
