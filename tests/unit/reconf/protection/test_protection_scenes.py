"""One tick at a time on the twin's images: what is raised, what it forbids, how it is cleared."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from edge.bench.protect_site import bench_site, true_estimate
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.devices.site_io import INPUT_SIGNALS
from reconf.protection.assembly import PLATING
from reconf.protection.bounds import build_constants
from reconf.protection.conditions import INSULATION
from reconf.protection.envelope import Insertion
from reconf.protection.faults import SCOPES, WIRED, fault_rows
from reconf.protection.limits import default_limits, site_limits
from reconf.protection.plating import charge_limit_a
from reconf.protection.protect import (
    Cleared,
    ClearRefused,
    OperatorLimits,
    SavedFault,
    clear_fault,
    explain,
    initial_protection,
    protect,
)
from reconf.protection.voltage import RESISTANCE_SIGMAS
from reconf.readings import Channel, Quality, SiteInputs, WriteRefusal
from reconf.site import Chemistry, InputsSpec, ThermalSpec
from reconf.twin.plant import Plant
from reconf.twin.plant_state import PlantInputs
from reconf.twin.truth import draw_truth


class World:
    """A small site whose images a test may bend before protect sees them."""

    def __init__(self, modules=8, site=None, saved=None, soc=0.6):
        self.site = site or bench_site(modules)
        self.rng = np.random.default_rng(5)
        self.plant = Plant(self.site, draw_truth(self.site, self.rng))
        self.plant.cells.soc_frac[:] = soc
        self.plant.step_alone(np.zeros(self.site.topology.n_modules), 1.0)
        self.state = initial_protection(self.site, saved)
        self.envelope = None
        self.tick = 0

    def look(self, bend=lambda image: image, operator=None, change=lambda estimate: estimate, dt=1.0):
        image = bend(self.plant.observe(self.rng, self.tick, self.tick * dt))
        estimate = change(true_estimate(self.plant))
        self.tick += 1
        operator = operator or OperatorLimits()
        self.state, self.envelope = protect(self.site, self.state, image, estimate, dt, operator)
        return self.envelope

    def repeat(self, n, *args, **kwargs):
        for _ in range(n):
            self.look(*args, **kwargs)
        return self.envelope

    @property
    def present(self):
        return {(s.fault, s.subject) for s in self.state.statuses}


def modules(image, **change):
    return replace(image, modules=replace(image.modules, **change))


def strings(image, **change):
    return replace(image, strings=replace(image.strings, **change))


def with_value(channel, index, value):
    values = channel.value.copy()
    values[index] = value
    return replace(channel, value=values)


def cell(value, module=2, group=3):
    return lambda image: modules(
        image, cell_voltage_v=with_value(image.modules.cell_voltage_v, (module, group), value)
    )


def degc(value, module=2):
    return lambda image: modules(
        image, temperature_degc=with_value(image.modules.temperature_degc, (module, slice(None)), value)
    )


def node_bit(flag, module=2):
    def bend(image):
        status = image.modules.status.copy()
        status[module] |= int(flag)
        return modules(image, status=status)

    return bend


def converter_bit(flag):
    return lambda image: strings(image, status=image.strings.status | int(flag))


def silent(module=2):
    def bend(image):
        answered, age = image.modules.answered.copy(), image.modules.age_s.copy()
        answered[module], age[module] = False, 2.5
        return modules(image, answered=answered, age_s=age)

    return bend


def inputs(**change):
    return lambda image: replace(image, inputs=SiteInputs(**change))


S2 = "M00002"


def numeric(estimate):
    """Names of the estimate's numbers by module."""
    values = {name: getattr(estimate, name) for name in estimate.__slots__}
    return [
        n for n, v in values.items() if isinstance(v, np.ndarray) and v.shape == (8,) and v.dtype == float
    ]


def test_a_quiet_site_has_no_fault_and_no_reason():
    world = World()
    envelope = world.repeat(5)
    assert world.state.statuses == ()
    assert (envelope.insertion == Insertion.ALLOWED).all()
    assert envelope.string_usable.all()
    assert not envelope.site_open
    assert {(r.limit, r.rule) for r in envelope.reasons} <= {("charge_now_a", "plating")}
    assert (envelope.discharge_now_a > 50.0).all()
    assert (envelope.charge_now_a > 15.0).all()


