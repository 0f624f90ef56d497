"""Hostile commands against the contract at full speed, and a share of them over a real broker into a link."""

from __future__ import annotations

import asyncio
import random
import socket
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.bench.flood_sender import connect_packet, publish_packet
from edge.bench.hostile_commands import NOW, SITE, Attack, messages
from edge.bench.site_rig import mosquitto
from edge.northbound.commander import Commander
from edge.northbound.contract import Accept, Refuse, judge
from edge.northbound.gate import AcceptedCommand, Outcome, Surroundings
from edge.northbound.link import MqttLink
from edge.northbound.topics import Topics
from edge.store import Store
from reconf.config import load_site
from reconf.site import Site

BATCH = 200
UP_S = 30.0
PER_S = 2_000.0
"""Messages a second over the broker."""


def run(count: int = 1_000_000, over_broker: int = 20_000, seed: int = 1) -> dict[str, Any]:
    """Both parts.

    Args:
        count: messages judged in process.
        over_broker: messages published to a link.
        seed: of the messages.
    """
    attack = Attack()
    found = judged(attack, count, seed)
    if over_broker:
        found |= asyncio.run(_published(attack, over_broker, seed + 1))
    found["accepted_hostile"] = found["accepted_in_process"] + found.get("accepted_over_broker", 0)
    return found


def judged(attack: Attack, count: int, seed: int) -> dict[str, Any]:
    """What the contract says to `count` messages; an exception of any kind ends the campaign."""
    make, known = messages(attack, random.Random(seed)), attack.known()
    reasons: Counter[str] = Counter()
    accepted: list[str] = []
    judging_s = 0.0
    for number in range(count):
        payload = make()
        began_s = time.perf_counter()
        verdict = judge(payload, retained=False, known=known, stops_only=number % 8 == 0)
        judging_s += time.perf_counter() - began_s
        if isinstance(verdict, Refuse):
            reasons[verdict.reason] += 1
        else:
            accepted.append(repr(payload[:300]) if isinstance(verdict, Accept) else f"repeat {verdict}")
    return {
        "messages": count,
        "accepted_in_process": len(accepted),
        "examples": accepted[:3],
        "reasons": dict(reasons.most_common()),
        "judge_us_mean": round(1e6 * judging_s / max(count, 1), 1),
    }


async def _published(attack: Attack, count: int, seed: int) -> dict[str, Any]:
    """The same kind of messages over mosquitto, on both topics; then an honest command."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, port = await mosquitto(stack, folder)
        site = _site(attack, port)
        store = stack.enter_context(Store.open(folder / "state"))
        _has_been_commanded(store, attack)
        executor = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        begun = datetime.now(UTC)
        # the messages are dated: the site's date stands where theirs begins
        around = Surroundings(utc=lambda: datetime.now(UTC) - begun + NOW)
        link = MqttLink(site, store=store, executor=executor, around=around)
        acted: list[AcceptedCommand] = []
        tasks = [asyncio.create_task(link.run())]
        tasks += [asyncio.create_task(_accept(queue, acted)) for queue in (link.commands, link.stops)]
        async with asyncio.timeout(UP_S):
            while not link.connected:  # noqa: ASYNC110 - the link says so by a flag
                await asyncio.sleep(0.02)
        sent = await asyncio.to_thread(
            _send, port, Topics.of(site), messages(attack, random.Random(seed)), count
        )
        hostile = len(acted)
        async with Commander(site, identifier="fuzz-host") as host:
            reply = await host.give(attack.honest("set_power", {"sequence": 2**40}), UP_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "published": sent,
            "accepted_over_broker": hostile,
            "looked_at_over_broker": link.gate.refused.total(),
            "honest_accepted": reply is not None and reply["result"] == "accepted",
        }


def _site(attack: Attack, port: int) -> Site:
    known = attack.known()
    site = load_site("demo")
    mqtt = replace(
        site.mqtt, host="127.0.0.1", port=port, protocol="5", issuers=tuple(known.issuers.values()),
        require_signature=tuple(known.require_signature),
    )  # fmt: skip
    return replace(site, mqtt=mqtt)


def _has_been_commanded(store: Store, attack: Attack) -> None:
    """The site remembers what the attacker has seen on the wire."""
    known = attack.known()
    for identifier, stored in known.replies.items():
        reply = {"id": identifier, "reason": "accepted", "text": "", "site": SITE, "utc": NOW.isoformat()}
        store.ledger.settle(
            utc=NOW, command_id=identifier, digest=stored.digest, reply=reply | stored.reply,
            sequence=("scada", known.sequences["scada"]), audit={"kind": "command", "result": "accepted"},
        )  # fmt: skip


async def _accept(queue: asyncio.Queue[AcceptedCommand], acted: list[AcceptedCommand]) -> None:
    """A control that would do anything."""
    while True:
        command = await queue.get()
        acted.append(command)
        command.answer(Outcome("accepted", "accepted", "as told"))


def _send(port: int, topics: Topics, make: Any, count: int) -> int:
    """Publish over one raw connection; returns how many went out."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(connect_packet("fuzz"))
        wire.recv(4)
        for first in range(0, count, BATCH):
            packets = [
                publish_packet(topics.emergency_stop if k % 8 == 0 else topics.command, make())
                for k in range(min(BATCH, count - first))
            ]
            wire.sendall(b"".join(packets))
            time.sleep(BATCH / PER_S)
        time.sleep(1.0)
    return count
