"""Hostile commands, random and grammar-aware, of which a site that asks for signatures must accept none.

Every message is made from a seed, so that a campaign can be cut into pieces. The grammar-aware ones begin
with an honest signed command and do one thing (or a few) to it that the signature, the grammar or the state
of the site must notice; whoever could forge the rest would need the key.
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.northbound.actions import ARGS
from edge.northbound.contract import Known
from edge.northbound.signature import canonical_bytes, sign
from edge.store.ledger import StoredReply
from reconf.site_links import IssuerSpec

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LAST_SEQUENCE = 1_000_000
SITE = "demo"
WORDS = (
    "id", "issuer", "sequence", "issued_at", "expires_at", "action", "args", "site", "signature", "power_w",
    "mode", "serial", "extra", "__proto__", "Action", "issuer\u0000",
)  # fmt: skip
EXAMPLES: dict[str, dict[str, Any]] = {
    "set_power": {"power_w": 20_000.5, "ramp_w_per_s": 500, "revert_s": 60.0},
    "set_schedule": {"start": "2026-01-31T12:00:00Z", "step_s": 900, "power_w": [0, 1000.5, -2000]},
    "set_limits": {"discharge_max_w": 10_000},
    "set_mode": {"mode": "run"},
    "clear_fault": {"fault": "over_temperature", "subject": "DEMO-A01"},
    "emergency_stop": {},
    "bypass_module": {"serial": "DEMO-A01"},
    "return_module": {"serial": "DEMO-A01"},
    "set_soc_window": {"soc_min_frac": 0.1, "soc_max_frac": 0.9},
    "start_balancing": {"active": True},
    "start_capacity_test": {"string": "A", "current_c": 0.2},
    "request_snapshot": {},
}
"""Good arguments of every action."""


def key_of(seed: int) -> Ed25519PrivateKey:
    """A key that a campaign can make again."""
    return Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))


@dataclass(frozen=True)
class Attack:
    """What an attacker has: honest commands seen on the wire, and a key the site does not know."""

    key: Ed25519PrivateKey = field(default_factory=lambda: key_of(1))
    """The operator's; used only to make honest commands."""
    stranger: Ed25519PrivateKey = field(default_factory=lambda: key_of(2))

    def known(self) -> Known:
        """The site: every action signed, an operator with a key, an observer with another."""
        return Known(
            site=SITE,
            utc=NOW,
            issuers={
                "scada": IssuerSpec("scada", "operator", public_text(self.key)),
                "watch": IssuerSpec("watch", "observer", public_text(key_of(3))),
            },
            require_signature=frozenset(ARGS),
            sequences={"scada": LAST_SEQUENCE},
            replies={used_id(0): StoredReply("a digest", {"result": "accepted"})},
        )

    def honest(self, action: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A command the site would take."""
        command: dict[str, Any] = {
            "id": used_id(random.Random(action).randrange(1, 2**60)),
            "issuer": "scada",
            "sequence": LAST_SEQUENCE + 1,
            "issued_at": "2026-01-31T11:59:59Z",
            "expires_at": "2026-01-31T12:05:00Z",
            "action": action,
            "args": EXAMPLES[action],
            "site": SITE,
        } | dict(changes or {})
        return command | {"signature": sign(command, self.key)}


def used_id(number: int) -> str:
    """A UUID by number."""
    return str(uuid.UUID(int=number))


def public_text(key: Ed25519PrivateKey) -> str:
    """As site files have it."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def messages(attack: Attack, rng: random.Random) -> Callable[[], bytes]:
    """A source of hostile messages."""
    honest = [attack.honest(action) for action in ARGS]
    encoded = [json.dumps(command).encode() for command in honest]
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: rng.randbytes(rng.randrange(1, 300)),
        lambda: json.dumps(_anything(rng, 4)).encode(),
        lambda: _bytes_changed(rng, rng.choice(encoded), encoded),
        lambda: _bytes_changed(rng, rng.choice(encoded), encoded),
        lambda: _field_changed(rng, rng.choice(honest)),
        lambda: _field_changed(rng, rng.choice(honest)),
        lambda: _resigned(rng, rng.choice(honest), attack.stranger),
        lambda: _signed_but_wrong(rng, attack),
        lambda: _twisted(rng, rng.choice(encoded)),
    )

    def make() -> bytes:
        return rng.choice(makers)()

    return make


def _anything(rng: random.Random, depth: int) -> Any:
    """Random JSON with the words of commands in it."""
    if depth and rng.random() < 0.25:
        if rng.random() < 0.5:
            return [_anything(rng, depth - 1) for _ in range(rng.randrange(5))]
        return {rng.choice(WORDS): _anything(rng, depth - 1) for _ in range(rng.randrange(9))}
    return rng.choice(
        (
            rng.choice([None, True, False]),
            rng.randrange(-(2**70), 2**70) >> rng.randrange(70),
            rng.choice([rng.uniform(-1e9, 1e9), 1e308, 5e-324, 0.0]),
            rng.choice([*ARGS, SITE, "scada", "2026-01-31T12:05:00Z", used_id(rng.randrange(9)), ""]),
            "".join(
                chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x250), 0x1F600])) for _ in "12345"
            ),
        )
    )