@pytest.mark.parametrize(
    ("bend", "fault"),
    [
        (cell(4.26), "cell_overvoltage"),
        (cell(2.65), "cell_undervoltage"),
        (cell(0.0), "cell_reading_zero"),
        (degc(50.5), "over_temperature"),
        (node_bit(Rm1Status.OVER_VOLTAGE_TRIP), "over_voltage_trip"),
        (node_bit(Rm1Status.UNDER_VOLTAGE_TRIP), "under_voltage_trip"),
        (node_bit(Rm1Status.OVER_TEMPERATURE_TRIP), "over_temperature_trip"),
        (silent(), "readings_stale"),
    ],
)
def test_zero_debounce_forbids_the_module_in_the_same_tick(bend, fault):
    world = World()
    world.repeat(3)
    envelope = world.look(bend)
    assert (fault, S2) in world.present
    assert envelope.insertion[2] == Insertion.FORBIDDEN
    for limit in (
        envelope.discharge_now_a,
        envelope.charge_now_a,
        envelope.trim_give_a,
        envelope.trim_take_a,
    ):
        assert limit[2] == 0.0
    assert (np.delete(envelope.insertion, 2) == Insertion.ALLOWED).all()
    assert any(e.fault == fault and e.change == "raised" for e in world.state.events)
    told = {r.rule: r for r in envelope.reasons if r.subject == S2}
    assert told[fault].limit == "insertion"
    assert told[fault].lift


def test_latched_fault_is_refused_while_it_persists_then_cleared():
    world = World()
    world.look(cell(4.26))
    refused = clear_fault(world.state, "cell_overvoltage", S2)
    assert isinstance(refused, ClearRefused)
    assert "persists" in refused.reason
    world.repeat(15)
    assert ("cell_overvoltage", S2) in world.present
    assert world.envelope.insertion[2] == Insertion.FORBIDDEN
    cleared = clear_fault(world.state, "cell_overvoltage", S2)
    assert isinstance(cleared, Cleared)
    assert cleared.clear_modules.tolist() == [i == 2 for i in range(8)]
    assert [e.change for e in cleared.state.events] == ["cleared"]
    world.state = cleared.state
    assert world.look().insertion[2] == Insertion.ALLOWED


@pytest.mark.parametrize(("fault", "subject"), [("no_such", None), ("cell_overvoltage", "nobody")])
def test_clearing_what_is_not_there_is_refused(fault, subject):
    refused = clear_fault(World().state, fault, subject)
    assert isinstance(refused, ClearRefused)
    assert "no fault is present" in refused.reason
    world = World()
    world.look(cell(4.26))
    refused = clear_fault(world.state, fault, subject)
    assert isinstance(refused, ClearRefused)
    assert f"present are cell_overvoltage on {S2}" in refused.reason
    elsewhere = clear_fault(world.state, "cell_undervoltage")
    assert isinstance(elsewhere, ClearRefused)
    assert "cell_undervoltage is not present on any module" in elsewhere.reason


def test_a_tripped_node_stays_out_until_its_own_latch_is_cleared():
    world = World()
    trip = node_bit(Rm1Status.OVER_VOLTAGE_TRIP)
    world.repeat(12, trip)
    cleared = clear_fault(world.state, "over_voltage_trip")
    assert isinstance(cleared, Cleared)
    world.state = cleared.state
    assert world.look(trip).insertion[2] == Insertion.FORBIDDEN
    assert any(r.rule == "node_tripped" for r in world.envelope.reasons)
    assert world.look().insertion[2] == Insertion.ALLOWED


def test_a_reversed_cell_is_locked_out_for_ever():
    world = World()
    world.look(cell(2.6))
    world.look(cell(0.0))
    assert ("copper_exposure", S2) in world.present
    world.repeat(60)
    refused = clear_fault(world.state, "copper_exposure", S2, on_site=True)
    assert isinstance(refused, ClearRefused)
    assert "never" in refused.reason


def test_an_open_sense_wire_is_no_copper_exposure():
    world = World()
    world.repeat(3)
    world.look(cell(0.0))
    assert ("cell_reading_zero", S2) in world.present
    assert ("copper_exposure", S2) not in world.present
    assert ("cell_undervoltage", S2) not in world.present


def test_a_missing_cell_reading_is_no_reversed_cell():
    world = World()
    world.repeat(5, cell(np.nan))
    assert not any(f == "cell_reading_zero" for f, _ in world.present)


def test_lockout_follows_the_serial_number_through_a_restart():
    world = World()
    world.repeat(2, cell(1.2))
    saved = world.state.saved()
    assert ("copper_exposure", S2) in {(s.fault, s.subject) for s in saved}
    again = World(saved=saved)
    assert again.look().insertion[2] == Insertion.FORBIDDEN
    moved = [replace(s, subject="GONE") for s in saved]
    without = World(saved=moved)
    assert without.look().insertion[2] == Insertion.ALLOWED
    assert {s.subject for s in without.state.saved()} == {"GONE"}, "kept for the day it comes back"


def test_stale_module_returns_after_ten_good_seconds():
    world = World()
    world.repeat(3)
    world.look(silent())
    assert world.repeat(5).insertion[2] == Insertion.FORBIDDEN
    assert world.repeat(8).insertion[2] == Insertion.ALLOWED


def test_one_missed_tick_is_tolerated():
    world = World()
    world.repeat(3)

    def missed(image):
        bent = silent()(image)
        age = bent.modules.age_s.copy()
        age[2] = 1.0
        return modules(bent, age_s=age)

    assert world.look(missed).insertion[2] == Insertion.ALLOWED


