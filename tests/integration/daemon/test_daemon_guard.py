"""What must not happen by itself: closing again, forgetting a lock, starting while ending."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import SCALE, daemon_on, fast_site, field_of, order, serve_power, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "southbound"))
from southbound_rig import attached, make_bank, small_site

from edge.clock import ScaledClock
from edge.core_values import ClearFault, EmergencyStop, HoldMaintenance, SetMode
from edge.modbus.server import TwinServer
from edge.modbus.southbound import Southbound, SouthboundOptions
from edge.onsite.client import ask
from edge.store.store import LEDGER_FILE
from reconf.actuation import SlotCommand, VerifiedCommand
from reconf.devices.rc1 import CONTACTOR_ADDRESS
from reconf.sequences import SiteMode

pytestmark = pytest.mark.timeout(120)


async def test_a_contactor_that_opened_unasked_stays_open_until_somebody_clears_it() -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        order(made, SetMode(SiteMode.RUN))
        await until(made, lambda v: v.mode is SiteMode.RUN)
        twin.bank.rc1.emergency_stop[0] = True  # pressed for a moment, between two ticks
        twin.bank.step(0.001, 0.001)
        twin.bank.rc1.emergency_stop[0] = False
        view = await until(made, lambda v: v.phases[0] == "open")
        assert {("contactor_opened", "S0")} <= {(f.fault, f.subject) for f in view.envelope.faults}
        await asyncio.sleep(2.0)
        assert made.outcome.view.phases == ("open", "joined")
        assert not twin.closed[0]
        order(made, SetMode(SiteMode.RUN))
        await asyncio.sleep(1.0)
        assert not twin.closed[0], "asking for power is no clearing"
        order(made, ClearFault("contactor_opened", "S0"))
        await until(made, lambda v: v.phases == ("joined", "joined"))


async def test_a_command_that_takes_a_contactor_for_closed_does_not_close_it_again() -> None:
    site = small_site(n_modules=3)
    bank = make_bank(site)
    asked = replace(SlotCommand.safe(3, 1), inserted=np.ones(3, np.bool_), contactor=np.ones(1, np.bool_))
    options = SouthboundOptions(scrub_every_s=0.01)
    async with (
        TwinServer(bank, any_port=True) as server,
        Southbound(attached(site, server), options=options) as south,
    ):
        await south.read(0.0, 0)
        closing = VerifiedCommand(asked, 0.0, 1.0, closes=np.ones(1, np.bool_))
        assert (await south.write(closing)).string_confirmed.all()
        bank.rc1.bank.holding[0, CONTACTOR_ADDRESS] = 0  # erased by the converter, before anybody has seen it
        for tick in range(1, 10):  # the registers of one node after the other are looked at
            await asyncio.sleep(0.02)
            await south.read(float(tick), tick)
        holding = VerifiedCommand(asked, 1.0, 1.0, closes=np.zeros(1, np.bool_))
        receipt = await south.write(holding)
        assert not receipt.string_confirmed.any()
        assert "not closed again unasked" in receipt.failures[0].text
        assert bank.rc1.bank.holding[0, CONTACTOR_ADDRESS] == 0
        assert (await south.write(closing)).string_confirmed.all()


async def test_what_an_earlier_run_left_and_cannot_be_read_counts_as_a_lock(tmp_path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"no database, although it has the name of one" * 100)
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        view = await until(made, lambda v: v.mode is SiteMode.MAINTENANCE)
        assert "cannot be read" in view.maintenance.by
        order(made, SetMode(SiteMode.RUN))
        await asyncio.sleep(1.0)
        assert not any(twin.closed)
        answer = await asyncio.to_thread(ask, tmp_path, twin.site.name, "maintenance_release", {}, by="ana")
        assert answer.accepted
        assert "not on record" in answer.text
        await until(made, lambda v: v.mode is SiteMode.OFF)


async def test_nothing_starts_while_the_daemon_ends(tmp_path) -> None:
    async with (
        field_of(fast_site(), SCALE) as twin,
        daemon_on(twin, state_dir=tmp_path, clock=ScaledClock(scale=SCALE)) as made,
    ):
        order(made, SetMode(SiteMode.RUN))
        await until(made, lambda v: v.mode is SiteMode.RUN)
        made.stop()
        assert made.order(SetMode(SiteMode.RUN, on_site=True)).reason == "stopping"
        assert made.order(ClearFault("gas_alarm", on_site=True)).reason == "stopping"
        assert made.order(HoldMaintenance(True, "ana", "now")).accepted
        assert made.order(EmergencyStop("ana")).accepted, "what makes safer is always taken"
    assert not any(twin.closed)


async def test_a_converter_that_does_not_know_its_status_is_lost_and_not_open() -> None:
    """All bits clear would read as an open contactor: modules would be bypassed behind one that is closed."""
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await serve_power(made, twin)
        twin.server.faults.unit("line-0", 201).input_registers = {2: 0xFFFF}
        view = await until(made, lambda v: v.phases[0] != "joined")
        assert view.phases == ("lost", "joined")
        while twin.closed[0]:  # its own watchdog opens it
            assert twin.bank.plant.inputs.inserted[:4].any()
            await asyncio.sleep(0.01)
        assert twin.bank.link_shorts == 0
        twin.server.faults.units.clear()
        await until(made, lambda v: v.phases[0] == "open")


async def test_a_status_that_calls_a_closed_contactor_open_has_the_string_left_in_order() -> None:
    async with field_of(fast_site(), SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        await serve_power(made, twin, 2000.0)
        twin.server.faults.unit("line-0", 201).input_registers = {2: 0}
        view = await until(made, lambda v: v.phases[0] == "open")
        assert ("contactor_opened", "S0") in {(f.fault, f.subject) for f in view.envelope.faults}
        assert not twin.closed[0]
        assert twin.bank.rc1.opened_under_load == 0
        assert twin.bank.link_shorts == 0
