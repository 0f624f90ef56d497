"""Bad days of the daemon, on real sockets: killed, hung, jumped clocks, nobody listening."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from ports import free_port

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import (
    CONTACTOR,
    INSERT,
    MODE,
    POWER_W,
    daemon_on,
    field_of,
    keep_records,
    let_be_patient,
    order,
    put_down,
    quick_site,
    serve_power,
    until,
    warm,
)

from edge.clock import ScaledClock
from edge.core_replay import replayed_steps
from edge.core_values import ClearFault, EmergencyStop, SetMode
from edge.demo import Commander
from edge.interval import Rung
from edge.keeper import shared_tables
from edge.northbound.topics import Topics
from edge.northbound.watcher import watch
from edge.record_codec import decode, encode
from edge.setpoint import PowerCommand
from optimizer.result import AllocationInput, AllocationResult, Infeasible
from reconf.sequences import SiteMode
from reconf.site import Site, TimingSpec

pytestmark = pytest.mark.timeout(180)


def is_rc1(unit: int) -> bool:
    return unit > 200


def is_rm1(unit: int) -> bool:
    return unit <= 200


async def test_serves_power_leaves_in_order_and_its_records_replay_to_the_last_bit() -> None:
    async with field_of(quick_site()) as twin:
        async with daemon_on(twin) as made:
            kept = keep_records(made)
            await warm(made)
            await serve_power(made, twin)
            # the daemon has read, too, that it serves
            await until(
                made,
                lambda v: (
                    v.rung is Rung.NORMAL
                    and any(r.steps for r in kept)
                    and np.nansum(v.input.image.strings.power_w.value) > 0.8 * POWER_W
                ),
            )
            assert made.figures.failed_ticks == 0
            before_stop = len(twin.writes)
        # SIGTERM under load: zero and MODE 0, then the contactor, read open, and only then bypass
        assert not any(twin.closed)
        assert twin.bank.link_shorts == 0
        assert twin.bank.rc1.opened_under_load == 0
        leaving = twin.writes[before_stop:]
        opened = [
            k
            for k, w in enumerate(leaving)
            if is_rc1(w.unit)
            and w.address <= CONTACTOR < w.address + len(w.words)
            and w.words[CONTACTOR - w.address] == 0
        ]
        off = [
            k
            for k, w in enumerate(leaving)
            if is_rc1(w.unit)
            and w.address <= MODE < w.address + len(w.words)
            and w.words[MODE - w.address] == 0
        ]
        assert off
        assert opened
        assert min(off) <= min(opened)
        assert not twin.bank.plant.inputs.inserted.any()
    wholes = [r for r in kept if r.steps]
    assert wholes
    site = made.parts.site
    for record in wholes[:2]:
        data = encode(record, shared_tables(site))
        import importlib

        shared = {"site": site}
        for name in shared_tables(site).values():
            if ":" in name:
                module, _, builder = name.partition(":")
                shared[name] = site.derived(getattr(importlib.import_module(module), builder))
        back = decode(data, shared)
        again = replayed_steps(site, back.start, back.inputs)
        assert encode(again) == encode(record.steps)


async def test_no_module_is_bypassed_behind_a_closed_contactor_when_leaving() -> None:
    async with field_of(quick_site()) as twin:
        async with daemon_on(twin) as made:
            await serve_power(made, twin)
            stopped = len(twin.writes)
        inserts = [
            (w, w.words[INSERT - w.address])
            for w in twin.writes[stopped:]
            if is_rm1(w.unit) and w.address <= INSERT < w.address + len(w.words)
        ]
        assert inserts, "modules are bypassed in the end"
        assert all(not w.closed for w, value in inserts if value == 0)


async def test_read_only_never_writes_a_register() -> None:
    async with field_of(quick_site()) as twin:
        async with daemon_on(twin, read_only=True) as made:
            order(made, SetMode(SiteMode.RUN))
            await until(made, lambda v: v.input.image.tick >= 8)
            assert made.outcome.view.input.image.modules.answered.all()
        assert twin.writes == []


async def test_killed_daemon_resumes_what_is_closed_and_closes_nothing(tmp_path: Path) -> None:
    async with field_of(quick_site()) as twin:
        async with daemon_on(twin, state_dir=tmp_path, leave=False) as made:
            await serve_power(made, twin)
            await put_down(made)
            known = made.outcome.view.estimate.capacity_std_ah.copy()
            # the next is there before the watchdogs run out, however long it takes to start
            let_be_patient(twin.bank, twin.site)
        assert all(twin.closed)
        async with daemon_on(twin, state_dir=tmp_path, leave=False) as made:
            view = await until(made, lambda v: v.input.image.tick >= 3)
            assert view.mode is SiteMode.STANDBY
            assert all(twin.closed), "found closed, stays connected"
            assert view.setpoint.asked_w == POWER_W, "remembered, but nothing flows in standby"
            await asyncio.sleep(1.0)
            assert abs(twin.power_w) < 0.05 * POWER_W
            # estimates were taken up again, not begun anew
            assert np.all(view.estimate.capacity_std_ah < 1.5 * known + 0.5)
            # and it serves again when it is told to
            await serve_power(made, twin)
        # dead: the converters' own watchdogs open them, and a new daemon leaves them open
        await held(lambda: not any(twin.closed), 40.0)
        async with daemon_on(twin, state_dir=tmp_path) as made:
            await until(made, lambda v: v.input.image.tick >= 8)
            assert not any(twin.closed), "nothing closes by itself"
            assert made.outcome.view.mode is SiteMode.OFF


def hanging(site: Site, asked: AllocationInput) -> AllocationResult:
    """Answers one question and hangs at the next."""
    if asked.interval >= 2:
        time.sleep(3600.0)
    from optimizer.allocate import allocate

    return allocate(site, asked)


def refusing(site: Site, asked: AllocationInput) -> AllocationResult:
    return Infeasible(asked.interval, "it will not")


@pytest.mark.parametrize("allocate", [hanging, refusing])
async def test_optimizer_that_hangs_or_gives_up_costs_a_rung_and_no_power(allocate) -> None:
    async with field_of(quick_site()) as twin, daemon_on(twin, allocate=allocate) as made:
        await serve_power(made, twin)
        view = await until(made, lambda v: v.rung in (Rung.HOLD, Rung.RULE))
        assert view.rung_reason
        view = await until(made, lambda v: v.rung is Rung.RULE)
        assert "largest remaining" in view.rung_reason
        assert abs(twin.power_w - POWER_W) < 0.1 * POWER_W
        assert made.figures.failed_ticks == 0


async def test_wall_clock_jumps_move_nothing() -> None:
    date = [datetime(2026, 6, 1, 12, tzinfo=UTC)]
    clock = ScaledClock(date=lambda: date[0])
    async with field_of(quick_site()) as twin, daemon_on(twin, clock=clock) as made:
        await serve_power(made, twin)
        ticks = made.figures.ticks
        for jump in (timedelta(days=1), timedelta(days=-2)):
            date[0] += jump
            await asyncio.sleep(1.5)
            assert made.outcome.view.setpoint.source == "command"
            assert abs(twin.power_w - POWER_W) < 0.1 * POWER_W
            assert all(twin.closed)
        assert made.figures.ticks > ticks
        assert made.figures.failed_ticks == 0


async def test_set_point_expires_in_wall_time_and_falls_back() -> None:
    async with field_of(quick_site()) as twin, daemon_on(twin) as made:
        await serve_power(made, twin)
        clock = made.parts.clock
        order(made, PowerCommand(POWER_W, deadline_wall_s=clock.wall_s() + 1.0))
        view = await until(made, lambda v: v.setpoint.source == "fallback_zero")
        assert view.setpoint.power_w == 0.0
        await until(made, lambda v: abs(twin.power_w) < 0.05 * POWER_W)
        assert all(twin.closed), "zero power, still connected"


async def test_emergency_stop_opens_everything_latches_and_is_cleared_on_site_only() -> None:
    async with field_of(quick_site()) as twin, daemon_on(twin) as made:
        await serve_power(made, twin)
        order(made, EmergencyStop())
        view = await until(made, lambda v: v.mode is SiteMode.ESTOP)
        assert view.rung is Rung.LEFT
        await until(made, lambda v: set(v.phases) == {"open"})
        assert not any(twin.closed)
        clock = made.parts.clock
        for what, accepted in (
            (SetMode(SiteMode.RUN), False),
            (ClearFault("emergency_stop"), False),
            (ClearFault("emergency_stop", on_site=True), True),
        ):
            answer = made.core.order(what, clock.control_s(), clock.wall_s())
            assert answer.accepted is accepted, answer
        await until(made, lambda v: v.mode is SiteMode.OFF)
        assert not any(twin.closed)


def roomy_site() -> Site:
    """Windows wide enough to lose a module."""
    site = quick_site(n_modules=6)
    strings = tuple(replace(s, converter=replace(s.converter, voltage_min_v=40.0)) for s in site.strings)
    return replace(site, strings=strings)


async def test_silent_module_is_bypassed_and_the_others_serve_on() -> None:
    async with field_of(roomy_site()) as twin, daemon_on(twin) as made:
        await serve_power(made, twin)
        twin.server.faults.unit("line-0", 2).silent = True
        view = await until(made, lambda v: bool(v.out_of_service[1]))
        assert view.out_of_service.sum() == 1
        await asyncio.sleep(8.0)  # its own watchdog has bypassed it
        assert abs(twin.power_w - POWER_W) < 0.1 * POWER_W
        assert all(twin.closed)
        assert twin.bank.plant.violations.steps == 0


async def test_modules_that_lie_on_the_wire_are_left_out_and_come_back_while_the_others_serve() -> None:
    """Too few registers, noise, late answers, frozen samples: one module of each string at a time."""
    async with field_of(roomy_site()) as twin, daemon_on(twin) as made:
        await serve_power(made, twin)
        faults, frozen, hit = twin.server.faults, twin.bank.rm1.faults.frozen, set()
        # (unit and how it misbehaves in the first string, the same in the second)
        for (a, first), (b, second) in (
            ((2, "missing_registers"), (3, "garbage")),
            ((4, "delay_s"), (5, "frozen")),
        ):
            setattr(faults.unit("line-0", a), first, 1)
            if second == "frozen":
                frozen[6 + b - 1] = True
            else:
                setattr(faults.unit("line-1", b), second, True)
            mine = {a - 1, 6 + b - 1}
            hit |= mine
            view = await until(made, lambda v, mine=mine: mine <= set(np.flatnonzero(v.out_of_service)))
            assert set(np.flatnonzero(view.out_of_service)) <= hit, "nobody else pays for it"
            await until(made, lambda v: v.rung < Rung.ZERO)
            await until(made, lambda _: abs(twin.power_w - POWER_W) < 0.1 * POWER_W)
            assert all(twin.closed)
            faults.heal("line-0", a)
            faults.heal("line-1", b)
            frozen[:] = False
            await until(made, lambda v: bool(v.input.image.modules.answered.all()))
        assert made.figures.failed_ticks == 0
        assert twin.bank.plant.violations.steps == 0
        assert twin.bank.link_shorts == 0


async def test_gateway_that_resets_in_mid_frame_costs_no_power() -> None:
    async with field_of(roomy_site()) as twin, daemon_on(twin) as made:
        await serve_power(made, twin)
        for k in range(6):
            twin.server.faults.unit("line-0", 1 + k).cut_connection = True
            await asyncio.sleep(0.15)
            twin.server.faults.heal("line-0", 1 + k)
            twin.server.cut_connections()
            await asyncio.sleep(0.3)
        await until(made, lambda v: bool(v.input.image.modules.answered.all()))
        await until(made, lambda _: abs(twin.power_w - POWER_W) < 0.1 * POWER_W)
        assert all(twin.closed)
        assert made.figures.failed_ticks == 0
        assert twin.bank.link_shorts == 0


async def test_broker_absent_then_up_killed_and_back_is_not_felt(tmp_path: Path) -> None:
    port = free_port()
    async with field_of(quick_site()) as twin:
        site = replace(twin.site, mqtt=replace(twin.site.mqtt, host="127.0.0.1", port=port))
        async with daemon_on(twin, state_dir=tmp_path, northbound=True, site=site) as made:
            link = made.parts.link
            assert link is not None
            await serve_power(made, twin)  # nobody listens yet
            assert not link.connected
            for _ in range(2):  # up, killed, up again, killed again
                broker = await mosquitto(port)
                try:
                    await held(lambda: link.connected, 40.0)
                finally:
                    broker.kill()
                    await broker.wait()
                await held(lambda: not link.connected, 40.0)
                ticks = made.figures.ticks
                await asyncio.sleep(1.0)
                assert made.figures.ticks > ticks
                assert abs(twin.power_w - POWER_W) < 0.1 * POWER_W
            assert made.figures.failed_ticks == 0
            assert made.parts.keeper.trouble == ""


async def test_commands_over_a_real_broker_and_status_that_tells_the_truth(tmp_path: Path) -> None:
    port = free_port()
    broker = await mosquitto(port)
    try:
        async with field_of(quick_site()) as twin:
            # intervals so long that the status must come by itself
            site = replace(
                twin.site,
                mqtt=replace(twin.site.mqtt, host="127.0.0.1", port=port),
                timing=TimingSpec(tick_s=0.3, slot_s=0.6, interval_s=120.0),
            )
            async with daemon_on(twin, state_dir=tmp_path, northbound=True, site=site) as made:
                await held(lambda: made.parts.link.connected, 40.0)
                heard: dict[str, dict] = {}

                async def listening() -> None:
                    async for topic, data in watch(site, [f"{Topics.of(site).base}/#"], "test"):
                        heard[topic] = data  # noqa: PERF403 - it never ends: a comprehension would show nothing

                task = asyncio.create_task(listening())
                commander = Commander(site, 1.0)
                assert (await commander.send("set_mode", {"mode": "run"}))["result"] == "accepted"
                await until(made, lambda v: v.mode is SiteMode.RUN)
                reply = await commander.send("set_power", {"power_w": 1e6})
                assert reply["reason"] == "curtailed"
                assert 0.0 < reply["curtailed_to_w"] < 1e6
                assert (await commander.send("set_power", {"power_w": POWER_W}))["reason"] == "accepted"
                await held(lambda: abs(twin.power_w - POWER_W) < 0.1 * POWER_W, 40.0)
                status = Topics.of(site).status
                await held(
                    lambda: (
                        abs((heard.get(status, {}).get("power_delivered_w") or 0.0) - POWER_W) < 0.1 * POWER_W
                    ),
                    20.0,
                )
                told = heard[status]
                assert told["mode"] == "run"
                assert told["power_asked_w"] == POWER_W
                assert told["energy_available_kwh"] > 0.0
                assert told["modules"]["inserted"] + told["modules"]["bypassed"] == 8
                assert {f"{Topics.of(site).base}/string/S0", f"{Topics.of(site).base}/string/S1"} <= set(
                    heard
                )
                assert (await commander.send("request_snapshot", {}))["result"] == "done"
                await held(lambda: sum("/module/" in t for t in heard) == 8, 40.0)
                task.cancel()
    finally:
        broker.terminate()
        await broker.wait()


async def held(condition, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s"
        await asyncio.sleep(0.05)


async def mosquitto(port: int) -> asyncio.subprocess.Process:
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec("mosquitto", "-p", str(port), stdout=quiet, stderr=quiet)