def test_untrusted_module_is_bypassed_with_a_status():
    world = World()
    world.repeat(2)
    lost = np.arange(8) != 2
    envelope = world.look(change=lambda e: replace(e, trusted=lost))
    assert envelope.insertion[2] == Insertion.FORBIDDEN
    assert ("sensors_untrusted", S2) in world.present


def test_estimate_of_nan_forbids_and_never_travels_on():
    world = World()

    def blank(estimate):
        nothing = np.where(np.arange(8) == 2, np.nan, 1.0)
        return replace(
            estimate,
            **{name: getattr(estimate, name) * nothing for name in numeric(estimate)},
        )

    envelope = world.look(change=blank)
    assert envelope.insertion[2] == Insertion.FORBIDDEN
    for name in ("discharge_now_a", "charge_now_a", "discharge_avg_a", "charge_avg_a", "trim_give_a"):
        assert np.isfinite(getattr(envelope, name)).all()
    assert np.isfinite(envelope.capability.discharge_w).all()


def test_nothing_read_at_all_forbids_everything_without_a_warning():
    world = World()

    def dead(image):
        m = image.modules

        def none(shape):
            return Channel(
                np.full(shape, np.nan), np.full(shape, Quality.NO_ANSWER, np.uint8), np.zeros(shape)
            )

        return replace(
            modules(
                image,
                answered=np.zeros(8, bool),
                age_s=np.full(8, np.inf),
                voltage_v=none(8),
                current_a=none(8),
                temperature_degc=none((8, 2)),
                cell_voltage_v=none(m.cell_voltage_v.value.shape),
                duty_frac=none(8),
            ),
            strings=replace(
                image.strings,
                answered=np.zeros(1, bool),
                age_s=np.full(1, np.inf),
                voltage_v=none(1),
                current_a=none(1),
                bus_voltage_v=none(1),
                link_voltage_v=none(1),
                heatsink_temperature_degc=none(1),
            ),
        )

    nothing = np.full(8, np.nan)
    envelope = world.look(
        dead,
        change=lambda e: replace(e, **dict.fromkeys(numeric(e), nothing), trusted=nothing > 0),
    )
    assert (envelope.insertion == Insertion.FORBIDDEN).all()
    assert not envelope.string_usable.any()
    assert envelope.capability.discharge_w == (0.0, 0.0, 0.0, 0.0)


# ---- switches and nodes ----------------------------------------------------------------------------


def test_a_stuck_switch_that_reads_inserted_is_forced():
    world = World()
    stuck = node_bit(Rm1Status.SWITCH_FAULT | Rm1Status.INSERTED)
    envelope = world.repeat(4, stuck)
    assert envelope.insertion[2] == Insertion.FORCED
    assert envelope.discharge_now_a[2] > 0.0
    assert envelope.string_usable.all()


def test_a_stuck_module_that_must_leave_takes_its_string_with_it():
    world = World()
    stuck = node_bit(Rm1Status.SWITCH_FAULT | Rm1Status.INSERTED)
    world.repeat(4, stuck)
    envelope = world.look(lambda image: cell(4.27)(stuck(image)))
    assert not envelope.string_usable[0]
    assert ("module_cannot_leave", "S0") in world.present


def refuses(ticks, kind="module", row=2, how="exception 4 device failure"):
    entry = WriteRefusal(kind, row, 17, 3 if kind == "module" else 2, "INSERT", how, ticks)
    return lambda image: replace(image, refusals=(entry,))


def test_a_node_that_takes_no_writes_is_one_latched_fault_with_unit_register_and_answer():
    world = World()
    world.look(refuses(1))
    assert ("module_writes_refused", S2) not in world.present, "one refusal is no fault"
    world.look(refuses(2))
    (event,) = [e for e in world.state.events if e.fault == "module_writes_refused"]
    assert event.evidence == "unit 17, holding register 3 INSERT: exception 4 device failure"
    for ticks in range(3, 8):
        world.look(refuses(ticks))
        assert not world.state.events, "nothing chatters"
    (status,) = [s for s in world.state.statuses if s.fault == "module_writes_refused"]
    assert status.evidence == "unit 17, holding register 3 INSERT: exception 4 device failure"
    assert status.latched
    assert isinstance(clear_fault(world.state, "module_writes_refused", S2), ClearRefused)
    world.repeat(7)
    (status,) = [s for s in world.state.statuses if s.fault == "module_writes_refused"]
    assert (status.active, status.latched) == (False, True)
    assert status.evidence.endswith("device failure"), "what it said is kept until the fault is cleared"
    cleared = clear_fault(world.state, "module_writes_refused", S2)
    assert isinstance(cleared, Cleared)
    assert cleared.clear_modules[2]


def test_the_evidence_of_a_refused_write_survives_a_restart():
    world = World()
    world.repeat(2, refuses(2))
    again = World(saved=world.state.saved())
    (status,) = [s for s in again.state.statuses if s.fault == "module_writes_refused"]
    assert status.evidence == "unit 17, holding register 3 INSERT"
    assert isinstance(clear_fault(again.state, "module_writes_refused", S2), ClearRefused)


