"""Whether the primary host is there, from its STATE messages (Sparkplug 3.0.0, 5.4 and 6.4.26). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

STATE_MAX = 1024
"""Longest STATE message that is read [byte]."""


@dataclass(slots=True)
class HostWatch:
    """What one broker says of the primary host."""

    name: str
    """Host application id; empty: nobody is waited for."""
    online: bool = False
    _utc_ms: int | None = None

    @property
    def topic(self) -> str:
        """Where the host says how it is, retained."""
        return f"spBv1.0/STATE/{self.name}"

    def may_speak(self) -> bool:
        """Whether births may be sent."""
        return not self.name or self.online

    def forget(self) -> None:
        """Another connection: its broker tells anew (each has its own STATE)."""
        self.online, self._utc_ms = False, None

    def hear(self, topic: str, payload: bytes) -> bool:
        """Take a STATE message; False for one that is not of the host, not STATE, or older than the last."""
        if not self.name or topic != self.topic or len(payload) > STATE_MAX:
            return False
        try:
            told = json.loads(payload)
        except ValueError:
            return False
        if not isinstance(told, dict):
            return False
        online, utc_ms = told.get("online"), told.get("timestamp")
        if not isinstance(online, bool) or not isinstance(utc_ms, int) or isinstance(utc_ms, bool):
            return False
        if self._utc_ms is not None and utc_ms < self._utc_ms:
            return False
        self.online, self._utc_ms = online, utc_ms
        return True
