"""Site I/O over real Modbus: inputs with age, lost units, outputs read back."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from site_io_rig import IMD_UNIT, IO_GATEWAY, IO_UNIT, with_site_io
from southbound_rig import attached, make_bank, small_site

from edge.modbus.server import TwinServer
from edge.modbus.southbound import Southbound
from reconf.actuation import SlotCommand, VerifiedCommand
from reconf.devices.site_io import working_voltage_v
from reconf.protection.envelope import SiteOutputs

pytestmark = pytest.mark.timeout(60)


def verified(site, outputs: SiteOutputs) -> VerifiedCommand:
    safe = SlotCommand.safe(site.topology.n_modules, site.topology.n_strings)
    return VerifiedCommand(safe, 0.0, 1.0, outputs=outputs)


@pytest.fixture(params=["tcp", "shared", "pty"])
def wired(request):
    """Site I/O on a gateway of its own, beside modules, and on a serial line with them."""
    site = small_site(n_modules=2, n_strings=1)
    first = site.gateways[0]
    if request.param == "pty":
        first = replace(first, kind="rtu", connections=1, device="")
        site = replace(site, gateways=(first, *site.gateways[1:]))
    return with_site_io(site, IO_GATEWAY if request.param == "tcp" else first.name)


async def test_every_signal_comes_in_and_every_output_goes_out_and_is_read_back(wired) -> None:
    bank = make_bank(wired)
    async with TwinServer(bank, any_port=True) as server, Southbound(attached(wired, server)) as south:
        tick = 0

        async def read():
            nonlocal tick
            tick += 1
            return (await south.read(float(tick), tick)).inputs

        quiet = await read()
        assert not any((quiet.emergency_stop, quiet.gas_alarm, quiet.smoke_alarm, quiet.fire_alarm))
        assert quiet.unknown == ()
        assert quiet.age_s == 0.0
        assert quiet.ambient_degc == pytest.approx(bank.io.signals["ambient_degc"], abs=0.05)
        assert quiet.insulation_ohm_per_v == pytest.approx(5e6 / working_voltage_v(wired))
        for signal in (
            "emergency_stop", "gas_alarm", "smoke_alarm", "fire_alarm", "door_open", "ventilation_failed",
            "cooling_failed",
        ):  # fmt: skip
            bank.io.set(signal, 1.0)
            assert getattr(await read(), signal), signal
            bank.io.set(signal, 0.0)
            assert not getattr(await read(), signal), signal
        bank.io.set("insulation_ohm", 40.0 * working_voltage_v(wired))
        assert (await read()).insulation_ohm_per_v == pytest.approx(40.0, rel=1e-3)
        bank.io.set("insulation_device_fault", 1.0)
        broken = await read()
        assert math.isnan(broken.insulation_ohm_per_v)
        assert "insulation_ohm" in broken.unknown
        bank.io.set("insulation_device_fault", 0.0)
        bank.io.set("insulation_ohm", None)
        assert "insulation_ohm" in (await read()).unknown
        bank.io.set("ambient_degc", None)
        assert math.isnan((await read()).ambient_degc)

        asked = SiteOutputs(cooling_frac=0.6, alarm=True, ventilate=True)
        receipt = await south.write(verified(wired, asked))
        assert receipt.outputs_confirmed, receipt.failures
        assert bank.io.outputs == asked
        server.faults.unit(wired.io[0].gateway, IO_UNIT).exception = 4
        receipt = await south.write(verified(wired, SiteOutputs()))
        assert not receipt.outputs_confirmed
        assert "exception 0x04" in receipt.failures[-1].text


async def test_a_silent_unit_keeps_its_alarms_and_is_unknown_after_two_ticks(wired) -> None:
    bank = make_bank(wired)
    async with TwinServer(bank, any_port=True) as server, Southbound(attached(wired, server)) as south:
        gateway = wired.io[0].gateway
        bank.io.set("gas_alarm", 1.0)
        assert (await south.read(0.0, 0)).inputs.gas_alarm
        server.faults.unit(gateway, IO_UNIT).silent = True
        first = (await south.read(1.0, 1)).inputs
        assert first.unknown == ()
        assert first.age_s == 1.0
        second = (await south.read(2.0, 2)).inputs
        assert second.gas_alarm
        assert set(second.unknown) == {p.signal for p in wired.io[0].inputs}
        assert not math.isnan(second.insulation_ohm_per_v)
        assert [(e.kind, e.label) for e in south.events()] == [("lost", "block")]
        server.faults.heal(gateway, IO_UNIT)
        server.faults.unit(gateway, IMD_UNIT).silent = True
        end = time.monotonic() + 5.0
        tick = 3
        while (now := (await south.read(float(tick), tick)).inputs).unknown[:1] != (
            "insulation_device_fault",
        ):
            assert time.monotonic() < end
            tick += 1
        assert math.isnan(now.insulation_ohm_per_v)
        assert now.gas_alarm


async def test_a_read_only_side_writes_no_output(wired) -> None:
    bank = make_bank(wired)
    async with (
        TwinServer(bank, any_port=True) as server,
        Southbound(attached(wired, server), read_only=True) as south,
    ):
        await south.read(0.0, 0)
        await south.write(verified(wired, SiteOutputs(alarm=True)))
        assert not bank.io.outputs.alarm


async def test_modules_still_know_no_coils(wired) -> None:
    bank = make_bank(wired)
    position = wired.positions[0]
    async with TwinServer(bank, any_port=True) as server:
        assert server.serve(position.gateway, position.unit_id, bytes((1, 0, 0, 0, 8))) == bytes((0x81, 1))
        assert server.serve(position.gateway, position.unit_id, bytes((5, 0, 0, 0xFF, 0))) == bytes((0x85, 1))
        assert server.serve(position.gateway, 99, bytes((2, 0, 0, 0, 8))) is None
        io = wired.io[0].gateway
        assert server.serve(io, IO_UNIT, bytes((5, 0, 0, 0x12, 0))) == bytes((0x85, 3))
        assert server.serve(io, IO_UNIT, bytes((1, 0, 99, 0, 8))) == bytes((0x81, 2))