def test_a_module_that_takes_no_writes_stays_where_it_stands():
    world = World()
    reads_in = node_bit(Rm1Status.INSERTED)
    envelope = world.repeat(3, lambda image: refuses(2)(reads_in(image)))
    assert envelope.insertion[2] == Insertion.FORCED
    assert envelope.string_usable.all()
    envelope = world.look(refuses(3))  # its watchdog has bypassed it
    assert envelope.insertion[2] == Insertion.FORBIDDEN


def test_a_module_that_takes_no_writes_and_must_leave_takes_its_string_with_it():
    world = World()
    reads_in = node_bit(Rm1Status.INSERTED)
    world.repeat(3, lambda image: refuses(2)(reads_in(image)))
    envelope = world.look(lambda image: cell(4.27)(refuses(3)(reads_in(image))))
    assert not envelope.string_usable[0]
    assert ("module_cannot_leave", "S0") in world.present


def test_a_converter_that_takes_no_writes_is_left():
    world = World()
    envelope = world.repeat(2, refuses(2, kind="string", row=0))
    assert not envelope.string_usable[0]
    assert ("converter_writes_refused", "S0") in world.present


def test_a_switch_that_reads_otherwise_than_its_register_is_a_switch_fault():
    world = World()
    apart = OperatorLimits(switches_apart=np.arange(8) == 2)
    reads_in = node_bit(Rm1Status.INSERTED)
    world.look(reads_in, operator=apart)
    assert ("switch_fault", S2) not in world.present
    envelope = world.look(reads_in, operator=apart)
    assert ("switch_fault", S2) in world.present
    assert envelope.insertion[2] == Insertion.FORCED


def test_unconfirmed_node_counts_as_it_last_read():
    world = World()
    unsure = OperatorLimits(unconfirmed=np.arange(8) < 2)
    reads_in = node_bit(Rm1Status.INSERTED, module=1)
    envelope = world.look(reads_in, operator=unsure)
    assert envelope.insertion[0] == Insertion.FORBIDDEN
    assert envelope.insertion[1] == Insertion.FORCED
    gone = OperatorLimits(out_of_service=np.arange(8) < 2)
    envelope = world.look(reads_in, operator=gone)
    assert (envelope.insertion[:2] == Insertion.FORBIDDEN).all()


def test_operator_bypass_has_its_reason():
    world = World()
    envelope = world.look(operator=OperatorLimits(bypass=frozenset({S2})))
    assert envelope.insertion[2] == Insertion.FORBIDDEN
    assert (envelope.reasons[0].subject, envelope.reasons[0].rule) == (S2, "operator_bypass")


def test_boot_latch_forbids_only_behind_a_closed_contactor():
    world = World()
    boot = node_bit(Rm1Status.WATCHDOG_EXPIRED)
    assert world.look(boot).insertion[2] == Insertion.ALLOWED

    def joined(image):
        return converter_bit(Rc1Status.CONTACTOR_CLOSED)(boot(image))

    assert world.look(joined).insertion[2] == Insertion.FORBIDDEN
    assert world.look(boot).insertion[2] == Insertion.ALLOWED


# ---- temperature -----------------------------------------------------------------------------------


def test_runaway_opens_the_site_alarms_and_ventilates():
    world = World()
    world.repeat(3)
    for second in range(1, 5):
        world.look(lambda image, s=second: cell(2.5)(degc(25.0 + 2.0 * s)(image)))
    assert ("thermal_runaway", S2) in world.present
    assert world.envelope.site_open
    assert world.envelope.outputs.alarm
    assert world.envelope.outputs.ventilate
    assert world.envelope.capability.discharge_w == (0.0,) * 4
    remote = clear_fault(world.repeat(2) and world.state, "thermal_runaway")
    assert isinstance(remote, ClearRefused)


def test_fast_rise_alone_is_no_runaway():
    world = World()
    world.repeat(3)
    for second in range(1, 6):
        world.look(degc(25.0 + 2.0 * second))
    assert ("thermal_runaway", S2) not in world.present


def test_runaway_is_seen_at_long_ticks_too():
    world = World()
    world.repeat(3, dt=5.0)
    world.look(degc(55.0), dt=5.0)
    assert ("thermal_runaway", S2) in world.present


def test_current_derates_smoothly_between_operating_and_recommended():
    world = World()
    limits = []
    for warm in np.linspace(47.0, 49.5, 26):
        high = np.where(np.arange(8) == 2, warm, 30.0)
        limits.append(
            world.look(change=lambda e, h=high: replace(e, temperature_high_degc=h)).discharge_now_a[2]
        )
    limits = np.array(limits)
    assert (np.diff(limits) <= 1e-9).all()
    assert limits[0] == pytest.approx(limits.max())
    assert limits[-1] == 0.0
    assert np.abs(np.diff(limits)).max() < 0.15 * limits[0]