def _bytes_changed(rng: random.Random, honest: bytes, all_honest: list[bytes]) -> bytes:
    """A few bytes changed, cut, doubled or mixed with another command, never the command itself."""
    while True:
        mutant = bytearray(honest)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(mutant)) if mutant else 0
            match rng.randrange(6):
                case 0:
                    mutant[at : at + 1] = bytes((rng.randrange(256),))
                case 1:
                    del mutant[at : at + rng.randrange(1, 40)]
                case 2:
                    mutant.insert(at, rng.choice(b'{}[]",:\\\\0123456789 e-.+'))
                case 3:
                    mutant[at:at] = mutant[at : at + rng.randrange(40)]
                case 4:
                    other = rng.choice(all_honest)
                    start = rng.randrange(len(other))
                    mutant[at : at + 30] = other[start : start + 30]
                case _:
                    mutant[at : at + 1] = rng.choice([b"\\u0000", b"\xc3\xa9", b"\xff", b"1", b"9"])
        if not _says_the_same(bytes(mutant), all_honest):
            return bytes(mutant)


def _says_the_same(mutant: bytes, all_honest: list[bytes]) -> bool:
    """White space, or the order of keys, is all that changed: still what the operator signed."""
    try:
        data = json.loads(mutant)
        canonical = canonical_bytes(data)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return False
    return any(
        canonical == canonical_bytes(original) and data.get("signature") == original["signature"]
        for original in map(json.loads, all_honest)
    )


def _field_changed(rng: random.Random, honest: dict[str, Any]) -> bytes:
    """One field of the envelope or of the arguments replaced, removed or added."""
    while True:
        command = json.loads(json.dumps(honest))
        target = command["args"] if rng.random() < 0.4 else command
        name = rng.choice([*target, rng.choice(WORDS)])
        if rng.random() < 0.25:
            target.pop(name, None)
        else:
            target[name] = _near(rng, target.get(name))
        if command != honest:
            return json.dumps(command).encode()


def _near(rng: random.Random, value: Any) -> Any:
    """A value close to a good one, or anything."""
    if isinstance(value, bool) or rng.random() < 0.3:
        return _anything(rng, 2)
    if isinstance(value, int | float):
        return rng.choice([value + 1, -value, value * 10, str(value), 2**53, [value]])
    if isinstance(value, str):
        return rng.choice([value + "x", value[:-1], value.upper(), value.replace("1", "2"), None, [value]])
    return _anything(rng, 2)


def _resigned(rng: random.Random, honest: dict[str, Any], stranger: Ed25519PrivateKey) -> bytes:
    """Well made in every way but the key."""
    command = {k: v for k, v in honest.items() if k != "signature"}
    command |= {"sequence": LAST_SEQUENCE + rng.randrange(1, 10**6), "id": used_id(rng.getrandbits(120))}
    if rng.random() < 0.5:
        command["issuer"] = rng.choice(["watch", "nobody", "scada "])
    return json.dumps(command | {"signature": sign(command, stranger)}).encode()


def _signed_but_wrong(rng: random.Random, attack: Attack) -> bytes:
    """The operator's own, but old, early, used, for another site, or beyond the operator's role."""
    action = rng.choice([a for a in ARGS if a != "emergency_stop"])
    seconds = rng.choice([1, 60, 3_600, 10**6])
    ahead = timedelta(seconds=31 + seconds)
    changes: dict[str, Any] = rng.choice(
        [
            {
                "expires_at": (NOW - timedelta(seconds=seconds)).isoformat(),
                "issued_at": (NOW - ahead).isoformat(),
            },
            {"issued_at": (NOW + ahead).isoformat(), "expires_at": (NOW + 2 * ahead).isoformat()},
            {"sequence": LAST_SEQUENCE - rng.randrange(LAST_SEQUENCE)},
            {"site": rng.choice(["other", "demo2", "DEMO"])},
            {"id": used_id(0)},
            {"action": "start_capacity_test", "args": EXAMPLES["start_capacity_test"]},
            {"action": "set_mode", "args": {"mode": "maintenance"}},
            {"args": EXAMPLES[action] | {"extra": 1}},
            {"expires_at": "2026-02-05T12:00:00Z"},
        ]
    )
    return json.dumps(attack.honest(action, changes)).encode()


def _twisted(rng: random.Random, encoded: bytes) -> bytes:
    """Honest content in a shape that readers disagree about."""
    match rng.randrange(6):
        case 0:
            return b'{"issuer": "watch", ' + encoded[1:]  # a key twice
        case 1:
            return b"[" * rng.randrange(1, 3_000) + encoded + b"]" * rng.randrange(3_000)
        case 2:
            return encoded[:-1] + b', "x": ' + b'{"a":' * 20 + b"1" + b"}" * 21
        case 3:
            return encoded + encoded
        case 4:
            return encoded.decode().encode("utf-16")
        case _:
            return encoded[:-1] + b', "x": "' + b"y" * 20_000 + b'"}'
