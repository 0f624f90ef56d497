"""The edge node between a site at one moment, real brokers, and an outside host that writes all down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import free_port

from edge.bench.closed_loop import Loop
from edge.core_values import TickView
from edge.northbound.gate import AcceptedCommand, Outcome
from edge.northbound.link import MqttLink
from edge.northbound.sparkplug.session import SparkplugSession
from edge.sparkplug_feed import sparkplug_feed
from edge.store.store import Store
from reconf.config import load_site
from reconf.site import Site
from reconf.site_links import IssuerSpec, MqttSpec, SparkplugSpec
from reconf.twin.truth import draw_truth

OUTSIDE = Path(__file__).resolve().parents[2] / "outside" / "sparkplug"


def outside_host() -> Path:
    """The host with its packages; installed when they are missing, from the locked list."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is not installed; `make setup-test` installs it")
    if not (OUTSIDE / "node_modules" / "mqtt").is_dir():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        subprocess.run(command, cwd=OUTSIDE, check=True, capture_output=True, timeout=110)
    return OUTSIDE / "host.js"


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[int]:
    port = free_port()
    config = folder / f"mosquitto_{port}.conf"
    config.write_text(f"listener {port} 127.0.0.1\nuser root\nallow_anonymous true\nset_tcp_nodelay true\n")
    process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 40.0
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, "mosquitto did not start"
            await asyncio.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@dataclass
class Tap:
    """A wire between node and broker whose bytes can be looked at, and that can be cut."""

    port: int
    sent: list[bytearray] = field(default_factory=list)
    """What the node sent, by connection."""
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    open_max: int = 0

    def cut(self) -> None:
        for writer in list(self.open):
            writer.transport.abort()


@asynccontextmanager
async def tapped(broker: int) -> AsyncIterator[Tap]:
    tap = Tap(0)

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if seen is not None:
                    seen += data
                writer.write(data)
                await writer.drain()
        writer.transport.abort() if seen is None else writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", broker)
        seen = bytearray()
        tap.sent.append(seen)
        tap.open |= {writer, far_writer}
        tap.open_max = max(tap.open_max, len(tap.open) // 2)
        await asyncio.gather(pump(reader, far_writer, seen), pump(far_reader, writer, None))
        tap.open -= {writer, far_writer}

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        tap.cut()
        server.close()


@dataclass
class Host:
    """An outside host on one broker."""

    process: asyncio.subprocess.Process
    heard: list[dict[str, Any]] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            if "ready" in told:
                self.ready.set()
            elif "parsed" in told:
                self.tags.add(told["parsed"])
            else:
                self.heard.append(told)

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    def state(self, online: bool, timestamp: int, name: str = "scada") -> None:
        self.order(op="state", topic=f"spBv1.0/STATE/{name}", online=online, timestamp=timestamp)

    def command(self, topic: str, *metrics: dict[str, Any], **more: Any) -> None:
        stamp = round(time.time() * 1e3)
        self.order(op="command", topic=topic, metrics=list(metrics), **({"timestamp": stamp} | more))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [m for m in self.heard if "payload" in m and m["topic"].split("/")[2] == kind]

    async def until(self, condition: Callable[[], Any], limit_s: float = 40.0) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(
                    f"not heard in {limit_s} s; last {[h.get('topic') for h in self.heard[-8:]]}"
                )
            await asyncio.sleep(0.02)

    async def packets(self, data: bytes, version: int) -> list[dict[str, Any]]:
        """MQTT packets, parsed by the outside parser."""
        before, tag = len(self.heard), str(len(self.tags))
        self.order(op="packet", hex=bytes(data).hex(), version=version, tag=tag)
        await self.until(lambda: tag in self.tags)
        found = [h for h in self.heard[before:] if "packet" in h]
        self.heard[before:] = [h for h in self.heard[before:] if "packet" not in h]
        return found


@asynccontextmanager
async def host_on(broker: int) -> AsyncIterator[Host]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(outside_host()),
        str(broker),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    host = Host(process)
    task = asyncio.create_task(host.listen())
    try:
        await asyncio.wait_for(host.ready.wait(), 60.0)
        yield host
    finally:
        process.kill()
        await process.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@cache
def first_view() -> tuple[Site, TickView]:
    """The demo site after three ticks of its own core."""
    site = load_site("demo")
    loop = Loop(site, draw_truth(site, np.random.default_rng(1)), lambda _: 0.0)
    for _ in range(3):
        outcome = loop.step()
    return site, outcome.view


@dataclass
class Field:
    """A site whose view the test sets."""

    site: Site
    view: TickView
    link: MqttLink
    asked: list[Any] = field(default_factory=list)
    session: SparkplugSession | None = None

    def set_power(self, power_w: float) -> None:
        self.view = replace(self.view, setpoint=replace(self.view.setpoint, power_w=power_w))

    def set_soc(self, module: int, soc_frac: float) -> None:
        soc = self.view.estimate.soc_frac.copy()
        soc[module] = soc_frac
        self.view = replace(self.view, estimate=replace(self.view.estimate, soc_frac=soc))

    def lose(self, *, string: int | None = None, module: int | None = None, age_s: float = 60.0) -> None:
        image = self.view.input.image
        strings, modules = image.strings.age_s.copy(), image.modules.age_s.copy()
        if string is not None:
            strings[string] = age_s
        if module is not None:
            modules[module] = age_s
        image = replace(
            image,
            strings=replace(image.strings, age_s=strings),
            modules=replace(image.modules, age_s=modules),
        )
        self.view = replace(self.view, input=replace(self.view.input, image=image))

    async def answer(self, queue: asyncio.Queue[AcceptedCommand]) -> None:
        """Control in short: everything that passed the contract is accepted, power at 1 kW at most."""
        while True:
            command = await queue.get()
            self.asked.append(command)
            power = getattr(command.args, "power_w", None)
            limit = 1000.0 if power is not None and power > 1000.0 else None
            command.answer(Outcome("accepted", "curtailed" if limit else "accepted", "done so", limit))


@asynccontextmanager
async def node_on(
    ports: list[int],
    state: Path | None = None,
    protocol: str = "5",
    role: str = "operator",
    utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    outbox_max_rows: int = 100_000,
    **spec: Any,
) -> AsyncIterator[Field]:
    """The node as the daemon runs it, on brokers in order."""
    site, view = first_view()
    mqtt = replace(MqttSpec(), protocol=protocol, port=ports[0], issuers=(IssuerSpec("plc", role),))  # type: ignore[arg-type]
    mqtt = replace(mqtt, outbox_max_rows=outbox_max_rows)
    given = {"group": "yard", "issuer": "plc", "period_s": 0.1} | spec
    sparkplug = SparkplugSpec(brokers=tuple(f"127.0.0.1:{p}" for p in ports), **given)
    site = replace(site, mqtt=mqtt, sparkplug=sparkplug)
    store = Store.open(state) if state is not None else None
    executor = ThreadPoolExecutor(1)
    link = MqttLink(site, store=store, executor=executor, own_ingress=False)
    await link.gate.load()
    made = Field(site, view, link)
    tasks = [asyncio.create_task(made.answer(queue)) for queue in (link.commands, link.stops)]
    try:
        async with sparkplug_feed(
            site,
            lambda: made.view,
            link,
            store=store,
            executor=executor,
            read_only=False,
            utc=utc,
            wall_s=time.monotonic,
        ) as session:
            made.session = session
            yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        executor.shutdown()
        if store is not None:
            store.close()
