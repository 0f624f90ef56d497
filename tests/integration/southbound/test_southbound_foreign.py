"""The southbound side against Modbus servers that are not pymodbus and not ours."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyModbusTCP.server import DataBank, ModbusServer
from southbound_rig import small_site, south_of

from reconf.actuation import SlotCommand, VerifiedCommand
from reconf.readings import Quality
from reconf.site import Site

SOURCE = Path(__file__).with_name("rm1_server.c")


@pytest.fixture(scope="module")
def libmodbus_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/usr/include/modbus/modbus.h").exists():
        pytest.skip("needs gcc and libmodbus-dev; `make setup-test` installs them")
    program = tmp_path_factory.mktemp("libmodbus") / "rm1_server"
    subprocess.run([compiler, "-O1", "-o", str(program), str(SOURCE), "-lmodbus"], check=True, timeout=60)
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def one_module_at(port: int) -> Site:
    site = small_site(n_modules=1, connections=3)
    return replace(site, gateways=(replace(site.gateways[0], port=port),))


async def test_reads_writes_and_clears_over_libmodbus(libmodbus_port: int) -> None:
    one = np.ones(1, dtype=np.bool_)
    async with south_of(one_module_at(libmodbus_port)) as south:
        image = await south.read(0.0, 0)
        assert image.modules.answered.all()
        assert image.strings.answered.all()
        assert image.modules.voltage_v.value[0] == pytest.approx(14.8)
        assert image.modules.current_a.value[0] == pytest.approx(-1.5)
        assert image.modules.charge_counter_ah.value[0] == pytest.approx(-1.0)
        np.testing.assert_allclose(image.modules.cell_voltage_v.value[0], [3.7, 3.701, 3.702, 3.703])
        assert image.modules.temperature_degc.quality.tolist() == [[Quality.GOOD, Quality.UNAVAILABLE]]
        assert image.modules.insert_count[0] == 42
        assert image.strings.power_w.value[0] == -250.0
        identities = await south.identities()
        assert identities.modules[0] is not None
        assert identities.modules[0].serial == "TX-001"
        assert all(ok.all() for ok in await south.set_watchdogs())
        assert all(ok.all() for ok in await south.heartbeat(one, one))
        assert all(ok.all() for ok in await south.clear(one, one))
        command = replace(
            SlotCommand.safe(1, 1),
            inserted=one,
            trim_current_a=np.array([-3.25]),
            mode=np.array([1]),
            power_w=np.array([-1234.0]),
            current_limit_a=np.array([12.5]),
            contactor=one,
        )
        receipt = await south.write(VerifiedCommand(command, 0.0, 1.0))
        assert receipt.failures == ()
        # INSERT and TRIM with DUTY between; MODE and both halves of POWER; limit and contactor
        assert receipt.registers_written == 3 + 3 + 2
        image = await south.read(1.0, 1)
        assert image.modules.status[0] & 1
        assert image.modules.duty_frac.value[0] == 1.0
        assert (await south.write(VerifiedCommand(command, 0.0, 1.0))).registers_written == 0


async def test_whole_string_over_another_python_server() -> None:
    """pyModbusTCP has one register space for all units: a block that fits no node is not believed."""
    bank = DataBank()
    server = ModbusServer("127.0.0.1", 0, no_block=True, data_bank=bank)
    block = [0x524D, 1, 4, 0, 14800, 10, 250, 250, 0, 0, 0, 5, 0, 0, 0, 1, 9, 0, 65535, 65535]
    bank.set_input_registers(0, [*block, 3700, 3700, 3700, 3700])
    server.start()
    try:
        port = server._service.socket.getsockname()[1]
        site = small_site(n_modules=3, connections=2)
        async with south_of(replace(site, gateways=(replace(site.gateways[0], port=port),))) as south:
            image = await south.read(0.0, 0)
            assert image.modules.answered.all()
            assert image.modules.voltage_v.value == pytest.approx([14.8] * 3)
            assert not image.strings.answered.any(), "an RM1 block is no RC1"
            assert image.strings.power_w.quality[0] == Quality.NO_ANSWER
            time.sleep(0.3)  # noqa: ASYNC251 - nothing else runs; lets wall time pass for the frozen check
            image = await south.read(1.0, 1)
            assert (image.modules.voltage_v.quality == Quality.FROZEN).all(), "its SAMPLE_COUNTER never moves"
    finally:
        server.stop()
