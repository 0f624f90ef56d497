"""Order of replies around commands that are sent again or replaced while they wait."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from northbound_broker_tools import command, site_at

from edge.northbound import command_log
from edge.northbound.gate import Outcome
from edge.northbound.link import MqttLink
from edge.store import Store


async def test_a_copy_that_comes_while_the_first_waits_gets_its_reply(tmp_path: Path) -> None:
    heard: list[Any] = []
    with Store.open(tmp_path / "state") as store, ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(1), store=store, executor=executor)
        link.reply_heard.append(heard.append)
        first = json.dumps(command(sequence=7)).encode()
        taking = asyncio.create_task(link.gate.take(first, retained=False))
        waiting = await asyncio.wait_for(link.commands.get(), 5.0)
        await link.gate.take(first, retained=False)
        assert heard == []  # neither refused as out of sequence nor asked twice
        other = command(sequence=8, id=waiting.envelope.id)
        await link.gate.take(json.dumps(other).encode(), retained=False)
        assert [r.reason for r in heard] == ["id_reused"]
        waiting.answer(Outcome("accepted", "accepted", "fine"))
        await taking
        await link.gate.take(first, retained=False)
        assert [r.result for r in heard[1:]] == ["accepted", "accepted"]
        assert link.commands.empty()


async def test_superseded_never_comes_before_accepted(tmp_path: Path) -> None:
    heard: list[Any] = []
    with Store.open(tmp_path / "state") as store, ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(1), store=store, executor=executor)
        link.reply_heard.append(heard.append)
        orders = [command(sequence=k) for k in (1, 2)]
        taking = [
            asyncio.create_task(link.gate.take(json.dumps(order).encode(), retained=False))
            for order in orders
        ]
        first, second = [await asyncio.wait_for(link.commands.get(), 5.0) for _ in orders]
        first.answer(Outcome("accepted", "accepted", "fine"))
        # control takes the second before the first is on the disk
        second.answer(Outcome("accepted", "accepted", "fine", supersedes=first.envelope.id))
        link.follow_up(first.envelope.id, Outcome("superseded", "superseded", "by the second"))
        await asyncio.gather(*taking)
        of_first = [r.result for r in heard if r.id == first.envelope.id]
        assert of_first[:2] == ["accepted", "superseded"]
        # that the first is superseded by it is told after the second is accepted
        assert [(r.id == first.envelope.id, r.result) for r in heard][-2:] == [
            (False, "accepted"), (True, "superseded"),
        ]  # fmt: skip
        link.follow_up(second.envelope.id, Outcome("done", "expired", "over"))
        assert [r.result for r in heard if r.id == second.envelope.id] == ["accepted", "done"]


async def test_a_command_in_hand_uses_up_no_sequence_on_the_disk(tmp_path: Path) -> None:
    """Killed between the reply to one command and that to the next, the next may be sent again."""
    with Store.open(tmp_path / "state") as store, ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(1), store=store, executor=executor)
        orders = [command(sequence=k) for k in (1, 2)]
        taking = [
            asyncio.create_task(link.gate.take(json.dumps(order).encode(), retained=False))
            for order in orders
        ]
        first, second = [await asyncio.wait_for(link.commands.get(), 5.0) for _ in orders]
        first.answer(Outcome("accepted", "accepted", "fine"))
        await taking[0]
        assert store.ledger.sequences() == {"scada": 1}
        # answers out of order: the later sequence stays
        second.answer(Outcome("accepted", "accepted", "fine"))
        await taking[1]
        assert store.ledger.sequences() == {"scada": 2}


async def test_a_hanging_disk_stops_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are refused after a while; standby waits a moment, a stop does not."""
    monkeypatch.setattr(command_log, "RECORD_S", 0.2)
    monkeypatch.setattr(command_log, "STANDBY_WAITS_S", 0.1)
    heard: list[Any] = []
    free = threading.Event()
    with Store.open(tmp_path / "state") as store, ThreadPoolExecutor(1) as executor:
        executor.submit(free.wait, 20.0)
        link = MqttLink(site_at(1), store=store, executor=executor)
        link.reply_heard.append(heard.append)
        power = json.dumps(command(sequence=1)).encode()
        await link.gate.take(power, retained=False)
        assert [r.reason for r in heard] == ["not_recordable"]
        assert link.commands.empty()
        for queue, order in (
            (link.stops, command("emergency_stop", sequence=None)),
            (link.commands, command("set_mode", sequence=2, args={"mode": "standby"})),
        ):
            taking = asyncio.create_task(link.gate.take(json.dumps(order).encode(), retained=False))
            waiting = await asyncio.wait_for(queue.get(), 5.0)
            waiting.answer(Outcome("accepted", "accepted", "fine"))
            await taking
            assert heard[-1].result == "accepted"
            assert "has not answered" in heard[-1].text
        free.set()


async def test_standby_keeps_its_turn(tmp_path: Path) -> None:
    """A set point given before standby is not taken after it."""
    with Store.open(tmp_path / "state") as store, ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(1), store=store, executor=executor)
        orders = [command(sequence=1), command("set_mode", sequence=2, args={"mode": "standby"})]
        taking = [
            asyncio.create_task(link.gate.take(json.dumps(order).encode(), retained=False))
            for order in orders
        ]
        came = [await asyncio.wait_for(link.commands.get(), 5.0) for _ in orders]
        assert [c.envelope.action for c in came] == ["set_power", "set_mode"]
        for one in came:
            one.answer(Outcome("accepted", "accepted", "fine"))
        await asyncio.gather(*taking)