def test_charging_below_the_cold_limit_is_not_allowed_but_discharging_is():
    world = World()
    cold = np.full(8, -11.0)
    envelope = world.look(
        change=lambda e: replace(e, temperature_low_degc=cold, temperature_high_degc=cold + 1)
    )
    assert (envelope.charge_now_a == 0.0).all()
    assert (envelope.discharge_now_a > 0.0).all()


# ---- strings and the site --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "fault"),
    [
        (Rc1Status.HARDWARE_FAULT, "converter_fault"),
        (Rc1Status.CONTACTOR_MISMATCH, "contactor_mismatch"),
    ],
)
def test_converter_faults_leave_the_string(flag, fault):
    world = World()
    world.repeat(2)
    envelope = world.repeat(4, converter_bit(flag))
    assert not envelope.string_usable[0]
    assert (fault, "S0") in world.present


def test_link_that_follows_an_open_string_is_welded():
    world = World()

    def standing(image):
        volts = replace(image.strings.voltage_v, value=np.array([350.0]))
        return strings(image, voltage_v=volts, link_voltage_v=volts, status=np.array([0]))

    world.repeat(62, standing)
    assert ("contactor_welded", "S0") in world.present
    assert not world.envelope.string_usable[0]
    assert isinstance(clear_fault(world.state, "contactor_welded"), ClearRefused)


def test_lost_converter_counts_as_open_and_comes_back():
    world = World()

    def lost(image):
        return strings(image, answered=np.zeros(1, bool), age_s=np.array([3.0]))

    assert not world.look(lost).string_usable[0]
    assert world.repeat(12).string_usable[0]


def test_string_that_cannot_reach_its_window_is_not_usable():
    world = World()
    out = OperatorLimits(bypass=frozenset(world.site.topology.serials[:5]))
    assert not world.repeat(12, operator=out).string_usable[0]


def test_emergency_stop_acts_in_the_same_tick_and_latches():
    for bend, operator in (
        (inputs(emergency_stop=True), OperatorLimits()),
        (converter_bit(Rc1Status.EMERGENCY_STOP), OperatorLimits()),
        (lambda image: image, OperatorLimits(emergency_stop=True)),
    ):
        world = World()
        world.look()
        assert world.look(bend, operator=operator).site_open
        refused = clear_fault(world.state, "emergency_stop", on_site=True)
        assert isinstance(refused, ClearRefused)
        assert world.look().site_open
        assert isinstance(clear_fault(world.state, "emergency_stop"), ClearRefused)
        cleared = clear_fault(world.state, "emergency_stop", on_site=True)
        assert isinstance(cleared, Cleared)
        world.state = cleared.state
        assert not world.look().site_open


@pytest.mark.parametrize("name", ["gas_alarm", "smoke_alarm", "fire_alarm"])
def test_detectors_open_the_site(name):
    world = World()
    envelope = world.look(inputs(**{name: True}))
    assert envelope.site_open
    assert envelope.outputs.ventilate is (name == "gas_alarm")


@pytest.mark.parametrize("broken", ["cooling_failed", "output"])
def test_cooling_that_has_failed_is_asked_for_but_not_counted_on(broken):
    site = replace(bench_site(8), thermal=ThermalSpec(ambient_degc=40.0, cooling="fan", cooling_ramp_s=1.0))

    def hot(image):
        warm = modules(
            image, temperature_degc=replace(image.modules.temperature_degc, value=np.full((8, 2), 47.0))
        )
        failed = broken == "cooling_failed"
        return replace(warm, inputs=SiteInputs(ambient_degc=46.0, cooling_failed=failed and bad))

    heat = {"temperature_degc": np.full(8, 47.0), "temperature_high_degc": np.full(8, 47.2)}
    found = {}
    for bad in (False, True):
        world = World(site=site)
        operator = OperatorLimits(output_failed=bad and broken == "output")
        envelope = world.repeat(40, hot, operator, lambda e: replace(e, **heat))
        assert envelope.outputs.cooling_frac == 1.0
        found[bad] = envelope.discharge_avg_a
    assert (found[True] < found[False]).all()


def test_door_warns():
    world = World()
    envelope = world.repeat(4, inputs(door_open=True))
    assert ("door_open", "site") in world.present
    assert not envelope.site_open


@pytest.mark.parametrize(
    ("ohm_per_v", "fault", "opens"),
    [(450.0, "insulation_low", False), (90.0, "insulation_fault", True), (1200.0, None, False)],
)
def test_insulation(ohm_per_v, fault, opens):
    world = World()
    envelope = world.repeat(4, inputs(insulation_ohm_per_v=ohm_per_v))
    assert envelope.site_open is opens
    assert fault is None or (fault, "site") in world.present


