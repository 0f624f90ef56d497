"""SunSpec on the running daemon, and its set points before the command contract."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sunspec2.modbus.client as sunspec_client
from ports import free_port

from edge.modbus.pacer import Pacer
from edge.modbus.server import TwinServer
from edge.northbound.actions import Role, SetPower
from edge.northbound.contract import Accept, Known, judge
from edge.northbound.gate import Outcome, Surroundings
from edge.northbound.link import MqttLink
from edge.northbound.sunspec.devices import Devices
from edge.northbound.sunspec.points import SunSpecOptions
from edge.northbound.sunspec.server import GATHER_S, SunSpecServer
from edge.sunspec_feed import sunspec_feed
from edge.supervisor import Daemon
from edge.wiring import RunOptions, daemon
from reconf.site import Site
from reconf.site_links import IssuerSpec, SunSpecSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from southbound_rig import attached, make_bank, small_site

LONG_S = 40.0
"""Only what never comes takes so long."""


async def seen(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_daemon(site: Site) -> AsyncIterator[Daemon]:
    bank = make_bank(site)
    async with TwinServer(bank, any_port=True) as twin:
        pacer = asyncio.create_task(Pacer(bank, 1.0, time.monotonic).run())
        options = RunOptions(gateways={}, northbound=False)
        try:
            async with daemon(attached(site, twin), options) as made:
                task = asyncio.create_task(made.run())
                yield made
                made.stop()
                await asyncio.wait_for(task, 40.0)
        finally:
            pacer.cancel()


async def test_daemon_shows_its_last_tick_and_is_read_only_without_a_contract() -> None:
    port = free_port()
    site = replace(small_site(n_modules=4), sunspec=SunSpecSpec(port=port, writer="127.0.0.1"))
    async with running_daemon(site) as made:
        await seen(lambda: made.figures.ticks >= 3)

        def look() -> tuple[list[int], float, list[int]]:
            device = sunspec_client.SunSpecModbusClientDeviceTCP(
                slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=30
            )
            device.scan()
            battery = device.battery[0]
            beats: list[int] = []
            end = time.monotonic() + LONG_S
            while len(set(beats)) < 3 and time.monotonic() < end:
                battery.read()
                beats.append(battery.Hb.cvalue)
                time.sleep(0.1)
            device.close()
            return [m.model_id for m in device.model_list], battery.SoC.cvalue, beats

        began = time.monotonic()
        models, soc, beats = await asyncio.to_thread(look)
        assert models == [1, 704, 713, 714, 802, 803]
        assert 30.0 < soc < 90.0
        assert len(set(beats)) == 3, "the heartbeat goes on"
        assert beats == sorted(beats)
        assert beats[-1] - beats[0] <= time.monotonic() - began + 2.0, "it counts seconds"


@pytest.mark.parametrize(("watts", "revert_s"), [(-5000, 90), (12_345, 0)])
async def test_set_point_passes_the_contract(watts: int, revert_s: int) -> None:
    site = small_site()
    taken: list[bytes] = []

    async def submit(payload: bytes) -> None:
        taken.append(payload)

    options = SunSpecOptions(port=0, writer="127.0.0.1", issuer="plc")
    async with SunSpecServer(Devices(site), options, submit, time.monotonic) as server:
        server._take({"WSet": watts, "WSetRvrtTms": revert_s, "WSetEna": 1})
        await asyncio.sleep(2 * GATHER_S)
    issuers = {"plc": IssuerSpec("plc", "operator")}
    known = Known(site=site.name, utc=datetime.now(UTC), issuers=issuers)
    verdict = judge(taken[0], retained=False, known=known)
    assert isinstance(verdict, Accept)
    assert isinstance(verdict.args, SetPower)
    assert verdict.args.power_w == watts
    assert verdict.args.revert_s == (revert_s or None)
    observer = replace(known, issuers={"plc": IssuerSpec("plc", "observer")})
    assert not isinstance(judge(taken[0], retained=False, known=observer), Accept), "its role counts"


@asynccontextmanager
async def fed_link(
    role: Role = "operator", wall: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[MqttLink, SunSpecServer]]:
    """The server as the daemon runs it, on the gate of a link without broker."""
    site = small_site()
    site = replace(
        site,
        mqtt=replace(site.mqtt, issuers=(IssuerSpec("plc", role),)),
        sunspec=SunSpecSpec(port=free_port(), writer="127.0.0.1", issuer="plc"),
    )
    link = MqttLink(site, store=None, executor=None, around=Surroundings(wall_s=wall))
    async with sunspec_feed(site, lambda: None, link, wall=wall, utc=lambda: datetime.now(UTC)) as server:
        assert server is not None
        yield link, server


async def test_the_writers_heartbeat_is_scadas_sign_of_life() -> None:
    now_s = 100.0  # a clock moved by hand
    async with fed_link(wall=lambda: now_s) as (link, server):
        assert link.heartbeat_age_s() is None
        server._take({"CtrlHb": 1})
        assert link.heartbeat_age_s() == 0.0
        now_s += 0.2
        server._take({"CtrlHb": 1})  # the same number again is no life
        assert link.heartbeat_age_s() == pytest.approx(0.2)
        server._take({"CtrlHb": 2})
        assert link.heartbeat_age_s() == 0.0


async def test_what_is_refused_or_replaced_is_not_shown_as_enabled() -> None:
    async with fed_link(role="observer") as (_, server):
        server._take({"WSet": 1000, "WSetEna": 1})
        assert server.points.enabled
        await seen(lambda: not server.points.enabled)
    async with fed_link() as (link, server):
        server._take({"WSet": 1000, "WSetEna": 1})
        command = await asyncio.wait_for(link.commands.get(), LONG_S)
        command.answer(Outcome("accepted", "accepted", "fine"))
        await asyncio.sleep(GATHER_S)
        assert server.points.enabled
        link.follow_up(command.envelope.id, Outcome("superseded", "superseded", "by SCADA"))
        assert not server.points.enabled
