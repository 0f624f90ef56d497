"""Conditions of the fault table at their edges: what releases, what is not known, and which sensor counts."""

from dataclasses import replace

import numpy as np
import pytest
from test_protection_scenes import S2, World, cell, degc, modules, node_bit, silent, with_value

from edge.bench.protect_site import bench_site
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.protection.faults import STOP_CONVERTER
from reconf.protection.protect import Cleared, ClearRefused, SavedFault, clear_fault
from reconf.readings import Channel, Quality, SiteInputs


def active(world, fault):
    return {s.fault: s.active for s in world.state.statuses}.get(fault)


@pytest.mark.parametrize(
    ("fault", "bend", "limit", "side"),
    [
        ("cell_overvoltage", cell, ("cell_voltage_v", "max"), 1.0),
        ("cell_undervoltage", cell, ("cell_voltage_v", "min"), -1.0),
        ("over_temperature", degc, ("temperature_degc", "max"), 1.0),
    ],
)
def test_a_value_inside_the_hysteresis_neither_releases_nor_raises(fault, bend, limit, side):
    world = World()
    row = world.site.limits[world.site.modules[2].chemistry][limit]
    world.repeat(3, bend(row.safety + side * row.hysteresis))
    assert active(world, fault)
    world.repeat(90, bend(row.safety - side * 0.5 * row.hysteresis))
    assert active(world, fault), "still inside the hysteresis"
    assert isinstance(clear_fault(world.state, fault), ClearRefused)
    world.repeat(90, bend(row.safety - side * 1.5 * row.hysteresis))
    assert active(world, fault) is False
    assert isinstance(clear_fault(world.state, fault), Cleared)
    world = World()
    world.repeat(30, bend(row.safety - side * 0.5 * row.hysteresis))
    assert active(world, fault) is None


def test_a_value_that_flickers_over_its_limit_raises_one_event():
    world, events = World(), []
    row = world.site.limits[world.site.modules[2].chemistry]["cell_voltage_v", "max"]
    for tick in range(120):
        world.look(cell(row.safety + (0.002 if tick % 2 else -3.0 * row.hysteresis)))
        events += [e.change for e in world.state.events if e.fault == "cell_overvoltage"]
    assert events == ["raised"]


def test_a_latch_from_the_disk_is_not_cleared_before_the_readings_say_that_its_cause_is_gone():
    saved = [SavedFault("over_temperature", S2, 61.0, 50.0), SavedFault("gas_alarm", "site", 1.0, 1.0)]
    world = World(saved=saved)
    assert isinstance(clear_fault(world.state, "over_temperature", S2), ClearRefused), "nothing was read yet"
    silence = lambda image: replace(silent()(image), inputs=SiteInputs(unknown=("gas_alarm",)))  # noqa: E731
    world.repeat(90, lambda image: degc(np.nan)(silence(image)))
    assert isinstance(clear_fault(world.state, "over_temperature", S2), ClearRefused), "it did not answer"
    assert isinstance(clear_fault(world.state, "gas_alarm", on_site=True), ClearRefused)
    world.repeat(70)
    assert isinstance(clear_fault(world.state, "over_temperature", S2), Cleared)
    assert isinstance(clear_fault(world.state, "gas_alarm", on_site=True), Cleared)


@pytest.mark.parametrize("unknown", ["insulation_ohm", "insulation_device_fault"])
def test_an_insulation_that_was_known_once_is_not_known_for_ever(unknown):
    site = bench_site(8)
    world = World(site=replace(site, inputs=replace(site.inputs, insulation_monitor=True)))
    told = SiteInputs(insulation_ohm_per_v=900.0, unknown=(unknown,))
    world.repeat(8, lambda image: replace(image, inputs=told))
    assert ("insulation_unknown", "site") in world.present


@pytest.mark.parametrize(
    ("fault", "limit", "beyond"), [("cold_charge", "min", -1.0), ("hot_charge", "max", 1.0)]
)
@pytest.mark.parametrize("sensor", [0, 1])
def test_one_end_of_a_module_beyond_its_charging_temperatures_is_enough(fault, limit, beyond, sensor):
    world = World()
    row = world.site.limits[world.site.modules[2].chemistry]["charge_temperature_degc", limit]

    def bend(image):
        m = image.modules
        warm = with_value(m.temperature_degc, (2, sensor), row.safety + beyond)
        return modules(image, temperature_degc=warm, current_a=with_value(m.current_a, 2, -5.0))

    world.repeat(5, bend)
    assert (fault, S2) in world.present


@pytest.mark.parametrize(("share", "told"), [(0.80, False), (0.74, True)])
def test_a_quarter_of_a_cell_s_voltage_is_what_counts_as_fallen(share, told):
    world = World()
    world.repeat(3)
    healthy = float(world.plant.observe(world.rng, 99, 99.0).modules.cell_voltage_v.value[2, 3])
    for second in range(1, 7):
        world.look(lambda image, s=second: cell(share * healthy)(degc(25.0 + 2.0 * s)(image)))
    assert (("thermal_runaway", S2) in world.present) is told


