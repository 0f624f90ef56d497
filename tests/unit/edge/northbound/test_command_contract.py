"""The command contract as a table: what is taken, what is refused, and why."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.northbound.actions import ARGS, MAY
from edge.northbound.contract import REASONS, Accept, Known, Refuse, Repeat, Verdict, judge
from edge.northbound.envelope import nesting
from edge.northbound.signature import canonical_bytes, sign
from edge.store.ledger import StoredReply
from reconf.site_links import IssuerSpec

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
KNOWN = Known(site="demo", utc=NOW)
GUARDED = replace(
    KNOWN,
    issuers={
        "watch": IssuerSpec("watch", "observer"),
        "scada": IssuerSpec("scada", "operator", PUBLIC),
        "chief": IssuerSpec("chief", "engineer"),
    },
    require_signature=frozenset({"set_mode"}),
)
EXAMPLES: dict[str, dict[str, Any]] = {
    "set_power": {"power_w": 1000, "ramp_w_per_s": 100.0, "revert_s": 60},
    "set_schedule": {"start": "2026-02-01T00:00:00Z", "step_s": 900, "power_w": [0, 1000.5, -1000]},
    "set_limits": {"discharge_max_w": 5000},
    "set_mode": {"mode": "run"},
    "clear_fault": {"fault": "cell_over_voltage", "subject": "DEMO-A01"},
    "emergency_stop": {},
    "bypass_module": {"serial": "DEMO-A01"},
    "return_module": {"serial": "DEMO-A01"},
    "set_soc_window": {"soc_min_frac": 0.1, "soc_max_frac": 0.9},
    "start_balancing": {},
    "start_capacity_test": {"string": "A"},
    "request_snapshot": {},
}


def make(action: str = "set_power", **changes: Any) -> dict[str, Any]:
    fields = {
        "id": "6f1c2d3e-0000-4000-8000-000000000001",
        "issuer": "scada",
        "sequence": 5,
        "issued_at": "2026-01-31T11:59:59Z",
        "expires_at": "2026-01-31T12:05:00Z",
        "action": action,
        "args": EXAMPLES.get(action, {}),
    }
    return {k: v for k, v in (fields | changes).items() if v is not ...}


def verdict(command: object, known: Known = KNOWN, *, retained: bool = False) -> Verdict:
    payload = command if isinstance(command, bytes) else json.dumps(command).encode()
    return judge(payload, retained=retained, known=known)


def reason(command: object, known: Known = KNOWN, *, retained: bool = False) -> str:
    found = verdict(command, known, retained=retained)
    if isinstance(found, Refuse):
        assert found.reason in REASONS
        assert found.text
        return found.reason
    return type(found).__name__


@pytest.mark.parametrize("action", list(ARGS))
def test_every_action_is_taken_from_an_engineer(action: str) -> None:
    found = verdict(make(action, issuer="chief"), replace(GUARDED, require_signature=frozenset()))
    assert isinstance(found, Accept), found
    assert isinstance(found.args, ARGS[action])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"extra": 1}, "unknown_keys"),
        ({"args": {"power_w": 1, "power": 2}}, "unknown_keys"),
        ({"args": {"power_w": "1000"}}, "malformed"),
        ({"args": {"power_w": True}}, "malformed"),
        ({"args": {"power_w": 1e300}}, "malformed"),
        ({"args": {}}, "malformed"),
        ({"args": {"power_w": 1, "ramp_w_per_s": 0}}, "malformed"),
        ({"action": "format_disk"}, "malformed"),
        ({"id": "not-a-uuid"}, "malformed"),
        ({"id": ...}, "malformed"),
        ({"issuer": ""}, "malformed"),
        ({"issuer": "a/b"}, "malformed"),
        ({"sequence": ...}, "malformed"),
        ({"sequence": -1}, "malformed"),
        ({"sequence": 1.5}, "malformed"),
        ({"sequence": 2**60}, "malformed"),
        ({"sequence": "5"}, "malformed"),
        ({"issued_at": "2026-01-31T11:59:59"}, "malformed"),
        ({"issued_at": 1769860799}, "malformed"),
        ({"expires_at": "tomorrow"}, "malformed"),
        ({"expires_at": "2026-01-31T12:00:00Z"}, "expired"),
        ({"expires_at": "2026-01-31T13:00:00+02:00"}, "lifetime"),
        ({"issued_at": "2026-01-31T12:00:31Z"}, "future_dated"),
        ({"expires_at": "2026-02-05T12:00:00Z"}, "lifetime"),
        ({"expires_at": "2026-01-31T11:00:00Z"}, "lifetime"),
        ({"site": "other"}, "wrong_site"),
        ({"signature": "AAAA", "site": "demo"}, "unknown_key"),
        ({}, "Accept"),
        ({"site": "demo"}, "Accept"),
        ({"issued_at": "2026-01-31T12:00:29.5Z"}, "Accept"),
        ({"issued_at": "2026-01-31T13:59:59+02:00"}, "Accept"),
    ],
)
def test_envelope_and_arguments(changes: dict[str, Any], expected: str) -> None:
    assert reason(make(**changes)) == expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "malformed"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe{}", "malformed"),
        (b'{"id": 1, "id": 2}', "malformed"),
        (b'{"a": NaN}', "malformed"),
        (b'{"a": Infinity}', "malformed"),
        (b'{"a": 1e999}', "malformed"),
        (b'{"a": ' + b"9" * 5000 + b"}", "malformed"),
        (b'{"a": "' + b"x" * 17_000 + b'"}', "oversize"),
        (b'{"a": ' + b"[" * 9 + b"]" * 9 + b"}", "over_nested"),
        (b"[" * 16_000, "over_nested"),
        (b'{"issuer": "\\ud800"}', "malformed"),
    ],
)
def test_bytes_that_are_not_commands(payload: bytes, expected: str) -> None:
    assert reason(payload) == expected


def test_brackets_inside_text_do_not_nest() -> None:
    assert nesting(rb'{"a": "[[[[\"[[[[", "b": [1]}') == 2


def test_the_refusal_names_the_command_and_every_fault() -> None:
    found = verdict(make(args={"power_w": "much", "ramp_w_per_s": -1}))
    assert isinstance(found, Refuse)
    assert found.command_id == make()["id"]
    assert found.issuer == "scada"
    assert "args.power_w" in found.text
    assert "args.ramp_w_per_s" in found.text


def test_retained_is_refused_whatever_it_is() -> None:
    assert reason(make(), retained=True) == "retained"
    assert reason(make("emergency_stop"), retained=True) == "retained"


@pytest.mark.parametrize(
    ("sequence", "expected"), [(4, "out_of_sequence"), (5, "out_of_sequence"), (6, "Accept"), (600, "Accept")]
)
def test_sequence_rises_per_issuer(sequence: int, expected: str) -> None:
    known = replace(KNOWN, sequences={"scada": 5, "other": 1000})
    assert reason(make(sequence=sequence), known) == expected


def test_same_id_same_command_same_reply() -> None:
    first = verdict(make())
    assert isinstance(first, Accept)
    known = replace(
        KNOWN, sequences={"scada": 5}, replies={first.envelope.id: StoredReply(first.digest, {"result": "x"})}
    )
    again = verdict(dict(reversed(make().items())), known)  # the order of keys is not part of a command
    assert isinstance(again, Repeat)
    assert again.reply == {"result": "x"}
    assert reason(make(args={"power_w": 2}), known) == "id_reused"


def test_repeat_is_answered_even_after_expiry() -> None:
    first = verdict(make())
    assert isinstance(first, Accept)
    known = replace(
        KNOWN, utc=NOW + timedelta(days=1), replies={first.envelope.id: StoredReply(first.digest, {})}
    )
    assert reason(make(), known) == "Repeat"


@pytest.mark.parametrize("action", list(ARGS))
@pytest.mark.parametrize("issuer", ["watch", "scada", "chief", "stranger"])
def test_roles(action: str, issuer: str) -> None:
    known = replace(GUARDED, require_signature=frozenset())
    role = {"watch": "observer", "scada": "operator", "chief": "engineer"}.get(issuer)
    expected = "unknown_issuer" if role is None else "Accept" if role in MAY[action] else "role_not_allowed"
    assert reason(make(action, issuer=issuer), known) == expected


def signed(command: dict[str, Any], key: Ed25519PrivateKey = KEY) -> dict[str, Any]:
    return command | {"signature": sign(command, key)}


def test_signatures() -> None:
    good = signed(make("set_mode", site="demo"))
    assert reason(good, GUARDED) == "Accept"
    assert reason(make("set_mode"), GUARDED) == "unsigned"
    assert reason(make("set_mode", issuer="chief"), GUARDED) == "unsigned"
    assert reason(good | {"sequence": 6}, GUARDED) == "bad_signature"
    assert reason(good | {"args": {"mode": "standby"}}, GUARDED) == "bad_signature"
    assert reason(signed(make("set_mode")), GUARDED) == "bad_signature"  # without `site`
    assert (
        reason(signed(make("set_mode", site="demo"), Ed25519PrivateKey.generate()), GUARDED)
        == "bad_signature"
    )
    assert reason(good | {"signature": "not base64!"}, GUARDED) == "bad_signature"
    assert reason(signed(make("set_mode", site="elsewhere")), GUARDED) == "wrong_site"
    assert reason(make("set_power"), GUARDED) == "Accept"  # not an action that needs one


def test_signature_covers_everything_but_itself() -> None:
    command = make("set_mode", site="demo")
    assert canonical_bytes(signed(command)) == canonical_bytes(command)
    assert canonical_bytes(command) == json.dumps(command, sort_keys=True, separators=(",", ":")).encode()


def test_emergency_stop_needs_no_sequence_and_no_clock() -> None:
    known = replace(KNOWN, sequences={"scada": 10**9}, clock_trusted=False, local_lock=True)
    stop = make(
        "emergency_stop", sequence=..., expires_at="2020-01-01T00:00:00Z", issued_at="2030-01-01T00:00:00Z"
    )
    assert reason(stop, known) == "Accept"
    assert reason(stop | {"issuer": "stranger"}, replace(known, issuers=GUARDED.issuers)) == "unknown_issuer"


def test_without_a_clock_only_stop_and_standby() -> None:
    known = replace(KNOWN, clock_trusted=False)
    assert reason(make("set_power"), known) == "clock_unsynchronised"
    assert reason(make("set_mode"), known) == "clock_unsynchronised"
    old = {"issued_at": "1999-01-01T00:00:00Z", "expires_at": "1999-01-01T01:00:00Z"}
    assert reason(make("set_mode", args={"mode": "standby"}, **old), known) == "Accept"
    assert (
        reason(make("set_mode", args={"mode": "standby"}), replace(known, sequences={"scada": 5}))
        == "out_of_sequence"
    )


def test_maintenance_is_local() -> None:
    assert reason(make("set_mode", args={"mode": "maintenance"})) == "local_lock"
    locked = replace(KNOWN, local_lock=True)
    for action in ARGS:
        expected = "Accept" if action in ("emergency_stop", "request_snapshot") else "local_lock"
        assert reason(make(action), locked) == expected


def test_sequence_of_one_issuer_does_not_block_another() -> None:
    known = replace(KNOWN, sequences={"scada": 100})
    assert reason(make(issuer="other", sequence=1, id=str(uuid4())), known) == "Accept"


def test_a_signature_has_one_text() -> None:
    """The last digit before the padding carries two bits that mean nothing: they must be zero."""
    command = make("set_mode", site="demo", issuer="scada")
    text = sign(command, KEY)
    assert isinstance(verdict(command | {"signature": text}, GUARDED), Accept)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:-3] + alphabet[alphabet.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(text)
    assert reason(command | {"signature": other}, GUARDED) == "bad_signature"
