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
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from edge.northbound import wire
from edge.northbound.shedding import SIZE_MAX, BeatSieve, Screen, Sieve
from reconf.errors import TransportError

TELL_SHED_S = 0.5
RETRY_FIRST_S = 0.5
RETRY_LAST_S = 10.0
CONNECT_S = 10.0
"""Time for each step until commands are heard."""
KEEPALIVE_S = 15
READ_BYTES = 256 * 1024
RECEIVE_BUFFER_BYTES = 128 * 1024
SUBSCRIBE_NUMBER = 1


class RefusedError(TransportError):
    """The broker will not have us, or does not let us hear."""


class Ingress:
    """One connection after the other, until the process ends."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        screen = Screen(settings["site"], frozenset(settings["issuers"]))
        self.sieve = Sieve(screen, stops_only=settings["stops_only"])
        self.beats = BeatSieve(screen.issuers)
        self.heartbeat = settings["heartbeat"].encode()
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
            with open_socket(self.settings) as stream:
                line = Line(stream, 5 if self.settings["protocol"] == "5" else 4)
                line.log_in(self.settings)
                say(connected=True)
                while True:
                    self._take(line)
        except (OSError, ValueError, TransportError) as error:
            return str(error) or type(error).__name__

    def _take(self, line: Line) -> None:
        """What has come, and what it needs in return."""
        answers = bytearray()
        for first, body in line.read(KEEPALIVE_S / 3.0):
            kind = first >> 4
            if kind == wire.PUBLISH:
                message = wire.published(first, body, line.version)
                self._hear(message)
                if message.qos:
                    answers += wire.puback(message.number)
            elif kind == wire.DISCONNECT:
                raise RefusedError(f"the broker ends the connection (reason code {body[0] if body else 0})")
        line.write(bytes(answers))

    def _hear(self, message: wire.Published) -> None:
        """One message, handed on or dropped."""
        # one byte more than is allowed shows that it is too long
        content = message.payload[: SIZE_MAX + 1]
        sieve = self.beats if message.topic == self.heartbeat else self.sieve
        if sieve.passes(content, time.monotonic()):
            topic = message.topic.decode(errors="replace")
            say(topic=topic, retain=message.retain, payload=base64.b64encode(content).decode())
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


@dataclass(slots=True)
class Line:
    """One connection to a broker, and when something was last said on it."""

    stream: socket.socket
    version: int
    _splitter: wire.Splitter = field(default_factory=wire.Splitter)
    _kept: list[tuple[int, bytes]] = field(default_factory=list)
    """Came while something else was waited for: retained messages."""
    _heard_s: float = field(default_factory=time.monotonic)
    _said_s: float = field(default_factory=time.monotonic)

    def read(self, wait_s: float) -> list[tuple[int, bytes]]:
        """Packets that have come, none after `wait_s` of silence.

        Raises:
            OSError: the connection is lost, or the broker has been silent for too long.
            WireError: it is no MQTT.
        """
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        now_s = time.monotonic()
        if now_s - self._heard_s > 1.5 * KEEPALIVE_S:
            raise TimeoutError("the broker is silent")
        # also in a flood: the broker hears from us only what is said here
        if now_s - self._said_s > KEEPALIVE_S / 2.0:
            self.write(wire.PING)
        self.stream.settimeout(wait_s)
        try:
            data = self.stream.recv(READ_BYTES)
        except TimeoutError:
            return []
        if not data:
            raise ConnectionError("the broker closed the connection")
        self._heard_s = time.monotonic()
        return list(self._splitter.feed(data))

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            OSError: the connection is lost, or the broker does not read.
        """
        if data:
            self.stream.settimeout(CONNECT_S)
            self.stream.sendall(data)
            self._said_s = time.monotonic()

    def log_in(self, settings: dict[str, Any]) -> None:
        """Connect and subscribe.

        Raises:
            RefusedError: the broker says no to either.
            OSError: it does not answer.
        """
        login = wire.Login(
            settings["identifier"], self.version, KEEPALIVE_S, settings["receive_maximum"],
            settings["username"], settings["password"],
        )  # fmt: skip
        self.write(wire.connect(login))
        code = wire.connack(self._expect(wire.CONNACK))
        if code:
            raise RefusedError(f"the broker does not let us in (reason code {code})")
        self.write(wire.subscribe(SUBSCRIBE_NUMBER, settings["topics"], self.version))
        refused = [c for c in wire.suback(self._expect(wire.SUBACK), self.version) if c >= wire.FAILURE_FROM]
        if refused:
            raise RefusedError(f"the broker does not let us hear commands (reason code {refused[0]})")

    def _expect(self, kind: int) -> bytes:
        """Body of the next packet of a kind; what comes around it is kept for `read`.

        Raises:
            OSError: it does not come in time.
        """
        end_s = time.monotonic() + CONNECT_S
        others: list[tuple[int, bytes]] = []
        while time.monotonic() < end_s:
            packets = self.read(CONNECT_S / 10.0)
            for k, (first, body) in enumerate(packets):
                if first >> 4 == kind:
                    self._kept = others + packets[k + 1 :]
                    return body
                others.append((first, body))
        raise TimeoutError("the broker does not answer")


def open_socket(settings: dict[str, Any]) -> socket.socket:
    """TCP, with TLS where a CA is named; its files are read now.

    Raises:
        OSError: nobody there, or certificates do not fit.
    """
    stream = socket.create_connection((settings["host"], settings["port"]), CONNECT_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # a reader that cannot keep up shall be behind by moments, not by megabytes: the broker drops sooner
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    if not settings["ca_file"]:
        return stream
    context = ssl.create_default_context(cafile=settings["ca_file"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings["cert_file"]:
        context.load_cert_chain(settings["cert_file"], settings["key_file"])
    try:
        return context.wrap_socket(stream, server_hostname=settings["host"])
    except OSError:
        with suppress(OSError):
            stream.close()
        raise


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
    with suppress(OSError):  # a service manager may forbid it
        os.nice(settings["niceness"])
    threading.Thread(target=end_with_stdin, daemon=True).start()
    ingress = Ingress(settings)
    threading.Thread(target=ingress.tell_shed, daemon=True).start()
    ingress.run()


if __name__ == "__main__":
    main()
