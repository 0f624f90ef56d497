"""The twin's side of the wires: many units over TCP (one port per gateway) and on ptys (RTU).

A lean server of our own: it answers every one of several coalesced requests, on any number of connections,
knows FC01..FC06 and FC16 only, and can be told to misbehave in the ways real buses do.
"""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from edge.modbus import wiretime
from edge.modbus.answering import Served, answer
from edge.modbus.wire_faults import NO_FAULT, WireFaults, misread, refuses, spoil
from reconf.site import GatewaySpec
from reconf.twin.firmware import NodeBank

GATEWAY_TARGET_SILENT = 0x0B
MAX_ADU = 260
FRAME_TIMEOUT_S = 0.05
"""Bytes on a serial line older than this belong to a frame that never ended."""

Tap = Callable[[str, int, bytes], None]
"""Sees every request: gateway, unit, PDU."""


class _TcpPeer(asyncio.Protocol):
    """One connection of a host."""

    def __init__(self, server: WireServer, gateway: GatewaySpec) -> None:
        self._server = server
        self._gateway = gateway
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._server.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.peers.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        out: list[bytes] = []
        while len(buffer) >= 8:
            length = 6 + int.from_bytes(buffer[4:6], "big")
            if buffer[2:4] != b"\0\0" or not 8 <= length <= MAX_ADU:
                self.cut()
                return
            if len(buffer) < length:
                break
            out.append(self._one(buffer[:length]))
            buffer = buffer[length:]
        self._buffer = buffer
        reply = b"".join(out)
        if reply and self._transport is not None:
            self._transport.write(reply)

    def _one(self, adu: bytes) -> bytes:
        """The frame that answers `adu`; empty when it comes later or never."""
        unit = adu[6]
        faults, name = self._server.faults, self._gateway.name
        fault = faults.units.get((name, unit), NO_FAULT)
        # noise hits the serial side: a node drops a request with a wrong CRC, the gateway an answer
        deaf = faults.corrupted(name)
        reply = None if deaf else self._server.serve(name, unit, adu[7:])
        reply = None if faults.corrupted(name) else reply
        if fault.silent:
            return b""
        if reply is None:
            reply = bytes((adu[7] | 0x80, GATEWAY_TARGET_SILENT))
        reply = spoil(reply, fault)
        frame = adu[:4] + (len(reply) + 1).to_bytes(2, "big") + adu[6:7] + reply
        if fault.cut_connection:
            self._late(frame[: len(frame) // 2])
            self.cut()
            return b""
        if fault.delay_s > 0.0:
            asyncio.get_running_loop().call_later(fault.delay_s, self._late, frame)
            return b""
        return frame

    def _late(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def cut(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Pty:
    """A serial bus: the far end of a pty."""

    def __init__(self, server: WireServer, gateway: GatewaySpec) -> None:
        self._server = server
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._buffer = b""
        self._last_s = 0.0
        self._loop.add_reader(self._master, self._readable)

    def close(self) -> None:
        """Take the bus away."""
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            return
        now = self._loop.time()
        if now - self._last_s > FRAME_TIMEOUT_S:
            self._buffer = b""
        self._last_s = now
        self._buffer += data
        while (size := rtu_request_size(self._buffer)) and len(self._buffer) >= size:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
                self._buffer = b""
                return
            self._one(frame)

    def _one(self, frame: bytes) -> None:
        unit = frame[0]
        if self._server.faults.corrupted(self._gateway.name):
            return  # a node that finds a wrong CRC says nothing
        fault = self._server.faults.units.get((self._gateway.name, unit), NO_FAULT)
        reply = self._server.serve(self._gateway.name, unit, frame[1:-2])
        if reply is None or fault.silent:
            return
        body = bytes((unit,)) + spoil(reply, fault)
        out = body + crc16(body).to_bytes(2, "little")
        if self._server.faults.corrupted(self._gateway.name):
            hit = self._server.faults.chance.randrange(len(out))
            out = out[:hit] + bytes((out[hit] ^ 0x10,)) + out[hit + 1 :]
        delay = fault.delay_s
        if self._server.real_baud:
            delay += wiretime.exchange_s(self._gateway, len(frame), len(out))
        if delay > 0.0:
            self._loop.call_later(delay, self._send, out)
        else:
            self._send(out)

    def _send(self, out: bytes) -> None:
        with suppress(OSError):  # the bus was taken away meanwhile
            os.write(self._master, out)


class WireServer:
    """Serves nodes on some gateways; an async context manager.

    Args:
        nodes: what answers.
        gateways: where.
        host: address to listen on, instead of that of the site file.
        any_port: listen on free ports instead of those of the site file.
        real_baud: answer on ptys only after the time a real line would take.
        tap: sees every request.
    """

    def __init__(
        self,
        nodes: Served,
        gateways: Sequence[GatewaySpec],
        *,
        host: str | None = None,
        any_port: bool = False,
        real_baud: bool = False,
        tap: Tap | None = None,
    ) -> None:
        self.nodes = nodes
        self.gateways = tuple(gateways)
        self.faults = WireFaults()
        self.real_baud = real_baud
        self.endpoints: dict[str, str] = {}
        """`host:port` or the pty's path, by gateway."""
        self.peers: set[_TcpPeer] = set()
        self.requests = 0
        self._host = host
        self._any_port = any_port
        self._tap = tap
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for gateway in self.gateways:
            if gateway.kind == "tcp":
                await self._listen(gateway)
            else:
                pty = _Pty(self, gateway)
                self._stack.callback(pty.close)
                self.endpoints[gateway.name] = pty.path
        return self

    async def _listen(self, gateway: GatewaySpec) -> None:
        loop = asyncio.get_running_loop()
        host = self._host or gateway.host
        port = 0 if self._any_port else gateway.port
        server = await loop.create_server(lambda: _TcpPeer(self, gateway), host, port)
        self._stack.callback(server.close)
        self.endpoints[gateway.name] = f"{host}:{server.sockets[0].getsockname()[1]}"

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut_connections()
        await self._stack.aclose()

    def cut_connections(self) -> None:
        """Reset every TCP connection, as a gateway that restarts."""
        for peer in tuple(self.peers):
            peer.cut()

    def serve(self, gateway: str, unit_id: int, pdu: bytes) -> bytes | None:
        """One request."""
        self.requests += 1
        if self._tap is not None:
            self._tap(gateway, unit_id, pdu)
        fault = self.faults.units.get((gateway, unit_id), NO_FAULT)
        refused = refuses(pdu, fault)
        if refused is not None:
            return refused
        return misread(pdu, answer(self.nodes, gateway, unit_id, pdu), fault)


class TwinServer(WireServer):
    """Serves a `NodeBank` on every gateway of its site; options as those of `WireServer`."""

    def __init__(
        self,
        bank: NodeBank,
        *,
        host: str | None = None,
        any_port: bool = False,
        real_baud: bool = False,
        tap: Tap | None = None,
    ) -> None:
        super().__init__(bank, bank.site.gateways, host=host, any_port=any_port, real_baud=real_baud, tap=tap)
        self.bank = bank


def rtu_request_size(buffer: bytes) -> int:
    """Bytes of the request frame that `buffer` begins with, 0 while that is unknown."""
    if len(buffer) < 2:
        return 0
    if buffer[1] == 16:
        return 9 + buffer[6] if len(buffer) > 6 else 0
    return 8


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


CRC_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS of `data` (Modbus over Serial Line Specification V1.02, section 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc
