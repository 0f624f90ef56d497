"""One day of the node, told once: everything a primary host, two brokers and a cut wire can do to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkplug_rig import Host, first_view, host_on, mosquitto, node_on, tapped

from edge.sparkplug_feed import SparkplugSession

NCMD = "spBv1.0/yard/NCMD/demo"
DCMD = "spBv1.0/yard/DCMD/demo/A"
REBIRTH = {"name": "Node Control/Rebirth", "type": "Boolean", "value": True}


@dataclass
class Record:
    """What the outside saw."""

    first: list[dict[str, Any]] = field(default_factory=list)
    """Messages on the first broker, in order."""
    second: list[dict[str, Any]] = field(default_factory=list)
    aliased: list[dict[str, Any]] = field(default_factory=list)
    """MQTT 3.1.1 with aliases."""
    templated: list[dict[str, Any]] = field(default_factory=list)
    wire: list[list[dict[str, Any]]] = field(default_factory=list)
    """Packets of the node by connection, in the order of connecting; MQTT 5."""
    wire_311: list[list[dict[str, Any]]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the story noted at certain moments."""


async def tell(folder: Path) -> Record:
    record = Record()
    first_view()
    async with mosquitto(folder) as one, mosquitto(folder) as two:
        async with tapped(one) as near, tapped(two) as far, host_on(one) as a, host_on(two) as b:
            ports = [near.port, far.port]
            async with node_on(ports, folder / "state", primary_host="scada", host_wait_s=1.0) as site:
                await _wait_for_host(record, a)
                await _speak(record, a, site)
                await _host_goes(record, a, b)
                await _wire_cut(record, b, far, site)
                assert isinstance(site.session, SparkplugSession)
                record.facts["second_before_stop"] = len(b.heard)
            await b.until(lambda: len(b.of("NDEATH")) > record.facts["ndeaths_before_stop"])
            await asyncio.sleep(0.2)
            record.facts["one_at_a_time"] = near.open_max <= 1 and far.open_max <= 1
            async with node_on([near.port], folder / "state"):
                births = len(a.of("NBIRTH"))
                await a.until(lambda: len(a.of("NBIRTH")) > births)
            await asyncio.sleep(0.2)
            wire = [await a.packets(data, 5) for data in [*near.sent, *far.sent] if data]
            record.wire = sorted(wire, key=lambda c: int(c[0]["will"]["payload"]["metrics"][0]["longValue"]))
            record.first, record.second = a.heard, b.heard
        async with tapped(one) as near, host_on(one) as a:
            async with node_on([near.port], protocol="3.1.1", aliases=True) as site:
                await a.until(lambda: len(a.of("DBIRTH")) >= 2)
                site.set_power(321.0)
                await a.until(lambda: a.of("NDATA"))
            await a.until(lambda: a.of("NDEATH"))
            record.wire_311 = [await a.packets(bytes(d), 4) for d in near.sent if d]
            record.aliased = a.heard
        async with host_on(one) as a:
            async with node_on([one], modules="templates", types="always") as site:
                await a.until(lambda: len(a.of("DBIRTH")) >= 2)
                site.set_soc(0, 0.123)
                await a.until(lambda: any(not historical(m) for m in a.of("DDATA")))
            record.templated = a.heard
    return record


async def _wait_for_host(record: Record, a: Host) -> None:
    """Nothing is said before the right host is online."""
    a.state(True, 5_000, name="other")
    await asyncio.sleep(1.3)  # long enough to have looked at the second broker and come back
    record.facts["births_without_host"] = len(a.of("NBIRTH"))
    a.state(False, 900)
    await asyncio.sleep(0.3)
    record.facts["births_while_offline"] = len(a.of("NBIRTH"))
    a.state(True, 1_000)
    await a.until(lambda: len(a.of("DBIRTH")) == 2)


async def _speak(record: Record, a: Host, site: Any) -> None:
    """Data, loss of a module and a string, rebirth, commands, a full round of the sequence numbers."""
    await asyncio.sleep(0.3)
    quiet = len(a.heard)
    await asyncio.sleep(0.5)
    record.facts["said_without_change"] = len(a.heard) - quiet
    site.set_power(123.0)
    await a.until(lambda: a.of("NDATA"))
    site.lose(module=0)
    await a.until(lambda: a.of("DDATA"))
    site.lose(string=1)
    await a.until(lambda: a.of("DDEATH"))
    record.facts["data_of_lost"] = len([m for m in a.of("DDATA") if m["topic"].endswith("/B")])
    await asyncio.sleep(0.3)
    record.facts["data_of_lost"] -= len([m for m in a.of("DDATA") if m["topic"].endswith("/B")])
    site.lose(string=1, age_s=0.0)
    await a.until(lambda: len(a.of("DBIRTH")) == 3)
    record.facts["rebirth_at"] = len(a.heard)
    a.command(NCMD, REBIRTH)
    await a.until(lambda: len(a.of("NBIRTH")) == 2 and len(a.of("DBIRTH")) == 5)
    a.command(NCMD, {"name": "Control/SetPower", "type": "Double", "value": 5000.0})
    await a.until(lambda: replies(a.heard))
    a.command(DCMD, {"name": "Control/BypassModule", "type": "String", "value": "M1"})
    await a.until(lambda: len(replies(a.heard)) == 2)
    record.facts["asked"] = [(c.envelope.issuer, c.envelope.action, c.envelope.args) for c in site.asked]
    for k in range(260):
        await site.session.tell({"History/Dropped": k})
    await a.until(lambda: len(a.of("NDATA")) >= 260)


async def _host_goes(record: Record, a: Host, b: Host) -> None:
    """An old word of the host is no word; a new one sends the node to the next broker."""
    b.state(True, 2_000)
    deaths = len(a.of("NDEATH"))
    a.state(False, 999)
    await asyncio.sleep(0.3)
    record.facts["deaths_by_old_state"] = len(a.of("NDEATH")) - deaths
    a.state(False, 1_001)
    await a.until(lambda: len(a.of("NDEATH")) > deaths)
    await b.until(lambda: len(b.of("DBIRTH")) == 2)


async def _wire_cut(record: Record, b: Host, far: Any, site: Any) -> None:
    """The broker sends the will; what happened meanwhile follows as history."""
    deaths, births = len(b.of("NDEATH")), len(b.of("NBIRTH"))
    record.facts["deaths_before_cut"] = deaths
    far.cut()
    for k in range(5):
        site.set_power(2000.0 + k)
        await asyncio.sleep(0.12)
    await b.until(lambda: len(b.of("NDEATH")) > deaths)
    await b.until(lambda: len(b.of("NBIRTH")) > births)
    await b.until(lambda: any(historical(m) for m in b.heard))
    await asyncio.sleep(0.5)
    record.facts["ndeaths_before_stop"] = len(b.of("NDEATH"))


def metrics(message: dict[str, Any]) -> list[dict[str, Any]]:
    return message.get("payload", {}).get("metrics", [])


def historical(message: dict[str, Any]) -> bool:
    return any(m.get("isHistorical") for m in metrics(message))


def replies(heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reply metrics by name, one dictionary a reply."""
    found = []
    for message in heard:
        if message["topic"].endswith("NDATA/demo") and not historical(message):
            told = {m["name"]: m for m in metrics(message) if m.get("name", "").startswith("Reply/")}
            if "Reply/Id" in told:
                found.append(told)
    return found
