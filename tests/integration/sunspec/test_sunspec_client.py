"""The SunSpec server seen by pysunspec2, and by clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sunspec2
import sunspec2.modbus.client as sunspec_client
import yaml
from sunspec2.modbus.modbus import ModbusClientException

from edge.northbound.sunspec import server as server_module
from edge.northbound.sunspec.devices import BASE, Devices
from edge.northbound.sunspec.layout import load_models, scale_for
from edge.northbound.sunspec.points import SunSpecOptions
from edge.northbound.sunspec.server import GATHER_S, SunSpecServer
from edge.northbound.sunspec.view import SiteState
from reconf.config import load_site
from reconf.estimation.filter import estimate, initial_state
from reconf.protection.envelope import FaultStatus
from reconf.protection.protect import initial_protection, protect
from reconf.readings import Quality
from reconf.shipped import find_site_file
from reconf.site import Site
from reconf.twin.observe import QUIET, observe
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth

SITE = load_site(find_site_file("demo"))
DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "protocols" / "sunspec.md").read_text()


def make_state(power_w: float = 10_000.0) -> SiteState:
    """The demo site delivering power, all contactors closed."""
    return state_of(SITE, power_w)


def state_of(site: Site, power_w: float = 0.0) -> SiteState:
    """A site with every module inserted and all contactors closed."""
    rng = np.random.default_rng(2)
    m, s = site.topology.n_modules, site.topology.n_strings
    plant = Plant(site, draw_truth(site, rng, soc_frac=0.7, sensor_scale=0.0))
    plant.apply(
        replace(
            PlantInputs.safe(m, s),
            inserted=np.ones(m, dtype=np.bool_),
            mode=np.ones(s, dtype=np.int64),
            power_setpoint_w=np.full(s, power_w),
            contactor_closed=np.ones(s, dtype=np.bool_),
        )
    )
    for _ in range(20):
        plant.step(1.0)
    image = observe(plant, rng, 1, 20.0, QUIET)
    _, found = estimate(site, initial_state(site, image), image, 1.0)
    _, envelope = protect(site, initial_protection(site), image, found, 1.0)
    return SiteState(image, found, envelope, "run")


@asynccontextmanager
async def serving(
    wall: Callable[[], float] = time.monotonic, **changes: Any
) -> AsyncIterator[tuple[SunSpecServer, list[dict[str, Any]]]]:
    commands: list[dict[str, Any]] = []

    async def submit(payload: bytes) -> None:
        commands.append(json.loads(payload))

    options = SunSpecOptions(port=0, **changes)
    async with SunSpecServer(Devices(SITE), options, submit, wall) as server:
        server.show(make_state())
        yield server, commands


def scan(port: int, unit: int) -> Any:
    device = sunspec_client.SunSpecModbusClientDeviceTCP(
        slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=5
    )
    device.scan()
    return device


def close(device: Any) -> None:
    device.close()


def test_layouts_are_those_of_the_public_models() -> None:
    folder = Path(sunspec2.__file__).parent / "models" / "json"
    for number, model in load_models().items():
        group = json.loads((folder / f"model_{number}.json").read_text())["group"]
        assert [(p.name, p.type, p.size) for p in model.points] == [
            (p["name"], p["type"], p["size"]) for p in group["points"]
        ]
        assert [g.size for g in model.groups] == [
            sum(p["size"] for p in g["points"]) for g in group.get("groups", [])
        ]
    lengths = {n: m.size() - 2 for n, m in load_models().items()}
    assert {n: lengths[n] for n in (713, 714, 802, 803, 804, 805)} == {
        713: 7, 714: 18, 802: 62, 803: 26, 804: 46, 805: 42,
    }  # fmt: skip


async def test_site_is_scanned_with_every_model_and_no_error() -> None:
    async with serving() as (server, _):
        device = await asyncio.to_thread(scan, server.port, 1)
        assert [m.model_id for m in device.model_list] == [1, 704, 713, 714, 802, 803]
        assert [m.error_info for m in device.model_list] == [""] * 6
        for model in device.model_list:
            await asyncio.to_thread(model.read)
        state = make_state()
        battery, strings = device.battery[0], state.image.strings
        assert battery.W.cvalue == pytest.approx(strings.power_w.value.sum(), abs=10.0)
        assert battery.A.cvalue == pytest.approx(strings.bus_current_a.value.sum(), abs=0.1)
        assert battery.V.cvalue == pytest.approx(800.0)
        assert battery.ChaSt.cvalue == 3, "discharging"
        assert battery.State.cvalue == 3
        assert battery.CellVMax.cvalue == pytest.approx(
            state.image.modules.cell_voltage_v.value.max(), abs=0.001
        )
        assert battery.StateVnd.cvalue is None, "not implemented"
        assert battery.NCyc.cvalue is None
        storage = device.DERStorageCapacity[0]
        assert storage.WHRtg.cvalue == pytest.approx(48 * 60 * 12 * 3.65, rel=1e-3)
        assert 0.5 * storage.WHRtg.cvalue * 0.7 < storage.WHAvail.cvalue < storage.WHRtg.cvalue
        ports = device.DERMeasureDC[0].Prt
        assert [p.IDStr.cvalue for p in ports] == ["A", "B"]
        assert ports[0].DCW.cvalue == pytest.approx(10_000.0, abs=10.0)
        bank = device.lithium_ion_bank[0]
        assert bank.NStrCon.cvalue == 2
        assert [s.StrNMod.cvalue for s in bank.string] == [24, 24]
        assert [s.StrSt.cvalue for s in bank.string] == [3, 3]
        assert device.common[0].SN.cvalue == "demo"
        close(device)


async def test_strings_have_a_unit_each_with_every_module_and_cell() -> None:
    async with serving() as (server, _):
        for unit, first in ((2, 0), (3, 24)):
            device = await asyncio.to_thread(scan, server.port, unit)
            assert [m.model_id for m in device.model_list] == [1, 804, *[805] * 24]
            assert all(m.error_info == "" for m in device.model_list)
            for model in device.model_list[1:3]:
                await asyncio.to_thread(model.read)
            assert device.model_list[1].NMod.cvalue == 24
            assert len(device.model_list[1].lithium_ion_string_module) == 24
            module = device.model_list[2]
            assert module.SN.cvalue == SITE.modules[first].serial
            cells = module.groups["lithium-ion-module-cell"]
            assert len(cells) == 12
            seen = make_state().image.modules.cell_voltage_v.value[first]
            assert [c.CellV.cvalue for c in cells] == pytest.approx(list(seen), abs=0.0006)
            assert cells[0].CellTmp.cvalue is None
            close(device)


async def test_what_is_not_known_is_not_implemented_instead_of_a_number() -> None:
    async with serving() as (server, _):
        state = make_state()
        image = state.image
        image.modules.cell_voltage_v.quality[0] = Quality.NO_ANSWER
        image.strings.power_w.quality[1] = Quality.STALE
        fault = FaultStatus("cell_voltage_max", SITE.modules[30].serial, "bypass", True, True, 0.0, "", "")
        server.show(replace(state, envelope=replace(state.envelope, faults=(fault,))))
        device = await asyncio.to_thread(scan, server.port, 1)
        for model in device.model_list:
            await asyncio.to_thread(model.read)
        assert device.battery[0].W.cvalue is None, "half a sum is a lie"
        assert device.battery[0].Evt1.cvalue == 1 << 9
        assert [s.StrEvt1.cvalue for s in device.lithium_ion_bank[0].string] == [0, 1 << 9]
        close(device)
        device = await asyncio.to_thread(scan, server.port, 2)
        await asyncio.to_thread(device.model_list[2].read)
        assert device.model_list[2].CellVMax.cvalue is None
        close(device)


def write_points(port: int, **points: int) -> str:
    """What a client writes into model 704, and what it is told."""
    device = scan(port, 1)
    try:
        control = device.DERCtlAC[0]
        control.read()
        for name, value in points.items():
            control.points[name].cvalue = value
        control.write()
    except ModbusClientException as error:
        return str(error)
    finally:
        close(device)
    return ""


async def test_read_only_by_default() -> None:
    async with serving() as (server, commands):
        told = await asyncio.to_thread(write_points, server.port, WSet=5000, WSetEna=1)
        assert "exception: 1" in told
        assert commands == []


async def test_set_point_becomes_a_command_of_the_contract_with_its_revert_time() -> None:
    async with serving(writer="127.0.0.1") as (server, commands):
        assert await asyncio.to_thread(write_points, server.port, WSetMod=1, WSet=-5000, WSetRvrtTms=90) == ""
        assert commands == [], "not enabled yet"
        assert await asyncio.to_thread(write_points, server.port, WSetEna=1) == ""
        await asyncio.sleep(2 * GATHER_S)
        assert [c["action"] for c in commands] == ["set_power"]
        assert commands[0]["args"] == {"power_w": -5000.0, "revert_s": 90.0}
        assert commands[0]["issuer"] == "sunspec"
        server.show(make_state())
        device = await asyncio.to_thread(scan, server.port, 1)
        await asyncio.to_thread(device.DERCtlAC[0].read)
        assert 80 <= device.DERCtlAC[0].WSetRvrtRem.cvalue <= 90
        assert device.DERCtlAC[0].WSet.cvalue == -5000
        close(device)
        assert await asyncio.to_thread(write_points, server.port, WSetEna=0) == ""
        await asyncio.sleep(2 * GATHER_S)
        assert commands[-1]["args"] == {"power_w": 0.0}
        assert commands[-1]["sequence"] > commands[0]["sequence"]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unit: int, pdu: bytes) -> bytes:
    writer.write(b"\0\x07\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu)
    head = await reader.readexactly(7)
    return await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)


def register(address: int, *words: int) -> bytes:
    data = b"".join(w.to_bytes(2, "big") for w in words)
    return b"\x10" + address.to_bytes(2, "big") + len(words).to_bytes(2, "big") + bytes((len(data),)) + data


async def test_one_writer_several_readers_and_every_bad_write_is_refused() -> None:
    async with serving(writer="127.0.0.1") as (server, commands):
        writable = {p.point.name: a for a, p in server.devices.writable().items()}
        first = await asyncio.open_connection("127.0.0.1", server.port)
        second = await asyncio.open_connection("127.0.0.1", server.port)
        assert (await ask(*first, 1, register(writable["CtrlHb"], 7)))[0] == 0x10
        assert server.points.controller_heartbeat == 7
        assert await ask(*second, 1, register(writable["CtrlHb"], 8)) == b"\x90\x06", "the writer is another"
        assert (await ask(*second, 1, b"\x03" + BASE.to_bytes(2, "big") + b"\0\x02"))[2:] == b"SunS"
        bad = [
            (register(writable["WSet"], 0), b"\x90\x03"),  # half of a 32-bit point
            (register(writable["WSetMod"], 0), b"\x90\x03"),  # per cent is not implemented
            (register(writable["WSetEna"], 2), b"\x90\x03"),
            (register(BASE + 2, 1), b"\x90\x02"),
            (register(writable["WSetEna"] + 20, 1), b"\x90\x02"),
            (b"\x06" + (writable["WSet"]).to_bytes(2, "big") + b"\0\x01", b"\x86\x03"),
            (b"\x05\0\0\xff\0", b"\x85\x01"),
            (b"\x03" + BASE.to_bytes(2, "big") + b"\0\x7e", b"\x83\x03"),
            (b"\x03\0\0\0\x02", b"\x83\x02"),
        ]
        for pdu, answer in bad:
            assert await ask(*first, 1, pdu) == answer
        assert await ask(*first, 77, b"\x03\x9c\x40\0\x02") == b"\x83\x0b"
        first[1].close()
        await asyncio.sleep(0.05)
        assert (await ask(*second, 1, register(writable["CtrlHb"], 9)))[0] == 0x10, "the place is free again"
        second[1].close()
        assert commands == []


async def test_dawdling_and_nonsense_clients_are_dropped_and_do_no_harm() -> None:
    async with serving(max_connections=4, frame_s=0.2, idle_s=0.5) as (server, _):
        slow = await asyncio.open_connection("127.0.0.1", server.port)
        slow[1].write(b"\0\x01\0")
        rude = await asyncio.open_connection("127.0.0.1", server.port)
        rude[1].write(b"GET / HTTP/1.1\r\n\r\n")
        assert await rude[0].read() == b""
        assert await asyncio.wait_for(slow[0].read(), 40.0) == b""
        idle = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(idle[0].read(), 40.0) == b""


READ_MARK = b"\0\x01\0\0\0\x06\x01\x03" + BASE.to_bytes(2, "big") + b"\0\x02"


async def test_places_go_to_those_who_ask() -> None:
    """Full of readers at work the next is refused; who never asked, or is long silent, makes room."""
    now_s = 0.0  # a clock moved by hand: how busy the machine is changes nothing
    async with serving(lambda: now_s, max_connections=3, idle_kept_s=0.3) as (server, _):
        working = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        for reader, writer in working:
            writer.write(READ_MARK)
            assert (await reader.readexactly(13))[9:] == b"SunS"
        fourth = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(fourth[0].read(), 40.0) == b"", "no more than three at once"
        assert server.refused_connections == 1
        now_s += 0.4
        working[0][1].write(READ_MARK)
        await working[0][0].readexactly(13)
        fifth = await asyncio.open_connection("127.0.0.1", server.port)
        fifth[1].write(READ_MARK)
        assert (await fifth[0].readexactly(13))[9:] == b"SunS"
        for reader, writer in (working[0], fifth):  # the two at work are still served
            writer.write(READ_MARK)
            assert (await reader.readexactly(13))[9:] == b"SunS"


async def test_two_hundred_connections_and_slow_loris_keep_nobody_out() -> None:
    """200 connections, some of which dribble, and more of them all the time: a scan goes through."""
    async with serving(writer="127.0.0.1") as (server, _):
        many = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]

        async def loris(number: int) -> None:
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    many.append((_, writer))
                    for byte in READ_MARK[: 3 + number % 8]:
                        writer.write(bytes((byte,)))
                        await asyncio.sleep(0.02)

        lorises = [asyncio.create_task(loris(k)) for k in range(20)]
        await asyncio.sleep(0.3)
        assert len(server._clients) <= 16
        device = await asyncio.to_thread(scan, server.port, 1)
        assert [m.error_info for m in device.model_list] == [""] * 6
        close(device)
        for task in lorises:
            task.cancel()
        await asyncio.gather(*lorises, return_exceptions=True)
        assert server.refused_connections >= 180
        for _, writer in many:
            writer.close()


async def test_who_asks_too_fast_waits() -> None:
    async with serving(requests_per_s=20.0, requests_burst=5.0) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(READ_MARK * 15)
        began = time.monotonic()
        assert (await reader.readexactly(13 * 15))[-4:] == b"SunS"
        assert time.monotonic() - began >= 0.4  # ten more than at once, twenty a second
        writer.close()


SIZES = [("leaf_yard", None, None), ("demo", None, None), ("demo", 1, 24), ("demo", 8, 48)]


@pytest.mark.parametrize(("name", "strings", "modules"), SIZES)
async def test_sites_of_every_size_are_scanned_without_an_error(
    name: str, strings: int | None, modules: int | None
) -> None:
    """Shipped sites, one string, and 8 strings of 48: the whole list of models of the first and last unit."""
    site = sized(name, strings, modules)
    async with SunSpecServer(Devices(site), SunSpecOptions(port=0), None, time.monotonic) as server:
        server.show(state_of(site))
        for unit in sorted({1, 2, 1 + len(site.strings)}):
            device = await asyncio.to_thread(scan, server.port, unit)
            assert all(m.error_info == "" for m in device.model_list)
            listed = [m.model_id for m in device.model_list]
            if unit == 1:
                assert listed == [1, 704, 713, 714, 802, 803]
                assert len(device.models[714][0].groups["Prt"]) == len(site.strings)
            else:
                count = len(site.strings[unit - 2].positions)
                assert listed == [1, 804] + [805] * count
                assert modules is None or count == modules
            close(device)


def sized(name: str, strings: int | None, modules: int | None) -> Site:
    """A shipped site, or one with its first string so many times, each of so many modules."""
    if strings is None or modules is None:
        return load_site(find_site_file(name))
    text = find_site_file(name).read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    first = data["strings"][0]
    data["strings"] = []
    for k in range(strings):
        string = copy.deepcopy(first)
        letter = chr(ord("A") + k)
        string["name"] = letter
        string["converter"]["unit_id"] = 201 + k
        string["positions"] = [
            first["positions"][0]
            | {
                "count": modules, "first_unit_id": 1, "label": letter + "{n:02d}",
                "serial": f"S{letter}" + "{n:02d}", "gateway": f"g{k}",
            }
        ]  # fmt: skip
        string["converter"]["gateway"] = f"g{k}"
        data["strings"].append(string)
    gateway = data["gateways"][0]
    data["gateways"] = [gateway | {"name": f"g{k}", "port": 6000 + k} for k in range(strings)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "site.yaml"
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
        return load_site(file)


def test_scales_and_values_that_do_not_fit() -> None:
    assert scale_for(60.0) == -3
    assert scale_for(126_144.0) == 1
    assert scale_for(40_000.0, "int16") == 1
    words = load_models()[713].encode({"SoC": 7000.0, "SoH": 98.7, "Pct_SF": -1})
    at = 2 * load_models()[713].offset("SoC")
    assert words[at : at + 4] == b"\xff\xff" + (987).to_bytes(2, "big")


async def test_example_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # it writes a set point in several requests, on a busy machine more than a tenth of a second apart
    monkeypatch.setattr(server_module, "GATHER_S", 3.0)
    example = DOCUMENT.split("```python\n")[1].split("```")[0]
    async with serving(writer="127.0.0.1") as (server, commands):
        assert "ipport=8502" in example
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", example.replace("8502", str(server.port)), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(done.communicate(), 60.0)
        assert done.returncode == 0
        async with asyncio.timeout(40.0):
            while not commands:  # noqa: ASYNC110 - the server says so by calling
                await asyncio.sleep(0.02)
        assert out.startswith(b"SOC ")
        assert [c["args"] for c in commands] == [{"power_w": 20_000.0, "revert_s": 300.0}]
