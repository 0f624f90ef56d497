"""The link to the broker: reconnects by itself, never blocks control, loses nothing it can keep.

`publish` only puts into a bounded queue. After a reconnect the outbox goes out in order, marked late, beside
live messages; what is retained is brought up to date first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Literal, TypeVar

import aiomqtt
import structlog
from pydantic import BaseModel

from edge.northbound.gate import AcceptedCommand, CommandGate, Outcome, Surroundings
from edge.northbound.incoming import Incoming
from edge.northbound.ingress_link import IngressLink
from edge.northbound.mqtt_client import (
    FAILURE_FROM,
    CheckedClient,
    make_client,
)
from edge.northbound.outgoing import Message, Outgoing
from edge.northbound.payloads import Availability, Link, Reply
from edge.northbound.renewal import CertificateWatch, TlsFiles
from edge.northbound.tasks import end_tasks, pause, until
from edge.northbound.topics import Topics
from edge.store.store import Store
from reconf.errors import ConfigError, StoreError
from reconf.loopback import is_loopback
from reconf.site import Site

T = TypeVar("T")
BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 30.0
GOODBYE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 4.0
"""Wall time for a goodbye; a broker that does not answer gets none."""


class MqttLink:
    """One site's link to its broker. `run` does everything; nothing else waits."""

    def __init__(
        self,
        site: Site,
        *,
        store: Store | None,
        executor: Executor | None,
        ledger_executor: Executor | None = None,
        around: Surroundings | None = None,
        rng: random.Random | None = None,
        own_ingress: bool = True,
        store_text: str = "",
    ) -> None:
        """Nothing is opened here.

        Args:
            site: the site.
            store: state directory; without one nothing outlives the process.
            executor: one thread for the disk.
            ledger_executor: one thread for the command log, so that a reply does not wait for telemetry; by
                default the same.
            around: clocks and locks.
            rng: spreads reconnects.
            own_ingress: commands, and emergency stops, are heard by processes of their own, so that a flood
                costs control nothing and a stop does not wait behind it.
            store_text: why there is no store although there should be one.
        """
        self.topics = Topics.of(site)
        self.around = around or Surroundings()
        self.reply_heard: list[Callable[[Reply], None]] = []
        """Who else is told every reply."""
        self.alarms: list[Callable[[], str]] = []
        """What else the status says in words, each empty when there is nothing to say."""
        self.connected = False
        if store is not None:
            store.history.bound_outbox(site.mqtt.outbox_max_rows)
        self.outgoing = Outgoing(
            site.name,
            self.topics,
            history=store.history if store else None,
            blocking=self._blocking,
            utc=self.around.utc,
        )
        self.gate = CommandGate(
            site,
            ledger=store.ledger if store else None,
            blocking=partial(self._blocking_in, ledger_executor or executor),
            around=self.around,
            send=self._send_reply,
            store_text=store_text,
        )
        self.incoming = Incoming(site, self.topics, self.gate, self.around.wall_s, own_ingress=own_ingress)
        self._site, self._executor = site, executor
        self._rng = rng or random.Random()
        self._text = ""
        self._stop = asyncio.Event()
        self._certificate = CertificateWatch(TlsFiles.of(site.mqtt), self.around.utc)
        self._log = structlog.get_logger("northbound")

    # what the daemon uses -------------------------------------------------------------------------

    @property
    def commands(self) -> asyncio.Queue[AcceptedCommand]:
        """Commands that passed the contract, for control to answer."""
        return self.gate.commands

    @property
    def stops(self) -> asyncio.Queue[AcceptedCommand]:
        """Emergency stops that passed the contract: they wait behind nothing else."""
        return self.gate.stops

    def publish(self, topic: str, payload: BaseModel, *, retain: bool = False) -> None:
        """Send `payload` to `topic`, now or later. Never waits, never fails because of the broker."""
        self.outgoing.put(Message(topic, payload.model_dump_json().encode(), retain, self.around.utc()))

    def follow_up(self, command_id: str, outcome: Outcome) -> None:
        """A later word on an accepted command: done or superseded."""
        self.gate.follow_up(command_id, outcome)

    @property
    def ingress(self) -> tuple[IngressLink, ...]:
        """The processes that hear: commands, and emergency stops."""
        return self.incoming.ingress

    def heartbeat_age_s(self) -> float | None:
        """Wall time since SCADA's last sign of life; None before the first."""
        return self.incoming.heartbeat_age_s()

    def beat(self) -> None:
        """A sign of life from SCADA, by whatever way it came."""
        self.incoming.beat()

    def state(self) -> Link:
        """For the status."""
        return Link(
            outbox=self.outgoing.waiting,
            dropped=self.outgoing.dropped,
            publish_refused=self.outgoing.refused,
            commands_refused=self.gate.refused.total() + self.gate.dropped + self._shed(),
            insecure=self._site.mqtt.insecure and not is_loopback(self._site.mqtt.host),
            certificate_days=self._certificate.days,
            text="; ".join(
                text
                for text in (
                    self._text or self.incoming.text or self._certificate.text,
                    *(alarm() for alarm in self.alarms),
                )
                if text
            ),
        )

    async def run(self) -> None:
        """Stay connected until cancelled; then say offline, and put what is left on disk."""
        pump = asyncio.create_task(self.outgoing.pump())
        serve = asyncio.create_task(self._serve(pump))
        hearing = self.incoming.start()
        try:
            # aiomqtt does not bear a cancellation while it connects: the task is asked to end instead
            await asyncio.shield(serve)
        finally:
            self._stop.set()
            await asyncio.wait({serve}, timeout=STOP_TIMEOUT_S)
            await end_tasks({serve, pump, *hearing, *self.incoming.tasks})
            await self.outgoing.close()

    # connection -----------------------------------------------------------------------------------

    async def _serve(self, pump: asyncio.Task[None]) -> None:
        """Connect, serve, wait, again, until asked to stop. Raises only errors of our own."""
        await self._load()
        wait_s = BACKOFF_FIRST_S
        while not pump.done() and not self._stop.is_set():
            began_s = self.around.wall_s()
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError, ConfigError) as error:  # TimeoutError is an OSError
                self._lost(str(error) or type(error).__name__)
            if self.around.wall_s() - began_s > BACKOFF_LAST_S:
                wait_s = BACKOFF_FIRST_S
            # spread over time what many sites do after one broker's restart
            await pause(wait_s * self._rng.uniform(0.5, 1.0), self._stop)
            wait_s = min(2.0 * wait_s, BACKOFF_LAST_S)
        if pump.done():
            pump.result()

    async def _load(self) -> None:
        """What earlier runs remember of commands; without it, sequences start anew and that is told."""
        try:
            await self.gate.load()
        except StoreError as error:
            self._log.error("ledger_not_read", error=str(error))

    async def _connection(self) -> None:
        """One connection from CONNECT to its loss."""
        will = aiomqtt.Will(
            self.topics.availability, self._availability("offline", dated=False), 1, retain=True
        )
        client = make_client(self._site.mqtt, identifier=f"reconf-{self._site.name}", will=will)
        seen = self._certificate.look()
        self._certificate.tell()
        async with client:
            await self._announce(client)
            self._found()
            self.outgoing.client = client
            drain = asyncio.create_task(self.outgoing.drain(client))
            receive = asyncio.create_task(self._receive(client))
            renewed = asyncio.create_task(self._certificate.renewed(seen))
            stop = asyncio.create_task(until(self._stop))
            tasks = {drain, receive, renewed, stop}
            try:
                await asyncio.wait({receive, renewed, stop}, return_when=asyncio.FIRST_COMPLETED)
                if receive.done():
                    receive.result()
                self.connected = False
                if renewed.done():
                    self.incoming.renew()
            finally:
                self.outgoing.client = None
                self.gate.dropped += client.shed
                await end_tasks(tasks)
                await self._goodbye(client)

    async def _announce(self, client: CheckedClient) -> None:
        """Subscribe, say online, and bring what is retained up to date."""
        for topic in self.incoming.topics_here:
            for code in await client.subscribe(topic, qos=1):
                number = code if isinstance(code, int) else int(code.value)
                if number >= FAILURE_FROM:
                    raise aiomqtt.MqttError(f"the broker does not let us hear {topic} (reason code {number})")
        await self.incoming.up()  # whoever reads `online` may command: first we listen
        await self._say(client, "online")
        for message in list(self.outgoing.retained.values()):
            await self.outgoing.send(client, message)

    async def _say(self, client: CheckedClient, state: Literal["online", "offline"]) -> None:
        """Publish availability."""
        payload = self._availability(state, dated=True)
        message = Message(self.topics.availability, payload, retain=True, utc=self.around.utc())
        await self.outgoing.send(client, message)

    async def _goodbye(self, client: CheckedClient) -> None:
        """An intended stop says offline itself; on a lost connection the broker sends the will."""
        if client.lost:
            return
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._say(client, "offline")
        except (aiomqtt.MqttError, TimeoutError):
            self._log.info("broker_gone_before_goodbye")

    async def _receive(self, client: CheckedClient) -> None:
        """Messages to the gate; what cannot be looked at now is dropped and counted."""
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            self.incoming.dispatch(str(message.topic), payload, bool(message.retain))

    def _found(self) -> None:
        """Connected: told once."""
        self.connected, self._text = True, ""
        self._log.info("broker_connected", host=self._site.mqtt.host, port=self._site.mqtt.port)

    def _lost(self, why: str) -> None:
        """Not connected: told once, and again only for another reason."""
        if self.connected or self._text != why:
            self._log.warning("broker_lost", host=self._site.mqtt.host, port=self._site.mqtt.port, why=why)
        self.connected, self._text = False, why

    # small things ---------------------------------------------------------------------------------

    def _shed(self) -> int:
        """Messages dropped unseen on the present connection."""
        client = self.outgoing.client
        here = 0 if client is None else client.shed
        return here + self.incoming.shed

    def _send_reply(self, reply: Reply) -> None:
        self.publish(self.topics.reply, reply)
        for hear in self.reply_heard:
            hear(reply)

    def _availability(self, state: Literal["online", "offline"], *, dated: bool) -> bytes:
        utc = self.around.utc() if dated else None
        return Availability(site=self._site.name, state=state, utc=utc).model_dump_json().encode()

    async def _blocking(self, work: Callable[[], T]) -> T:
        """Run what waits for the disk in the executor's thread."""
        return await self._blocking_in(self._executor, work)

    @staticmethod
    async def _blocking_in(executor: Executor | None, work: Callable[[], T]) -> T:
        """The same in a thread of one's choice."""
        return await asyncio.get_running_loop().run_in_executor(executor, work)
