"""A dump from the field as a fixture: what three real answers (and one converter's) are taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from wires_rig import RC1, RM1, wired_site

from edge.modbus.server import WireServer
from edge.modbus.southbound import Southbound
from edge.wires.checks import Readings, answers_outcome, find_nodes, temperature_outcome, voltage_outcome
from edge.wires.dump import DumpBank, load_dump
from reconf.commissioning.outcome import Verdict
from reconf.readings import Quality

FIXTURE = Path(__file__).with_name("three_modules.dump.json")


async def test_a_dump_is_read_like_the_site_it_was_taken_from():
    dump = load_dump(FIXTURE)
    async with WireServer(DumpBank(dump), dump.gateways, any_port=True) as server:
        site = wired_site(n_modules=3)
        port = int(server.endpoints["line-0"].split(":")[1])
        site = replace(site, gateways=(replace(site.gateways[0], port=port),))
        readings = Readings(answerers=await find_nodes(site, print))
        async with Southbound(site, read_only=True, rm1_profile=RM1, rc1_profile=RC1) as south:
            readings.images = [await south.read(0.1 * k, k) for k in range(2)]
    image = readings.last
    assert np.allclose(image.modules.voltage_v.value, [15.150, 15.159, 15.149])
    assert image.modules.temperature_degc.quality[1, 1] == Quality.UNAVAILABLE
    assert image.strings.voltage_v.value[0] == 15.0
    assert answers_outcome(site, readings).verdict is Verdict.PASS
    (cell,) = voltage_outcome(site, readings).findings
    assert (cell.position, cell.found) == ("A2", "cell 3 reads 0 V")
    (sensor,) = temperature_outcome(site, readings).findings
    assert (sensor.position, sensor.found) == ("A2", "a sensor reads nothing")
