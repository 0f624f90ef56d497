"""A process that hears commands, so that a flood of them costs control nothing.

Two of them run: one hears commands and heartbeats and gives way to control, one hears nothing but emergency
stops and does not. Each has its connection, its sieve and its pipe; neither feels the other's flood.

`python -m edge.northbound.ingress` gets its settings as one line of JSON on stdin, says what it hears as
lines of JSON on stdout, and ends when stdin does. Most of a flood is counted and dropped here; when the
reader is slow, the pipe, then TCP, then the broker wait.

    {"connected": true}                             {"connected": false, "why": "..."}
    {"topic": "...", "retain": false, "payload": "<base64>"}
    {"shed": 1234}
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.northbound.shedding import SIZE_MAX, BeatSieve, Screen, Sieve

TELL_SHED_S = 0.5
RETRY_FIRST_S = 0.5
RETRY_LAST_S = 10.0
FAILURE_FROM = 0x80


class Ingress:
    """One connection after the other, until the process ends."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        screen = Screen(settings["site"], frozenset(settings["issuers"]))
        self.sieve = Sieve(screen, stops_only=settings["stops_only"])
        self.beats = BeatSieve(screen.issuers)
        self.shed = 0
        """Dropped since start."""

    def run(self) -> None:
        """Connect, hear, wait, again."""
        wait_s = RETRY_FIRST_S
        while True:
            began_s = time.monotonic()
            why = self._connection()
            say(connected=False, why=why)
            if time.monotonic() - began_s > RETRY_LAST_S:
                wait_s = RETRY_FIRST_S
            time.sleep(wait_s)
            wait_s = min(2.0 * wait_s, RETRY_LAST_S)

    def _connection(self) -> str:
        """One connection to its end; why it ended."""
        try:
            client = self._client()
            properties = None
            if self.settings["protocol"] == "5":
                properties = receive_maximum(self.settings["receive_maximum"])
            client.connect(self.settings["host"], self.settings["port"], 15, properties=properties)
            code = client.loop_forever(retry_first_connection=False)
        except (OSError, ValueError) as error:
            return str(error)
        return paho.error_string(code)

    def _client(self) -> paho.Client:
        """A client as the settings say; TLS files are read now."""
        version5 = self.settings["protocol"] == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.settings["identifier"],
            protocol=paho.MQTTv5 if version5 else paho.MQTTv311,
            clean_session=None if version5 else True,
            reconnect_on_failure=False,
        )
        if self.settings["username"]:
            client.username_pw_set(self.settings["username"], self.settings["password"] or None)
        if self.settings["ca_file"]:
            context = ssl.create_default_context(cafile=self.settings["ca_file"])
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.settings["cert_file"]:
                context.load_cert_chain(self.settings["cert_file"], self.settings["key_file"])
            client.tls_set_context(context)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            say(connected=False, why=str(code))
            client.disconnect()
            return
        client.subscribe([(topic, 1) for topic in self.settings["topics"]])

    @staticmethod
    def _on_subscribe(client: paho.Client, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
        refused = [str(code) for code in codes if code.value >= FAILURE_FROM]
        if refused:
            say(connected=False, why=f"the broker does not let us hear commands: {refused[0]}")
            client.disconnect()
        else:
            say(connected=True)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        content = bytes(
            message.payload[: SIZE_MAX + 1]
        )  # one byte more than is allowed shows that it is too long
        beat = message.topic == self.settings["heartbeat"]
        if (self.beats if beat else self.sieve).passes(content, time.monotonic()):
            say(topic=message.topic, retain=message.retain, payload=base64.b64encode(content).decode())
        else:
            self.shed += 1

    def tell_shed(self) -> None:
        """Say from time to time how many were dropped; runs in a thread of its own."""
        told = 0
        while True:
            time.sleep(TELL_SHED_S)
            count = self.shed
            if count > told:
                say(shed=count - told)
                told = count


def receive_maximum(count: int) -> Properties:
    """QoS 1 messages the broker may have on the way (MQTT 5, 3.1.2.11.3)."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
    properties.ReceiveMaximum = count
    return properties


_SPEAKING = threading.Lock()


def say(**line: Any) -> None:
    """One line of JSON; waits when the reader is slow."""
    with _SPEAKING:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def end_with_stdin() -> None:
    """End the process when the daemon is gone, however it went."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Entry point of the process."""
    settings = json.loads(sys.stdin.buffer.readline())
    os.nice(settings["niceness"])
    threading.Thread(target=end_with_stdin, daemon=True).start()
    ingress = Ingress(settings)
    threading.Thread(target=ingress.tell_shed, daemon=True).start()
    ingress.run()


if __name__ == "__main__":
    main()
