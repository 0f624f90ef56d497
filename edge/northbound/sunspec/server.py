"""The SunSpec server: Modbus TCP, several readers, at most one writer, read-only unless told otherwise.

What is written is never acted on here: a set point becomes a command of the one command contract, with the
same checks, the same bounds and the same audit log as any other.
"""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog

from edge.northbound.payloads import Reply
from edge.northbound.shedding import Bucket
from edge.northbound.sunspec.devices import SITE_UNIT, Devices, WritablePoint
from edge.northbound.sunspec.layout import decode_integer
from edge.northbound.sunspec.points import RefusedRequestError, SetPointPoints, SunSpecOptions
from edge.northbound.sunspec.security import WRITING_ROLES, ServerCertificates, role_of
from edge.northbound.sunspec.view import SiteState

MAX_READ = 125
MAX_ADU = 260
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY, TARGET_SILENT = 1, 2, 3, 6, 0x0B
COMMAND_LIFE_S = 86_400.0
"""A set point without a revert time ends after a day: no client may hold a site for ever by one write."""

GATHER_S = 0.1
"""Wall time for the rest of a set point to be written."""

Submit = Callable[[bytes], Awaitable[None]]
"""Takes a command of the contract, as bytes."""


@dataclass(slots=True, eq=False)
class _Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str
    pace: Bucket
    last_s: float
    """Wall time of its last whole request, or of its coming."""
    role: str | None = None
    """In its certificate; None in plain text, where there is none."""
    asked: bool = False
    """It has sent a whole request."""


