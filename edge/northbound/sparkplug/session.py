"""The edge node on its brokers: one at a time, in the site file's order. The shell around `SparkplugNode`.

    pick broker ─> bdSeq from the ledger ─> CONNECT with NDEATH as will ─> subscribe NCMD, DCMD, STATE
       ^                                                                        │ primary host online
       └── host offline, lost, certificate renewed <── data, commands <── NBIRTH, DBIRTH...

Data that nobody can hear goes to a file of its own and follows after the next birth, marked historical. QoS 0
has no acknowledgement: a renewed subscription is used as a barrier, and what was sent after the last barrier
counts as not heard when the connection is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import aiomqtt
import structlog
from paho.mqtt.reasoncodes import ReasonCode

from edge.northbound.mqtt_client import FAILURE_FROM, make_client
from edge.northbound.payloads import Reply
from edge.northbound.sparkplug.client import NodeClient, brokers_of
from edge.northbound.sparkplug.codec import Value, mark_historical
from edge.northbound.sparkplug.commands import Slots, read_asked
from edge.northbound.sparkplug.history import HistoryFile
from edge.northbound.sparkplug.host import HostWatch
from edge.northbound.sparkplug.node import Kept, Message, Shown, SparkplugNode
from edge.northbound.tasks import end_tasks, pause, until
from edge.store.ledger import Ledger
from reconf.errors import ConfigError, StoreError
from reconf.site import Site
from reconf.site_links import MqttSpec

BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 30.0
BARRIER_S = 5.0
"""Wall time between two barriers: so much is said again after a connection is lost."""
UNHEARD_MAX = 2_000
LATE_BATCH = 50
"""Historical messages between two barriers."""
LATE_POLL_S = 1.0
STOP_S = 4.0
REBIRTH_REST_S = 0.2
"""Rest after a birth: what asks for another within it is answered by one birth at its end."""
TELLING_MAX = 200
"""Refusals that wait to be told; more are counted and logged only."""

Submit = Callable[[bytes, bool], Awaitable[None]]
"""Hands a command to the contract: bytes, and whether they were retained."""
Blocking = Callable[[Callable[[], Any]], Awaitable[Any]]


class SparkplugSession:
    """Runs the node until cancelled; nothing else waits for it."""

    def __init__(
        self,
        site: Site,
        node: SparkplugNode,
        *,
        ledger: Ledger | None,
        history: HistoryFile,
        blocking: Blocking,
        submit: Submit | None,
        utc: Callable[[], datetime],
        wall_s: Callable[[], float],
    ) -> None:
        """Nothing is opened here.

        Args:
            site: its `sparkplug` and `mqtt` sections.
            node: what is said.
            ledger: keeps bdSeq; without one it starts at 0 with every process.
            history: keeps what nobody could hear.
            blocking: runs what waits for the disk.
            submit: takes commands; None: read-only whatever the site file says.
            utc: the date.
            wall_s: monotonic wall clock [s].
        """
        self.node, self.history = node, history
        self.host = HostWatch(site.sparkplug.primary_host)
        self.refused = 0
        """Writes that were no commands."""
        self.connected_to = ""
        """HOST:PORT of the broker in whose session the node is born; empty: none."""
        self._spec, self._site = site.sparkplug, site
        self._brokers = brokers_of(site)
        self._ledger, self._blocking, self._submit = ledger, blocking, submit
        self._utc, self._wall_s = utc, wall_s
        self._stop = asyncio.Event()
        self._lock = asyncio.Lock()
        self._client: NodeClient | None = None
        self._bdseq = -1
        self._unused: int | None = None
        self._unheard: deque[Message] = deque(maxlen=UNHEARD_MAX)
        self._host_changed = asyncio.Event()
        self._born_at_s = float("-inf")
        self._rebirth_due: NodeClient | None = None
        """Connection on which a birth has been asked for and is to come."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = Slots()
        self._text = ""
        self._log = structlog.get_logger("sparkplug")

    # what the daemon uses -------------------------------------------------------------------------

    async def show(self, shown: Shown) -> None:
        """New values of the site."""
        async with self._lock:
            found = self.node.show(shown, self._ms())
            messages = [m for m in found if isinstance(m, Message)]
            await self._keep([k for k in found if isinstance(k, Kept)])
            await self._publish(messages)
            if self._may_birth():
                await self._birth()

    async def reply(self, reply: Reply) -> None:
        """The answer to a command, as metrics of the node."""
        values: dict[str, Value] = {
            "Reply/Id": reply.id,
            "Reply/Result": reply.result,
            "Reply/Reason": reply.reason,
            "Reply/Text": reply.text,
            "Reply/CurtailedTo": reply.curtailed_to_w,
        }
        await self.tell(values)

    async def tell(self, values: Mapping[str, Value]) -> None:
        """Say metrics of the node that no tick knows."""
        async with self._lock:
            await self._publish(self.node.tell(values, self._ms()))

    async def run(self) -> None:
        """Stay connected to one of the brokers until cancelled, then say NDEATH."""
        serve = asyncio.create_task(self._serve())
        try:
            # aiomqtt does not bear a cancellation while it connects: the task is asked to end instead
            await asyncio.shield(serve)
        finally:
            self._stop.set()
            await asyncio.wait({serve}, timeout=STOP_S)
            await end_tasks({serve, *self._tasks})

    # brokers --------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Brokers in order; the pause grows only while none of them will have us."""
        wait_s, k = BACKOFF_FIRST_S, 0
        while not self._stop.is_set():
            born = False
            try:
                born = await self._connection(self._brokers[k % len(self._brokers)])
            except (aiomqtt.MqttError, OSError, ConfigError) as error:  # TimeoutError is an OSError
                self._lost(str(error) or type(error).__name__)
            k += 1
            if born:
                wait_s = BACKOFF_FIRST_S
            if k % len(self._brokers) == 0 or born:
                await pause(wait_s, self._stop)
                wait_s = min(2.0 * wait_s, BACKOFF_LAST_S)

    async def _connection(self, mqtt: MqttSpec) -> bool:
        """One MQTT session from CONNECT to its end; whether the node was born in it."""
        self.node.session(await self._next_bdseq())
        self.host.forget()
        will = aiomqtt.Will(self.node.topic("NDEATH"), self.node.death(self._ms()), 1, retain=False)
        identifier = f"{self._spec.group}-{self.node.name}-sparkplug"
        client = cast("NodeClient", make_client(mqtt, identifier=identifier, will=will, kind=NodeClient))
        try:
            async with client:
                try:
                    await self._session(client, mqtt)
                finally:
                    born = self.node.born
                    await self._leave(client, mqtt)
        finally:
            self._unused = None if client.reached else self.node.bdseq
        return born

    async def _session(self, client: NodeClient, mqtt: MqttSpec) -> None:
        """Subscribe, wait for the primary host, speak until something ends it."""
        topics = self._topics()
        codes: list[int | ReasonCode] = [*await client.subscribe([(topic, 1) for topic in topics])]
        for topic, code in zip(topics, codes, strict=True):
            number = code if isinstance(code, int) else int(code.value)
            if number >= FAILURE_FROM:
                raise aiomqtt.MqttError(f"the broker does not let us hear {topic} (reason code {number})")
        self._client = client
        self._host_changed.clear()
        receive = asyncio.create_task(self._receive(client))
        stop = asyncio.create_task(until(self._stop))
        speak = asyncio.create_task(self._speak(client, mqtt))
        tasks = {receive, stop, speak}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (receive, speak):
                if task.done():
                    task.result()
        finally:
            await end_tasks(tasks)

    async def _speak(self, client: NodeClient, mqtt: MqttSpec) -> None:
        """Births once the host is there, then history and barriers, until the host has gone."""
        several = len(self._brokers) > 1
        while not self.host.may_speak():
            try:
                async with asyncio.timeout(self._spec.host_wait_s if several else None):
                    await self._host_changed.wait()
            except TimeoutError:
                self._lost(f"primary host {self.host.name} is not at {mqtt.host}:{mqtt.port}")
                return
            self._host_changed.clear()
        async with self._lock:
            await self._birth()
        self._found(mqtt)
        barrier_at_s = self._wall_s()
        while self.host.may_speak():
            sent = await self._late(client) if self.node.born else 0
            if sent == 0 and self._wall_s() - barrier_at_s >= BARRIER_S:
                await self._barrier(client)
                barrier_at_s = self._wall_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.0 if sent else LATE_POLL_S):
                    await self._host_changed.wait()
            self._host_changed.clear()
        self._lost(f"primary host {self.host.name} went offline")

    def _topics(self) -> list[str]:
        """What is listened to: commands of the node and of its strings, and the primary host."""
        found = [self.node.topic("NCMD"), *(self.node.topic("DCMD", device) for device in self.node.devices)]
        return [*found, self.host.topic] if self.host.name else found

    async def _leave(self, client: NodeClient, mqtt: MqttSpec) -> None:
        """NDEATH by ourselves, then DISCONNECT; on a lost connection the broker sends the will."""
        async with self._lock:
            self.node.born, self._client, self.connected_to = False, None, ""
        if not client.lost:
            with suppress(aiomqtt.MqttError, TimeoutError):
                await client.publish_checked(self.node.topic("NDEATH"), self.node.death(self._ms()))
                await client.leave(version5=mqtt.protocol == "5")
                self._unheard.clear()
        await self._remember_unheard()

    async def _next_bdseq(self) -> int:
        """The number of the next CONNECT: one that was not sent is used again."""
        if self._unused is not None:
            return self._unused
        ledger = self._ledger
        if ledger is not None:
            try:
                self._bdseq = int(await self._blocking(lambda: ledger.next_bdseq(self._utc())))
            except StoreError as error:
                self._log.error("bdseq_not_written", error=str(error))
            else:
                return self._bdseq
        self._bdseq = (self._bdseq + 1) % 256
        return self._bdseq

    # messages -------------------------------------------------------------------------------------

    def _may_birth(self) -> bool:
        """Connected and heard, but the first values came only now."""
        return self._client is not None and not self.node.born and self.host.may_speak()

    async def _birth(self) -> None:
        """The whole birth sequence, or nothing before the first values; under the lock."""
        messages = self.node.birth(self._ms())
        if messages:
            await self._publish(messages)
            self._born_at_s = self._wall_s()

    async def _rebirth(self, client: NodeClient) -> None:
        """A birth after the request, always: who asks may have come too late to hear the one just sent.

        The lock keeps data back until then; commands do not wait for it.
        """
        async with self._lock:
            await asyncio.sleep(self._born_at_s + REBIRTH_REST_S - self._wall_s())
            if self._rebirth_due is client:
                self._rebirth_due = None  # what is asked from here on is not answered by this birth
            if self.node.born and self._client is client:
                await self._birth()

    async def _publish(self, messages: Sequence[Message]) -> None:
        """In the order of their numbers, with QoS 0, not retained; under the lock."""
        client = self._client
        for message in messages:
            if message.data:
                self._unheard.append(message)
            if client is None or client.lost:
                continue
            with suppress(aiomqtt.MqttError):  # the connection's own task sees and tells its loss
                await client.publish(message.topic, message.payload, qos=0, retain=False)

    async def _barrier(self, client: NodeClient) -> None:
        """Wait until the broker has read everything sent so far: it answers packets in order."""
        count = len(self._unheard)
        await client.subscribe(self.node.topic("NCMD"), qos=1)
        for _ in range(min(count, len(self._unheard))):
            self._unheard.popleft()

    async def _late(self, client: NodeClient) -> int:
        """Some of what was kept, numbered among the live messages; how many were sent."""
        numbers, kept = await self.history.take(LATE_BATCH)
        for one in kept:
            async with self._lock:
                if not self.node.born or client.lost:
                    return 0
                message = self.node.late(one, self._ms())
                await client.publish(message.topic, message.payload, qos=0, retain=False)
        if kept:
            await self._barrier(client)
            await self.history.done(numbers)
        return len(kept)

    async def _keep(self, kept: Sequence[Kept]) -> None:
        """For later; what had to go is told."""
        if kept and await self.history.put(kept, self._utc()):
            self.node.tell({"History/Dropped": self.history.dropped}, self._ms())

    async def _remember_unheard(self) -> None:
        """What may have been lost on the way is history."""
        lost = [Kept(m.topic, mark_historical(m.payload)) for m in self._unheard]
        self._unheard.clear()
        await self._keep(lost)

    # commands -------------------------------------------------------------------------------------

    async def _receive(self, client: NodeClient) -> None:
        """Commands and the primary host."""
        async for message in client.messages:
            topic = str(message.topic)
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if topic.startswith("spBv1.0/STATE/"):
                if self.host.hear(topic, payload):
                    self._host_changed.set()
            else:
                self._command(client, topic, payload, retained=bool(message.retain))

    def _command(self, client: NodeClient, topic: str, payload: bytes, *, retained: bool) -> None:
        """One NCMD or DCMD: rebirths to the node, the rest to the command contract."""
        device = topic.split("/")[4] if topic.count("/") == 4 else ""
        issuer = self._spec.issuer if self._submit is not None else ""
        asked = read_asked(
            self.node, self._slots, device, payload, issuer=issuer, hold_s=self._spec.hold_s, utc=self._utc()
        )
        for command in asked.commands:
            if self._submit is not None:
                self._start(self._hand_over(self._submit, command, retained))
        if asked.rebirth and not retained and self.node.born and self._rebirth_due is not client:
            self._rebirth_due = client
            self._start(self._rebirth(client))
        if asked.refused:
            self.refused += len(asked.refused)
            text = "; ".join(asked.refused)[:500]
            self._log.warning("write_refused", topic=topic, text=text, refused_since_start=self.refused)
            told: dict[str, Value] = {"Reply/Id": None, "Reply/Result": "refused"}
            told |= {"Reply/Reason": "malformed", "Reply/Text": text, "Reply/CurtailedTo": None}
            if len(self._tasks) < TELLING_MAX:
                self._start(self.tell(told))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside the reception, which waits for nothing: an emergency stop may be next."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, submit: Submit, command: bytes, retained: bool) -> None:
        await submit(command, retained)

    # small things ---------------------------------------------------------------------------------

    def _ms(self) -> int:
        return round(self._utc().timestamp() * 1e3)

    def _found(self, mqtt: MqttSpec) -> None:
        self.connected_to, self._text = f"{mqtt.host}:{mqtt.port}", ""
        self._log.info("node_born", broker=self.connected_to, bdseq=self.node.bdseq)

    def _lost(self, why: str) -> None:
        """Told once for each reason."""
        if self._text != why:
            self._log.warning("node_offline", why=why)
        self._text = why