@pytest.mark.parametrize("pressed", [0, 1])
def test_the_emergency_stop_of_one_converter_opens_the_whole_site(pressed):
    world = World(site=bench_site(48))

    def bend(image):
        status = image.strings.status.copy()
        status[pressed] |= int(Rc1Status.EMERGENCY_STOP)
        return replace(image, strings=replace(image.strings, status=status))

    assert world.look(bend).site_open
    assert world.state.statuses[0].evidence == f"pressed at converter {pressed + 1} of the site file"


@pytest.mark.parametrize("end", [0, 1])
def test_the_bus_counts_as_back_a_little_inside_its_window_only(end):
    world = World()
    limit, inwards = (world.site.bus.min_v, 1.0) if end == 0 else (world.site.bus.max_v, -1.0)

    def at(volts):
        def bend(image):
            bus = image.strings.bus_voltage_v
            told = replace(bus, value=np.full_like(bus.value, volts))
            return replace(image, strings=replace(image.strings, bus_voltage_v=told))

        return bend

    world.look(at(limit - 0.1 * inwards))
    assert active(world, "bus_voltage")
    world.repeat(20, at(limit + 0.5 * inwards))
    assert active(world, "bus_voltage")
    world.repeat(20, at(limit + 10.0 * inwards))
    assert active(world, "bus_voltage") is None


def linked(status):
    """The link stands at the string's voltage while the converter shows `status`."""

    def bend(image):
        seen = image.strings
        volts = Channel.of(np.full(seen.status.shape, 300.0))
        marks = np.full_like(seen.status, status)
        return replace(image, strings=replace(seen, link_voltage_v=volts, voltage_v=volts, status=marks))

    return bend


@pytest.mark.parametrize(
    ("status", "welded"), [(0, True), (Rc1Status.CONTACTOR_CLOSED, False), (Rc1Status.PRECHARGING, False)]
)
def test_a_live_link_is_a_weld_only_behind_a_contactor_that_reads_open(status, welded):
    world = World()
    world.repeat(75, linked(int(status)))
    assert (active(world, "contactor_welded") is True) is welded


@pytest.mark.parametrize(
    ("fault", "flag", "cause", "over"),
    [
        ("over_voltage_trip", Rm1Status.OVER_VOLTAGE_TRIP, cell(4.24), cell(4.1)),
        ("under_voltage_trip", Rm1Status.UNDER_VOLTAGE_TRIP, cell(2.75), cell(3.2)),
        ("over_temperature_trip", Rm1Status.OVER_TEMPERATURE_TRIP, degc(49.5), degc(40.0)),
    ],
)
def test_a_trip_is_not_cleared_while_its_cause_persists(fault, flag, cause, over):
    world = World()
    world.repeat(20, lambda image: node_bit(flag)(cause(image)))
    refused = clear_fault(world.state, fault)
    assert isinstance(refused, ClearRefused)
    assert "persists on M00002" in refused.reason
    world.repeat(20, lambda image: node_bit(flag)(over(image)))
    assert isinstance(clear_fault(world.state, fault), Cleared)


def test_a_module_that_begins_to_run_away_is_out_by_that_alone():
    world = World()
    world.repeat(3)
    healthy = float(world.plant.observe(world.rng, 99, 99.0).modules.cell_voltage_v.value[2, 3])
    for second in range(1, 5):
        world.look(lambda image, s=second: cell(0.74 * healthy)(degc(25.0 + 2.0 * s)(image)))
    out = {s.fault for s in world.state.statuses if s.severity in ("bypass", "open_site")}
    assert out == {"thermal_runaway"}
    assert world.envelope.insertion[2] == Insertion.FORBIDDEN


def test_a_module_of_which_nothing_is_believed_is_out_although_no_fault_is_there_yet():
    world = World()
    unknown = lambda estimate: replace(  # noqa: E731
        estimate, ocv_v=np.where(np.arange(estimate.ocv_v.size) == 2, np.nan, estimate.ocv_v)
    )
    assert world.look(change=unknown).insertion[2] == Insertion.FORBIDDEN


def test_the_last_good_value_of_a_silent_module_still_counts():
    world = World()
    world.repeat(2)

    def bend(image):
        bent = cell(4.3)(image)
        stale = replace(
            bent.modules.cell_voltage_v,
            quality=np.full_like(bent.modules.cell_voltage_v.quality, int(Quality.STALE)),
        )
        return modules(bent, cell_voltage_v=stale)

    world.repeat(4, bend)
    assert active(world, "cell_overvoltage")


@pytest.mark.parametrize("at", [0, 1])
def test_a_stop_pressed_at_a_converter_is_not_cleared_before_that_converter_was_read(at):
    saved = [SavedFault("emergency_stop", "site", STOP_CONVERTER, at + 1.0)]
    world = World(site=bench_site(48), saved=saved)

    def without(silent_one):
        def bend(image):
            seen = image.strings
            answered, age = seen.answered.copy(), seen.age_s.copy()
            answered[silent_one], age[silent_one] = False, np.inf
            return replace(image, strings=replace(seen, answered=answered, age_s=age))

        return bend

    world.repeat(5, without(at))
    assert isinstance(clear_fault(world.state, "emergency_stop", on_site=True), ClearRefused)
    world.repeat(2, without(1 - at))
    assert isinstance(clear_fault(world.state, "emergency_stop", on_site=True), Cleared)
