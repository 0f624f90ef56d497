"""The MQTT client: aiomqtt with what it leaves out. Nothing else outside this package uses it.

* `publish_checked` returns the broker's reason code (PUBACK): aiomqtt throws it away, so that a publish an
  access list refused looks like a success.
* A lost connection ends every pending publish at once instead of after its time-out.
* TLS contexts, passwords and certificates are read anew for every connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.northbound.shedding import may_be_stop
from reconf.errors import ConfigError
from reconf.loopback import is_loopback
from reconf.site_links import MqttSpec

RECEIVE_MAXIMUM = 20
"""QoS 1 messages the broker may have on the way to us (MQTT 5, 3.1.2.11.3)."""
PACKET_MAX = 256 * 1024
"""Longest packet the broker may send us [bytes] (MQTT 5, 3.1.2.11.4)."""
INCOMING_MAX = 200
"""Messages that wait for us; more are dropped."""
FAILURE_FROM = 0x80
"""Reason codes from here on say no (MQTT 5, 2.4)."""


class SheddingQueue(asyncio.Queue[aiomqtt.Message]):
    """A bounded queue that, when full, drops what comes; an emergency stop takes the place of the oldest."""

    shed = 0

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Put or shed; never raises QueueFull (aiomqtt would log a line for every message of a flood)."""
        if self.full():
            self.shed += 1
            if not (isinstance(item.payload, bytes) and may_be_stop(item.payload)):
                return
            self.get_nowait()
        super().put_nowait(item)


class CheckedClient(aiomqtt.Client):
    """aiomqtt's client with reason codes.

    It overrides callbacks that aiomqtt keeps private; the version is pinned and a test against a real broker
    notices when they change.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._acknowledged: dict[int, asyncio.Future[int]] = {}

    @property
    def shed(self) -> int:
        """Incoming messages dropped because too many waited."""
        return self._queue.shed if isinstance(self._queue, SheddingQueue) else 0

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return bool(self._disconnected.done())

    async def publish_checked(
        self, topic: str, payload: bytes, *, retain: bool = False, properties: Properties | None = None
    ) -> int:
        """Publish with QoS 1 and wait for the broker's word.

        Returns:
            The reason code: 0 taken, 16 taken although nobody listens, 128 and more refused. Always 0 on
            MQTT 3.1.1, which has none.

        Raises:
            aiomqtt.MqttError: no connection, or no answer in time.
        """
        if self.lost:
            raise aiomqtt.MqttError("not connected")
        info = self._client.publish(topic, payload, 1, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "could not publish")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._acknowledged[info.mid] = future
        try:
            # not asyncio.wait_for: before Python 3.12 it can swallow a cancellation
            async with asyncio.timeout(self.timeout):
                return await future
        except TimeoutError as error:
            raise aiomqtt.MqttError("the broker did not acknowledge in time") from error
        finally:
            self._acknowledged.pop(info.mid, None)

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        future = self._acknowledged.get(mid)
        if future is not None and not future.done():
            future.set_result(int(reason_code.value))
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(self, *args: Any, **keywords: Any) -> None:
        if not self._connected.cancelled():  # a connect that was given up: aiomqtt would raise
            super()._on_disconnect(*args, **keywords)
        for future in self._acknowledged.values():
            if not future.done():
                future.set_exception(aiomqtt.MqttError("connection lost"))


def make_client(
    mqtt: MqttSpec,
    *,
    identifier: str,
    will: aiomqtt.Will | None = None,
    kind: type[CheckedClient] = CheckedClient,
) -> CheckedClient:
    """A client as the site file describes it, of class `kind`; files are read now.

    Raises:
        ConfigError: plain text to somewhere else, or a secret others can read.
    """
    version5 = mqtt.protocol == "5"
    properties = None
    if version5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = PACKET_MAX
    return kind(
        mqtt.host,
        mqtt.port,
        username=mqtt.username or None,
        password=read_secret(Path(mqtt.password_file)) if mqtt.password_file else None,
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5 if version5 else aiomqtt.ProtocolVersion.V311,
        clean_session=None if version5 else True,
        will=will,
        timeout=5.0,
        keepalive=15,
        queue_type=SheddingQueue,
        max_queued_incoming_messages=INCOMING_MAX,
        properties=properties,
        # without this, small packets wait 40 ms for each other (Nagle's algorithm and delayed ACK)
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        tls_context=tls_context(mqtt),
    )


def tls_context(mqtt: MqttSpec) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the site's CA and certificate; None for plain text.

    Raises:
        ConfigError: plain text to another machine without `insecure: true`, or a file that cannot be used.
    """
    if not mqtt.ca_file:
        if not is_loopback(mqtt.host) and not mqtt.insecure:
            raise ConfigError(f"mqtt: plain text to {mqtt.host}; name a ca_file, or say insecure: true")
        return None
    try:
        context = ssl.create_default_context(cafile=mqtt.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if mqtt.cert_file:
            check_private(Path(mqtt.key_file))
            context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
    except OSError as error:
        raise ConfigError(f"mqtt: certificates cannot be used: {error}") from error
    return context


def read_secret(path: Path) -> str:
    """First line of a file only its owner can read.

    Raises:
        ConfigError: it cannot be read, or others can read it too.
    """
    check_private(path)
    try:
        return path.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(f"{path}: no secret in it: {error}") from error


def check_private(path: Path) -> None:
    """Refuse a secret that others can read.

    Raises:
        ConfigError: group or others have access, or there is no such file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{path}: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others can read this secret; chmod 600")
