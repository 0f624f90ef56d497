"""Hours without a broker, then one: every record must arrive, once or more, in order, marked late.

The link, its outbox and what it publishes are the daemon's own; a day of ticks is played through them in
minutes, with the dates of that day. An outside client (mosquitto_sub) writes down what arrives. A bound on
the outbox that is too small shows whether the notice of the gap is honest.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.site_rig import RigError, end, mosquitto
from edge.core_values import TickOutcome
from edge.northbound.gate import Surroundings
from edge.northbound.link import MqttLink
from edge.northbound.payloads import EventPayload, Health
from edge.publisher import Publisher
from edge.status import Stamp
from edge.store import Store
from reconf.config import load_site
from reconf.site import Site
from reconf.twin.truth import draw_truth

START = datetime(2026, 1, 31, tzinfo=UTC)
QUEUE_FILL = 1_000
"""Messages that may wait in memory before the day goes on."""
ARRIVED_S = 3_600.0
MARKS_MAX = 60
"""Tries, a second each, until the outside client has written down a mark."""


@dataclass
class Day:
    """The clock of the simulated day."""

    passed_s: float = 0.0

    def utc(self) -> datetime:
        """Date."""
        return START + timedelta(seconds=self.passed_s)


class Recording(MqttLink):
    """The link, and a list of everything that was given to it."""

    def publish(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        """As the link does."""
        self.given.append((topic.split("/", 2)[2], payload.model_dump(mode="json")["utc"]))
        super().publish(topic, payload, retain=retain)

    given: list[tuple[str, str]]


def run(hours: float = 24.0, outbox_rows: int = 200_000) -> dict[str, Any]:
    """One outage.

    Args:
        hours: simulated time without a broker.
        outbox_rows: bound on the outbox.
    """
    return asyncio.run(_run(hours, outbox_rows))


async def _run(hours: float, outbox_rows: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gate, port = await stack.enter_async_context(closed_gate())
        site = load_site("demo")
        site = replace(
            site,
            mqtt=replace(site.mqtt, host="127.0.0.1", port=port, protocol="5", outbox_max_rows=outbox_rows),
        )
        store = stack.enter_context(Store.open(folder / "state"))
        executor = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        day = Day()
        link = Recording(
            site, store=store, executor=executor, around=Surroundings(utc=day.utc), own_ingress=False
        )
        link.given = []
        running = asyncio.create_task(link.run())
        stack.callback(running.cancel)
        began_s = time.monotonic()
        await _pass(site, link, day, hours)
        await _all_on_disk(link, store)
        played_s, waiting = time.monotonic() - began_s, store.history.outbox_count()
        _, broker = await mosquitto(stack, folder)
        heard = await stack.enter_async_context(_outside(folder, broker))
        gate.to = broker
        began_s = time.monotonic()
        await _arrival(link, store, day)
        drained_s = time.monotonic() - began_s
        await heard.everything_until_now()
        return judged(link.given, heard.lines()) | {
            "hours": hours,
            "outbox_rows": outbox_rows,
            "waiting_before": waiting,
            "dropped": link.outgoing.dropped,
            "played_s": round(played_s, 1),
            "drained_s": round(drained_s, 1),
        }


async def _pass(site: Site, link: MqttLink, day: Day, hours: float) -> None:
    """The day's ticks, told as the daemon tells them."""
    outcome = _tick(site)
    publisher = Publisher(
        site, link, health=lambda: HEALTH, stamp=lambda control_s: Stamp(day.utc(), control_s, 1.0),
        wall_s=lambda: day.passed_s,
    )  # fmt: skip
    while day.passed_s < hours * 3_600.0:
        publisher.tick(outcome)
        day.passed_s += site.timing.tick_s
        while link.outgoing.queued > QUEUE_FILL:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.002)
        await asyncio.sleep(0)


HEALTH = Health(store_ok=True, store_text="", clock_synchronised=True, optimizer_ready=True, ticks_overrun=0)


def _tick(site: Site) -> TickOutcome:
    """The third tick of the site's own core on its twin; events and questions left out."""
    loop = Loop(site, draw_truth(site, np.random.default_rng(1)), lambda _: 0.0)
    for _ in range(3):
        outcome = loop.step()
    return replace(outcome, events=(), question=None, record=None)


