"""One Modbus connection: the only module that imports the pymodbus client.

pymodbus keeps the connection, frames the messages and matches answers to requests. What it leaves open is
closed here: register counts, function codes, echoes and transaction ids are checked, nothing is ever
retried, a serial line is left quiet after any failure so that a late answer is never taken for the next
one, a broken connection fails its request at once, and a read-only link has no way to write.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU

from edge.modbus import wiretime
from edge.modbus.failures import FailureKind, NodeError
from reconf.devices.site_io import BIT_TABLES, IoTable
from reconf.site import GatewaySpec

QUIET_S = 0.15
"""Silence kept on a serial line after a failure; a node 50 ms late was never mistaken with it."""
QUIET_MAX_S = 0.6
"""A line that will not fall silent is used again after this."""
RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 5.0
DEAF_LIMIT = 3
"""Time-outs in a row on one TCP connection before it is taken for half open and made anew."""

READ_FUNCTION: dict[IoTable, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
WRITE_COIL = 5
COIL_ON, COIL_OFF = 0xFF00, 0x0000
WRITE_ONE, WRITE_MANY = 6, 16
GATEWAY_SILENT = (0x0A, 0x0B)


class _Request(ModbusPDU):
    """A request whose body is already bytes."""

    def __init__(self, function: int, unit: int, body: bytes) -> None:
        super().__init__(dev_id=unit)
        self.function_code = function
        self.body = body

    def encode(self) -> bytes:
        return self.body


class _Answer(ModbusPDU):
    """An answer whose body stays bytes: decoding is done for all nodes at once, elsewhere."""

    def __init__(self, function: int, body: bytes) -> None:
        super().__init__()
        self.function_code = function
        self.body = body


class _ReadShape(ModbusPDU):
    rtu_byte_count_pos = 2


class _WriteShape(ModbusPDU):
    rtu_frame_size = 8


class _Decoder(DecodePDU):
    """Takes any function code, so that a stray one is our finding and not an exception in the event loop."""

    def __init__(self) -> None:
        super().__init__(False)

    def lookupPduClass(self, data: bytes) -> type[ModbusPDU] | None:  # noqa: N802 - pymodbus's name
        function = data[1]
        if function & 0x80:
            return ExceptionResponse
        if function in (1, 2, 3, 4):
            return _ReadShape
        return _WriteShape if function in (WRITE_COIL, WRITE_ONE, WRITE_MANY) else None

    def decode(self, frame: bytes) -> ModbusPDU | None:
        return _Answer(frame[0], frame[1:])


class Link:
    """One connection to a gateway, one request at a time.

    Args:
        gateway: where it goes.
        read_only: refuse every write before it is built.
        wall: monotonic wall clock [s].
    """

    def __init__(self, gateway: GatewaySpec, *, wall: Callable[[], float], read_only: bool = False) -> None:
        self.gateway = gateway
        self.read_only = read_only
        self.serial = gateway.kind == "rtu"
        self.wire_s = 0.0
        """Computed wire time so far (serial lines only)."""
        self.exchanges = 0
        self._wall = wall
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._lock = asyncio.Lock()
        self._quiet_until = 0.0
        self._last_byte = 0.0
        self._reconnecting: asyncio.Task[None] | None = None
        self._deaf = 0
        self._closed = False
        self.last_used = 0.0
        """Wall time at which the last exchange ended."""
        self.last_took_s = 0.0
        """Wall time the last exchange took, silence kept before it not counted."""
        self.timeout_s = gateway.timeout_s
        """Wall time one answer is waited for."""

    async def __aenter__(self) -> Self:
        # pymodbus logs every time-out as an error; failures are reported once, by the caller
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._client = self._build()
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._client is not None:
            self._client.close()

    @property
    def connected(self) -> bool:
        """A connection stands (which does not mean that anybody answers)."""
        return self._client is not None and bool(self._client.connected)

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return self._lock.locked()

    def wait_for(self, timeout_s: float) -> None:
        """Wait so long for each answer from now on: probing cannot afford what control does."""
        self.timeout_s = timeout_s
        if self._client is not None:
            self._client.ctx.comm_params.timeout_connect = timeout_s

    def _build(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        g = self.gateway
        client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if self.serial:
            client = AsyncModbusSerialClient(
                g.device,
                baudrate=g.baudrate,
                parity=g.parity,
                stopbits=g.stop_bits,
                timeout=g.timeout_s,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._on_packet,
                trace_connect=self._on_connect,
            )
        else:
            client = AsyncModbusTcpClient(
                g.host,
                port=g.port,
                timeout=g.timeout_s,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._on_packet,
                trace_connect=self._on_connect,
            )
        client.ctx.framer.decoder = _Decoder()
        # a silent unit must not close the connection the other units use; half-open peers: see DEAF_LIMIT
        client.set_max_no_responses(1 << 30)
        client.ctx.count_until_disconnect = 1 << 30
        return client

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        if not sending:
            self._last_byte = self._wall()
        return data

    def _on_connect(self, up: bool) -> None:
        if up or self._client is None:
            return
        waiting = self._client.ctx.response_future
        if not waiting.done():
            waiting.set_exception(ConnectionException("the connection broke while waiting"))
            waiting.exception()  # read here once: nobody may be waiting, and asyncio would complain

    async def _connect(self) -> bool:
        """Connect now; when that fails, go on trying in the background and let requests fail at once."""
        if self._client is None or (self._reconnecting is not None and not self._reconnecting.done()):
            return False
        if await self._client.connect():
            self._deaf = 0
            return True
        self._reconnecting = asyncio.create_task(self._reconnect(self._client), name="modbus reconnect")
        return False

    async def _reconnect(self, client: AsyncModbusTcpClient | AsyncModbusSerialClient) -> None:
        delay_s = RECONNECT_FIRST_S
        await asyncio.sleep(delay_s)
        while not self._closed and not await client.connect():
            delay_s = min(2 * delay_s, RECONNECT_MAX_S)
            await asyncio.sleep(delay_s)
        self._deaf = 0

    async def read(self, unit: int, table: IoTable, address: int, count: int) -> bytes:
        """`count` registers as big-endian bytes, or `count` bits with the first in the lowest place.

        Raises:
            NodeError: they did not come, or not all of them.
        """
        if self.serial:
            self.wire_s += wiretime.read_s(self.gateway, count)
        body = await self._exchange(READ_FUNCTION[table], unit, struct.pack(">HH", address, count))
        size = (count + 7) // 8 if table in BIT_TABLES else 2 * count
        if len(body) != 1 + size or body[0] != size:
            self._disturbed()
            came = 8 * (len(body) - 1) if table in BIT_TABLES else (len(body) - 1) // 2
            what = "bits" if table in BIT_TABLES else "registers"
            raise NodeError(FailureKind.SHORT, f"unit {unit}: asked for {count} {what}, {came} came")
        return body[1:]

    async def write(self, unit: int, address: int, words: Sequence[int]) -> None:
        """Write consecutive holding registers: FC06 for one, FC16 for more. Never repeated.

        Raises:
            NodeError: not acknowledged; whether the node took it is unknown unless it was REFUSED.
        """
        if self.read_only:
            raise NodeError(FailureKind.READ_ONLY, f"unit {unit}: read-only, nothing is written")
        if self.serial:
            self.wire_s += wiretime.write_s(self.gateway, len(words))
        if len(words) == 1:
            function, body = WRITE_ONE, struct.pack(">HH", address, words[0])
        else:
            head = struct.pack(">HHB", address, len(words), 2 * len(words))
            function, body = WRITE_MANY, head + struct.pack(f">{len(words)}H", *words)
        echo = await self._exchange(function, unit, body)
        if echo != body[:4]:
            self._disturbed()
            raise NodeError(FailureKind.GARBAGE, f"unit {unit}: the write of {address} was echoed wrongly")

    async def write_coil(self, unit: int, address: int, *, on: bool) -> None:
        """Write one coil (FC05). Never repeated.

        Raises:
            NodeError: not acknowledged; whether the node took it is unknown unless it was REFUSED.
        """
        if self.read_only:
            raise NodeError(FailureKind.READ_ONLY, f"unit {unit}: read-only, nothing is written")
        if self.serial:
            self.wire_s += wiretime.write_s(self.gateway, 1)
        body = struct.pack(">HH", address, COIL_ON if on else COIL_OFF)
        if await self._exchange(WRITE_COIL, unit, body) != body:
            self._disturbed()
            raise NodeError(
                FailureKind.GARBAGE, f"unit {unit}: the write of coil {address} was echoed wrongly"
            )

    async def _exchange(self, function: int, unit: int, body: bytes) -> bytes:
        """One request and its answer's body, everything about it checked but its length."""
        async with self._lock:
            client = await self._usable(unit)
            request = _Request(function, unit, body)
            self.exchanges += 1
            began = self._wall()
            try:
                answer = await client.execute(False, request)
            except asyncio.CancelledError:
                self._disturbed()
                raise
            except ConnectionException as error:
                self._disturbed()
                raise NodeError(FailureKind.DISCONNECTED, f"unit {unit}: {error}") from error
            except ModbusIOException as error:
                raise self._unanswered(unit, client) from error
            finally:
                self.last_used = self._wall()
                self.last_took_s = self.last_used - began
            self._deaf = 0
            return self._checked(request, answer)

    async def _usable(self, unit: int) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        """The client, connected, its line quiet."""
        if self._client is None or not (self._client.connected or await self._connect()):
            raise NodeError(FailureKind.DISCONNECTED, f"unit {unit}: no connection to {self.gateway.name}")
        if self.serial:
            await self._wait_quiet()
        return self._client

    async def _wait_quiet(self) -> None:
        """Let late answers arrive and be thrown away before the next request."""
        latest = max(self._quiet_until, self.last_used) + QUIET_MAX_S
        wait_s = min(max(self._quiet_until, self._silent_from()), latest) - self._wall()
        while wait_s > 0.0:
            await asyncio.sleep(wait_s)
            # bytes that came meanwhile prolong the silence
            wait_s = min(max(self._quiet_until, self._silent_from()), latest) - self._wall()

    def _silent_from(self) -> float:
        """When the line will have been silent long enough after an unexpected byte, 0 if none came."""
        return self._last_byte + QUIET_S if self._last_byte > self.last_used else 0.0

    def _disturbed(self) -> None:
        """Something went wrong: on a serial line, keep quiet; what comes late is drained meanwhile."""
        if self.serial:
            self._quiet_until = self._wall() + QUIET_S

    def _unanswered(self, unit: int, client: AsyncModbusTcpClient | AsyncModbusSerialClient) -> NodeError:
        """The time-out as a fault; a deaf or confused TCP connection is closed, to be made anew."""
        self._disturbed()
        residue = bool(client.ctx.recv_buffer)
        self._deaf += 1
        if not self.serial and (residue or self._deaf >= DEAF_LIMIT):
            client.close()
        if residue:
            return NodeError(FailureKind.GARBAGE, f"unit {unit}: what came was no answer")
        return NodeError(FailureKind.NO_ANSWER, f"unit {unit}: no answer in {self.timeout_s:g} s")

    def _checked(self, request: _Request, answer: ModbusPDU) -> bytes:
        """The body of the right answer."""
        unit, function = request.dev_id, request.function_code
        got: int = answer.function_code
        body: bytes = getattr(answer, "body", b"")
        if not self.serial and answer.transaction_id != request.transaction_id:
            raise NodeError(FailureKind.GARBAGE, f"unit {unit}: an answer to another transaction")
        if got == function | 0x80 and len(body) >= 1:
            kind = FailureKind.NO_ANSWER if body[0] in GATEWAY_SILENT else FailureKind.REFUSED
            raise NodeError(kind, f"unit {unit}: exception {body[0]:#04x}", exception_code=body[0])
        if got != function:
            self._disturbed()
            raise NodeError(FailureKind.GARBAGE, f"unit {unit}: function {got} answered {function}")
        return body
