"""Conditions of the sequences one by one: what each waits for, and what it does not take for an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_loop import Loop
from guard_nodes import Nodes
from guard_site import MODULE_V, command, envelope, guard_site, image

from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.readings import Channel
from reconf.sequences import Phase, Sequencer, SequencerInputs, SiteMode
from reconf.sequences import nodes as memory
from reconf.sequences.joining import joining_pattern, window_lost
from reconf.sequences.overlay import _limits
from reconf.verify.tables import build_tables

FIRST = np.array([True, False])


class Bent(Nodes):
    """Nodes whose readings a test bends before the sequences see them."""

    def __init__(self, site, **kinds) -> None:
        super().__init__(site, **kinds)
        self.bend = lambda seen: seen

    def read(self, quiet_m, quiet_s):
        return self.bend(super().read(quiet_m, quiet_s))


def strings(seen, **changes):
    return replace(seen, strings=replace(seen.strings, **changes))


def modules(seen, **changes):
    return replace(seen, modules=replace(seen.modules, **changes))


def string_bit(flag, rows=FIRST):
    return lambda seen: strings(seen, status=seen.strings.status | np.where(rows, int(flag), 0))


def module_bit(flag, rows):
    mask = np.isin(np.arange(12), rows)
    return lambda seen: modules(seen, status=seen.modules.status | np.where(mask, int(flag), 0))


def fresh(**kinds) -> Loop:
    loop = Loop(guard_site(), Bent(guard_site(), **kinds))
    loop.run(3)
    return loop


def running(**kinds) -> Loop:
    loop = fresh(**kinds)
    loop.run(9, request=SiteMode.RUN)
    assert loop.state.joined.all()
    return loop


def phases_of(loop, ticks, **asks) -> list[Phase]:
    """Phases of string 0 in the next ticks."""
    return [(loop.tick(**asks), loop.phases[-1][0])[1] for _ in range(ticks)]


# ---- joining ---------------------------------------------------------------------------------------


def unread(seen):
    return strings(seen, voltage_v=Channel.of(np.full(2, np.nan)))


def one_module_unread(seen):
    volts = np.where(np.arange(12) == 2, np.nan, seen.modules.voltage_v.value)
    # the others' sum fits what the converter sees: only that one is not known
    sums = guard_site().topology.sum_by_string(np.nan_to_num(volts) * (seen.modules.status & 1))
    return strings(modules(seen, voltage_v=Channel.of(volts)), voltage_v=Channel.of(sums))


@pytest.mark.parametrize("bend", [unread, one_module_unread])
def test_a_string_is_not_precharged_on_a_voltage_that_is_not_known(bend):
    loop = fresh()
    loop.tick(request=SiteMode.RUN)
    while loop.phases[-1][0] is not Phase.INSERTING:
        loop.tick()
    loop.nodes.bend = bend
    assert Phase.PRECHARGE not in phases_of(loop, 20)
    assert not loop.nodes.closed[0]


@pytest.mark.parametrize(
    "flag",
    [
        Rc1Status.HARDWARE_FAULT, Rc1Status.EMERGENCY_STOP, Rc1Status.CONTACTOR_MISMATCH,
        Rc1Status.OVER_TEMPERATURE,
    ],
)  # fmt: skip
def test_a_converter_that_fails_while_its_modules_come_in_is_not_asked_to_precharge(flag):
    loop = fresh()
    loop.tick(request=SiteMode.RUN)
    while loop.phases[-1][0] is not Phase.INSERTING:
        loop.tick()
    loop.nodes.bend = string_bit(flag)
    assert Phase.PRECHARGE not in phases_of(loop, 20)
    assert 0 not in {string for _, string in loop.nodes.closings}


def test_a_converter_that_is_silent_while_its_modules_come_in_is_not_asked_to_precharge():
    loop = fresh()
    loop.tick(request=SiteMode.RUN)
    while loop.phases[-1][0] is not Phase.INSERTING:
        loop.tick()
    # its last values stand and look well
    loop.nodes.bend = lambda seen: strings(seen, answered=seen.strings.answered & ~FIRST)
    assert Phase.PRECHARGE not in phases_of(loop, 20)


def test_a_string_is_not_precharged_above_its_window():
    loop = fresh()
    loop.tick(request=SiteMode.RUN)
    while loop.phases[-1][0] is not Phase.INSERTING:
        loop.tick()
    high = 1.2 * MODULE_V

    def bend(seen):
        sums = guard_site().topology.sum_by_string(high * (seen.modules.status & 1))
        return strings(modules(seen, voltage_v=Channel.of(np.full(12, high))), voltage_v=Channel.of(sums))

    loop.nodes.bend = bend
    assert Phase.PRECHARGE not in phases_of(loop, 20)


def test_a_link_that_is_not_known_is_waited_for():
    loop = fresh()
    loop.nodes.bend = lambda seen: strings(seen, link_voltage_v=Channel.of(np.full(2, np.nan)))
    loop.tick(request=SiteMode.RUN)
    assert set(phases_of(loop, 10)) == {Phase.OPEN}


@pytest.mark.parametrize(
    "flag", [Rc1Status.CONTACTOR_MISMATCH, Rc1Status.OVER_TEMPERATURE, Rc1Status.HARDWARE_FAULT]
)
def test_a_converter_that_reports_a_fault_is_not_joined_whatever_the_envelope_says(flag):
    loop = fresh()
    loop.nodes.bend = string_bit(flag)
    loop.tick(request=SiteMode.RUN)
    loop.run(10)
    assert loop.phases[-1] == (Phase.OPEN, Phase.JOINED)


def test_modules_out_of_service_are_not_in_the_joining_pattern():
    site = guard_site()
    out = np.arange(12) == 1
    pattern, found = joining_pattern(site.derived(build_tables), image(site), envelope(site), out)
    assert pattern.tolist() == (~out).tolist()
    assert found.all()


def test_a_module_that_tripped_is_not_cleared_by_a_start():
    loop = fresh()
    loop.nodes.bend = module_bit(Rm1Status.OVER_VOLTAGE_TRIP, [2])
    cleared = loop.tick(request=SiteMode.RUN).actions.clear_modules.copy()
    for _ in range(80):
        cleared |= loop.tick().actions.clear_modules
    assert cleared[:6].tolist() == [True, True, False, True, True, True]


# ---- leaving ---------------------------------------------------------------------------------------


def current(amperes):
    return lambda seen: strings(seen, current_a=Channel.of(np.full(2, amperes)))


@pytest.mark.parametrize(
    ("amperes", "waits"), [(0.9, False), (1.1, True), (-1.1, True), (90.0, True), (np.nan, True)]
)
def test_a_contactor_opens_below_one_ampere_or_half_a_second_after_mode_zero(amperes, waits):
    loop = Loop(guard_site(), Bent(guard_site()), tick_s=0.1)
    loop.run(30)
    loop.run(90, request=SiteMode.RUN)
    assert loop.state.joined.all()
    loop.nodes.bend = current(amperes)
    loop.tick(request=SiteMode.OFF)
    held = phases_of(loop, 12).count(Phase.RAMP_DOWN)
    assert (held >= 3) is waits
    assert held <= 6, "after half a second it opens whatever flows"


def test_a_small_current_read_right_after_mode_zero_may_be_one_of_before_the_power_rose():
    """On a stop ticks follow one another at once, faster than a converter measures."""
    loop = Loop(guard_site(), Bent(guard_site()), tick_s=0.1)
    loop.run(30)
    loop.run(90, request=SiteMode.RUN)
    assert loop.state.joined.all()
    loop.nodes.bend, loop.tick_s = current(0.0), 0.02
    loop.tick(request=SiteMode.OFF)
    held = phases_of(loop, 12).count(Phase.RAMP_DOWN)
    assert 0.1 <= 0.02 * (held + 1) < 0.2, "it opens a tenth of a second after MODE 0"


def test_nothing_is_bypassed_while_the_converter_still_precharges():
    loop = fresh()
    loop.tick(request=SiteMode.RUN)
    while loop.phases[-1][0] is not Phase.PRECHARGE:
        loop.tick()
    loop.nodes.bend = lambda seen: strings(
        seen,
        status=(seen.strings.status & ~int(Rc1Status.CONTACTOR_CLOSED)) | int(Rc1Status.PRECHARGING),
    )
    after = phases_of(loop, 8, request=SiteMode.OFF)
    assert Phase.BYPASSING not in after
    assert loop.nodes.inserted[:6].all()


def test_a_string_is_left_when_modules_that_answer_but_tripped_leave_it_no_window():
    loop = running()
    loop.nodes.bend = module_bit(Rm1Status.OVER_TEMPERATURE_TRIP, [0, 1, 2])
    assert phases_of(loop, 1) == [Phase.RAMP_DOWN]


def test_modules_that_must_stay_in_may_be_too_many_for_the_window():
    site = guard_site()
    t = site.derived(build_tables)
    seen = image(site, module_v=1.2 * MODULE_V)
    none = np.zeros(12, np.bool_)
    free, forced = envelope(site), envelope(site, insertion=np.full(12, Insertion.FORCED, np.uint8))
    assert not window_lost(t, seen, free, command(site), none).any()
    assert window_lost(t, seen, forced, command(site), none).all()


def test_the_current_limit_is_never_raised_where_no_power_flows():
    carries, wanted, held = np.array([True, False, False]), np.full(3, 40.0), np.array([10.0, 10.0, 60.0])
    low = replace(command(guard_site()), current_limit_a=held)
    high = replace(low, current_limit_a=wanted)
    assert _limits(carries, high, low).tolist() == [40.0, 10.0, 40.0]


def test_leaving_a_string_writes_nothing_before_mode_zero_and_the_open_contactor():
    loop = running()
    held = loop.in_force.current_limit_a.copy()
    assert (held > 0.0).all()
    for _ in range(3):
        loop.tick(limit_a=10.0, request=SiteMode.OFF)
        if loop.phases[-1][0] in {Phase.RAMP_DOWN, Phase.OPENING}:
            assert loop.outcome.command.current_limit_a.tolist() == held.tolist()


# ---- welds, heartbeats, clears ---------------------------------------------------------------------


def test_a_weld_is_not_left_by_a_clear_while_the_contactor_still_reads_closed():
    loop = running()
    loop.nodes.welded[0] = True
    loop.run(10, request=SiteMode.OFF)
    assert loop.phases[-1][0] is Phase.WELDED
    assert phases_of(loop, 1, clear_strings=FIRST) == [Phase.WELDED]
    assert set(phases_of(loop, 3)) == {Phase.WELDED}


def test_no_heartbeat_without_a_verified_command():
    loop = running()
    loop.verified = False
    actions = loop.tick().actions
    assert not actions.heartbeat_modules.any()
    assert not actions.heartbeat_strings.any()


def test_a_converter_above_silent_modules_that_its_window_needs_gets_no_heartbeat_at_once():
    loop = running()
    quiet = np.arange(12) < 3
    assert loop.tick(quiet_m=quiet).actions.heartbeat_strings.tolist() == [False, True]


def test_slow_ticks_leave_the_opening_to_the_converter_s_own_watchdog():
    loop = Loop(guard_site(), Bent(guard_site()), tick_s=2.0)
    loop.run(3)
    loop.run(9, request=SiteMode.RUN)
    loop.tick(request=SiteMode.OFF)
    assert loop.phases[-1][0] in {Phase.RAMP_DOWN, Phase.OPENING}
    assert not loop.outcome.actions.heartbeat_strings.any()


def test_a_module_that_takes_no_writes_may_stand_either_way():
    loop = running()
    deaf = np.arange(12) == 4
    loop.tick(lost_m=deaf)
    assert loop.tick(lost_m=deaf).actions.unsure_modules.tolist() == deaf.tolist()


def test_a_module_out_of_service_is_not_inserted_by_a_plan_that_wants_it():
    loop = running()
    quiet = np.arange(12) == 3
    for _ in range(3):
        loop.tick(quiet_m=quiet)
    assert loop.outcome.command.inserted.tolist() == (~quiet).tolist()


def test_latches_are_cleared_in_bypassed_modules_and_open_strings_only():
    loop = running()
    asked = loop.tick(clear_modules=np.ones(12, np.bool_), clear_strings=np.ones(2, np.bool_)).actions
    assert not asked.clear_modules.any(), "what stands in its registers would act at once"
    assert not asked.clear_strings.any()


def test_readings_are_not_good_while_a_trip_stands():
    yes, no = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    node = memory.Nodes.fresh(1, 0.0)
    for second in range(70):
        node = node.seen(yes, None, no, float(second), no)
    assert not node.good_for(memory.REJOIN_GOOD_S, 70.0).any()


def test_a_clear_leads_nowhere_while_the_emergency_stop_is_still_pressed():
    loop = running()
    loop.tick(emergency_stop=True)
    for tick in range(4):
        loop.tick(emergency_stop=True, cleared=tick == 0)
        assert loop.state.mode is SiteMode.ESTOP


def test_a_module_that_must_stay_in_is_commanded_in_whatever_the_plan_wants():
    loop = running()
    forced = np.where(np.arange(12) == 5, Insertion.FORCED, Insertion.ALLOWED).astype(np.uint8)
    wants = envelope(loop.site, insertion=np.where(np.arange(12) == 5, 1, 0).astype(np.uint8))
    loop.tick(envelope_=wants)
    assert not loop.outcome.command.inserted[5]
    seen = loop.nodes.read(loop.none_m, loop.none_s)
    proposal = replace(loop.in_force, inserted=np.arange(12) != 5)
    inputs = SequencerInputs(
        seen,
        envelope(loop.site, insertion=forced),
        loop.in_force,
        proposal,
        loop.nodes.now_s,
        loop.nodes.now_s,
    )
    assert loop.sequencer.step(loop.state, inputs).command.inserted[5]


@pytest.mark.parametrize("held", [SiteMode.FAULT, SiteMode.ESTOP, SiteMode.MAINTENANCE])
@pytest.mark.parametrize("closed", [False, True])
def test_a_mode_that_holds_the_site_is_that_of_the_first_tick_after_a_restart(held, closed):
    site = guard_site()
    state = Sequencer(site).initial(image(site, closed=closed), 0.0, held)
    assert state.mode is held
    assert state.wanted is SiteMode.OFF


# ---- a status that says open -----------------------------------------------------------------------


def says_open(seen):
    """String 0's converter clears its bits and shows no current."""
    still = Channel.of(np.where(FIRST, 0.0, seen.strings.current_a.value))
    return strings(seen, status=np.where(FIRST, 0, seen.strings.status), current_a=still)


