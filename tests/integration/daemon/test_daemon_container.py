"""The shipped site with everything wired, and the drill of docs/site-io.md."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from daemon_rig import SCALE, daemon_on, field_of, order, until

from edge.clock import ScaledClock
from edge.core_values import ClearFault, SetMode
from reconf.config import load_site
from reconf.devices.site_io import working_voltage_v
from reconf.sequences import SiteMode
from reconf.site import TimingSpec

pytestmark = pytest.mark.timeout(200)


def present(view) -> set[str]:
    return {f.fault for f in view.envelope.faults}


async def test_the_drill_of_the_shipped_container() -> None:
    site = replace(load_site("container"), timing=TimingSpec(2.0, 4.0, 20.0))
    volts = working_voltage_v(site)
    async with field_of(site, SCALE) as twin, daemon_on(twin, clock=ScaledClock(scale=SCALE)) as made:
        io, outputs = twin.bank.io, lambda: twin.bank.io.outputs
        clock = made.parts.clock

        def clear(fault):
            return made.core.order(ClearFault(fault, on_site=True), clock.control_s(), clock.wall_s())

        order(made, SetMode(SiteMode.RUN))
        await until(made, lambda v: v.mode is SiteMode.RUN)
        assert all(twin.closed)

        io.set("door_open", 1.0)
        await until(made, lambda v: "door_open" in present(v))
        io.set("insulation_ohm", 300.0 * volts)
        view = await until(made, lambda v: "insulation_low" in present(v))
        assert view.mode is SiteMode.RUN, "door and low insulation warn"
        assert not outputs().alarm

        io.set("insulation_ohm", 60.0 * volts)
        view = await until(made, lambda v: set(v.phases) == {"open"})
        assert "insulation_fault" in present(view)
        assert view.mode is SiteMode.FAULT
        assert not any(twin.closed)
        assert outputs().alarm
        assert clear("insulation_fault").reason == "not_cleared", "the cause is there"

        io.set("smoke_alarm", 1.0)
        await until(made, lambda v: "smoke_alarm" in present(v))
        assert not outputs().ventilate, "smoke is not fanned"
        io.set("emergency_stop", 1.0)
        await until(made, lambda v: v.mode is SiteMode.ESTOP)

        for signal, value in (
            ("door_open", 0.0),
            ("insulation_ohm", 5000.0 * volts),
            ("smoke_alarm", 0.0),
            ("emergency_stop", 0.0),
        ):
            io.set(signal, value)
        causes = ("insulation_fault", "smoke_alarm", "emergency_stop")

        def gone(view):
            return not any(f.active for f in view.envelope.faults if f.fault in causes)

        await until(made, gone)  # a minute of quiet, in control time
        order(made, SetMode(SiteMode.RUN))
        await asyncio.sleep(1.0)
        assert not any(twin.closed), "latched: nothing closes because a cause is gone"
        for fault in causes:
            assert clear(fault).accepted, fault
        await until(made, lambda v: v.mode is SiteMode.OFF)
        assert not outputs().alarm
        order(made, SetMode(SiteMode.RUN))
        await until(made, lambda v: v.mode is SiteMode.RUN)
        assert twin.bank.link_shorts == 0
        assert twin.bank.rc1.opened_under_load == 0
