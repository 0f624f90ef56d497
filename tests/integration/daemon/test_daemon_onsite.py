"""The on-site door of a running daemon: lock, hands inside, clearing, stopping, strangers and garbage."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import SCALE, Field, daemon_on, fast_site, field_of, order, until
from typer.testing import CliRunner

from edge.cli import maintenance as cli
from edge.cli import onsite as cli_onsite
from edge.cli.explain import _mode_now
from edge.clock import ScaledClock
from edge.core_values import ClearFault, SetMode
from edge.northbound.actions import SetPower
from edge.onsite import door as door_module
from edge.onsite.client import DoorError, ask
from edge.onsite.messages import LINE_MAX, SOCKET_NAME, Reply
from edge.setpoint import PowerCommand
from edge.store import Store
from edge.supervisor import Daemon
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(120)

BY = "ana"


async def say(twin: Field, folder: Path, action: str, **args: object) -> Reply:
    return await asyncio.to_thread(ask, folder, twin.site.name, action, args, by=BY)


async def in_run(made: Daemon) -> None:
    order(made, SetMode(SiteMode.RUN))
    await until(made, lambda v: v.mode is SiteMode.RUN)


def last_json(out: str) -> dict[str, Any]:
    """The reply; the daemon in this process logs to the same place."""
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def audited(folder: Path) -> list[dict[str, object]]:
    with Store.open(folder, read_only=True) as store:
        return [e for e in store.ledger.audit_entries() if e["kind"] == "onsite"]


async def test_maintenance_from_taking_to_release_and_over_a_restart(tmp_path) -> None:
    async with field_of(fast_site(), SCALE) as twin:
        async with daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made:
            await in_run(made)
            assert all(twin.closed)
            refused = await say(twin, tmp_path, "hands_inside", disconnect_locked=True, measured_v=0.0)
            assert refused.reason == "not_isolated"
            assert "maintenance is not taken" in refused.text
            assert "contactor reads closed" in refused.text

            taken = await say(twin, tmp_path, "maintenance_take")
            assert taken.accepted, taken
            # remote orders are refused from this moment, before any tick has seen the lock
            assert made.core.order(PowerCommand(500.0), 0.0, 0.0).reason == "local_lock"
            assert made.core.order(SetMode(SiteMode.RUN), 0.0, 0.0).reason == "local_lock"
            assert made.core.order(ClearFault("gas_alarm"), 0.0, 0.0).reason == "local_lock"
            await until(made, lambda v: v.mode is SiteMode.MAINTENANCE and set(v.phases) == {"open"})
            assert not any(twin.closed)
            assert twin.bank.link_shorts == 0
            assert twin.bank.rc1.opened_under_load == 0

            live = await say(twin, tmp_path, "hands_inside", disconnect_locked=False, measured_v=90.0)
            assert not live.accepted
            assert "disconnect" in live.text
            assert "90 V" in live.text
            await until(made, lambda v: bool((v.input.image.strings.link_voltage_v.value < 50.0).all()))
            inside = await say(twin, tmp_path, "hands_inside", disconnect_locked=True, measured_v=0.3)
            assert inside.accepted, inside.text
            assert (await say(twin, tmp_path, "maintenance_release")).reason == "not_released"

        async with daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made:
            view = await until(made, lambda v: v.mode is SiteMode.MAINTENANCE)
            assert view.maintenance.by == BY
            assert [p.by for p in view.maintenance.permits] == [BY]
            assert (await say(twin, tmp_path, "set_mode", mode="run")).reason == "local_lock"
            assert (await say(twin, tmp_path, "maintenance_release")).reason == "not_released"
            assert (await say(twin, tmp_path, "hands_out")).accepted
            assert (await say(twin, tmp_path, "maintenance_release")).accepted
            await until(made, lambda v: v.mode is SiteMode.OFF)
            assert not any(twin.closed)
            assert (await say(twin, tmp_path, "set_mode", mode="run")).accepted
            await until(made, lambda v: v.mode is SiteMode.RUN)
    actions = [(e["action"], e["result"], e["by"], e["uid"]) for e in audited(tmp_path)]
    assert actions[:2] == [
        ("hands_inside", "refused", BY, os.geteuid()),
        ("maintenance_take", "accepted", BY, os.geteuid()),
    ]
    assert ("hands_inside", "accepted", BY, os.geteuid()) in actions
    with Store.open(tmp_path, read_only=True) as store:
        assert store.ledger.verify_audit().first_bad is None


async def test_emergency_stop_on_site_and_its_clearing_there_only(tmp_path) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        await in_run(made)
        assert (await say(twin, tmp_path, "emergency_stop")).accepted
        await until(made, lambda v: v.mode is SiteMode.ESTOP and set(v.phases) == {"open"})
        twin.bank.rc1.emergency_stop[:] = True
        await until(made, lambda v: any(f.fault == "emergency_stop" and f.active for f in v.envelope.faults))
        pressed = await say(twin, tmp_path, "clear_fault", fault="emergency_stop", on_site=True)
        assert pressed.reason == "not_cleared"
        assert "persists" in pressed.text
        twin.bank.rc1.emergency_stop[:] = False
        await until(made, lambda v: not any(f.active for f in v.envelope.faults))
        afar = await say(twin, tmp_path, "clear_fault", fault="emergency_stop")
        assert "on site only" in afar.text
        assert (await say(twin, tmp_path, "clear_fault", fault="emergency_stop", on_site=True)).accepted
        await until(made, lambda v: v.mode is SiteMode.OFF)
        assert not any(twin.closed)


async def test_the_command_line_takes_shows_and_releases(tmp_path) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        await in_run(made)

        async def run(*words: str) -> tuple[int, str]:
            got = await asyncio.to_thread(CliRunner().invoke, cli.app, list(words))
            return got.exit_code, got.stdout

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli, "folder_of", lambda *_: (twin.site.name, tmp_path))
            common = ("--site", "any")
            code, out = await run("take", *common, "--by", BY)
            assert code == 0
            assert "contactor reads open" in out
            assert f"held by {BY}" in out
            code, out = await run("hands-inside", *common, "--measured-v", "0.1", "--json")
            assert code == 1
            assert last_json(out)["reason"] == "not_isolated"
            code, out = await run("status", *common, "--json")
            assert code == 0
            assert last_json(out)["data"]["mode"] == "maintenance"
            assert (await run("release", *common))[0] == 0
            patch.setattr(cli, "folder_of", lambda *_: (twin.site.name, tmp_path / "nobody"))
            assert (await run("status", *common))[0] == 3


async def test_stop_clear_and_mode_from_the_command_line(tmp_path, monkeypatch) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        monkeypatch.setattr(cli_onsite, "folder_of", lambda *_: (twin.site.name, tmp_path))
        root = typer.Typer()
        root.callback()(lambda: None)
        cli_onsite.register(root)

        async def run(*words: str) -> tuple[int, str]:
            got = await asyncio.to_thread(CliRunner().invoke, root, [*words, "--site", "any"])
            return got.exit_code, got.output

        await until(made, lambda _: True)
        mode, silence = await asyncio.to_thread(_mode_now, tmp_path, twin.site.name)
        assert (mode, silence) == (SiteMode.OFF, "")
        assert (await run("mode", "sideways"))[0] == 2
        code, out = await run("mode", "run")
        assert code == 0, out
        await until(made, lambda v: v.mode is SiteMode.RUN)
        assert (await run("stop", "--by", BY))[0] == 0
        await until(made, lambda v: v.mode is SiteMode.ESTOP and not any(f.active for f in v.envelope.faults))
        code, out = await run("clear", "emergency_stop")
        assert code == 1
        assert "on site only" in out
        assert (await run("clear", "no_such_fault", "--on-site"))[0] == 1
        code, out = await run("clear", "emergency_stop", "--on-site", "--json")
        assert code == 0
        assert last_json(out)["accepted"]
        await until(made, lambda v: v.mode is SiteMode.OFF)
    mode, silence = _mode_now(tmp_path, twin.site.name)
    assert mode is None
    assert "no daemon" in silence


async def say_when_free(twin, folder, action):
    """As `say`, once the daemon has noticed that connections were closed."""
    for _ in range(50):
        with contextlib.suppress(DoorError):
            return await say(twin, folder, action)
        await asyncio.sleep(0.1)
    return await say(twin, folder, action)


async def test_garbage_strangers_and_silence_do_not_touch_control(tmp_path, monkeypatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=deep, clock=ScaledClock(scale=SCALE)) as made,
    ):
        await until(made, lambda _: True)
        assert stat.S_IMODE((deep / SOCKET_NAME).stat().st_mode) == 0o600
        with door_module.reachable(deep) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            silent = [
                await asyncio.open_unix_connection(path) for _ in range(door_module.CONNECTIONS_MAX - 1)
            ]
            writer.write(b"{]\n")
            assert json.loads(await reader.readline())["reason"] == "malformed"
            writer.write(b'{"site":"elsewhere","action":"status","by":"x"}\n')
            assert json.loads(await reader.readline())["reason"] == "wrong_site"
            named = json.dumps({"site": twin.site.name, "action": "dance", "by": "x"}).encode() + b"\n"
            writer.write(named)
            assert json.loads(await reader.readline())["reason"] == "unknown_action"
            late, _ = await asyncio.open_unix_connection(path)
            assert await late.read() == b"", "one connection too many is hung up on"
            writer.write(b"x" * (2 * LINE_MAX))
            assert json.loads(await reader.readline())["reason"] == "malformed"
            assert await reader.read() == b""
            for _, quiet in silent:
                quiet.close()
        ticks = made.figures.ticks
        assert (await say_when_free(twin, deep, "status")).accepted
        monkeypatch.setattr(door_module, "credentials", lambda _: (os.geteuid() + 4711, 1))
        assert (await say(twin, deep, "maintenance_take")).reason == "not_allowed"
        assert not made.maintenance
        await until(made, lambda v: made.figures.ticks > ticks)
        assert made.figures.failed_ticks == 0
    with pytest.raises(DoorError, match="no daemon"):
        ask(deep, "s", "status")


async def test_without_a_record_no_hands_go_inside(tmp_path, monkeypatch) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        await until(made, lambda _: True)
        assert (await say(twin, tmp_path, "maintenance_take")).accepted
        await until(made, lambda v: v.mode is SiteMode.MAINTENANCE)

        async def full(*_: object) -> str:
            return "disk full"

        monkeypatch.setattr(made.parts.keeper, "record", full)
        refused = await say(twin, tmp_path, "hands_inside", disconnect_locked=True, measured_v=0.0)
        assert refused.reason == "not_on_record"
        assert not made.core.maintenance.permits
        out = await say(twin, tmp_path, "maintenance_release")
        assert out.accepted
        assert "disk full" in out.text


async def test_a_command_that_waited_while_the_lock_was_taken_is_refused(tmp_path) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        await until(made, lambda _: True)

        class Waiting:
            args = SetPower(power_w=1000.0)

        assert (await say(twin, tmp_path, "maintenance_take")).accepted
        assert made.remote.answer(Waiting()).reason == "local_lock"  # type: ignore[arg-type]


async def test_an_emergency_stop_lives_through_a_restart(tmp_path) -> None:
    async with field_of(fast_site(), SCALE) as twin:
        async with daemon_on(twin, state_dir=tmp_path, leave=False, clock=ScaledClock(scale=SCALE)) as made:
            await until(made, lambda _: True)
            assert (await say(twin, tmp_path, "emergency_stop")).accepted
            await until(made, lambda v: v.mode is SiteMode.ESTOP)
            await asyncio.sleep(1.0)
            assert not made.parts.keeper.trouble
        async with daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made:
            view = await until(made, lambda _: True)
            assert view.mode is SiteMode.ESTOP
            assert ("emergency_stop", True) in {(f.fault, f.latched) for f in view.envelope.faults}
