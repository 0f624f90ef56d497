"""Listening to a site over MQTT, as a SCADA host does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

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
