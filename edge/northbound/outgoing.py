"""What goes out: a bounded queue, the broker when there is one, the outbox on disk when there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiomqtt
import structlog

from edge.northbound.mqtt_client import FAILURE_FROM, CheckedClient
from edge.northbound.payloads import GapPayload
from edge.northbound.topics import Topics
from edge.store.history import Gap, History, Unsent
from reconf.errors import StoreError

QUEUE_MAX = 5_000
BATCH_MAX = 20
"""Publishes on the way at once; no more than paho keeps in flight, so that their order holds."""
SPILL_MAX = 500
"""Messages in one transaction of the outbox."""
DRAIN_MAX = 200
"""Messages taken from the outbox and confirmed to it at once; after a lost connection so many come twice."""
OUTBOX_POLL_S = 1.0
"""How often an empty outbox is looked at while connected."""

Blocking = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way out."""

    topic: str
    payload: bytes
    retain: bool
    utc: datetime


class Outgoing:
    """Messages on their way out. `put` never waits."""

    def __init__(
        self,
        site: str,
        topics: Topics,
        *,
        history: History | None,
        blocking: Blocking,
        utc: Callable[[], datetime],
    ) -> None:
        self.client: CheckedClient | None = None
        """The connection, while there is one."""
        self.retained: dict[str, Message] = {}
        """The newest retained message of each topic."""
        self.dropped = 0
        """Lost since start: no disk, a full disk or a full outbox."""
        self.refused = 0
        """Refused by the broker since start."""
        self._site, self._topics, self._utc = site, topics, utc
        self._history, self._blocking = history, blocking
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)
        self._batch: list[Message] = []
        self._refused_topics: set[str] = set()
        self._on_disk = 0
        self._disk_text = ""
        self._log = structlog.get_logger("northbound")

    @property
    def waiting(self) -> int:
        """Messages that have not reached the broker."""
        return self._on_disk + self._queue.qsize()

    @property
    def queued(self) -> int:
        """Those of them that are in memory only."""
        return self._queue.qsize() + len(self._batch)

    def put(self, message: Message) -> None:
        """Take a message; when the queue is full (disk and broker both slow) the oldest is lost."""
        if message.retain:
            self.retained[message.topic] = message
        while True:
            try:
                self._queue.put_nowait(message)
            except asyncio.QueueFull:
                self._queue.get_nowait()
                self.dropped += 1
            else:
                return

    async def pump(self) -> None:
        """Queue to broker or disk, until cancelled."""
        while True:
            first = await self._queue.get()
            self._batch = [first, *self._take((SPILL_MAX if self.client is None else BATCH_MAX) - 1)]
            while self._batch:
                # connected meanwhile: no more on the way at once than keeps its order
                count = len(self._batch) if self.client is None else BATCH_MAX
                await self._deliver(self._batch[:count])
                self._batch = self._batch[count:]

    async def close(self) -> None:
        """When the pump has ended: what has not arrived goes to disk."""
        left, self._batch = [*self._batch, *self._take(QUEUE_MAX)], []
        await self._spill(left)

    def _take(self, count: int) -> list[Message]:
        """Up to `count` messages that are there now."""
        taken: list[Message] = []
        while len(taken) < count and not self._queue.empty():
            taken.append(self._queue.get_nowait())
        return taken

    async def _deliver(self, batch: list[Message]) -> None:
        """Publish a batch; what does not arrive goes into the outbox, in order."""
        client = self.client
        if client is None:
            await self._spill(batch)
            return
        results = await asyncio.gather(*(self.send(client, m) for m in batch), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, aiomqtt.MqttError):
                raise result
        await self._spill(
            [m for m, r in zip(batch, results, strict=True) if isinstance(r, aiomqtt.MqttError)]
        )

    async def send(self, client: CheckedClient, message: Message) -> None:
        """Publish one message now; one the broker refuses is counted, told once, and not tried again.

        Raises:
            aiomqtt.MqttError: it did not arrive.
        """
        code = await client.publish_checked(message.topic, message.payload, retain=message.retain)
        if code < FAILURE_FROM:
            self._refused_topics.discard(message.topic)
            return
        self.refused += 1
        if message.topic not in self._refused_topics:
            self._refused_topics.add(message.topic)
            self._log.warning("publish_refused", topic=message.topic, reason_code=code)

    async def _spill(self, messages: list[Message]) -> None:
        """Into the outbox on disk; without one, or with a full disk, they are lost and counted."""
        if not messages:
            return
        history = self._history
        if history is None:
            self.dropped += len(messages)
            return
        rows = [(m.topic, m.payload, m.utc) for m in messages]
        try:
            self.dropped += await self._blocking(lambda: history.outbox_put(rows))
            self._on_disk = await self._blocking(history.outbox_count)
        except StoreError as error:
            self.dropped += len(messages)
            self._disk(str(error))
        else:
            self._disk("")

    async def drain(self, client: CheckedClient) -> None:
        """Send what waits on disk, in order and marked late, for as long as the connection lasts."""
        history = self._history
        while history is not None:
            try:
                sent = await self._drain_some(client, history)
            except StoreError as error:
                self._disk(str(error))
                sent = 0
            except aiomqtt.MqttError:
                return  # the connection is gone; everything not confirmed stays on disk
            if sent == 0:
                await asyncio.sleep(OUTBOX_POLL_S)

    async def _drain_some(self, client: CheckedClient, history: History) -> int:
        """One batch from disk to the broker; returns its size."""
        found: tuple[Gap | None, list[Unsent]] = await self._blocking(lambda: history.outbox_take(DRAIN_MAX))
        gap, unsent = found
        if gap is not None:
            await self._late(client, self._topics.gap, self._gap_bytes(gap))
        for k in range(0, len(unsent), BATCH_MAX):
            part = unsent[k : k + BATCH_MAX]
            await asyncio.gather(*(self._late(client, u.topic, mark_late(u.payload)) for u in part))
        numbers = [u.number for u in unsent]
        if numbers or gap is not None:
            await self._blocking(lambda: history.outbox_done(numbers, gap))
        self._on_disk = await self._blocking(history.outbox_count)
        return len(numbers)

    async def _late(self, client: CheckedClient, topic: str, payload: bytes) -> None:
        """One late message; never retained, so that it cannot overwrite the present."""
        await self.send(client, Message(topic, payload, retain=False, utc=self._utc()))

    def _gap_bytes(self, gap: Gap) -> bytes:
        """The honest notice."""
        payload = GapPayload(
            site=self._site,
            utc=self._utc(),
            late=True,
            dropped=gap.dropped,
            first=datetime.fromisoformat(gap.first_utc),
            last=datetime.fromisoformat(gap.last_utc),
        )
        return payload.model_dump_json().encode()

    def _disk(self, text: str) -> None:
        """Tell a failing disk once, and its recovery once."""
        if text and not self._disk_text:
            self._log.error("outbox_not_written", error=text)
        elif self._disk_text and not text:
            self._log.info("outbox_written_again")
        self._disk_text = text


def mark_late(payload: bytes) -> bytes:
    """The same JSON with `late: true`, where the message has that key."""
    data: Any = json.loads(payload)
    if isinstance(data, dict) and "late" in data:
        data["late"] = True
        return json.dumps(data, separators=(",", ":")).encode()
    return payload