@pytest.mark.parametrize("fitted", [True, False])
def test_an_insulation_fault_can_be_cleared_once_the_monitor_is_out_of_the_site_file(fitted):
    """While one is fitted and tells nothing, the fault stays."""
    world = World(site=replace(bench_site(8), inputs=InputsSpec(insulation_monitor=True)))
    world.repeat(4, inputs(insulation_ohm_per_v=90.0))
    later = World(site=replace(bench_site(8), inputs=InputsSpec(insulation_monitor=fitted)))
    later.state = world.state
    later.repeat(90, inputs(insulation_ohm_per_v=float("nan")))
    answer = clear_fault(later.state, "insulation_fault", on_site=True)
    assert isinstance(answer, ClearRefused if fitted else Cleared)


def test_unknown_insulation_refuses_closing_but_does_not_open():
    site = replace(bench_site(8), inputs=InputsSpec(insulation_monitor=True))
    world = World(site=site)
    volts = np.array([350.0])

    def with_voltage(image):
        return strings(image, voltage_v=replace(image.strings.voltage_v, value=volts))

    assert not world.repeat(8, with_voltage).string_usable[0]

    def closed(image):
        return converter_bit(Rc1Status.CONTACTOR_CLOSED)(with_voltage(image))

    assert world.repeat(2, closed).string_usable[0]


def test_bus_outside_its_window_takes_the_power_away():
    world = World()

    def low(image):
        return strings(image, bus_voltage_v=replace(image.strings.bus_voltage_v, value=np.array([650.0])))

    envelope = world.look(low)
    assert (envelope.string_discharge_w == 0.0).all()
    assert envelope.string_usable.all()


# ---- limits from outside and explanations ----------------------------------------------------------


def test_operator_limits_reach_the_envelope():
    world = World()
    envelope = world.look(operator=OperatorLimits(max_discharge_c=0.1, max_charge_w=1000.0, soc_min_frac=0.9))
    capacity = true_estimate(world.plant).capacity_ah
    assert envelope.discharge_now_a == pytest.approx(0.1 * capacity)
    assert max(envelope.capability.charge_w) <= 1000.0
    assert (envelope.discharge_avg_a == 0.0).all()


def test_explain_gives_every_rule_the_binding_one_first():
    world = World(soc=0.9)
    world.look()
    told = explain(world.state, S2)
    charge = [r for r in told if r.limit == "charge_now_a"]
    assert charge[0].rule == "plating"
    assert charge[0].value == pytest.approx(world.envelope.charge_now_a[2])
    assert [r.value for r in charge] == sorted(r.value for r in charge)
    assert all(r.text and r.lift for r in told)
    assert explain(world.state, "nobody") == ()


def test_weak_cell_is_never_dragged_down_by_its_string():
    """A string run down against the envelope with one weak group: no true cell passes a safety tier."""
    site = bench_site(12, tick_s=5.0)
    rng = np.random.default_rng(8)
    truth = draw_truth(site, rng)
    plant = Plant(site, truth)
    plant.truth.capacity_ah[4, 6] *= 0.6
    plant.cells.soc_frac[:] = 0.2
    state, tick, least = initial_protection(site), 0, np.inf
    while plant.time_s < 1500.0:
        image = plant.observe(rng, tick)
        state, envelope = protect(site, state, image, true_estimate(plant), 5.0)
        inserted = (envelope.insertion == Insertion.ALLOWED) & (envelope.discharge_now_a > 1.0)
        current = float(envelope.discharge_now_a[inserted].min()) if inserted.any() else 0.0
        plant.apply(
            PlantInputs(
                inserted, inserted.astype(float), np.zeros(12), np.ones(1, np.int64), np.full(1, 2e4),
                np.zeros(1), np.full(1, min(current, 60.0)), np.ones(1, bool),
            )
        )  # fmt: skip
        plant.step(2.5)
        plant.step(2.5)
        least = min(least, float(np.nanmin(np.where(plant.bank.mask, plant.true.cell_voltage_v, np.nan))))
        tick += 1
    assert plant.violations.total == 0, plant.violations
    assert least > 2.9
    assert np.median(plant.cells.soc_frac) < 0.12


@pytest.mark.parametrize("soc", [0.2, 0.5, 0.8, 0.93])
@pytest.mark.parametrize("degc", [-5.0, 10.0, 30.0])
def test_what_may_stand_for_minutes_is_within_the_limit_it_leads_to(soc, degc):
    world = World(soc=soc)

    def cold(estimate):
        shape = estimate.temperature_degc.shape
        return replace(
            estimate,
            temperature_low_degc=np.full(shape, degc),
            temperature_high_degc=np.full(shape, degc + 1.0),
            temperature_degc=np.full(shape, degc + 0.5),
        )

    envelope = world.look(change=cold)
    estimate = cold(true_estimate(world.plant))
    minutes, now = envelope.charge_minutes_a, world.state.stacks.charge_now_a[PLATING]
    assert (minutes > 0.0).all()
    assert (minutes <= now + 1e-9).all()
    # there, the limit is still at least that
    ahead = estimate.soc_strongest_frac + estimate.soc_std_frac + 0.25 * minutes / estimate.capacity_ah
    soh = np.minimum(estimate.capacity_ah / world.site.topology.rated_capacity_ah, 1.0)
    there = charge_limit_a(ahead, estimate.temperature_low_degc, estimate.capacity_ah, soh)
    assert (there >= minutes * (1.0 - 1e-9)).all()
    # and a quarter of an hour is never promised more than an instant
    able = envelope.capability
    assert able.charge_w[-1] <= able.charge_w[0] * (1.0 + 1e-9)
    assert (envelope.plating_margin_v > 0.0).all()


