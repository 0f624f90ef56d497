"""The client certificate: how long it is good for, and when its files were renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from edge.pki import days_left
from reconf.site_links import MqttSpec

ALARM_DAYS = 30.0
LOOK_S = 30.0
"""How often the files are looked at."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of one end of a connection; empty names are not there."""

    ca: str
    certificate: str
    key: str
    what: str
    """Whose certificate it is, for people."""

    @classmethod
    def of(cls, mqtt: MqttSpec) -> TlsFiles:
        """Those of the link to the broker."""
        return cls(mqtt.ca_file, mqtt.cert_file, mqtt.key_file, "client")


class CertificateWatch:
    """Watches TLS files."""

    def __init__(self, files: TlsFiles, utc: Callable[[], datetime]) -> None:
        self.days: float | None = None
        """Until the certificate ends; None without one."""
        self._files, self._utc = files, utc
        self._log = structlog.get_logger("northbound")

    @property
    def text(self) -> str:
        """The alarm ahead of the end; empty when there is time."""
        if self.days is None or self.days >= ALARM_DAYS:
            return ""
        if self.days < 0.0:
            return f"the {self._files.what} certificate ended {-self.days:.0f} days ago"
        return f"the {self._files.what} certificate ends in {self.days:.0f} days"

    def look(self) -> tuple[int, ...]:
        """Read the certificate anew; returns when the files were last changed, 0 for one that is not there.

        Raises:
            ConfigError: the certificate cannot be read.
        """
        if self._files.certificate:
            self.days = days_left(Path(self._files.certificate), self._utc())
        return self._changed_ns()

    def tell(self) -> None:
        """Log the alarm, once a connection."""
        if self.text:
            self._log.warning("certificate_ends", text=self.text, file=self._files.certificate)

    async def renewed(self, seen: tuple[int, ...]) -> None:
        """Return when the files are no longer those of `seen`.

        Raises:
            ConfigError: the certificate cannot be read any more.
        """
        while self._changed_ns() == seen:
            await asyncio.sleep(LOOK_S)
            self.look()
        self._log.info("certificates_renewed")

    def _changed_ns(self) -> tuple[int, ...]:
        """Times of the last change."""
        names = (self._files.ca, self._files.certificate, self._files.key)
        paths = [Path(name) for name in names if name]
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
