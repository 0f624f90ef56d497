"""Hostile traffic on a command topic, as fast as asked.

    python -m edge.bench.flood_sender PORT TOPIC RATE SECONDS SEED

Raw MQTT 3.1.1 with QoS 0 over one socket (OASIS MQTT 3.1.1, sections 3.1 and 3.3), so that the
sender costs little.
Payloads: random bytes, broken JSON, commands with one thing wrong, old and replayed commands.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

BURST_S = 0.01
KINDS = 2_000
"""Different messages, sent round and round."""


def remaining_length(length: int) -> bytes:
    """MQTT's variable-length integer (section 2.2.3)."""
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def text(value: str) -> bytes:
    """MQTT's length-prefixed text (section 1.5.3)."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def connect_packet(identifier: str) -> bytes:
    """CONNECT with a clean session."""
    body = text("MQTT") + bytes((4, 2)) + struct.pack(">H", 600) + text(identifier)
    return b"\x10" + remaining_length(len(body)) + body


def publish_packet(topic: str, payload: bytes) -> bytes:
    """PUBLISH with QoS 0."""
    body = text(topic) + payload
    return b"\x30" + remaining_length(len(body)) + body


def hostile_payload(rng: random.Random, now: datetime) -> bytes:
    """One message that must not act."""
    honest: dict[str, Any] = {
        "id": f"{rng.getrandbits(32):08x}-0000-4000-8000-{rng.getrandbits(48):012x}",
        "issuer": "hostile",
        "sequence": rng.randrange(10**6),
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
        "action": "set_power",
        "args": {"power_w": rng.uniform(-1e5, 1e5)},
    }
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(1, 400))
        case 1:
            return json.dumps(honest).encode()[: rng.randrange(1, 200)]
        case 2:
            changed = honest | {"expires_at": (now - timedelta(minutes=1)).isoformat()}
        case 3:
            changed = honest | {"site": "elsewhere"}
        case 4:
            changed = honest | {"args": {"power_w": "all of it"}}
        case 5:
            changed = honest | {"extra": "x" * rng.randrange(2_000)}
        case _:
            return b"[" * rng.randrange(1, 3_000)
    return json.dumps(changed).encode()


def flood(port: int, topic: str, rate_hz: float, seconds: float, seed: int) -> int:
    """Send; returns how many messages went out."""
    rng = random.Random(seed)
    packets = [publish_packet(topic, hostile_payload(rng, datetime.now(UTC))) for _ in range(KINDS)]
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(connect_packet(f"flood-{seed}"))
        wire.recv(4)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * rate_hz) - sent
            wire.sendall(b"".join(packets[(sent + k) % KINDS] for k in range(due)))
            sent += due
            time.sleep(BURST_S)
    return sent


if __name__ == "__main__":
    port, topic, rate, seconds, seed = sys.argv[1:6]
    print(flood(int(port), topic, float(rate), float(seconds), int(seed)))
