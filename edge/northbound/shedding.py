"""Limits against floods. Imports nothing heavy: the ingress processes are small.

A flood is thinned in three steps, each cheaper than what it saves: what is too long or no JSON object is
known by its first and last byte; what is left is parsed as far as a byte budget goes and looked at from afar
(`Screen`); what looks like a command takes its turn in the lane of the issuer it claims. So garbage, old
commands and commands of strangers never take the place of a good one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SIZE_MAX = 16 * 1024
"""Longest command [bytes]."""
STOP_WORD = b"emergency_stop"
STOP_LOOK_BYTES = 2048
"""How far into a message the word is looked for, without parsing."""
COMMANDS_PER_S = 20.0
COMMANDS_BURST = 200.0
"""Of one issuer."""
STOPS_PER_S = 20.0
"""Of one issuer."""
LANES_MAX = 32
"""Names that have a lane where the site file has no list of issuers; more share one."""
REST_PER_S = 5.0
REST_BURST = 20.0
"""Of everything that is no command: enough that an honest mistake is told."""
PARSED_BYTES_PER_S = 8e6
BEATS_PER_S = 5.0
BEATS_BURST = 10.0
BEAT_SIZE_MAX = 512
"""Longest heartbeat [bytes]."""
KEYS = frozenset(
    ("id", "issuer", "sequence", "issued_at", "expires_at", "action", "args", "site", "signature")
)


def may_be_stop(payload: bytes) -> bool:
    """Whether a message could be an emergency stop: such are looked at when others are shed."""
    return STOP_WORD in payload[:STOP_LOOK_BYTES]


@dataclass
class Bucket:
    """So many a second, and a few at once."""

    rate_hz: float
    burst: float
    level: float = field(default=-1.0)
    at_s: float = 0.0

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Whether `count` more are allowed now."""
        if self.level < 0.0:
            self.level, self.at_s = self.burst, now_s
        self.level = min(self.burst, self.level + (now_s - self.at_s) * self.rate_hz)
        self.at_s = now_s
        if self.level < count:
            return False
        self.level -= count
        return True


@dataclass(frozen=True, slots=True)
class Seen:
    """What a message looks like from afar."""

    issuer: str
    """As claimed."""
    stop: bool


@dataclass(frozen=True, slots=True)
class Screen:
    """A quick look that lets through everything the contract accepts, and little of what it refuses."""

    site: str
    issuers: frozenset[str] = frozenset()
    """Empty: anybody."""

    def look(self, payload: bytes, utc: datetime) -> Seen | None:
        """What the message claims to be, None when the contract would refuse it."""
        try:
            data = json.loads(payload)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or not KEYS.issuperset(data):
            return None
        issuer, action = data.get("issuer"), data.get("action")
        if not isinstance(issuer, str) or not isinstance(action, str):
            return None
        if (self.issuers and issuer not in self.issuers) or data.get("site", self.site) not in (
            self.site,
            None,
        ):
            return None
        stop = action == "emergency_stop"
        if not stop and _past(data.get("expires_at"), utc) and not _standby(data):
            return None
        return Seen(issuer, stop)


def _past(text: Any, utc: datetime) -> bool:
    """Whether a command has surely expired."""
    try:
        return datetime.fromisoformat(text) <= utc
    except (ValueError, TypeError):
        return False  # for the contract to judge


def _standby(data: dict[str, Any]) -> bool:
    """Standby is taken without a clock: its dates are for the contract to judge."""
    args = data.get("args")
    return isinstance(args, dict) and args.get("mode") == "standby"


@dataclass
class Sieve:
    """What of a stream of messages is looked at by the contract."""

    screen: Screen
    stops_only: bool = False
    """The topic of emergency stops: nothing else has a lane of its own there."""
    _lanes: dict[tuple[str, bool], Bucket] = field(default_factory=dict)
    _rest: Bucket = field(default_factory=lambda: Bucket(REST_PER_S, REST_BURST))
    _parsed: Bucket = field(default_factory=lambda: Bucket(PARSED_BYTES_PER_S, PARSED_BYTES_PER_S))

    def passes(self, payload: bytes, now_s: float, utc: datetime | None = None) -> bool:
        """Whether this message is looked at.

        Args:
            payload: the message.
            now_s: monotonic.
            utc: the date, to know what has expired; None: now.
        """
        seen = self._seen(payload, now_s, utc)
        if seen is None or (self.stops_only and not seen.stop):
            return self._rest.take(now_s)
        # without a list of issuers anybody has a lane of his own, until there are too many names to be true
        known = self.screen.issuers or len(self._lanes) < LANES_MAX or (seen.issuer, seen.stop) in self._lanes
        key = (seen.issuer if known else "", seen.stop)
        lane = self._lanes.get(key)
        if lane is None:
            rate, burst = (STOPS_PER_S, STOPS_PER_S) if seen.stop else (COMMANDS_PER_S, COMMANDS_BURST)
            lane = self._lanes[key] = Bucket(rate, burst)
        return lane.take(now_s)

    def _seen(self, payload: bytes, now_s: float, utc: datetime | None) -> Seen | None:
        """A look at what is worth one; a stop is looked at even when the budget is used up."""
        if len(payload) > SIZE_MAX or payload[:1] not in b"{ \t\r\n" or payload[-1:] not in b"} \t\r\n":
            return None
        if not self._parsed.take(now_s, len(payload)) and not may_be_stop(payload):
            return None
        return self.screen.look(payload, utc or datetime.now(UTC))


@dataclass
class BeatSieve:
    """What of a stream of SCADA heartbeats is handed on: a few a second of each issuer that may command."""

    issuers: frozenset[str] = frozenset()
    """Empty: anybody."""
    _lanes: dict[str, Bucket] = field(default_factory=dict)

    def passes(self, payload: bytes, now_s: float) -> bool:
        """Whether this one is handed on."""
        try:
            data = json.loads(payload) if len(payload) <= BEAT_SIZE_MAX else None
        except (ValueError, RecursionError):
            return False
        issuer = data.get("issuer") if isinstance(data, dict) else None
        if not isinstance(issuer, str) or (self.issuers and issuer not in self.issuers):
            return False
        lane = self._lanes.setdefault(issuer if self.issuers else "", Bucket(BEATS_PER_S, BEATS_BURST))
        return lane.take(now_s)
