"""Limits against floods. Imports nothing heavy: the ingress process is small."""

from __future__ import annotations

from dataclasses import dataclass, field

SIZE_MAX = 16 * 1024
"""Longest command [bytes]."""
STOP_WORD = b"emergency_stop"
STOP_LOOK_BYTES = 2048
"""How far into a message the word is looked for, without parsing."""
COMMANDS_PER_S = 50.0
COMMANDS_BURST = 200.0
STOPS_PER_S = 20.0


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

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed now."""
        if self.level < 0.0:
            self.level, self.at_s = self.burst, now_s
        self.level = min(self.burst, self.level + (now_s - self.at_s) * self.rate_hz)
        self.at_s = now_s
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


@dataclass
class Sieve:
    """What of a stream of commands is looked at."""

    commands: Bucket = field(default_factory=lambda: Bucket(COMMANDS_PER_S, COMMANDS_BURST))
    stops: Bucket = field(default_factory=lambda: Bucket(STOPS_PER_S, STOPS_PER_S))

    def passes(self, payload: bytes, now_s: float) -> bool:
        """Whether this message is looked at."""
        return self.commands.take(now_s) or (may_be_stop(payload) and self.stops.take(now_s))
