"""Site inputs and outputs of a running daemon over real Modbus: from a detector to contactors and sounder."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import SCALE, Field, daemon_on, fast_site, field_of, order, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from site_io_rig import IO_GATEWAY, IO_UNIT, with_site_io

from edge.clock import ScaledClock
from edge.core_values import ClearFault, HandsInside, HoldMaintenance, SetMode
from edge.supervisor import Daemon
from reconf.devices.site_io import working_voltage_v
from reconf.isolation import Statement
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(150)


def io_site():
    return with_site_io(fast_site(n_modules=6))


async def in_run(made: Daemon) -> None:
    order(made, SetMode(SiteMode.RUN))
    await until(made, lambda v: v.mode is SiteMode.RUN)


def present(view) -> set[str]:
    return {f.fault for f in view.envelope.faults}


async def commanded_open(twin: Field, limit_s: float) -> float:
    """Wall time until every converter holds MODE 0 and power 0, at most `limit_s`."""
    began = time.monotonic()
    while not (twin.bank.rc1.drive().power_w == 0.0).all() or any(twin.closed):
        assert time.monotonic() - began < limit_s, "not left"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("signal", "fault", "ventilated"),
    [
        ("emergency_stop", "emergency_stop", False),
        ("gas_alarm", "gas_alarm", True),
    ],
)
async def test_a_detector_opens_the_site_sounds_and_stays_latched(signal, fault, ventilated) -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await in_run(made)
        assert all(twin.closed)
        assert not twin.bank.io.outputs.alarm
        twin.bank.io.set(signal, 1.0)
        await commanded_open(twin, 40.0)
        assert twin.bank.link_shorts == 0
        assert twin.bank.rc1.opened_under_load == 0
        view = await until(made, lambda v: set(v.phases) == {"open"})
        assert fault in present(view)
        assert twin.bank.io.outputs.alarm
        assert twin.bank.io.outputs.ventilate is ventilated
        now = made.parts.clock
        answer = made.core.order(ClearFault(fault, on_site=True), now.control_s(), now.wall_s())
        assert answer.reason == "not_cleared", "the cause is still there"
        twin.bank.io.set(signal, 0.0)
        await asyncio.sleep(1.5)
        order(made, SetMode(SiteMode.RUN))
        await asyncio.sleep(1.0)
        assert not any(twin.closed), "latched: the input alone does not close anything again"
        assert made.outcome.view.mode in {SiteMode.FAULT, SiteMode.ESTOP}


async def test_insulation_warns_opens_and_forbids_closing_while_unknown() -> None:
    site = io_site()
    volts = working_voltage_v(site)
    async with field_of(site, SCALE) as twin:
        twin.bank.io.set("insulation_ohm", None)
        async with daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
            await until(made, lambda v: "insulation_unknown" in present(v))
            order(made, SetMode(SiteMode.RUN))
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert not twin.bank.plant.inputs.inserted.any(), "no module goes in and out meanwhile"
                await asyncio.sleep(0.02)
            assert not any(twin.closed), "above 60 V nothing closes while the insulation is not known"
            twin.bank.io.set("insulation_ohm", 800.0 * volts)
            await until(made, lambda v: "insulation_unknown" not in present(v))
            await in_run(made)
            twin.bank.io.set("insulation_ohm", 300.0 * volts)
            view = await until(made, lambda v: "insulation_low" in present(v))
            assert all(twin.closed)
            assert view.mode is SiteMode.RUN
            twin.bank.io.set("insulation_ohm", 60.0 * volts)
            await until(made, lambda v: "insulation_fault" in present(v))
            await commanded_open(twin, 40.0)


async def test_a_lost_unit_forbids_closing_and_an_unseen_emergency_stop_opens() -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await in_run(made)
        twin.server.faults.unit(IO_GATEWAY, IO_UNIT).silent = True
        view = await until(made, lambda v: "site_input_unknown" in present(v))
        assert all(twin.closed), "running on is allowed for a moment"
        assert view.mode is SiteMode.RUN
        await until(made, lambda v: "emergency_stop_unknown" in present(v))
        await commanded_open(twin, 40.0)
        await until(made, lambda v: "site_output_failed" in present(v))
        twin.server.faults.heal(IO_GATEWAY, IO_UNIT)
        await until(made, lambda v: not v.input.image.inputs.unknown)
        end = time.monotonic() + 40.0
        while not twin.bank.io.outputs.alarm:  # said late, but said
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


async def test_a_voltage_that_comes_back_while_hands_are_inside_raises_the_alarm() -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await until(made, lambda _: True)
        order(made, HoldMaintenance(True, "ana", "now"))
        await until(made, lambda v: v.mode is SiteMode.MAINTENANCE)
        clock = made.parts.clock
        says = HandsInside(Statement("ana", True, 0.1), "now")
        assert made.core.order(says, clock.control_s(), clock.wall_s()).accepted
        await asyncio.sleep(1.0)
        assert not twin.bank.io.outputs.alarm
        twin.bank.rc1.faults.welded[0] = True
        twin.bank.rc1.closed[0] = True
        view = await until(made, lambda v: "isolation_lost" in present(v))
        assert view.envelope.site_open
        end = time.monotonic() + 40.0
        while not twin.bank.io.outputs.alarm:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


async def test_a_beginning_runaway_opens_the_site_and_extracts_gas() -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await in_run(made)
        faults = twin.bank.plant.faults
        faults.cell_voltage_offset_v[1, 2] = -1.3

        async def burn() -> None:
            while True:
                await asyncio.sleep(0.02)
                faults.temperature_offset_k[1, :] += 0.02 * SCALE * 2.5  # 2.5 K/s

        burning = asyncio.create_task(burn())
        try:
            view = await until(made, lambda v: "thermal_runaway" in present(v))
        finally:
            burning.cancel()
        assert view.envelope.site_open
        await commanded_open(twin, 40.0)
        await until(made, lambda v: v.mode is SiteMode.FAULT)
        assert twin.bank.io.outputs.alarm
        assert twin.bank.io.outputs.ventilate


async def test_a_cell_that_reads_zero_is_a_fault_and_its_module_is_out() -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await in_run(made)
        twin.bank.plant.faults.sense_open[2, 1] = True
        view = await until(made, lambda v: "cell_reading_zero" in present(v))
        serial = twin.site.modules[2].serial
        assert ("cell_reading_zero", serial) in {(f.fault, f.subject) for f in view.envelope.faults}
        await until(made, lambda v: not twin.bank.plant.inputs.inserted[2])
        assert all(twin.closed), "the others go on"


async def test_a_contactor_that_does_not_open_forbids_closing_on_that_string() -> None:
    async with field_of(io_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await in_run(made)
        twin.bank.rc1.faults.welded[0] = True
        order(made, SetMode(SiteMode.OFF))
        view = await until(made, lambda v: v.phases == ("welded", "open"))
        kept = twin.bank.plant.inputs.inserted[:6]
        assert kept.any(), "nothing is bypassed behind a contactor that does not open"
        view = await until(made, lambda v: "contactor_mismatch" in present(v))
        assert not view.envelope.string_usable[0]
        order(made, SetMode(SiteMode.RUN))
        await until(made, lambda v: v.phases[1] == "joined")
        assert made.outcome.view.phases[0] == "welded"
        assert twin.bank.link_shorts == 0
        assert twin.bank.rc1.drive().power_w[0] == 0.0
