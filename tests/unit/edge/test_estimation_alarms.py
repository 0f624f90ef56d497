"""Findings of the estimator all the way to what SCADA reads: alarm with evidence, event, clearing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge.bench.closed_loop import Hooks, Loop
from edge.bench.protect_site import bench_site
from edge.core_values import ClearFault
from edge.northbound.payloads import Health, Link, Status
from edge.status import Stamp, site_status
from reconf.readings import Channel
from reconf.twin.truth import draw_truth

START = datetime(2026, 1, 1, tzinfo=UTC)


def loop_of(*, tick_s=1.0, soc_frac=0.6, hooks=None, power_w=0.0):
    site = bench_site(12, tick_s=tick_s)
    truth = draw_truth(site, np.random.default_rng(4), soc_frac=soc_frac)
    loop = Loop(site, truth, lambda _: power_w, seed=1, hooks=hooks, physics_step_s=60.0)
    loop.start()
    return loop


def status_of(loop) -> Status:
    """The payload as it goes over the wire and comes back."""
    stamp = Stamp(START, loop.plant.time_s, 1.0)
    told = site_status(loop.site, loop.outcome.view, stamp, Link(), Health())
    return Status.model_validate_json(told.model_dump_json())


def alarms(loop, fault):
    return {a.subject: a for a in status_of(loop).alarms if a.fault == fault}


def clear(loop, fault, subject):
    return loop.core.order(ClearFault(fault, subject), loop.plant.time_s, loop.plant.time_s)


def run(loop, ticks):
    for _ in range(ticks):
        loop.step()


def test_open_sense_wire_is_an_alarm_with_evidence_until_it_is_cleared():
    loop = loop_of()
    run(loop, 5)
    serial = loop.site.topology.serials[7]
    loop.plant.faults.sense_open[7, 2] = True
    run(loop, 3)
    alarm = alarms(loop, "sense_wire_open")[serial]
    assert alarm.severity == "warn"
    assert "cell_3" in alarm.evidence
    assert "V for it" in alarm.evidence
    assert [e.subject for e in loop.events if e.kind == "fault_raised" and "sense_wire_open" in e.text] == [
        serial
    ]
    assert not clear(loop, "sense_wire_open", loop.site.topology.serials[1]).accepted
    loop.plant.faults.sense_open[7, 2] = False
    assert clear(loop, "sense_wire_open", serial).accepted
    run(loop, 2)
    assert alarms(loop, "sense_wire_open") == {}


def test_leaking_cell_warns_early_and_of_the_right_module():
    loop = loop_of(tick_s=60.0, soc_frac=0.75)
    loop.plant.faults.leakage_ohm[5, 2] = 10.0
    run(loop, 600)
    found = alarms(loop, "cell_leakage")
    assert list(found) == [loop.site.topology.serials[5]]
    assert "cell_3 (leakage)" in next(iter(found.values())).evidence


def lying(kelvin, sensors, rows):
    def spoil(image, _plant):
        if image.tick < 5:
            return image
        value = image.modules.temperature_degc.value.copy()
        value[rows, sensors] += kelvin
        return replace(image, modules=replace(image.modules, temperature_degc=Channel.of(value)))

    return spoil


@pytest.mark.parametrize("kelvin", [15.0, -15.0])
def test_lying_temperature_sensor_is_an_alarm_and_cleared_by_order(kelvin):
    hooks = Hooks(on_image=lying(kelvin, 0, 4))
    loop = loop_of(hooks=hooks, power_w=5_000.0)
    run(loop, 20)
    serial = loop.site.topology.serials[4]
    assert "temperature_1" in alarms(loop, "sensor_untrue")[serial].evidence
    hooks.on_image = None
    run(loop, 1)
    assert clear(loop, "sensor_untrue", serial).accepted
    run(loop, 60)
    assert alarms(loop, "sensor_untrue") == {}