def test_the_joining_difference_is_what_the_weakest_module_bears_over_the_least_resistance():
    world = World()
    envelope = world.look()
    constants = world.site.derived(build_constants)
    estimate = true_estimate(world.plant)
    allowed = envelope.joining_difference_v[0]
    # any set of modules that reaches the window has at least this resistance
    ohm = np.maximum(estimate.r0_ohm - RESISTANCE_SIGMAS * estimate.resistance_std_ohm, 0.0)
    volts, window = estimate.ocv_v, constants.converters.voltage_min_v[0]
    for size in range(1, 9):
        for chosen in combinations(range(8), size):
            if volts[list(chosen)].sum() >= window:
                loop = ohm[list(chosen)].sum() + constants.string_r_on_ohm[0]
                for m in chosen:
                    assert allowed / loop <= 2.5 * estimate.capacity_ah[m] + 1e-9
    # doubt about the resistance and age narrow it, missing numbers leave none
    doubted = world.look(change=lambda e: replace(e, resistance_std_ohm=4.0 * e.resistance_std_ohm))
    assert doubted.joining_difference_v[0] < allowed
    aged = world.look(change=lambda e: replace(e, capacity_ah=0.7 * e.capacity_ah))
    assert aged.joining_difference_v[0] == pytest.approx(0.7 * allowed)


def charging(image, degc_now):
    amperes = with_value(image.modules.current_a, 2, -10.0)
    return degc(degc_now)(modules(image, current_a=amperes))


@pytest.mark.parametrize(("degc_now", "fault"), [(-21.0, "cold_charge"), (50.5, "hot_charge"), (25.0, None)])
def test_charge_outside_its_temperatures_takes_the_module_out_and_latches(degc_now, fault):
    world = World()
    for _ in range(4):
        world.look(lambda image: charging(image, degc_now))
    here = {f for f, subject in world.present if subject == S2 and f.endswith("_charge")}
    assert here == ({fault} if fault else set())
    if fault:
        assert world.envelope.insertion[2] == Insertion.FORBIDDEN
        assert isinstance(clear_fault(world.state, fault, S2), ClearRefused)
        world.repeat(12)
        assert isinstance(clear_fault(world.state, fault, S2), Cleared)


@pytest.mark.parametrize(("name", "value"), [("soc_weakest_frac", -0.12), ("soc_strongest_frac", 1.12)])
def test_an_impossible_charge_is_told_and_bypasses_nobody(name, value):
    world = World()
    at = np.arange(8) == 2

    def bent(estimate):
        return replace(estimate, **{name: np.where(at, value, getattr(estimate, name))})

    world.repeat(20, change=bent)
    assert ("soc_implausible", S2) not in world.present, "debounced"
    world.repeat(15, change=bent)
    assert ("soc_implausible", S2) in world.present
    assert world.envelope.insertion[2] == Insertion.ALLOWED
    world.repeat(40)
    assert ("soc_implausible", S2) not in world.present


@pytest.mark.parametrize(
    ("quantity", "share", "fault"),
    [
        ("power_w", 1.15, "string_over_power"),
        ("power_w", -1.15, "string_over_power"),
        ("power_w", 1.05, None),
        ("voltage_v", 1.03, "string_voltage_outside"),
        ("voltage_v", 1.01, None),
    ],
)
def test_power_and_voltage_past_the_safety_tier_leave_the_string(quantity, share, fault):
    world = World()
    converter = world.site.strings[0].converter
    size = converter.power_rating_w if quantity == "power_w" else converter.voltage_max_v

    def bent(image, status=int(Rc1Status.CONTACTOR_CLOSED | Rc1Status.RUNNING)):
        middle = 0.5 * (converter.voltage_min_v + converter.voltage_max_v)
        image = strings(image, voltage_v=with_value(image.strings.voltage_v, 0, middle))
        channel = with_value(getattr(image.strings, quantity), 0, share * size)
        return strings(image, status=np.array([status]), **{quantity: channel})

    world.look(bent)
    assert world.envelope.string_usable[0], "debounced"
    world.repeat(7, bent)
    told = {f for f, subject in world.present if f in {"string_over_power", "string_voltage_outside"}}
    assert told == ({fault} if fault else set())
    assert world.envelope.string_usable[0] == (fault is None)
    if fault == "string_voltage_outside":  # a converter that does not run has no window
        world.repeat(35, lambda image: bent(image, int(Rc1Status.CONTACTOR_CLOSED)))
        assert fault not in {f for f, _ in world.present}


