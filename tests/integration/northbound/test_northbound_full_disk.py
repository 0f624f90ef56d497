"""A disk that is really full: nothing that should be on record is taken, what makes safe still is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from northbound_broker_tools import command, site_at

from edge.northbound.gate import Outcome
from edge.northbound.link import MqttLink
from edge.store import Store


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def written(file: io.FileIO, data: bytes) -> bool:
    """Whether there was room."""
    try:
        return file.write(data) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            while written(file, b"x" * size):
                pass
    return ballast


@asynccontextmanager
async def gate_of(store: Store | None, **link_options: Any) -> AsyncIterator[tuple[MqttLink, list[Any]]]:
    """A link without a broker: its gate, a control that accepts, and every reply."""
    heard: list[Any] = []
    with ThreadPoolExecutor(1) as executor:
        link = MqttLink(site_at(1), store=store, executor=executor, **link_options)
        link.reply_heard.append(heard.append)
        await link.gate.load()

        async def accept(queue: asyncio.Queue[Any]) -> None:
            while True:
                accepted = await queue.get()
                accepted.answer(Outcome("accepted", "accepted", "fine", documents={"mode": "standby"}))

        tasks = [asyncio.create_task(accept(queue)) for queue in (link.commands, link.stops)]
        yield link, heard
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_full_disk(tiny_disk: Path) -> None:
    with Store.open(tiny_disk / "state") as store:
        async with gate_of(store) as (link, heard):

            async def give(order: dict[str, Any]) -> Any:
                await link.gate.take(json.dumps(order).encode(), retained=False)
                return heard[-1]

            assert (await give(command(sequence=1))).result == "accepted"
            ballast = fill(tiny_disk)
            while True:  # what SQLite's files still hold of free pages
                with contextlib.suppress(Exception):
                    store.ledger.append_events([("fill", "site", {"text": "x" * 3_000})], datetime.now(UTC))
                    continue
                break
            blocked = command(sequence=2)
            for _ in range(3):
                refused = await give(blocked)
                assert (refused.result, refused.reason) == ("refused", "not_recordable")
                assert "full" in refused.text
            assert link.commands.empty()
            for sequence, order in (
                (None, command("emergency_stop", sequence=None)),
                (3, command("set_mode", sequence=3, args={"mode": "standby"})),
            ):
                done = await give(order)
                assert done.result == "accepted", sequence
                assert "not on record" in done.text
            running = command("set_mode", sequence=4, args={"mode": "run"})
            assert (await give(running)).reason == "not_recordable"
            ballast.unlink()
            # refused changed nothing: the very same command may come again
            assert (await give(running)).result == "accepted"
            assert link.gate.record.text == ""
        assert store.ledger.get("mode") == "standby"
        check = store.ledger.verify_audit()
        assert check.first_bad is None, check.text
        kinds = [
            (e["kind"], e["command"]["sequence"]) for e in store.ledger.audit_entries() if "command" in e
        ]
        assert kinds[-2:] == [("order", 4), ("command", 4)]


async def test_state_directory_that_cannot_be_opened() -> None:
    async with gate_of(None, store_text="/var/lib/reconf: no space left") as (link, heard):
        await link.gate.take(json.dumps(command()).encode(), retained=False)
        assert heard[-1].reason == "not_recordable"
        stop = command("emergency_stop", sequence=None)
        await link.gate.take(json.dumps(stop).encode(), retained=False)
        assert heard[-1].result == "accepted"
