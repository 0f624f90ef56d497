"""What comes in: commands, emergency stops and SCADA's signs of life, to whom they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from edge.northbound.gate import CommandGate
from edge.northbound.ingress_link import Ear, IngressLink
from edge.northbound.payloads import Heartbeat
from edge.northbound.shedding import may_be_stop
from edge.northbound.topics import Topics
from reconf.site import Site

INGRESS_UP_S = 20.0
COMMAND_TASKS_MAX = 64
"""Commands looked at or waiting for control at once; more are dropped."""
TASKS_MAX = 96
"""The same with emergency stops."""


class Incoming:
    """The ears of a link, and the way from them to the gate."""

    def __init__(
        self, site: Site, topics: Topics, gate: CommandGate, wall_s: Callable[[], float], *, own_ingress: bool
    ) -> None:
        """Nothing is started here.

        Args:
            site: the site.
            topics: its topics.
            gate: where commands go.
            wall_s: monotonic wall clock.
            own_ingress: hear by processes; otherwise whoever is connected calls `dispatch`.
        """
        beats = topics.heartbeat if site.fallback.heartbeat_timeout_s > 0.0 else ""
        commands = Ear("in", tuple(t for t in (topics.command, beats) if t), heartbeat=beats)
        stops = Ear("stop", (topics.emergency_stop,), stops_only=True)
        self.tasks: set[asyncio.Task[None]] = set()
        self._ears = (commands, stops)
        self.ingress = tuple(IngressLink(site, ear, hear=self.dispatch) for ear in self._ears if own_ingress)
        """The processes that hear: commands, and emergency stops."""
        self._topics, self._gate, self._wall_s = topics, gate, wall_s
        self._issuers = frozenset(issuer.name for issuer in site.mqtt.issuers)
        self._heartbeat_s: float | None = None

    @property
    def topics_here(self) -> Iterator[str]:
        """What a connection has to subscribe itself: nothing where processes hear."""
        return (topic for ear in self._ears if not self.ingress for topic in ear.topics)

    @property
    def shed(self) -> int:
        """Messages that the processes dropped unseen."""
        return sum(ingress.shed for ingress in self.ingress)

    @property
    def text(self) -> str:
        """Why commands or emergency stops are not heard, empty when they are."""
        whats = ("commands", "emergency stops")
        return "; ".join(f"{what}: {i.text}" for what, i in zip(whats, self.ingress, strict=False) if i.text)

    def start(self) -> set[asyncio.Task[None]]:
        """Start the processes."""
        return {asyncio.create_task(ingress.run()) for ingress in self.ingress}

    async def up(self) -> None:
        """Return when all of them hear.

        Raises:
            TimeoutError: one of them does not in time.
        """
        async with asyncio.timeout(INGRESS_UP_S):
            for ingress in self.ingress:
                await ingress.connected.wait()

    def renew(self) -> None:
        """Have them connect anew, with the TLS files of now."""
        for ingress in self.ingress:
            ingress.renew()

    def heartbeat_age_s(self) -> float | None:
        """Wall time since SCADA's last sign of life; None before the first."""
        return None if self._heartbeat_s is None else self._wall_s() - self._heartbeat_s

    def beat(self) -> None:
        """A sign of life from SCADA, by whatever way it came."""
        self._heartbeat_s = self._wall_s()

    def dispatch(self, topic: str, payload: bytes, retained: bool) -> None:
        """One message to whom it concerns; what cannot be looked at now is dropped and counted."""
        stops_only = topic == self._topics.emergency_stop
        if topic == self._topics.heartbeat:
            self._hear(payload, retained=retained)
        elif len(self.tasks) >= (TASKS_MAX if stops_only or may_be_stop(payload) else COMMAND_TASKS_MAX):
            self._gate.dropped += 1
        else:
            take = self._gate.take(payload, retained=retained, stops_only=stops_only)
            task = asyncio.create_task(take)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _hear(self, payload: bytes, *, retained: bool) -> None:
        """A sign of life, if it is one."""
        try:
            heartbeat = Heartbeat.model_validate_json(payload)
        except ValidationError:
            return
        if not retained and (not self._issuers or heartbeat.issuer in self._issuers):
            self.beat()