async def _all_on_disk(link: MqttLink, store: Store) -> None:
    """Until nothing waits in memory."""
    while link.outgoing.queued:  # noqa: ASYNC110 - the queue says so by its length only
        await asyncio.sleep(0.01)
    before = -1
    while store.history.outbox_count() != before:
        before = store.history.outbox_count()
        await asyncio.sleep(0.3)


async def _arrival(link: Recording, store: Store, day: Day) -> None:
    """Until the outbox is empty; live ones are said meanwhile."""
    end_s = time.monotonic() + ARRIVED_S
    live = 0
    while store.history.outbox_count() or not link.connected:
        if time.monotonic() > end_s:
            raise RigError(f"{store.history.outbox_count()} messages are still waiting")
        await asyncio.sleep(0.2)
        day.passed_s += 0.2
        if link.connected:
            live += 1
            event = EventPayload(site="demo", utc=day.utc(), kind="live", subject="site", text=str(live))
            link.publish(link.topics.event, event)


class Heard:
    """What the outside client writes down."""

    def __init__(self, file: Path, port: int) -> None:
        self._file, self._port = file, port

    async def everything_until_now(self) -> None:
        """Wait for a mark of our own: whatever the broker had before is written down when it is.

        Raises:
            RigError: it does not come.
        """
        mark = uuid.uuid4().hex
        words = f"mosquitto_pub -V 5 -h 127.0.0.1 -p {self._port} -q 1 -t reconf/demo/mark -m".split()
        for _ in range(MARKS_MAX):
            process = await asyncio.create_subprocess_exec(*words, json.dumps({"mark": mark}))
            await process.wait()
            for _ in range(20):
                if mark in self._file.read_text(encoding="utf-8"):
                    return
                await asyncio.sleep(0.05)
        raise RigError("the outside client hears nothing")

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        """Topic below the site, and content, in order of arrival."""
        found = []
        for line in self._file.read_text(encoding="utf-8").splitlines():
            topic, _, payload = line.partition(" ")
            found.append((topic.split("/", 2)[2], json.loads(payload)))
        return found


@asynccontextmanager
async def _outside(folder: Path, port: int) -> AsyncIterator[Heard]:
    """mosquitto_sub on everything of the site, already subscribed."""
    file = folder / "heard"
    with file.open("wb") as out:
        words = f"mosquitto_sub -V 5 -h 127.0.0.1 -p {port} -q 1 -t reconf/demo/# -v".split()
        process = await asyncio.create_subprocess_exec(*words, stdout=out)
        heard = Heard(file, port)
        try:
            await heard.everything_until_now()
            yield heard
        finally:
            await end(process)


@dataclass
class Gate:
    """A way to a broker that is closed at first."""

    to: int = 0


@asynccontextmanager
async def closed_gate() -> AsyncIterator[tuple[Gate, int]]:
    """A port that hangs up until it is told where the broker is."""
    gate = Gate()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not gate.to:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", gate.to)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield gate, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def judged(given: list[tuple[str, str]], heard: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """What arrived, held against what was given.

    Args:
        given: (topic, utc) of every message, in order.
        heard: (topic, content) of every message that arrived, in order.
    """
    key = {what: k for k, what in enumerate(given)}
    gaps = [content for topic, content in heard if topic == "gap"]
    arrived = [
        (key[topic, content["utc"]], content.get("late", False))
        for topic, content in heard
        if (topic, content.get("utc")) in key
    ]
    late = [k for k, was_late in arrived if was_late]
    first_time = list(dict.fromkeys(late))
    unmarked = [given[k][0] for k, was_late in arrived if not was_late]
    missing = sorted(set(key.values()) - {k for k, _ in arrived})
    told = sum(gap["dropped"] for gap in gaps)
    inside = all(
        any(_date(gap["first"]) <= _date(given[k][1]) <= _date(gap["last"]) for gap in gaps) for k in missing
    )
    during = [k for k in key.values() if given[k][0] != "event"]
    return {
        "messages": len(during),
        "arrived": len({k for k, _ in arrived} & set(during)),
        "arrived_twice": len(arrived) - len({k for k, _ in arrived}),
        "out_of_order": sum(b < a for a, b in pairwise(first_time)),
        "not_marked_late": sum(topic not in ("status", "event") for topic in unmarked),
        "live_meanwhile": sum(topic == "event" and not content["late"] for topic, content in heard),
        "missing": len(missing),
        "gap_told": told,
        "gap_covers_missing": inside,
    }


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text)
