"""The MQTT client of the edge node, and the brokers it may choose from."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.northbound.mqtt_client import CheckedClient
from reconf.site import Site
from reconf.site_links import MqttSpec

LEAVE_S = 2.0
"""Wall time for a DISCONNECT to leave."""


class NodeClient(CheckedClient):
    """A client that knows whether CONNECT can have been sent, and that leaves as Sparkplug wants it."""

    reached = False

    def _on_socket_open(self, *args: Any, **keywords: Any) -> None:
        self.reached = True
        super()._on_socket_open(*args, **keywords)

    async def leave(self, *, version5: bool) -> None:
        """DISCONNECT; on MQTT 5 with reason 4, as Sparkplug wants it (the broker sends the will as well)."""
        reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message") if version5 else None
        if self._client.disconnect(reason) == paho.MQTT_ERR_SUCCESS:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.shield(self._disconnected)


def brokers_of(site: Site) -> tuple[MqttSpec, ...]:
    """The brokers in order; they share the `mqtt` section's TLS and password."""
    found = []
    for broker in site.sparkplug.brokers:
        host, _, port = broker.rpartition(":")
        found.append(replace(site.mqtt, host=host.strip("[]"), port=int(port)))
    return tuple(found) or (site.mqtt,)
