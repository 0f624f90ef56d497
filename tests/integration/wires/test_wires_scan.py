"""Scan and dump over real sockets and a pty."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from wires_rig import wired_site, wires

from edge.modbus.server import WireServer
from edge.modbus.transport import Link
from edge.wires.dump import DumpBank, document, dump_unit, load_dump
from edge.wires.scan import Scanner, seconds_at_most
from reconf.commissioning.roster import Difference, compare, places_of
from reconf.errors import DataFileError
from reconf.registers import ReadBlock


def expected_of(site):
    ids: dict[str, tuple[int, ...]] = {}
    for p in places_of(site):
        ids[p.gateway] = (*ids.get(p.gateway, ()), p.unit_id)
    return ids


async def scanned(w, ids=range(1, 248)):
    scans = await Scanner(w.site.gateways, expected=expected_of(w.site), ids=tuple(ids)).run()
    return scans, compare(w.site, [a for s in scans for a in s.answerers])


async def test_a_healthy_site_is_as_its_file_says_and_nothing_is_written():
    async with wires(wired_site(n_strings=2)) as w:
        scans, differences = await scanned(w)
        assert [len(s.answerers) for s in scans] == [7, 7]
        assert not differences
        assert {pdu[0] for _, _, pdu in w.requests} == {3, 4}
        assert not w.written()


async def test_every_difference_is_named_with_what_to_do():
    faults = ["swapped@W-A1,W-B2", "unit@W-A4=77"]
    async with wires(wired_site(n_strings=2), faults) as w:
        w.server.faults.unit("line-1", 5).silent = True
        w.server.faults.unit("line-1", 6).exception = 4
        w.server.bank.units["line-0", 9] = w.server.bank.units["line-0", 1]
        _, differences = await scanned(w)
        kinds = {(d.kind, d.position or d.unit_id) for d in differences}
        assert kinds == {
            (Difference.SWAPPED, "A1"), (Difference.SWAPPED, "B2"), (Difference.MOVED, "A4"),
            (Difference.MISSING, "B5"), (Difference.WRONG_KIND, "B6"), (Difference.EXTRA, 9),
            (Difference.DUPLICATE, 1),
        }  # fmt: skip
        assert all(d.remedy for d in differences)
        assert "unit 77" in next(d.found for d in differences if d.kind is Difference.MOVED)


async def test_a_serial_bus_of_mostly_silent_ids_keeps_to_its_budget_and_its_quiet_windows():
    async with wires(wired_site("rtu")) as w:
        ids = (*range(1, 13), *range(199, 206))
        scanner = Scanner(w.site.gateways, expected=expected_of(w.site), ids=ids)
        assert scanner.budget_s == seconds_at_most(w.site.gateways[0], len(ids))
        scans = await scanner.run()
        assert [a.unit_id for a in scans[0].answerers] == [1, 2, 3, 4, 5, 6, 201]
        assert scans[0].garbled == 0


async def test_a_noisy_line_does_not_hide_who_is_there():
    async with wires(wired_site("rtu"), ["noise@line-0=0.08"]) as w:
        scans, _ = await scanned(w, ids=range(1, 8))
        assert {a.unit_id for a in scans[0].answerers} >= {1, 2, 3, 4, 5, 6}


async def test_an_unreachable_gateway_is_told_at_once():
    async with wires(wired_site()) as w:
        gateway = replace(w.site.gateways[0], port=1)
    scan = (await Scanner([gateway]).run())[0]
    assert scan.unreachable
    assert not scan.answerers


async def test_a_dump_says_what_registers_mean_and_can_be_served_again(tmp_path: Path):
    async with wires(wired_site(), ["sense@W-A2=3"]) as w:
        async with Link(w.site.gateways[0], wall=time.monotonic, read_only=True) as link:
            for _ in range(30):  # a node notices with its next measurement set
                units = [await dump_unit(link, u) for u in (2, 201)]
                if next(line for line in units[0].lines if line.name == "STATUS").value:
                    break
                await asyncio.sleep(0.1)
        assert not w.written()
    lines = {line.name: line for line in units[0].lines}
    assert lines["STATUS"].meaning == "cell sensing fault"
    assert lines["CELL_VOLTAGE_3"].value == 0.0
    assert lines["SERIAL"].value == "W-A2"
    assert lines["CHEMISTRY"].meaning == "NMC"
    assert "CELL_VOLTAGE_5" not in lines
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(document(units, w.site.gateways, "wired", datetime.now(UTC))))
    dump = load_dump(path)
    async with WireServer(DumpBank(dump), dump.gateways, any_port=True) as server:
        at = replace(w.site.gateways[0], port=int(server.endpoints["line-0"].split(":")[1]))
        async with Link(at, wall=time.monotonic, read_only=True) as link:
            again = [await dump_unit(link, u, [ReadBlock("holding", 50, 3)]) for u in (2, 201)]
        assert [u.lines for u in again] == [u.lines for u in units]
        assert again[0].reads[-1].exception == 2
        scan = (await Scanner([at], ids=(1, 2, 201)).run())[0]
        assert [(a.unit_id, a.kind, a.serial) for a in scan.answerers] == [
            (2, "rm1", "W-A2"), (201, "rc1", "RC1-A"),
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", '{"format": "reconf-dump/2", "gateways": [], "units": []}'])
def test_a_file_that_is_no_dump_says_so(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataFileError, match="no register dump"):
        load_dump(path)
