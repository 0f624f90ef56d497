"""The daemon's end of an ingress process: starts it, hears it, starts it again."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from edge.northbound.mqtt_client import RECEIVE_MAXIMUM, read_secret, tls_context
from reconf.errors import ConfigError
from reconf.site import Site

RESTART_S = 2.0
LINE_MAX = 64 * 1024
GIVES_WAY = 5
"""Niceness: control comes first when both want the processor, and commands before what is nicer still."""


@dataclass(frozen=True, slots=True)
class Ear:
    """What one ingress process listens to."""

    name: str
    """Ends its client identifier."""
    topics: tuple[str, ...]
    heartbeat: str = ""
    """That of `topics` which carries heartbeats."""
    stops_only: bool = False
    """Nothing but emergency stops is heard here."""

    @property
    def niceness(self) -> int:
        """Who hears emergency stops gives way to nobody."""
        return 0 if self.stops_only else GIVES_WAY


class IngressLink:
    """Messages from a process of their own. `run` until cancelled."""

    def __init__(self, site: Site, ear: Ear, *, hear: Callable[[str, bytes, bool], None]) -> None:
        self.connected = asyncio.Event()
        self.shed = 0
        """Messages dropped unseen since start."""
        self.text = ""
        """Why it does not hear; empty when it does."""
        self._site, self._ear, self._hear = site, ear, hear
        self._process: asyncio.subprocess.Process | None = None
        self._log = structlog.get_logger("northbound")

    async def run(self) -> None:
        """Keep the process alive until cancelled."""
        while True:
            try:
                await self._process_once()
            except (OSError, ConfigError, ValueError) as error:
                self._lost(str(error))
            await asyncio.sleep(RESTART_S)

    def renew(self) -> None:
        """Have the process begin anew, with the TLS files of now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _process_once(self) -> None:
        """One process from start to end."""
        settings = json.dumps(self._settings()).encode() + b"\n"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge.northbound.ingress",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_MAX,
            start_new_session=True,  # Ctrl-C reaches the daemon, which ends it
        )  # fmt: skip
        self._process = process
        try:
            if process.stdin is None or process.stdout is None:
                raise OSError("the ingress process has no pipes")
            process.stdin.write(settings)
            async for line in process.stdout:
                self._take(json.loads(line))
            self._lost(f"the ingress process ended ({await process.wait()})")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _take(self, line: dict[str, Any]) -> None:
        """One line from the process."""
        self.shed += int(line.get("shed", 0))
        if "topic" in line:
            self._hear(line["topic"], base64.b64decode(line["payload"]), bool(line["retain"]))
        elif line.get("connected"):
            self.text = ""
            self.connected.set()
        elif "connected" in line:
            self._lost(str(line["why"]))

    def _lost(self, why: str) -> None:
        """Told once, and again only for another reason."""
        if self.text != why:
            self._log.warning("commands_not_heard", process=self._ear.name, why=why)
        self.connected.clear()
        self.text = why

    def _settings(self) -> dict[str, Any]:
        """What the process needs to know; the password goes through the pipe, not the command line."""
        mqtt, ear = self._site.mqtt, self._ear
        tls_context(mqtt)  # refuses plain text to another machine, and files that cannot be used
        return {
            "host": mqtt.host, "port": mqtt.port, "protocol": mqtt.protocol, "username": mqtt.username,
            "password": read_secret(Path(mqtt.password_file)) if mqtt.password_file else "",
            "ca_file": mqtt.ca_file, "cert_file": mqtt.cert_file, "key_file": mqtt.key_file,
            "topics": list(ear.topics), "identifier": f"reconf-{self._site.name}-{ear.name}",
            "receive_maximum": RECEIVE_MAXIMUM, "niceness": ear.niceness, "stops_only": ear.stops_only,
            "heartbeat": ear.heartbeat, "site": self._site.name,
            "issuers": [issuer.name for issuer in mqtt.issuers],
        }  # fmt: skip