def test_every_row_of_the_limit_tables_has_a_consequence_past_its_safety_tier():
    """By a fault row that names it, or by one of the rules in code, each shown by a test above."""
    named = {row.limit[:2] for scope in SCOPES for row in fault_rows(scope) if row.limit is not None}
    safety = {
        row.limit[:2]
        for scope in SCOPES
        for row in fault_rows(scope)
        if row.limit is not None and row.limit[2] == "safety"
    }
    in_code = {
        ("charge_temperature_degc", "min"): "cold_charge",
        ("charge_temperature_degc", "max"): "hot_charge",
        ("soc_frac", "min"): "soc_implausible",
        ("soc_frac", "max"): "soc_implausible",
    }
    assert named - safety == set(), "a limit with an alarm but no consequence"
    for table in (*(default_limits(c) for c in Chemistry), site_limits()):
        assert set(table) <= safety | set(in_code)
    assert {row.fault for scope in SCOPES for row in fault_rows(scope)} >= set(in_code.values())


@pytest.mark.parametrize("shown_v", [0.0, 30.0, 59.0])
def test_an_unknown_input_keeps_a_string_open_whatever_its_bypassed_modules_show(shown_v):
    """What reads under 60 V only because its modules are bypassed would pass 60 V as soon as they are in."""
    site = bench_site(48)
    world = World(site=replace(site, inputs=replace(site.inputs, insulation_monitor=True)))

    def opened(image, **told):
        volts = replace(image.strings.voltage_v, value=np.full_like(image.strings.voltage_v.value, shown_v))
        image = strings(image, status=np.zeros_like(image.strings.status), voltage_v=volts)
        return replace(image, inputs=SiteInputs(**told))

    assert world.repeat(3, lambda i: opened(i, insulation_ohm_per_v=900.0)).string_usable.all()
    assert not world.repeat(8, opened).string_usable.any()
    assert ("insulation_unknown", "site") in world.present
    known = {"insulation_ohm_per_v": 900.0, "unknown": ("gas_alarm",)}
    assert not world.repeat(9, lambda i: opened(i, **known)).string_usable.any()


@pytest.mark.parametrize(
    ("fault", "bend"),
    [
        ("over_voltage_trip", node_bit(Rm1Status.OVER_VOLTAGE_TRIP)),
        ("under_voltage_trip", node_bit(Rm1Status.UNDER_VOLTAGE_TRIP)),
        ("over_temperature_trip", node_bit(Rm1Status.OVER_TEMPERATURE_TRIP)),
        ("converter_fault", converter_bit(Rc1Status.HARDWARE_FAULT)),
    ],
)
def test_a_latch_that_stands_after_its_clear_is_told_again(fault, bend):
    world = World()
    world.repeat(12, bend)
    cleared = clear_fault(world.state, fault)
    assert isinstance(cleared, Cleared)
    world.state = cleared.state
    world.repeat(4, bend)
    assert fault not in {f for f, _ in world.present}, "the node is given time to clear"
    assert not (world.envelope.string_usable.all() and (world.envelope.insertion == Insertion.ALLOWED).all())
    world.repeat(2, bend)
    assert fault in {f for f, _ in world.present}, "or a fault would stand that nothing tells of"


def test_a_latch_that_went_with_its_clear_is_not_told_again():
    world = World()
    world.repeat(12, converter_bit(Rc1Status.HARDWARE_FAULT))
    cleared = clear_fault(world.state, "converter_fault")
    assert isinstance(cleared, Cleared)
    world.state = cleared.state
    world.repeat(2, converter_bit(Rc1Status.HARDWARE_FAULT))
    assert world.repeat(10).string_usable.all()
    assert world.present == set()


@pytest.mark.parametrize(
    ("bend", "operator", "told"),
    [
        (inputs(emergency_stop=True), None, "the site's emergency-stop loop is open"),
        (converter_bit(Rc1Status.EMERGENCY_STOP), None, "pressed at converter 1 of the site file"),
        (lambda image: image, OperatorLimits(emergency_stop=True), "asked for by command"),
    ],
)
def test_an_emergency_stop_says_where_it_came_from_also_after_a_restart(bend, operator, told):
    world = World()
    world.look(bend, operator)
    assert [(s.fault, s.evidence) for s in world.state.statuses] == [("emergency_stop", told)]
    assert [e.evidence for e in world.state.events] == [told]
    world.look()
    assert [(e.change, e.evidence) for e in world.state.events] == [("released", "no longer")]
    assert [s.evidence for s in world.state.statuses] == [told], "the latch keeps what it began with"
    again = World(saved=[SavedFault.from_json(s.to_json()) for s in world.state.saved()])
    assert [s.evidence for s in again.state.statuses] == [told]


def test_an_unknown_input_is_named():
    world = World()
    world.repeat(4, inputs(unknown=("insulation_ohm", "gas_alarm", "door_open")))
    named = {s.fault: s.evidence for s in world.state.statuses}
    assert named["site_input_unknown"] == "no value from gas_alarm, door_open"


def test_every_input_that_can_be_wired_can_be_named():
    assert set(WIRED) | INSULATION == set(INPUT_SIGNALS)
