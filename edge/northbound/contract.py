"""The command contract, pure: bytes and what is known go in, a verdict comes out. No clock, socket or disk.

A command is a JSON object

    {"id": "<UUID>", "issuer": "scada", "sequence": 7, "issued_at": "2026-01-31T12:00:00Z",
     "expires_at": "2026-01-31T12:05:00Z", "action": "set_power", "args": {"power_w": 20000},
     "site": "demo", "signature": "<base64 Ed25519>"}

`site` and `signature` are optional; a signature covers the canonical bytes (RFC 8785) of the object without
`signature`, is Ed25519 (RFC 8032), and needs `site`, so that it cannot be replayed at another site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from edge.northbound.actions import MAY, ActionArgs, EmergencyStop, SetMode
from edge.northbound.envelope import Envelope, ReadError, read_args, read_envelope, read_json
from edge.northbound.signature import canonical_bytes, signature_fits
from edge.store.ledger import StoredReply
from reconf.site_links import IssuerSpec, MqttSpec

FUTURE_TOLERANCE = timedelta(seconds=30)
"""How far an issuer's clock may be ahead of ours."""
LIFETIME_MAX = timedelta(hours=48)
"""Longest time between issued_at and expires_at."""

REASONS: dict[str, str] = {
    "retained": "retained messages are not commands",
    "oversize": "longer than 16 KiB",
    "over_nested": "nested too deeply",
    "malformed": "not a command: broken JSON, or keys or values that are not allowed",
    "unknown_keys": "keys that a command does not have",
    "wrong_site": "for another site",
    "unknown_issuer": "this issuer is not in the site file",
    "unsigned": "this action needs a signature",
    "unknown_key": "signed, but the site file has no public key of this issuer",
    "bad_signature": "the signature does not fit",
    "role_not_allowed": "the issuer's role may not do this",
    "clock_unsynchronised": "the site's clock is not set: only emergency_stop and standby are taken",
    "expired": "expires_at is past",
    "future_dated": "issued_at lies in the future",
    "lifetime": "expires_at is not after issued_at, or too far from it",
    "id_reused": "another command had this id",
    "out_of_sequence": "sequence is not above the issuer's last",
    "local_lock": "somebody works on the site: maintenance is taken and released there only",
    "wrong_topic": "only emergency_stop is taken on the topic emergency_stop",
    "busy": "too many commands wait",
    "not_recordable": "the command log cannot be written, so nothing but emergency_stop and standby is taken",
    "no_answer": "control did not answer in time",
}
"""Machine-readable reasons of refusal before the command reaches control."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the contract is judged against."""

    site: str
    utc: datetime
    clock_trusted: bool = True
    local_lock: bool = False
    issuers: Mapping[str, IssuerSpec] = field(default_factory=dict)
    """Empty: anybody, as engineer."""
    require_signature: frozenset[str] = frozenset()
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Last sequence accepted from each issuer."""
    replies: Mapping[str, StoredReply] = field(default_factory=dict)
    """Replies given before, by command id."""
    in_hand: Mapping[str, str] = field(default_factory=dict)
    """Digests of the commands that wait for their reply, by id."""


@dataclass(frozen=True, slots=True)
class Accept:
    """A command control is to be asked about."""

    envelope: Envelope
    args: ActionArgs
    digest: str
    signed: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """A command that is not taken."""

    reason: str
    """A key of REASONS."""
    text: str
    command_id: str | None = None
    issuer: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A command that was answered before: the same answer again."""

    command_id: str
    reply: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InHand:
    """A copy of a command that waits for its reply: one reply answers both."""

    command_id: str


Verdict: TypeAlias = Accept | Refuse | Repeat | InHand


def issuers_of(mqtt: MqttSpec) -> dict[str, IssuerSpec]:
    """Issuers of the site file by name."""
    return {issuer.name: issuer for issuer in mqtt.issuers}


def judge(payload: bytes, *, retained: bool, known: Known, stops_only: bool = False) -> Verdict:
    """Whether a message is a command, and from whom, and whether it may be.

    Args:
        payload: the message.
        retained: it was kept by the broker.
        known: what it is judged against.
        stops_only: it came on the topic of emergency stops.
    """
    if retained:
        return Refuse("retained", "a command was retained by the broker: it may be old, so it is not taken")
    try:
        data = read_json(payload)
        envelope = read_envelope(data)
        args = read_args(envelope)
    except ReadError as error:
        return Refuse(error.reason, str(error), error.command_id, error.issuer, error.action)
    if stops_only and not isinstance(args, EmergencyStop):
        return _refuse(envelope, "wrong_topic", f"{envelope.action} does not belong on this topic")
    digest = hashlib.sha256(canonical_bytes(data)).hexdigest()
    settled = (
        _whence(envelope, data, known)
        or _seen(envelope, digest, known)
        or _when(envelope, args, known)
        or _lock(envelope, args, known)
    )
    return settled or Accept(envelope, args, digest, signed=envelope.signature is not None)


