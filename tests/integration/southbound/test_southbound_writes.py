"""Writing: only what changed, read back, within a budget; heartbeats, watchdogs, CLEAR."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest
from southbound_rig import Rig, running, small_site

from edge.modbus.southbound import SouthboundOptions
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status

QUIET_SOUTH = SouthboundOptions(scrub_every_s=0.0)


def functions(rig: Rig) -> list[tuple[int, int, int]]:
    """(unit, function, address) of every writing request so far."""
    return [(u, p[0], int.from_bytes(p[1:3], "big")) for _, u, p in rig.written()]


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
async def test_only_changed_registers_are_written_and_all_is_read_back(kind: str) -> None:
    async with running(small_site(kind), options=QUIET_SOUTH) as rig:
        await rig.wake()
        rig.requests.clear()
        inserted = rig.all_modules
        inserted[2] = False
        receipt = await rig.south.write(rig.command(inserted=inserted))
        assert receipt.module_confirmed.all()
        assert receipt.string_confirmed.all()
        assert receipt.registers_written == 5
        assert functions(rig) == [(u, 6, 3) for u in (1, 2, 4, 5, 6)]
        rig.requests.clear()
        again = await rig.south.write(rig.command(inserted=inserted))
        assert again.module_confirmed.all()
        assert rig.requests == [], "a command that stands already costs nothing"
        image = await rig.read_until(lambda i: (i.modules.status & Rm1Status.INSERTED).sum() == 5)
        assert image.modules.duty_frac.value.sum() == 5.0


async def test_32_bit_set_point_goes_out_in_one_request_and_negative_values_survive() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.write(
            rig.command(inserted=rig.all_modules, contactor=rig.all_strings, current_limit_a=np.array([40.0]))
        )
        await rig.read_until(lambda i: bool(i.strings.status[0] & Rc1Status.CONTACTOR_CLOSED))
        rig.requests.clear()
        receipt = await rig.south.write(
            rig.command(
                inserted=rig.all_modules,
                contactor=rig.all_strings,
                current_limit_a=np.array([40.0]),
                mode=np.array([1]),
                power_w=np.array([-1500.0]),
                trim_current_a=np.array([-2.0, 2.0, 0, 0, 0, 0]),
            )
        )
        assert receipt.string_confirmed.all()
        assert receipt.module_confirmed.all()
        assert (201, 16, 2) in functions(rig)
        image = await rig.read_until(lambda i: i.strings.power_w.value[0] == -1500.0)
        assert image.strings.current_a.value[0] < -15.0
        assert image.modules.trim_current_a.value[0] < -1.5


async def test_current_limit_is_lowered_before_power_changes_and_raised_after() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()

        def command(power_w: float, limit_a: float):
            return rig.command(power_w=np.array([power_w]), current_limit_a=np.array([limit_a]))

        await rig.south.write(command(100.0, 30.0))
        rig.requests.clear()
        await rig.south.write(command(200.0, 20.0))
        assert [a for _, _, a in functions(rig)] == [6, 3]
        rig.requests.clear()
        await rig.south.write(command(300.0, 40.0))
        assert [a for _, _, a in functions(rig)] == [3, 6]


async def test_bus_voltage_set_point_is_not_touched_outside_mode_2() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.write(rig.command(mode=np.array([1]), bus_voltage_v=np.array([400.0])))
        written = [p for _, u, p in rig.written() if u == 201]
        touched = {
            a
            for p in written
            for a in range(
                int.from_bytes(p[1:3], "big"),
                int.from_bytes(p[1:3], "big") + (1 if p[0] == 6 else int.from_bytes(p[3:5], "big")),
            )
        }
        assert 5 not in touched
        await rig.south.write(rig.command(mode=np.array([2]), bus_voltage_v=np.array([400.0])))
        assert rig.bank.rc1.bank.holding[0, 5] == 4000


async def test_failed_write_is_not_repeated_but_asked_again_by_the_next_command() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        rig.requests.clear()
        rig.server.faults.unit("line-0", 2).silent = True
        receipt = await rig.south.write(rig.command(inserted=rig.all_modules))
        assert list(np.flatnonzero(~receipt.module_confirmed)) == [1]
        assert receipt.failures[0].unit_id == 2
        assert len([f for f in functions(rig) if f[0] == 2]) == 1
        receipt = await rig.south.write(rig.command(inserted=rig.all_modules))
        assert list(np.flatnonzero(~receipt.module_confirmed)) == [1]
        assert len([f for f in functions(rig) if f[0] == 2]) == 1, "not tried while it does not answer"
        rig.server.faults.heal("line-0", 2)
        await rig.read_until(lambda i: i.modules.answered.all())
        receipt = await rig.south.write(rig.command(inserted=rig.all_modules))
        assert receipt.module_confirmed.all()


async def test_refused_value_is_reported_and_changes_nothing() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        over = np.zeros(6)
        over[0] = 9.0  # the node's trim converter is rated 5 A
        receipt = await rig.south.write(rig.command(inserted=rig.all_modules, trim_current_a=over))
        assert list(np.flatnonzero(~receipt.module_confirmed)) == [0]
        assert "exception 0x03" in receipt.failures[0].text
        assert (rig.bank.rm1.bank.holding[0, 2:6] == 0).all()


async def test_restarted_node_gets_its_commands_again() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.write(rig.command(inserted=rig.all_modules))
        await rig.read_until(lambda i: i.modules.uptime_s.min() >= 1)
        one = np.zeros(6, dtype=np.bool_)
        one[4] = True
        rig.bank.rm1.restart(one, rig.bank.plant.time_s, rig.bank.plant.charge_out_ah)
        image = await rig.read_until(lambda i: i.modules.uptime_s[4] == 0)
        assert not image.modules.status[4] & Rm1Status.INSERTED
        await rig.south.write(rig.command(inserted=rig.all_modules))
        await rig.read_until(lambda i: bool(i.modules.status[4] & Rm1Status.INSERTED))


async def test_scrubbing_notices_a_register_changed_by_somebody_else() -> None:
    async with running(small_site(), options=SouthboundOptions(scrub_every_s=0.001)) as rig:
        await rig.wake()
        await rig.south.write(rig.command(inserted=rig.all_modules))
        rig.bank.write("line-0", 3, 3, [0])
        for _ in range(10):
            await rig.read()
            await rig.south.write(rig.command(inserted=rig.all_modules))
            await asyncio.sleep(0.002)
        assert rig.bank.rm1.bank.holding[2, 3] == 1


async def test_write_budget_puts_flicker_off_but_never_a_step_towards_zero() -> None:
    options = SouthboundOptions(write_rate_per_s=0.001, write_burst=3.0, scrub_every_s=0.0)
    async with running(small_site(), options=options) as rig:
        await rig.wake()
        confirmed = []
        for k in range(6):
            receipt = await rig.south.write(rig.command(power_w=np.array([100.0 + k])))
            confirmed.append(bool(receipt.string_confirmed[0]))
        assert confirmed == [True, True, True, False, False, False]
        assert rig.south.stats.writes_deferred == 3
        receipt = await rig.south.write(rig.command(power_w=np.array([0.0])))
        assert receipt.string_confirmed.all()
        assert rig.bank.rc1.bank.number(3)[0] == 0


async def test_heartbeats_go_out_every_quarter_of_the_watchdog_and_change_each_time() -> None:
    now_s = 0.0  # a clock moved by hand: how busy the machine is changes nothing
    site = small_site(timeout_s=10.0)
    async with running(site, options=QUIET_SOUTH, wall=lambda: now_s) as rig:
        await rig.wake()
        ok = await rig.south.set_watchdogs(rc1_s=1.0, rm1_s=1.2)
        assert ok[0].all()
        assert ok[1].all()
        rig.requests.clear()
        only = rig.all_modules
        only[5] = False
        sent_s: dict[int, list[float]] = {1: [], 201: []}
        values = []
        for k in range(70):
            now_s = 0.02 * k
            rig.requests.clear()
            fed = await rig.south.heartbeat(only, rig.all_strings)
            assert fed[0][:5].all()
            assert not fed[0][5], "not asked for, not fed"
            for _, unit, payload in rig.written():
                assert unit != 6
                if unit in sent_s:
                    sent_s[unit].append(round(now_s, 2))
                if unit == 1:
                    values.append(int.from_bytes(payload[3:5], "big"))
            await asyncio.sleep(0.02)  # the twin's watchdogs see the time too
        assert sent_s == {1: [0.3, 0.6, 0.9, 1.2], 201: [0.26, 0.52, 0.78, 1.04, 1.3]}
        assert all(a != b for a, b in itertools.pairwise(values))
        # looked at in the nodes themselves: the reader's back-off goes by the clock that stands
        async with asyncio.timeout(60.0):
            while not rig.status("rm1", 6) & Rm1Status.WATCHDOG_EXPIRED:  # noqa: ASYNC110 - the twin has no event
                await asyncio.sleep(0.02)
        assert not any(rig.status("rm1", unit) & Rm1Status.WATCHDOG_EXPIRED for unit in range(1, 6))
        assert not rig.status("rc1", 201) & Rc1Status.WATCHDOG_EXPIRED


async def test_a_node_that_was_not_fed_for_longer_than_its_new_watchdog_does_not_expire_by_it() -> None:
    now_s = 0.0
    async with running(small_site(timeout_s=10.0), options=QUIET_SOUTH, wall=lambda: now_s) as rig:
        now_s = 4.0  # after power-up: not yet the 5 s of the nodes, more than the 3 s of a converter
        await rig.read_until(lambda _: rig.bank.plant.time_s > 3.99)
        ok = await rig.south.set_watchdogs()
        assert ok[0].all()
        assert ok[1].all()
        now_s = 4.5
        await rig.read_until(lambda _: rig.bank.plant.time_s > 4.49)
        assert not rig.status("rc1", 201) & Rc1Status.WATCHDOG_EXPIRED
        assert not any(rig.status("rm1", unit) & Rm1Status.WATCHDOG_EXPIRED for unit in range(1, 7))


async def test_clear_zeroes_reads_back_feeds_and_only_then_clears() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.write(rig.command(inserted=rig.all_modules))
        await rig.south.set_watchdogs(rc1_s=1.0, rm1_s=1.0)
        await rig.read_until(lambda i: bool((i.modules.status & Rm1Status.WATCHDOG_EXPIRED).all()))
        # commands written now are stored and would act the moment the latch clears
        await rig.south.write(rig.command(inserted=rig.all_modules))
        assert (rig.bank.rm1.bank.holding[:, 3] == 1).all()
        rig.requests.clear()
        cleared, strings = await rig.south.clear(rig.all_modules, rig.all_strings)
        assert cleared.all()
        assert strings.all()
        unit_3 = [(p[0], int.from_bytes(p[1:3], "big")) for _, u, p in rig.requests if u == 3]
        assert unit_3 == [(3, 0), (6, 3), (3, 0), (6, 0), (6, 6)]
        image = await rig.read()
        assert not (image.modules.status & (Rm1Status.WATCHDOG_EXPIRED | Rm1Status.INSERTED)).any()


async def test_clear_is_not_written_when_zero_does_not_read_back() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        await rig.wake()
        await rig.south.write(rig.command(inserted=rig.all_modules))
        bank = rig.bank.rm1
        honest = bank.write
        # a node whose INSERT register cannot be set to 0 any more
        bank.write = lambda row, a, w: honest(row, a, w) if (row, a) != (1, 3) else None  # type: ignore[method-assign]
        rig.requests.clear()
        cleared, _ = await rig.south.clear(rig.all_modules, rig.all_strings)
        assert list(np.flatnonzero(~cleared)) == [1]
        assert (2, 6, 6) not in functions(rig)
        assert (1, 6, 6) in functions(rig)


async def test_emergency_stop_is_seen_as_a_site_input() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        assert not (await rig.read()).inputs.emergency_stop
        rig.bank.rc1.emergency_stop[0] = True
        image = await rig.read_until(lambda i: i.inputs.emergency_stop)
        assert image.strings.status[0] & Rc1Status.EMERGENCY_STOP


async def test_identify_and_identities() -> None:
    async with running(small_site(), options=QUIET_SOUTH) as rig:
        assert await rig.south.identify(2, 30.0)
        assert rig.bank.rm1.bank.holding[2, 7] == 30
        rig.server.faults.unit("line-0", 6).silent = True
        found = await rig.south.identities()
        assert [m.serial if m else None for m in found.modules] == [
            "T0000", "T0001", "T0002", "T0003", "T0004", None,
        ]  # fmt: skip
        first, converter = found.modules[0], found.strings[0]
        assert first is not None
        assert converter is not None
        assert (first.n_cells, first.chemistry_code, first.rated_capacity_ah) == (4, 2, 60.0)
        assert first.r_on_ohm == pytest.approx(0.0005)
        assert converter.voltage_max_v == pytest.approx(103.2)
        assert converter.power_rating_w == pytest.approx(4000.0)


async def test_reading_back_never_overtakes_a_write() -> None:
    """A read-back that was asked for before a write must not be remembered after it."""
    async with running(small_site(connections=4), options=QUIET_SOUTH) as rig:
        await rig.wake()
        node = rig.south._modules[0]
        fast, slow = rig.south._lines[0].links[:2]
        writer = rig.south._writer
        for value in (1, 0) * 10:
            inserted = rig.all_modules
            inserted[0] = bool(value)
            targets = writer.targets(rig.command(inserted=inserted))
            await asyncio.gather(
                writer.refresh(node, slow), writer.write_node(node, targets, fast), writer.refresh(node, slow)
            )
            assert rig.bank.rm1.bank.holding[0, 3] == value
            assert writer.shadows["rm1"].words[0, 3] == value