def says_open_and_flows(seen):
    seen = says_open(seen)
    flows = np.where(FIRST, 20.0, seen.strings.current_a.value)
    at = np.where(np.arange(12) < 6, 20.0, seen.modules.current_a.value)
    return modules(strings(seen, current_a=Channel.of(flows)), current_a=Channel.of(at))


def test_nothing_is_bypassed_before_the_open_contactor_was_commanded_whatever_status_says():
    loop = running()
    loop.nodes.bend = says_open
    assert phases_of(loop, 1) == [Phase.OPENING]
    assert not loop.nodes.closed[0], "commanded open"
    assert loop.nodes.inserted[:6].all()
    assert phases_of(loop, 1) == [Phase.BYPASSING]
    assert loop.unsafe_bypass == 0
    assert loop.nodes.shorted == 0


def test_a_contactor_through_which_current_is_seen_to_flow_is_not_open():
    loop = running()
    loop.nodes.bend = says_open_and_flows
    assert phases_of(loop, 2) == [Phase.JOINED] * 2
    asks = {"envelope_": envelope(loop.site, string_usable=~FIRST)}
    assert phases_of(loop, 1, **asks) == [Phase.RAMP_DOWN], "the fault of its bit has it left in order"
    loop.nodes.bend = says_open
    assert phases_of(loop, 2, **asks) == [Phase.OPENING, Phase.BYPASSING]
    assert loop.unsafe_bypass == 0


@pytest.mark.parametrize("only", ["converter", "modules"])
def test_one_sensor_that_shows_a_current_does_not_keep_a_string_from_being_left(only):
    none = Channel.of(np.zeros(12 if only == "converter" else 2))

    def bend(seen):
        both = says_open_and_flows(seen)
        return modules(both, current_a=none) if only == "converter" else strings(both, current_a=none)

    loop = running()
    loop.nodes.bend = bend
    assert phases_of(loop, 2) == [Phase.OPENING, Phase.BYPASSING]