def _seen(envelope: Envelope, digest: str, known: Known) -> Repeat | InHand | Refuse | None:
    """The same command once more gets the same reply; another one under its id gets none."""
    before, waits = known.replies.get(envelope.id), known.in_hand.get(envelope.id)
    if before is None and waits is None:
        return None
    if before is not None and before.digest == digest:
        return Repeat(envelope.id, before.reply)
    if waits == digest:
        return InHand(envelope.id)
    return _refuse(envelope, "id_reused", f"id {envelope.id} was used for another command")


def _refuse(envelope: Envelope, reason: str, text: str) -> Refuse:
    return Refuse(reason, text, envelope.id, envelope.issuer, envelope.action)


def _whence(envelope: Envelope, data: Mapping[str, Any], known: Known) -> Refuse | None:
    """Site, issuer, signature, role."""
    if envelope.site is not None and envelope.site != known.site:
        return _refuse(envelope, "wrong_site", f"for site {envelope.site!r}, this is {known.site!r}")
    issuer = known.issuers.get(envelope.issuer)
    if issuer is None and known.issuers:
        return _refuse(envelope, "unknown_issuer", f"issuer {envelope.issuer!r} is not in the site file")
    refused = _signature(envelope, data, issuer, known)
    if refused is not None:
        return refused
    role = issuer.role if issuer else "engineer"
    if role not in MAY[envelope.action]:
        allowed = ", ".join(sorted(MAY[envelope.action]))
        return _refuse(envelope, "role_not_allowed", f"{envelope.action} is for {allowed}, not for {role}")
    return None


def _signature(
    envelope: Envelope, data: Mapping[str, Any], issuer: IssuerSpec | None, known: Known
) -> Refuse | None:
    """A signature where one is needed, and none that does not fit."""
    if envelope.signature is None:
        if envelope.action in known.require_signature:
            return _refuse(envelope, "unsigned", f"{envelope.action} needs a signature here")
        return None
    if issuer is None or not issuer.public_key:
        return _refuse(
            envelope, "unknown_key", f"no public key of {envelope.issuer!r} to check the signature with"
        )
    if envelope.site is None:
        return _refuse(
            envelope, "bad_signature", "a signed command needs `site`, or it would be good for every site"
        )
    if not signature_fits(data, envelope.signature, issuer.public_key):
        return _refuse(envelope, "bad_signature", "the signature does not fit this command and issuer")
    return None


def _when(envelope: Envelope, args: ActionArgs, known: Known) -> Refuse | None:
    """Sequence, expiry, and what is left without a clock. Stopping needs neither."""
    if envelope.action == "emergency_stop":
        return None
    last = known.sequences.get(envelope.issuer)
    if envelope.sequence is None:
        return _refuse(envelope, "malformed", "sequence is missing")
    if last is not None and envelope.sequence <= last:
        text = f"sequence {envelope.sequence} is not above the last of {envelope.issuer!r}, {last}"
        return _refuse(envelope, "out_of_sequence", text)
    if not known.clock_trusted:
        if isinstance(args, SetMode) and args.mode == "standby":
            return None
        return _refuse(envelope, "clock_unsynchronised", REASONS["clock_unsynchronised"])
    return _dates(envelope, known)


def _dates(envelope: Envelope, known: Known) -> Refuse | None:
    """issued_at and expires_at against the site's date."""
    lifetime = envelope.expires_at - envelope.issued_at
    if not timedelta(0) < lifetime <= LIFETIME_MAX:
        return _refuse(envelope, "lifetime", f"expires_at must be after issued_at, by {LIFETIME_MAX} at most")
    if envelope.expires_at <= known.utc:
        late = (known.utc - envelope.expires_at).total_seconds()
        return _refuse(envelope, "expired", f"expired {late:.1f} s ago by this site's clock")
    early = (envelope.issued_at - known.utc).total_seconds()
    if early > FUTURE_TOLERANCE.total_seconds():
        return _refuse(envelope, "future_dated", f"issued {early:.1f} s in the future by this site's clock")
    return None


def _lock(envelope: Envelope, args: ActionArgs, known: Known) -> Refuse | None:
    """Maintenance belongs to whoever is on site."""
    if isinstance(args, SetMode) and args.mode == "maintenance":
        return _refuse(envelope, "local_lock", "maintenance is taken and released on site only")
    if known.local_lock and envelope.action not in ("emergency_stop", "request_snapshot"):
        return _refuse(envelope, "local_lock", "somebody works on the site; only emergency_stop is taken")
    return None
