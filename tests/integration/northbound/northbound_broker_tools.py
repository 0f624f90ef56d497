"""Tools of the northbound tests: a real mosquitto, an outside MQTT client, commands."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiomqtt
from ports import free_port

from reconf.config import load_site
from reconf.site import Site
from reconf.site_links import MqttSpec


@dataclass
class Mosquitto:
    """One broker on a fixed port; it can be killed and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    extra: str = "allow_anonymous true"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\nset_tcp_nodelay true\n{self.extra}\n")
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 40.0
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("mosquitto did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def site_at(port: int, **mqtt: Any) -> Site:
    site = load_site("demo")
    spec = replace(MqttSpec(), host="127.0.0.1", port=port, protocol="5")
    return replace(site, mqtt=replace(spec, **mqtt))


@dataclass
class Scada:
    """An outside MQTT client that hears everything of the site."""

    client: aiomqtt.Client
    heard: list[tuple[str, Any, bool]] = field(default_factory=list)

    async def listen(self) -> None:
        async for message in self.client.messages:
            if str(message.topic).endswith(("/command", "/emergency_stop")):
                continue
            text = bytes(message.payload or b"").decode()  # type: ignore[arg-type]
            self.heard.append((str(message.topic), json.loads(text) if text else None, bool(message.retain)))

    def of(self, ending: str) -> list[Any]:
        return [payload for topic, payload, _ in self.heard if topic.endswith(ending)]

    async def until(self, condition: Any, timeout_s: float = 40.0, poll_s: float = 0.01) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen in {timeout_s} s; heard {self.heard[-5:]}")
            await asyncio.sleep(poll_s)

    async def reply_to(self, command: dict[str, Any], poll_s: float = 0.01) -> dict[str, Any]:
        await self.client.publish("reconf/demo/command", json.dumps(command), qos=1)
        await self.until(lambda: any(r["id"] == command["id"] for r in self.of("/reply")), poll_s=poll_s)
        return next(r for r in self.of("/reply") if r["id"] == command["id"])


@asynccontextmanager
async def scada(port: int) -> AsyncIterator[Scada]:
    nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    async with aiomqtt.Client(
        "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, socket_options=nodelay
    ) as client:
        await client.subscribe("reconf/#", qos=1)
        listener = Scada(client)
        task = asyncio.create_task(listener.listen())
        try:
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def command(action: str = "set_power", sequence: int | None = 1, **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": str(uuid4()),
        "issuer": "scada",
        "sequence": sequence,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
        "action": action,
        "args": {"power_w": 1000.0} if action == "set_power" else {},
    }
    return {k: v for k, v in (fields | changes).items() if v is not None}