@dataclass
class SunSpecServer:
    """Serves `Devices` over TCP; an async context manager.

    Args:
        devices: what is shown.
        options: where, and who may write.
        submit: where commands go; without it the server is read-only.
        wall: monotonic wall clock [s].
        utc: the date, for the commands' labels.
        certificates: serve Modbus/TCP Security instead of plain text.
        beat: told when the writer changes CtrlHb, its sign of life.
    """

    devices: Devices
    options: SunSpecOptions
    submit: Submit | None
    wall: Callable[[], float]
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)
    certificates: ServerCertificates | None = None
    beat: Callable[[], None] = lambda: None
    points: SetPointPoints = field(default_factory=SetPointPoints)
    port: int = 0
    refused_connections: int = 0
    _clients: set[_Client] = field(default_factory=set)
    _writing: _Client | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _writable: dict[int, WritablePoint] = field(default_factory=dict)
    _pending: set[asyncio.Task[None]] = field(default_factory=set)
    _due: asyncio.TimerHandle | None = None
    _command_id: str = ""
    """Of the set point that the points show."""

    async def __aenter__(self) -> Self:
        self._writable = self.devices.writable()
        tls: dict[str, Any] = {}
        if self.certificates is not None:
            # who dawdles in the handshake is not a client yet, and holds a place of nobody's
            wait_s = self.options.frame_s
            tls = {
                "ssl": self.certificates.context,
                "ssl_handshake_timeout": wait_s,
                "ssl_shutdown_timeout": wait_s,
            }
            self._stack.callback(asyncio.create_task(self.certificates.run()).cancel)
        server = await asyncio.start_server(
            self._serve, self.options.host, self.options.port, limit=4 * MAX_ADU, **tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self._stack.callback(server.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in tuple(self._clients):
            client.writer.close()
        if self._due is not None:
            self._due.cancel()
        for task in self._pending:
            task.cancel()
        await self._stack.aclose()

    def show(self, state: SiteState) -> None:
        """Show a new state of the site; the writable points are put in from here."""
        points, now = self.points, self.wall()
        if now >= points.reverts_at_s:
            points.enabled, points.reverts_at_s = False, float("inf")
        left = points.reverts_at_s - now
        self.devices.show(
            replace(
                state,
                heartbeat=int(now),
                controller_heartbeat=points.controller_heartbeat,
                set_point_on=points.enabled,
                set_point_w=points.watts,
                revert_s=points.revert_s,
                revert_left_s=left if left < float("inf") else None,
            )
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self.options.max_connections and not self._make_room():
            self.refused_connections += 1
            writer.close()
            return
        peer = writer.get_extra_info("peername")
        pace = Bucket(self.options.requests_per_s, self.options.requests_burst)
        client = _Client(reader, writer, str(peer[0]) if peer else "", pace, self.wall(), _role(writer))
        self._clients.add(client)
        try:
            # a peer that resets, dawdles or talks nonsense is done with; nobody waits for it
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
                while True:
                    await self._one(client)
        finally:
            self._clients.discard(client)
            if self._writing is client:
                self._writing = None
            writer.close()

    def _make_room(self) -> bool:
        """Hang up on who has never asked anything, or has been silent for long; never on the writer."""
        now = self.wall()
        idle = [
            c for c in self._clients
            if c is not self._writing and (not c.asked or now - c.last_s > self.options.idle_kept_s)
        ]  # fmt: skip
        if not idle:
            return False
        victim = min(idle, key=lambda c: (c.asked, c.last_s))
        self._clients.discard(victim)
        self.refused_connections += 1
        victim.writer.transport.abort()
        return True

    async def _one(self, client: _Client) -> None:
        """One request and its answer."""
        async with asyncio.timeout(self.options.idle_s):
            head = await client.reader.readexactly(1)
        async with asyncio.timeout(self.options.frame_s):
            head += await client.reader.readexactly(6)
            _, protocol, length, unit = struct.unpack(">HHHB", head)
            if protocol != 0 or not 2 <= length <= MAX_ADU - 6:
                raise ValueError("not Modbus")
            pdu = await client.reader.readexactly(length - 1)
        client.asked, client.last_s = True, self.wall()
        while not client.pace.take(self.wall()):  # noqa: ASYNC110 - it waits for time, not for anybody
            await asyncio.sleep(1.0 / self.options.requests_per_s)
        reply = self._answer(client, unit, pdu)
        client.writer.write(head[:4] + struct.pack(">HB", len(reply) + 1, unit) + reply)
        async with asyncio.timeout(self.options.frame_s):
            await client.writer.drain()

    def _answer(self, client: _Client, unit: int, pdu: bytes) -> bytes:
        try:
            return self._perform(client, unit, pdu)
        except RefusedRequestError as refused:
            return bytes((pdu[0] | 0x80, refused.code))

    def _perform(self, client: _Client, unit: int, pdu: bytes) -> bytes:
        function = pdu[0]
        if unit not in self.devices.units:
            raise RefusedRequestError(TARGET_SILENT)
        if function == 3 and len(pdu) == 5:
            return self._read(unit, *struct.unpack(">HH", pdu[1:]))
        if function == 6 and len(pdu) == 5:
            self._write(client, unit, int.from_bytes(pdu[1:3], "big"), pdu[3:5])
            return pdu
        if function == 16 and len(pdu) >= 6:
            address, count, size = struct.unpack(">HHB", pdu[1:6])
            if size != 2 * count or len(pdu) != 6 + size:
                raise RefusedRequestError(ILLEGAL_VALUE)
            self._write(client, unit, address, pdu[6:])
            return pdu[:5]
        raise RefusedRequestError(ILLEGAL_FUNCTION)

    def _read(self, unit: int, address: int, count: int) -> bytes:
        if not 1 <= count <= MAX_READ:
            raise RefusedRequestError(ILLEGAL_VALUE)
        data = self.devices.read(unit, address, count)
        if data is None:
            raise RefusedRequestError(ILLEGAL_ADDRESS)
        return bytes((3, len(data))) + data

    # ---- writing -------------------------------------------------------------------------------

    def _write(self, client: _Client, unit: int, address: int, data: bytes) -> None:
        """Check everything, then take it all; a set point becomes a command."""
        if self.submit is None or not self.options.writer:
            raise RefusedRequestError(ILLEGAL_FUNCTION)
        if unit != SITE_UNIT:
            raise RefusedRequestError(ILLEGAL_ADDRESS)
        if client.address != self.options.writer or client.role not in (None, *WRITING_ROLES):
            raise RefusedRequestError(ILLEGAL_FUNCTION)
        if self._writing not in (None, client):
            raise RefusedRequestError(BUSY)
        values = self._values(address, data)
        self._writing = client
        self._take(values)

    def _values(self, address: int, data: bytes) -> dict[str, int | None]:
        values: dict[str, int | None] = {}
        at = 0
        while at < len(data):
            found = self._writable.get(address + at // 2)
            if found is None:
                raise RefusedRequestError(ILLEGAL_ADDRESS)
            part = data[at : at + 2 * found.point.size]
            if len(part) != 2 * found.point.size:
                raise RefusedRequestError(ILLEGAL_VALUE)
            values[found.point.name] = decode_integer(found.point, part)
            at += len(part)
        if not values:
            raise RefusedRequestError(ILLEGAL_VALUE)
        wrong_mode = values.get("WSetMod", 1) != 1
        if wrong_mode or values.get("WSetEna", 0) not in (0, 1) or values.get("WSet", 0) is None:
            raise RefusedRequestError(ILLEGAL_VALUE)
        return values

    def _take(self, values: Mapping[str, int | None]) -> None:
        points, now = self.points, self.wall()
        if "CtrlHb" in values and values["CtrlHb"] != points.controller_heartbeat:
            points.controller_heartbeat = values["CtrlHb"]
            self.beat()
        if "WSetRvrtTms" in values:
            points.revert_s = None if not values["WSetRvrtTms"] else float(values["WSetRvrtTms"])
        points.watts = float(values.get("WSet") or 0) if "WSet" in values else points.watts
        was = points.enabled
        points.enabled = bool(values["WSetEna"]) if "WSetEna" in values else points.enabled
        touched = {"WSet", "WSetEna", "WSetRvrtTms"} & set(values)
        if touched and (points.enabled or was):
            points.reverts_at_s = (
                now + points.revert_s if points.enabled and points.revert_s else float("inf")
            )
            self._submit_soon()

    def _submit_soon(self) -> None:
        """Clients write the points of one set point in several requests: wait for the last of them."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(GATHER_S, self._submit)

    def _submit(self) -> None:
        """Hand the set point to the command contract: 0 W once it is disabled."""
        self._due = None
        points, utc = self.points, self.utc()
        args: dict[str, float] = {"power_w": points.watts if points.enabled else 0.0}
        life_s = COMMAND_LIFE_S
        if points.enabled and points.revert_s:
            args["revert_s"] = points.revert_s
            life_s = min(life_s, points.revert_s + 60.0)
        self._command_id = str(uuid.uuid4())
        command = {
            "id": self._command_id,
            "issuer": self.options.issuer,
            "sequence": round(utc.timestamp() * 1e3),
            "issued_at": utc.isoformat(),
            "expires_at": (utc + timedelta(seconds=life_s)).isoformat(),
            "action": "set_power",
            "args": args,
        }
        structlog.get_logger("sunspec").info("set_point", **args, enabled=points.enabled)
        if self.submit is not None:
            task = asyncio.ensure_future(self.submit(json.dumps(command).encode()))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    def hear(self, reply: Reply) -> None:
        """What became of the set point: one that was refused, or has ended, is no longer shown as enabled."""
        if reply.id == self._command_id and reply.result in ("refused", "superseded", "done"):
            self.points.enabled, self.points.reverts_at_s = False, float("inf")


def _role(writer: asyncio.StreamWriter) -> str | None:
    """Role in the peer's certificate, empty without one; None in plain text."""
    tls = writer.get_extra_info("ssl_object")
    if tls is None:
        return None
    certificate = tls.getpeercert(binary_form=True)
    return role_of(certificate) if certificate else ""
