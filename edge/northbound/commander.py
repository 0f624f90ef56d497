"""The other side of the command contract: give a command to a site and wait for its reply."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.northbound.mqtt_client import FAILURE_FROM, make_client
from edge.northbound.tasks import end_tasks
from edge.northbound.topics import Topics
from reconf.errors import TransportError
from reconf.site import Site


class NoBrokerError(TransportError):
    """The broker cannot be reached, or does not let us command."""


class Commander:
    """A SCADA host on one connection: gives commands and hears the replies. An async context manager.

    Raises (when entered):
        NoBrokerError: the broker cannot be reached.
        ConfigError: plain text to another machine.
    """

    def __init__(self, site: Site, *, identifier: str, life_s: float = 60.0) -> None:
        self.replies: dict[str, list[dict[str, Any]]] = {}
        """Every reply heard, by command id, in order."""
        self.heard_s: dict[str, float] = {}
        """Monotonic time of the first reply to each id."""
        self._site, self._topics, self._life_s = site, Topics.of(site), life_s
        self._client = make_client(site.mqtt, identifier=identifier)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._hearing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._client.__aenter__()
            await self._client.subscribe(self._topics.reply, qos=1)
        except (aiomqtt.MqttError, OSError) as error:
            raise NoBrokerError(str(error)) from error
        self._hearing = asyncio.create_task(self._hear())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hearing is not None:
            await end_tasks({self._hearing})
        with suppress(aiomqtt.MqttError):
            await self._client.__aexit__(kind, value, trace)

    async def _hear(self) -> None:
        async for message in self._client.messages:
            reply = _reply(message.payload)
            if reply is None or not isinstance(reply.get("id"), str):
                continue
            self.replies.setdefault(reply["id"], []).append(reply)
            self.heard_s.setdefault(reply["id"], time.monotonic())
            waiting = self._waiting.pop(reply["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    async def give(self, command: Mapping[str, Any], wait_s: float) -> dict[str, Any] | None:
        """Publish a command (never retained) and return the first reply to its id, None without one in time.

        An emergency stop goes both ways, on its own topic and on that of commands; the second that arrives
        gets the reply of the first.

        Raises:
            NoBrokerError: the broker refuses the topic, or is gone.
        """
        payload, properties = json.dumps(command).encode(), _expiry(self._site, self._life_s)
        stop = command["action"] == "emergency_stop"
        ways = (self._topics.emergency_stop, self._topics.command) if stop else (self._topics.command,)
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[command["id"]] = answered
        try:
            async with asyncio.timeout(wait_s):
                codes = [
                    await self._client.publish_checked(way, payload, properties=properties) for way in ways
                ]
                if min(codes) >= FAILURE_FROM:
                    raise NoBrokerError(f"the broker refuses {ways[0]} (reason code {codes[0]})")
                return await answered
        except TimeoutError:
            return None
        except aiomqtt.MqttError as error:
            raise NoBrokerError(str(error)) from error
        finally:
            self._waiting.pop(command["id"], None)


async def exchange(site: Site, command: dict[str, Any], wait_s: float) -> dict[str, Any] | None:
    """Connect, give one command, and return the first reply to it, None when none came in time.

    Raises:
        NoBrokerError: the broker cannot be reached or refuses the command's topic.
        ConfigError: plain text to another machine.
    """
    identifier = f"reconf-send-{command['id'][:8]}"
    async with Commander(site, identifier=identifier, life_s=wait_s) as commander:
        return await commander.give(command, wait_s)


def _expiry(site: Site, wait_s: float) -> Properties | None:
    """On MQTT 5 the broker throws the command away after nobody waits for its reply any more."""
    if site.mqtt.protocol != "5":
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho has no types here
    properties.MessageExpiryInterval = max(1, int(wait_s))
    return properties


def _reply(payload: object) -> dict[str, Any] | None:
    """A reply, if it is one."""
    if not isinstance(payload, bytes):
        return None
    try:
        data = json.loads(payload)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
