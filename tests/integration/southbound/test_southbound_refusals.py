"""Nodes that answer and do not take what is written, over real sockets: when that is noticed, and its end."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from southbound_rig import Rig, running, small_site

from edge.modbus.refusals import TRY_AGAIN_S
from edge.modbus.southbound import SouthboundOptions
from reconf.actuation import Receipt, VerifiedCommand
from reconf.readings import SiteImage, WriteRefusal

QUIET_SOUTH = SouthboundOptions(scrub_every_s=0.0)
REFUSES = {"write_exception": 4}
SWALLOWS = {"swallows_writes": True}
INSERT, MODE, LIMIT = 3, 2, 6


def break_unit(rig: Rig, unit: int, how: dict[str, object]) -> None:
    fault = rig.server.faults.unit("line-0", unit)
    for name, value in how.items():
        setattr(fault, name, value)


def only(image: SiteImage) -> WriteRefusal:
    (entry,) = image.refusals
    return entry


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
@pytest.mark.parametrize(
    ("how", "told"),
    [(REFUSES, "exception 4 device failure"), (SWALLOWS, "acknowledged, but it reads 0 instead of 1")],
)
async def test_a_module_that_takes_no_command_is_counted_tick_by_tick(kind, how, told) -> None:
    async with running(small_site(kind), options=QUIET_SOUTH) as rig:
        await rig.wake()
        break_unit(rig, 3, how)
        for ticks in (1, 2, 3):
            receipt = await rig.south.write(rig.command(inserted=rig.all_modules))
            assert receipt.module_confirmed.tolist() == [True, True, False, True, True, True]
            entry = only(await rig.read())
            assert (entry.kind, entry.row, entry.unit_id, entry.ticks) == ("module", 2, 3, ticks)
            assert (entry.address, entry.register, entry.how) == (INSERT, "INSERT", told)
        assert only(await rig.read()).ticks == 3, "a tick without a write says nothing"
        rig.server.faults.heal("line-0", 3)
        assert (await rig.south.write(rig.command(inserted=rig.all_modules))).module_confirmed.all()
        assert (await rig.read()).refusals == ()


@pytest.mark.parametrize("how", [REFUSES, SWALLOWS])
async def test_a_converter_that_takes_no_command_is_told_by_its_first_register(how) -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        break_unit(rig, 201, how)
        await rig.south.write(rig.command(mode=np.array([1]), power_w=np.array([500.0])))
        entry = only(await rig.read())
        assert (entry.kind, entry.row, entry.unit_id) == ("string", 0, 201)
        assert entry.address in (MODE, LIMIT)


async def test_heartbeats_that_are_acknowledged_and_not_echoed_are_noticed() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.read()
        break_unit(rig, 2, SWALLOWS)
        for ticks in (1, 2):
            await rig.south.heartbeat(rig.all_modules, rig.all_strings, only_due=False)
            image = await rig.read()
            # the echo is part of a measurement set of the node: the next one must be out
            entry = only(image)
            assert (entry.unit_id, entry.register, entry.ticks) == (2, "HEARTBEAT", ticks)
            assert "its echo stays" in entry.how
            again = only(await rig.read())
            assert again.ticks == ticks, "one heartbeat counts once, however often its echo is looked for"


async def test_a_node_that_is_deaf_to_heartbeats_alone_is_noticed_although_it_takes_commands() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.read()
        break_unit(rig, 2, {"swallowed_register": 0})
        inserted = rig.all_modules
        for ticks in (1, 2, 3):
            inserted[1] = not inserted[1]
            await rig.south.heartbeat(rig.all_modules, rig.all_strings, only_due=False)
            assert (await rig.south.write(rig.command(inserted=inserted))).module_confirmed.all()
            entry = only(await rig.read())
            assert (entry.unit_id, entry.register, entry.ticks) == (2, "HEARTBEAT", ticks)
        rig.server.faults.heal("line-0", 2)
        await rig.south.heartbeat(rig.all_modules, rig.all_strings, only_due=False)
        await rig.read_until(lambda i: i.refusals == ())


async def test_a_node_that_takes_commands_and_no_watchdog_time_is_noticed() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        break_unit(rig, 201, {"swallowed_register": 1})
        modules, strings = await rig.south.set_watchdogs()
        assert modules.all()
        assert not strings.any()
        await rig.south.write(rig.command(power_w=np.array([100.0])))
        entry = only(await rig.read())
        assert (entry.unit_id, entry.register) == (201, "WATCHDOG")


WATCHDOG = 1
WORDS = {3: 60, 201: 30}
"""Tenths of a second that a module and a converter are to have."""


def holding(rig: Rig, unit: int, address: int) -> int:
    bank, row = (rig.bank.rc1, 0) if unit == 201 else (rig.bank.rm1, unit - 1)
    return int(bank.bank.holding[row, address])


def working(rig: Rig, unit: int) -> tuple[VerifiedCommand, int]:
    """A command that has this unit do something, and the register that shows it."""
    if unit == 201:
        return rig.command(mode=np.array([1]), power_w=np.array([500.0])), MODE
    return rig.command(inserted=rig.all_modules), INSERT


def taken(receipt: Receipt, unit: int) -> bool:
    """Whether `unit` confirmed; all others must have."""
    mask = np.append(receipt.module_confirmed, receipt.string_confirmed)
    at = 6 if unit == 201 else unit - 1
    assert np.delete(mask, at).all()
    return bool(mask[at])


@pytest.mark.parametrize("unit", [3, 201])
async def test_a_node_without_its_watchdog_time_is_given_nothing_to_do_until_it_has_taken_it(unit) -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        break_unit(rig, unit, {"swallowed_register": WATCHDOG})
        assert not all(ok.all() for ok in await rig.south.set_watchdogs())
        asked, shows = working(rig, unit)
        for ticks in (1, 2, 3):
            assert not taken(await rig.south.write(asked), unit)
            entry = only(await rig.read())
            assert (entry.unit_id, entry.address, entry.register) == (unit, WATCHDOG, "WATCHDOG")
            assert entry.ticks == ticks, "asked again in every tick, so that two make it a fault"
        assert holding(rig, unit, shows) == 0
        rig.server.faults.heal("line-0", unit)
        assert taken(await rig.south.write(asked), unit)
        assert (holding(rig, unit, WATCHDOG), holding(rig, unit, shows)) == (WORDS[unit], 1)
        assert (await rig.read()).refusals == ()


@pytest.mark.parametrize("unit", [3, 201])
async def test_a_node_that_was_silent_when_watchdogs_were_set_gets_its_own_before_any_command(unit) -> None:
    async with running(small_site(timeout_s=0.1), options=QUIET_SOUTH) as rig:
        await rig.wake()
        break_unit(rig, unit, {"silent": True})
        assert not all(ok.all() for ok in await rig.south.set_watchdogs())
        rig.server.faults.heal("line-0", unit)
        await rig.read_until(lambda i: bool(i.modules.answered.all() and i.strings.answered.all()))
        rig.requests.clear()
        asked, shows = working(rig, unit)
        assert taken(await rig.south.write(asked), unit)
        assert (holding(rig, unit, WATCHDOG), holding(rig, unit, shows)) == (WORDS[unit], 1)
        first = next(p for _, u, p in rig.written() if u == unit)
        assert int.from_bytes(first[1:3], "big") == WATCHDOG


async def test_a_node_that_lost_its_watchdog_time_may_still_be_asked_for_less() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.set_watchdogs()
        asked, shows = working(rig, 3)
        assert taken(await rig.south.write(asked), 3)
        rig.bank.write("line-0", 3, WATCHDOG, [200])  # another master
        break_unit(rig, 3, {"swallowed_register": WATCHDOG})
        modules, _ = await rig.south.set_watchdogs()
        assert not modules[2]
        assert not taken(await rig.south.write(asked), 3), "what it does is no longer vouched for"
        assert taken(await rig.south.write(rig.command()), 3)
        assert holding(rig, 3, shows) == 0
        assert not taken(await rig.south.write(rig.command()), 3)


async def test_honest_heartbeats_restarts_and_other_feeders_are_no_refusals() -> None:
    async with running(small_site()) as rig:
        await rig.wake()
        for k in range(12):
            beats = rig.south.heartbeat(rig.all_modules, rig.all_strings, only_due=False)
            _, image = await asyncio.gather(beats, rig.read())
            assert image.refusals == ()
            if k == 4:
                rows = np.array([True, False, False, False, False, False])
                rig.bank.rm1.restart(rows, rig.bank.plant.time_s, rig.bank.plant.charge_out_ah)
            if k > 6:
                rig.bank.write("line-0", 4, 0, [7000 + 13 * k])
        assert (await rig.read()).refusals == ()


async def test_what_a_latched_node_erases_by_itself_is_not_held_against_it() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        rig.bank.rc1.emergency_stop[0] = True
        await rig.read_until(lambda i: i.inputs.emergency_stop)
        for _ in range(3):
            rig.bank.step(0.01, 0.01)
            await rig.south.write(rig.command(mode=np.array([1]), contactor=np.array([True])))
            rig.bank.step(0.01, 0.01)
            assert (await rig.read()).refusals == ()


async def test_a_node_that_refused_is_tried_again_without_moving_or_feeding_anything() -> None:
    class Wall:
        ahead_s = 0.0

        def __call__(self) -> float:
            return time.monotonic() + self.ahead_s

    wall = Wall()
    async with running(small_site(), options=QUIET_SOUTH, wall=wall) as rig:
        await rig.south.set_watchdogs()
        await rig.wake()
        break_unit(rig, 3, SWALLOWS)
        await rig.south.write(rig.command(inserted=rig.all_modules))
        await rig.read()
        rig.requests.clear()
        for healed in (False, True):
            if healed:
                rig.server.faults.heal("line-0", 3)
            fed = float(rig.south._writer.shadows["rm1"].fed_wall_s[2])
            rig.requests.clear()
            wall.ahead_s += TRY_AGAIN_S + 0.1
            await rig.read()
            written = [(u, p[0], int.from_bytes(p[1:3], "big")) for _, u, p in rig.written()]
            assert written == [(3, 6, 1)], "WATCHDOG alone"
            assert float(rig.south._writer.shadows["rm1"].fed_wall_s[2]) == fed
            image = await rig.read()
            assert bool(image.refusals) is not healed
        word = int(rig.bank.rm1.bank.holding[2, 1])
        assert word == 59, "a tenth of a second shorter: still longer than a converter's"
