"""Listening to a site over MQTT, as a SCADA host does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiomqtt

from edge.northbound.commander import NoBrokerError
from edge.northbound.mqtt_client import make_client
from reconf.site import Site


async def watch(site: Site, topics: Sequence[str], name: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Topic and content of every JSON object published on `topics`, until the connection is lost.

    Raises:
        aiomqtt.MqttError: the broker cannot be reached, or the connection was lost.
    """
    async with make_client(site.mqtt, identifier=f"reconf-watch-{name}") as client:
        for topic in topics:
            await client.subscribe(topic, qos=0)
        async for message in client.messages:
            try:
                data = json.loads(message.payload)
            except ValueError:
                continue
            if isinstance(data, dict):
                yield str(message.topic), data


async def gather(site: Site, topics: Sequence[str], name: str, wait_s: float) -> dict[str, dict[str, Any]]:
    """Last JSON object of each topic, until all were heard or `wait_s` is over.

    Raises:
        NoBrokerError: the broker cannot be reached, or the connection was lost.
    """
    heard: dict[str, dict[str, Any]] = {}

    async def until_all() -> None:
        async for topic, data in watch(site, topics, name):
            heard[topic] = data
            if len(heard) == len(set(topics)):
                return

    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until_all(), wait_s)
    except (aiomqtt.MqttError, OSError) as error:
        raise NoBrokerError(f"no broker at {site.mqtt.host}:{site.mqtt.port}: {error}") from error
    return heard
