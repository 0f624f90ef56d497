"""The other side of the command contract: give a command to a site and wait for its reply."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.northbound.mqtt_client import FAILURE_FROM, make_client
from edge.northbound.topics import Topics
from reconf.errors import TransportError
from reconf.site import Site


class NoBrokerError(TransportError):
    """The broker cannot be reached, or does not let us command."""


async def exchange(site: Site, command: dict[str, Any], wait_s: float) -> dict[str, Any] | None:
    """Publish a command (never retained) and return the first reply to its id, None when none came in time.

    Raises:
        NoBrokerError: the broker cannot be reached or refuses the command's topic.
        ConfigError: plain text to another machine.
    """
    topics = Topics.of(site)
    identifier = f"reconf-send-{command['id'][:8]}"
    try:
        async with make_client(site.mqtt, identifier=identifier) as client:
            await client.subscribe(topics.reply, qos=1)
            code = await client.publish_checked(
                topics.command, json.dumps(command).encode(), properties=_expiry(site, wait_s)
            )
            if code >= FAILURE_FROM:
                raise NoBrokerError(f"the broker refuses {topics.command} (reason code {code})")
            async with asyncio.timeout(wait_s):
                async for message in client.messages:
                    reply = _reply(message.payload)
                    if reply is not None and reply.get("id") == command["id"]:
                        return reply
    except TimeoutError:
        return None
    except (aiomqtt.MqttError, OSError) as error:
        raise NoBrokerError(str(error)) from error
    return None


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
