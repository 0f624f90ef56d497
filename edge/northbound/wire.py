"""The few MQTT packets that a listener needs, as bytes. Pure: no socket, no clock.

Reading commands through a general client costs 45 microseconds a message; a flood is read here for 3, so that
a good command behind it is read in time. Everything else uses the library.

MQTT 3.1.1 and 5.0 (OASIS); sections of 5.0 are named. Only what a subscriber with QoS 1 can meet is
understood; anything else ends the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconf.errors import TransportError

PACKET_MAX: Final = 64 * 1024
"""Of a longer packet only this much is kept [bytes]: enough to see that it is too long for a command."""
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1,
    2,
    3,
    4,
    8,
    9,
    12,
    13,
    14,
)
CLEAN_START, HAS_PASSWORD, HAS_USERNAME = 0x02, 0x40, 0x80
RECEIVE_MAXIMUM: Final = 0x21
"""Identifier of the property (3.1.2.11.3)."""
MAXIMUM_PACKET_SIZE: Final = 0x27
"""The same (3.1.2.11.4): a broker keeps longer packets to itself."""
FAILURE_FROM: Final = 0x80
PING: Final = bytes((PINGREQ << 4, 0))
GOODBYE: Final = bytes((DISCONNECT << 4, 0))


class WireError(TransportError):
    """What the broker sent is not MQTT as we know it; connecting anew may help."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a CONNECT says."""

    identifier: str
    version: int
    """5, or 4 for MQTT 3.1.1."""
    keepalive_s: int
    receive_maximum: int
    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """One message."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    number: int
    """Packet identifier; 0 with QoS 0."""


def connect(login: Login) -> bytes:
    """CONNECT with a clean start and no will (3.1)."""
    flags = CLEAN_START | (HAS_USERNAME if login.username else 0) | (HAS_PASSWORD if login.password else 0)
    body = _text("MQTT") + struct.pack(">BBH", login.version, flags, login.keepalive_s)
    if login.version == 5:
        body += _properties(
            struct.pack(">BHBI", RECEIVE_MAXIMUM, login.receive_maximum, MAXIMUM_PACKET_SIZE, PACKET_MAX)
        )
    body += _text(login.identifier)
    for secret in (login.username, login.password):
        body += _text(secret) if secret else b""
    return _packet(CONNECT << 4, body)


def subscribe(number: int, topics: Sequence[str], version: int) -> bytes:
    """SUBSCRIBE with QoS 1 (3.8)."""
    body = struct.pack(">H", number) + (_properties(b"") if version == 5 else b"")
    return _packet(SUBSCRIBE << 4 | 2, body + b"".join(_text(topic) + b"\x01" for topic in topics))


def puback(number: int) -> bytes:
    """PUBACK: taken (3.4); the reason may be left out when it is success."""
    return struct.pack(">BBH", PUBACK << 4, 2, number)


def connack(body: bytes) -> int:
    """Reason code of a CONNACK (3.2.2.2).

    Raises:
        WireError: it is cut short.
    """
    if len(body) < 2:
        raise WireError("a CONNACK without reason")
    return body[1]


def suback(body: bytes, version: int) -> bytes:
    """Reason codes of a SUBACK, one for each topic (3.9.3).

    Raises:
        WireError: it is cut short.
    """
    return body[_past_properties(body, 2) if version == 5 else 2 :]


def published(first: int, body: bytes, version: int) -> Published:
    """A PUBLISH (3.3).

    Raises:
        WireError: it is cut short, or of QoS 2, which nobody asked for.
    """
    qos = first >> 1 & 3
    if qos > 1 or len(body) < 2:
        raise WireError(f"a PUBLISH of {len(body)} bytes with QoS {qos}")
    at = 2 + (body[0] << 8 | body[1])
    topic, number = body[2:at], 0
    if qos:
        if len(body) < at + 2:
            raise WireError("a PUBLISH without packet identifier")
        number = body[at] << 8 | body[at + 1]
        at += 2
    if version == 5:
        at = _past_properties(body, at)
    if at > len(body):
        raise WireError("a PUBLISH that is cut short")
    return Published(topic, body[at:], qos, bool(first & 1), number)


@dataclass(slots=True)
class Splitter:
    """Cuts a stream of bytes into packets; what is too long is cut short and the rest thrown away."""

    _left: bytes = field(default=b"")
    _skip: int = 0
    """Bytes still to come of a packet that was too long."""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """First byte and body of every packet that is whole now.

        Raises:
            WireError: the length of a packet is nonsense.
        """
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data = self._left + data[skipped:]
        at, end = 0, len(data)
        self._left = b""
        while at < end:
            span = _length(data, at + 1)
            if span is None or span[0] + min(span[1], PACKET_MAX) > end:
                break
            start, length = span
            yield data[at], data[start : start + min(length, PACKET_MAX)]
            at = start + length
        self._skip += max(0, at - end)
        self._left = data[at:]


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """Where a packet's body starts and how long it is (2.1.4); None when that has not come yet.

    Raises:
        WireError: more than four bytes.
    """
    length = 0
    for k in range(4):
        if at + k >= len(data):
            return None
        digit = data[at + k]
        length |= (digit & 0x7F) << 7 * k
        if digit < 0x80:
            return at + k + 1, length
    raise WireError("a length of more than four bytes")


def _past_properties(body: bytes, at: int) -> int:
    """Where the properties that begin at `at` have ended (2.2.2)."""
    span = _length(body, at)
    if span is None:
        raise WireError("properties that are cut short")
    return span[0] + span[1]


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _number(len(body)) + body


def _properties(content: bytes) -> bytes:
    return _number(len(content)) + content


def _number(value: int) -> bytes:
    """A variable byte integer (1.5.5)."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _text(value: str) -> bytes:
    """A UTF-8 string with its length (1.5.4)."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw
