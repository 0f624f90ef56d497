"""The link against a real mosquitto: bad days of the broker, and commands over the wire."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from northbound_broker_tools import Mosquitto, Scada, command, scada, site_at

from edge.northbound import link as link_module
from edge.northbound.gate import AcceptedCommand, Outcome
from edge.northbound.link import MqttLink
from edge.northbound.payloads import EventPayload
from edge.store import Store
from reconf.site import FallbackSpec
from reconf.site_links import IssuerSpec

pytestmark = pytest.mark.needs_mosquitto


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits between attempts, the same code."""
    monkeypatch.setattr(link_module, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(link_module, "BACKOFF_LAST_S", 0.2)


@asynccontextmanager
async def running(
    port: int, folder: Path, *, control: bool = True, ingress: bool = False, **mqtt: object
) -> AsyncIterator[MqttLink]:
    """A link with a store, and a control that accepts everything."""
    with Store.open(folder / "state") as store, ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(port, **mqtt), store=store, executor=executor, own_ingress=ingress)

        async def accept(queue: asyncio.Queue[AcceptedCommand]) -> None:
            while True:
                accepted = await queue.get()
                accepted.answer(Outcome("accepted", "curtailed", "as far as the envelope goes", 900.0))

        tasks = [asyncio.create_task(link.run())]
        if control:
            tasks += [asyncio.create_task(accept(queue)) for queue in (link.commands, link.stops)]
        try:
            yield link
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def broker_found(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The link tries again when this is set, not after a time: so that the outside surely listens before."""
    found = asyncio.Event()

    async def until_found(_: float, stop: asyncio.Event) -> None:
        waiting = {asyncio.create_task(end.wait()) for end in (found, stop)}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    monkeypatch.setattr(link_module, "pause", until_found)
    return found


def event(number: int) -> EventPayload:
    return EventPayload(site="demo", utc=datetime.now(UTC), kind="test", subject="site", text=str(number))


async def connected(link: MqttLink) -> None:
    await wait_for(lambda: link.connected)


async def wait_for(condition: Callable[[], object], timeout_s: float = 40.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_availability_is_online_then_offline(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    async with scada(broker.port) as outside:
        async with running(broker.port, tmp_path) as link:
            await connected(link)
            await outside.until(lambda: outside.of("/availability"))
            assert outside.of("/availability")[-1]["state"] == "online"
        await outside.until(lambda: outside.of("/availability")[-1]["state"] == "offline")


async def test_outbox_survives_an_absent_broker_and_comes_in_order_marked_late(
    broker: Mosquitto, tmp_path: Path, broker_found: asyncio.Event
) -> None:
    async with running(broker.port, tmp_path) as link:
        for number in range(50):
            link.publish(link.topics.event, event(number))
        await wait_for(lambda: link.state().text)
        assert "refused" in link.state().text.lower()
        await wait_for(lambda: link.state().outbox == 50 and not link.outgoing.queued)
        broker.start()
        async with scada(broker.port) as outside:
            broker_found.set()
            await outside.until(lambda: len(outside.of("/event")) >= 50)
            late = outside.of("/event")
            assert [int(e["text"]) for e in late] == list(range(50))
            assert all(e["late"] for e in late)
            link.publish(link.topics.event, event(50))
            await outside.until(lambda: any(e["text"] == "50" for e in outside.of("/event")))
            assert not outside.of("/event")[-1]["late"]
            await outside.until(lambda: link.state().outbox == 0)


async def test_outbox_outlives_the_process(broker: Mosquitto, tmp_path: Path) -> None:
    async with running(broker.port, tmp_path) as link:
        for number in range(5):
            link.publish(link.topics.event, event(number))
        await asyncio.sleep(0)
    broker.start()
    async with scada(broker.port) as outside, running(broker.port, tmp_path):
        await outside.until(lambda: len(outside.of("/event")) >= 5)
        assert [e["text"] for e in outside.of("/event")] == list("01234")


async def test_broker_killed_and_back_loses_nothing(
    broker: Mosquitto, tmp_path: Path, broker_found: asyncio.Event
) -> None:
    """What was said while the broker was dead arrives, in order; so does what was said before and after."""
    broker.start()
    said_while_dead: list[int] = []
    heard: list[int] = []
    number = 0
    async with running(broker.port, tmp_path) as link:
        for _ in range(3):
            async with scada(broker.port) as outside:
                broker_found.set()
                await connected(link)
                broker_found.clear()
                for _ in range(40):
                    link.publish(link.topics.event, event(number))
                    number += 1
                await outside.until(lambda last=str(number - 1): last in texts(outside))
                # a late one that is heard but not confirmed yet would rightly come again, out of its turn
                await wait_for(lambda: link.state().outbox == 0)
                heard += [int(text) for text in texts(outside)]
                broker.kill()
            for _ in range(20):
                link.publish(link.topics.event, event(number))
                said_while_dead.append(number)
                number += 1
            await wait_for(lambda: not link.connected)
            broker.start()
        async with scada(broker.port) as outside:
            broker_found.set()
            await outside.until(lambda: str(number - 1) in texts(outside))
            heard += [int(text) for text in texts(outside)]
        assert link.outgoing.dropped == 0
    assert set(heard) == set(range(number))
    late = [n for n in heard if n in set(said_while_dead)]
    assert late == sorted(late)


def texts(outside: Scada) -> list[str]:
    return [e["text"] for e in outside.of("/event")]


async def test_status_is_brought_up_to_date_and_late_never_retained(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with running(broker.port, tmp_path) as link:
        for number in range(3):
            link.publish(link.topics.status, event(number), retain=True)
        await wait_for(lambda: link.state().outbox == 3)
        broker.start()
        await connected(link)
        await wait_for(lambda: link.state().outbox == 0)
        async with scada(broker.port) as outside:
            await outside.until(lambda: outside.of("/status"))
            assert outside.of("/status") == [outside.of("/status")[0]]
            assert outside.of("/status")[0]["text"] == "2"
            assert not outside.of("/status")[0]["late"]


async def test_command_is_answered_and_repeated_alike(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    async with running(broker.port, tmp_path) as link, scada(broker.port) as outside:
        await connected(link)
        order = command()
        reply = await outside.reply_to(order)
        assert (reply["result"], reply["curtailed_to_w"]) == ("accepted", 900.0)
        await outside.client.publish("reconf/demo/command", json.dumps(order), qos=1)
        await outside.until(lambda: len(outside.of("/reply")) == 2)
        assert outside.of("/reply")[1] == reply


async def test_sequences_and_replies_survive_a_restart(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    order = command(sequence=7)
    async with scada(broker.port) as outside:
        async with running(broker.port, tmp_path) as link:
            await connected(link)
            first = await outside.reply_to(order)
        outside.heard.clear()
        async with running(broker.port, tmp_path) as link:
            await connected(link)
            assert await outside.reply_to(order) == first
            assert (await outside.reply_to(command(sequence=7)))["reason"] == "out_of_sequence"
            assert (await outside.reply_to(command(sequence=8)))["result"] == "accepted"


async def test_hostile_commands_are_refused_with_their_reason(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    past = "2020-01-01T00:00:00Z"
    async with running(broker.port, tmp_path) as link, scada(broker.port) as outside:
        await connected(link)
        cases = {
            "expired": command(issued_at="2019-12-31T23:00:00Z", expires_at=past),
            "unknown_keys": command(extra=1),
            "malformed": command(args={"power_w": "much"}),
            "wrong_site": command(site="elsewhere"),
        }
        for reason, order in cases.items():
            assert (await outside.reply_to(order))["reason"] == reason
        for reason, payload in (
            ("oversize", b'"' + b"x" * 20_000 + b'"'),
            ("over_nested", b"[" * 50 + b"]" * 50),
            ("malformed", b"\xff\xfe"),
        ):
            count = len(outside.of("/reply"))
            await outside.client.publish("reconf/demo/command", payload, qos=1)
            await outside.until(lambda count=count: len(outside.of("/reply")) > count)
            assert outside.of("/reply")[-1]["reason"] == reason
        assert link.commands.empty()
        assert link.state().commands_refused == len(cases) + 3


@pytest.mark.parametrize("ingress", [False, True])
async def test_retained_command_is_refused(broker: Mosquitto, tmp_path: Path, ingress: bool) -> None:
    broker.start()
    async with scada(broker.port) as outside:
        await outside.client.publish("reconf/demo/command", json.dumps(command()), qos=1, retain=True)
        async with running(broker.port, tmp_path, ingress=ingress) as link:
            await connected(link)
            await outside.until(lambda: outside.of("/reply"))
            assert outside.of("/reply")[0]["reason"] == "retained"
            assert link.commands.empty()


async def test_publish_refused_by_acl_is_noticed(broker: Mosquitto, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite reconf/demo/availability\ntopic read reconf/demo/command\n")
    broker.extra += f"\nacl_file {acl}"
    broker.start()
    async with running(broker.port, tmp_path) as link:
        await connected(link)
        link.publish(link.topics.event, event(0))
        await wait_for(lambda: link.state().publish_refused)
        assert link.state().publish_refused == 1
        assert link.state().outbox == 0


async def test_publish_never_waits(broker: Mosquitto, tmp_path: Path) -> None:
    """20,000 messages into a link without broker, over a disk that hangs: bounded, the rest counted."""
    async with running(broker.port, tmp_path) as link:
        free = threading.Event()
        hanging = asyncio.create_task(link._blocking(partial(free.wait, 60.0)))
        await asyncio.sleep(0)
        try:
            message = event(0)
            for _ in range(20_000):
                link.publish(link.topics.event, message)
            assert link.outgoing.dropped >= 15_000
            assert not hanging.done(), "whoever waits for the disk waits for this"
        finally:
            free.set()
            await hanging


@pytest.mark.parametrize("ingress", [False, True])
async def test_protocol_311_works(broker: Mosquitto, tmp_path: Path, ingress: bool) -> None:
    broker.start()
    async with (
        running(broker.port, tmp_path, protocol="3.1.1", ingress=ingress) as link,
        scada(broker.port) as outside,
    ):
        await connected(link)
        assert (await outside.reply_to(command()))["result"] == "accepted"


async def test_refused_login_is_told(broker: Mosquitto, tmp_path: Path) -> None:
    broker.extra = "allow_anonymous false"
    broker.start()
    async with running(broker.port, tmp_path, ingress=True) as link:
        await wait_for(lambda: "uthori" in link.state().text)
        await wait_for(lambda: all("reason code 135" in ingress.text for ingress in link.ingress))
        assert not link.connected


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_messages_of_megabytes_disturb_nobody(broker: Mosquitto, tmp_path: Path, protocol: str) -> None:
    """The ears stay connected: the broker keeps what is too long to itself, or only its beginning is kept."""
    broker.start()
    async with (
        running(broker.port, tmp_path, ingress=True, protocol=protocol) as link,
        scada(broker.port) as outside,
    ):
        await connected(link)
        processes = [ingress._process for ingress in link.ingress]
        for topic in ("command", "emergency_stop"):
            for size in (100_000, 3_000_000):
                await outside.client.publish(f"reconf/demo/{topic}", b"[" * size, qos=1)
        assert (await outside.reply_to(command()))["result"] == "accepted"
        stop = command("emergency_stop", sequence=None)
        await outside.client.publish("reconf/demo/emergency_stop", json.dumps(stop), qos=1)
        await outside.until(lambda: any(r["id"] == stop["id"] for r in outside.of("/reply")))
        assert [ingress._process for ingress in link.ingress] == processes
        assert all(ingress.connected.is_set() for ingress in link.ingress)


async def test_password_and_return_of_the_broker(broker: Mosquitto, tmp_path: Path) -> None:
    """Both ingress processes log in with the password, and again after the broker was killed."""
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    subprocess.run(  # noqa: ASYNC221 - it takes no time
        ["mosquitto_passwd", "-b", "-c", str(passwords), "demo", "geheim"], check=True
    )
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    broker.extra = f"allow_anonymous false\npassword_file {passwords}"
    broker.start()
    login = {"username": "demo", "password_file": str(secret)}
    async with running(broker.port, tmp_path, ingress=True, **login) as link:
        await connected(link)
        broker.kill()
        await wait_for(lambda: not any(ingress.connected.is_set() for ingress in link.ingress))
        broker.start()
        await wait_for(lambda: all(ingress.connected.is_set() for ingress in link.ingress))
        await connected(link)
        assert link.state().text == ""


@pytest.mark.parametrize("ingress", [False, True])
async def test_flood_is_bounded_and_good_commands_get_through(
    broker: Mosquitto, tmp_path: Path, ingress: bool
) -> None:
    """3,000 messages that are no commands, old ones and a stranger's: they take nobody's turn."""
    broker.start()
    issuers = (IssuerSpec("scada", "operator"),)
    old = command(expires_at="2020-01-01T00:00:00Z", issued_at="2019-12-31T23:00:00Z")
    lines = [json.dumps(m).encode() for m in ({"a": 1}, old, command(issuer="stranger"))]
    async with (
        running(broker.port, tmp_path, ingress=ingress, issuers=issuers) as link,
        scada(broker.port) as outside,
    ):
        await connected(link)
        flood = asyncio.create_task(publish_lines(broker.port, "command", lines * 1_000))
        await asyncio.sleep(0.1)
        assert (await outside.reply_to(command("emergency_stop", sequence=None)))["result"] == "accepted"
        if ingress:  # without the process of its own, a full queue drops whatever is no stop
            assert (await outside.reply_to(command()))["result"] == "accepted"
        await flood
        await wait_for(lambda: link.state().commands_refused >= 3_000)
        assert len(outside.of("/reply")) < 300


async def publish_lines(port: int, topic: str, lines: list[bytes]) -> None:
    """Each line a message, as fast as an outside client can."""
    hostile = await asyncio.create_subprocess_exec(
        *f"mosquitto_pub -p {port} -t reconf/demo/{topic} -l".split(), stdin=asyncio.subprocess.PIPE
    )
    await hostile.communicate(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("ingress", [False, True])
async def test_emergency_stop_has_a_way_of_its_own(broker: Mosquitto, tmp_path: Path, ingress: bool) -> None:
    """Commands wait for a control that does not answer, good ones pour in: a stop waits behind nothing."""
    broker.start()
    issuers = (IssuerSpec("scada", "operator"), IssuerSpec("button", "observer"))
    async with (
        running(broker.port, tmp_path, control=False, ingress=ingress, issuers=issuers) as link,
        scada(broker.port) as outside,
    ):
        await connected(link)
        good = [json.dumps(command(sequence=k)).encode() for k in range(1, 2_001)]
        flood = asyncio.create_task(publish_lines(broker.port, "command", good))
        await wait_for(link.commands.full)
        stop = command("emergency_stop", sequence=None, issuer="button")
        await outside.client.publish("reconf/demo/emergency_stop", json.dumps(stop), qos=1)
        async with asyncio.timeout(40.0):  # behind the others it would wait for ever
            heard = await link.stops.get()
        assert heard.envelope.id == stop["id"]
        heard.answer(Outcome("accepted", "accepted", "stopped"))
        await outside.until(lambda: any(r["id"] == stop["id"] for r in outside.of("/reply")))
        await flood


async def test_only_stops_are_taken_on_their_topic(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    async with running(broker.port, tmp_path, ingress=True) as link, scada(broker.port) as outside:
        await connected(link)
        wrong = command()
        await outside.client.publish("reconf/demo/emergency_stop", json.dumps(wrong), qos=1)
        await outside.until(lambda: outside.of("/reply"))
        assert outside.of("/reply")[0]["reason"] == "wrong_topic"
        stop = json.dumps(command("emergency_stop", sequence=None))
        await publish_lines(broker.port, "emergency_stop", [b"{}"] * 2_000)
        await outside.client.publish("reconf/demo/emergency_stop", stop, qos=1)
        await outside.until(lambda: outside.of("/reply")[-1]["result"] == "accepted")


async def test_heartbeats_pass_through_a_flood_of_commands(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    site = replace(site_at(broker.port), fallback=FallbackSpec(heartbeat_timeout_s=5.0))
    link = MqttLink(site, store=None, executor=None)
    run = asyncio.create_task(link.run())
    async with scada(broker.port) as outside:
        await connected(link)
        await publish_lines(broker.port, "command", [json.dumps(command()).encode()] * 1_000)
        await publish_lines(broker.port, "heartbeat", [b'{"issuer": 1}'] * 500)
        assert link.heartbeat_age_s() is None
        await outside.client.publish("reconf/demo/heartbeat", '{"issuer": "scada"}', qos=1)
        await wait_for(lambda: link.heartbeat_age_s() is not None)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_every_command_of_a_burst_is_answered_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    """As many at once as are looked at; how long a reply takes is measured by `reconf bench command`."""
    broker.start()
    async with running(broker.port, tmp_path, ingress=True) as link, scada(broker.port) as outside:
        await connected(link)
        orders = [command(sequence=1 + number) for number in range(30)]
        for order in orders:
            await outside.client.publish("reconf/demo/command", json.dumps(order), qos=1)
        await outside.until(lambda: len(outside.of("/reply")) >= len(orders))
        assert [r["id"] for r in outside.of("/reply")] == [o["id"] for o in orders]
        assert {r["result"] for r in outside.of("/reply")} == {"accepted"}


async def test_link_stops_at_whatever_moment_it_is_asked(broker: Mosquitto, tmp_path: Path) -> None:
    """Also while it connects: `asyncio.wait_for` before Python 3.12 can swallow a cancellation."""
    broker.start()
    for hundredth in range(40):
        async with asyncio.timeout(30.0), running(broker.port, tmp_path) as link:
            link.publish(link.topics.event, event(hundredth))
            await asyncio.sleep(hundredth / 4_000)


async def test_ingress_processes_hear_and_come_back(broker: Mosquitto, tmp_path: Path) -> None:
    broker.start()
    async with running(broker.port, tmp_path, ingress=True) as link, scada(broker.port) as outside:
        await connected(link)
        assert (await outside.reply_to(command()))["result"] == "accepted"
        commands, stops = link.ingress
        for ingress, what in ((commands, "commands: "), (stops, "emergency stops: ")):
            ingress.renew()  # the process is killed
            await wait_for(lambda one=ingress: not one.connected.is_set())
            assert what in link.state().text
        await wait_for(commands.connected.is_set)
        await wait_for(stops.connected.is_set)
        assert (await outside.reply_to(command(sequence=2)))["result"] == "accepted"
        assert link.state().text == ""
        processes = [ingress._process for ingress in link.ingress]
    assert all(process is not None and process.returncode is not None for process in processes)
