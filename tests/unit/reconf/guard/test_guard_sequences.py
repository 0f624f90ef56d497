"""Joining, leaving, clearing, restarting: what the tables do against nodes with watchdogs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_loop import Loop
from guard_nodes import Nodes
from guard_site import envelope, guard_site

from reconf.protection.envelope import FaultStatus
from reconf.sequences import Phase, SiteMode


class HalfAVoltMore(Nodes):
    """Converters whose sensors show more than the modules' sum."""

    def read(self, quiet_m, quiet_s):
        seen = super().read(quiet_m, quiet_s)
        volts = seen.strings.voltage_v
        return replace(seen, strings=replace(seen.strings, voltage_v=replace(volts, value=volts.value + 0.5)))


JOINING = ["CLEARING", "INSERTING", "PRECHARGE", "JOINED"]
LEAVING = ["JOINED", "RAMP_DOWN", "OPENING", "BYPASSING", "OPEN"]


def running(**kinds) -> Loop:
    """A site that has just been started and runs."""
    loop = Loop(guard_site(), Nodes(guard_site(), **kinds))
    loop.run(3)
    loop.run(9, request=SiteMode.RUN)
    assert loop.state.mode is SiteMode.RUN
    assert loop.state.joined.all()
    return loop


def test_a_site_starts_by_clearing_inserting_precharging_and_only_then_gives_power():
    loop = running()
    assert loop.order()[-4:] == JOINING
    assert (loop.nodes.power_w == 1500.0).all()
    assert loop.nodes.shorted == 0
    assert len(loop.nodes.closings) == 2


@pytest.mark.parametrize("module", [False, True])
def test_a_watchdog_that_ran_out_between_the_start_and_the_first_heartbeat_costs_no_minute(module):
    loop = Loop(guard_site(), Nodes(guard_site(), latched=False))
    loop.tick(request=SiteMode.RUN)
    assert (loop.state.phase == int(Phase.INSERTING)).all()
    if module:
        loop.nodes.latched_m[0] = True
        loop.nodes.inserted[0] = False
    else:
        loop.nodes.latched_s[0] = True
    loop.run(11)
    assert loop.state.joined.all()
    assert loop.state.mode is SiteMode.RUN
    assert loop.nodes.shorted == 0
    assert loop.unsafe_bypass == 0
    assert len(loop.nodes.closings) == 2


def test_a_converter_that_latches_at_every_start_is_not_cleared_for_ever():
    loop = Loop(guard_site(), Nodes(guard_site(), latched=False))
    loop.tick(request=SiteMode.RUN)
    cleared = 0
    for _ in range(120):
        if loop.state.phase[0] == int(Phase.INSERTING):
            loop.nodes.latched_s[0] = True
        before = bool(loop.nodes.latched_s[0])
        loop.tick()
        cleared += before and not loop.nodes.latched_s[0]
    assert 1 <= cleared <= 4  # by the start, and the three of an hour
    assert loop.state.joined.tolist() == [False, True]


def test_it_is_left_in_the_one_safe_order():
    loop = running()
    loop.phases.clear()
    loop.nodes.shorted = 0
    loop.run(8, request=SiteMode.OFF)
    assert ["JOINED", *loop.order()] == LEAVING
    assert loop.state.mode is SiteMode.OFF
    assert not loop.nodes.closed.any()
    assert not loop.nodes.inserted.any()
    assert loop.nodes.shorted == 0
    assert loop.unsafe_bypass == 0


def test_no_switch_moves_before_the_contactor_was_read_open():
    loop = running()
    loop.tick(request=SiteMode.OFF)
    dark = np.ones(2, np.bool_)
    loop.tick(quiet_s=dark)
    loop.tick(quiet_s=dark)
    assert loop.nodes.inserted.all()
    assert loop.unsafe_bypass == 0
    loop.run(8)
    assert not loop.nodes.inserted.any()
    assert loop.unsafe_bypass == 0


def test_standby_keeps_the_strings_connected_without_power():
    loop = running()
    loop.run(4, request=SiteMode.STANDBY)
    assert loop.state.mode is SiteMode.STANDBY
    assert loop.nodes.closed.all()
    assert (loop.nodes.mode == 0).all()
    assert (loop.nodes.power_w == 0.0).all()


@pytest.mark.parametrize("asks", [{"emergency_stop": True}, {"envelope_": "open"}])
def test_an_emergency_stop_and_an_open_site_fault_leave_within_ticks_and_stay_latched(asks):
    loop = running()
    if "envelope_" in asks:
        asks = {"envelope_": envelope(loop.site, site_open=True)}
    loop.tick(**asks)
    assert (loop.nodes.power_w == 0.0).all()  # within the tick
    loop.run(8)
    assert not loop.nodes.closed.any()
    loop.run(3, request=SiteMode.RUN)
    assert loop.state.mode in {SiteMode.ESTOP, SiteMode.FAULT}
    loop.tick(cleared=True)
    assert loop.state.mode is SiteMode.OFF
    loop.run(5)
    assert not loop.nodes.closed.any()
    loop.run(9, request=SiteMode.RUN)
    assert loop.state.mode is SiteMode.RUN


def test_a_clear_is_refused_while_the_cause_persists():
    loop = running()
    loop.tick(envelope_=envelope(loop.site, site_open=True))
    loop.tick(envelope_=envelope(loop.site, site_open=True), cleared=True)
    assert loop.state.mode is SiteMode.FAULT


def test_one_unusable_string_is_left_and_the_other_goes_on():
    loop = running()
    allowed = envelope(loop.site, string_usable=np.array([False, True]))
    for _ in range(8):
        loop.tick(envelope_=allowed)
    assert [Phase(int(p)) for p in loop.state.phase] == [Phase.OPEN, Phase.JOINED]
    assert loop.nodes.closed.tolist() == [False, True]
    assert loop.nodes.power_w.tolist() == [0.0, 1500.0]


def test_a_welded_contactor_keeps_its_modules_inserted_and_never_closes_again():
    loop = running()
    loop.nodes.welded[0] = True
    loop.run(10, request=SiteMode.OFF)
    assert loop.phases[-1][0] is Phase.WELDED
    assert loop.nodes.inserted[:6].all()
    assert loop.unsafe_bypass == 0
    loop.run(5, request=SiteMode.RUN)
    assert loop.phases[-1][0] is Phase.WELDED
    loop.nodes.welded[0] = False
    loop.run(3)
    assert loop.phases[-1][0] is Phase.WELDED
    loop.tick(clear_strings=np.array([True, False]))
    assert loop.phases[-1][0] is Phase.BYPASSING


@pytest.mark.parametrize("how", ["welded", "silent"])
def test_the_site_runs_with_the_strings_that_joined_while_another_one_cannot(how):
    loop = Loop(guard_site(), Nodes(guard_site()))
    loop.nodes.welded[0] = how == "welded"
    dark = np.array([how == "silent", False])
    for _ in range(3):
        loop.tick(quiet_s=dark)
    loop.tick(quiet_s=dark, request=SiteMode.RUN)
    for _ in range(12):
        loop.tick(quiet_s=dark)
    assert loop.state.joined.tolist() == [False, True]
    assert loop.state.mode is SiteMode.RUN
    assert loop.nodes.power_w.tolist() == [0.0, 1500.0]


class NeverCloses(Nodes):
    """String 0's converter begins its precharge and gives up."""

    def window(self):
        return super().window() & np.array([False, True])


def test_a_string_that_does_not_close_is_tried_three_times_and_then_waits_for_a_start():
    loop = Loop(guard_site(), NeverCloses(guard_site(), latched=False))
    loop.tick(request=SiteMode.RUN)
    precharges, told, before = [], [], None
    for _ in range(200):
        loop.tick()
        now = Phase(int(loop.state.phase[0]))
        if now is Phase.PRECHARGE and before is not now:
            precharges.append(loop.nodes.now_s)
        before = now
        told += [e.why for e in loop.outcome.actions.events if e.before == e.after]
    assert len(precharges) == 3
    assert told == ["did not join, or stay, 3 times: waits for a start"]
    assert loop.state.gave_up.tolist() == [True, False]
    assert loop.state.mode is SiteMode.RUN
    assert not loop.nodes.inserted[:6].any()
    assert loop.nodes.power_w[1] == 1500.0
    loop.tick(request=SiteMode.RUN)
    assert not loop.state.gave_up.any()
    loop.run(20)
    assert loop.state.failed[0] >= 1, "the start tries again"


def test_a_fault_that_comes_back_with_every_join_does_not_close_the_contactor_for_ever():
    loop = Loop(guard_site(), Nodes(guard_site(), latched=False))
    loop.tick(request=SiteMode.RUN)
    down = 0
    for _ in range(400):
        stood = loop.state.joined[0] and loop.state.ticks[0] >= 3
        down = 40 if stood else max(down - 1, 0)
        loop.tick(envelope_=envelope(loop.site, string_usable=np.array([down == 0, True])))
    assert [s for _, s in loop.nodes.closings].count(0) == 3
    assert loop.state.gave_up.tolist() == [True, False]
    assert loop.state.joined.tolist() == [False, True]
    loop.tick(clear_strings=np.array([True, False]))
    loop.run(15)
    assert loop.state.joined.all(), "a clear tries again, as a start does"
    loop.run(620)
    assert loop.state.failed.tolist() == [0, 0]


def test_a_live_link_behind_an_open_contactor_forbids_closing():
    site = guard_site()
    nodes = Nodes(site)
    honest = nodes.read

    def live(quiet_m, quiet_s):
        seen = honest(quiet_m, quiet_s)
        link = replace(seen.strings.link_voltage_v, value=np.array([200.0, 0.0]))
        return replace(seen, strings=replace(seen.strings, link_voltage_v=link))

    nodes.read = live  # type: ignore[method-assign]
    loop = Loop(site, nodes)
    loop.run(3)
    loop.run(12, request=SiteMode.RUN)
    assert loop.phases[-1][0] is Phase.WELDED
    assert not nodes.closed[0]
    assert nodes.closed[1]


def test_heartbeats_are_earned_node_by_node():
    loop = running()
    quiet = np.zeros(12, np.bool_)
    quiet[3] = True
    beats = loop.tick(quiet_m=quiet).actions
    assert not beats.heartbeat_modules[3]
    assert beats.heartbeat_modules.sum() == 11
    assert beats.heartbeat_strings.all()
    lost = np.zeros(12, np.bool_)
    lost[5] = True
    allowed = envelope(loop.site, insertion=np.where(lost, 1, 0).astype(np.uint8))
    loop.tick(lost_m=lost, envelope_=allowed)
    assert not loop.tick(envelope_=allowed).actions.heartbeat_modules[5]


def test_a_silent_module_is_unsure_until_its_watchdog_has_run_out():
    loop = running()
    quiet = np.zeros(12, np.bool_)
    quiet[3] = True
    unsure = [bool(loop.tick(quiet_m=quiet).actions.unsure_modules[3]) for _ in range(12)]
    assert unsure[:6] == [True] * 6
    assert not any(unsure[9:])
    assert loop.outcome.actions.modules_out[3]
    assert loop.nodes.closed.all()


def test_a_lost_converter_opens_by_its_own_watchdog_and_the_others_go_on():
    loop = running()
    dark = np.array([True, False])
    for _ in range(6):
        loop.tick(quiet_s=dark)
    assert loop.phases[-1][0] is Phase.LOST
    assert loop.nodes.closed.tolist() == [False, True]
    assert loop.nodes.inserted[:6].all()
    assert loop.nodes.power_w[1] == 1500.0
    loop.run(3)
    assert loop.phases[-1][0] is Phase.OPEN
    assert loop.unsafe_bypass == 0


def test_it_rejoins_by_itself_after_a_minute_of_good_readings_three_times_an_hour():
    loop = running()
    dark = np.array([True, False])
    rejoined, told = [], []
    for _ in range(5):
        for _ in range(6):
            loop.tick(quiet_s=dark)
        left_s = loop.nodes.now_s
        for _ in range(90):
            loop.tick()
            told += [e.why for e in loop.outcome.actions.events if e.before == e.after]
            if loop.state.joined[0]:
                rejoined.append(loop.nodes.now_s - left_s)
                break
        else:
            break
    # the start itself was the first clear of this hour
    assert len(rejoined) == 2
    assert all(seconds >= 60.0 for seconds in rejoined)
    # and says so once each time, instead of standing still without a word
    assert len(told) == 3
    assert all("s of good readings before its watchdog latch is cleared" in why for why in told[:2])
    assert "was cleared 3 times within the hour" in told[2]


def test_a_string_whose_window_fails_without_its_silent_modules_is_left():
    loop = running()
    quiet = np.zeros(12, np.bool_)
    quiet[:4] = True
    for _ in range(8):
        loop.tick(quiet_m=quiet)
    assert not loop.nodes.closed[0]
    assert loop.nodes.closed[1]
    assert loop.nodes.shorted == 0


@pytest.mark.parametrize("tick_s", [1.0, 2.0, 2.9, 5.0])
def test_a_converter_is_open_before_its_silent_modules_bypass_themselves_at_any_tick(tick_s):
    site = guard_site()
    loop = Loop(site, Nodes(site), tick_s=tick_s)
    loop.run(3)
    loop.run(12, request=SiteMode.RUN)
    assert loop.state.joined.all()
    loop.nodes.shorted = 0
    quiet = np.ones(12, np.bool_)
    for _ in range(12):
        loop.tick(quiet_m=quiet)
    assert not loop.nodes.inserted.any()
    assert not loop.nodes.closed.any()
    assert loop.nodes.shorted == 0


def test_at_a_restart_open_stays_open():
    site = guard_site()
    loop = Loop(site, Nodes(site, latched=False), saved_mode=SiteMode.RUN)
    loop.run(30)
    assert loop.state.mode is SiteMode.OFF
    assert not loop.nodes.closed.any()


def test_at_a_restart_closed_stays_closed_at_power_zero_until_commanded():
    old = running()
    loop = Loop(old.site, old.nodes)
    loop.run(10)
    assert loop.nodes.closed.all()
    assert (loop.nodes.power_w == 0.0).all()
    assert loop.state.mode is SiteMode.STANDBY
    loop.run(3, request=SiteMode.RUN)
    assert (loop.nodes.power_w == 1500.0).all()


def test_at_a_restart_a_closed_string_without_plausible_image_is_left_within_three_seconds():
    old = running()
    loop = Loop(old.site, old.nodes)
    quiet = np.zeros(12, np.bool_)
    quiet[:6] = True
    for _ in range(5):
        loop.tick(quiet_m=quiet)
    assert not loop.nodes.closed[0]
    assert loop.nodes.closed[1]
    assert loop.nodes.shorted == 0


@pytest.mark.parametrize("mode", [SiteMode.FAULT, SiteMode.ESTOP, SiteMode.MAINTENANCE])
def test_held_modes_live_through_a_restart(mode):
    site = guard_site()
    loop = Loop(site, Nodes(site), saved_mode=mode)
    for _ in range(2):
        loop.tick(maintenance=mode is SiteMode.MAINTENANCE)
    assert loop.state.mode is mode


def test_without_its_master_no_converter_runs():
    site = guard_site(master="S0")
    loop = Loop(site, Nodes(site))
    loop.run(3)
    loop.run(10, request=SiteMode.RUN)
    assert loop.nodes.mode.tolist() == [2, 1]
    loop.tick(quiet_s=np.array([True, False]))
    assert loop.outcome.command.mode.tolist()[1] == 0
    loop.tick(quiet_s=np.array([True, False]))
    assert loop.nodes.mode[1] == 0


def test_maintenance_leaves_every_string_and_ignores_run_until_released():
    loop = running()
    for _ in range(8):
        loop.tick(maintenance=True)
    assert loop.state.mode is SiteMode.MAINTENANCE
    assert not loop.nodes.closed.any()
    for _ in range(3):
        loop.tick(maintenance=True, request=SiteMode.RUN)
    assert loop.state.mode is SiteMode.MAINTENANCE
    loop.run(5)
    assert loop.state.mode is SiteMode.OFF, "what was asked while it was held is forgotten"
    assert not loop.nodes.closed.any()


def test_an_emergency_stop_during_maintenance_leaves_the_lock_and_a_clear_leads_back_to_it():
    loop = running()
    for _ in range(6):
        loop.tick(maintenance=True)
    loop.tick(maintenance=True, emergency_stop=True)
    assert loop.state.mode is SiteMode.ESTOP
    for _ in range(3):
        loop.tick(maintenance=True, cleared=True)
    assert loop.state.mode is SiteMode.MAINTENANCE
    loop.tick(maintenance=True, request=SiteMode.RUN)
    loop.run(6)
    assert loop.state.mode is SiteMode.OFF
    assert not loop.nodes.closed.any()


@pytest.mark.parametrize(("allowed_v", "joins"), [(2.0, True), (0.3, False), (float("nan"), False)])
def test_a_string_joins_only_within_the_difference_that_protection_allows(allowed_v, joins):
    site = guard_site()
    loop = Loop(site, HalfAVoltMore(site))
    within = replace(envelope(site), joining_difference_v=np.full(2, allowed_v))
    loop.tick(envelope_=within, request=SiteMode.RUN)
    for _ in range(14):
        loop.tick(envelope_=within)
    assert loop.state.joined.all() == joins
    assert bool(loop.nodes.closed.any()) == joins


def test_a_converter_that_takes_no_writes_for_two_ticks_gets_no_heartbeat_and_the_others_go_on():
    loop = running()
    deaf = np.array([True, False])
    beats = [bool(loop.tick(lost_s=deaf, power_w=1400.0 - k).actions.heartbeat_strings[0]) for k in range(4)]
    assert not any(beats[2:])
    for _ in range(6):
        loop.tick(lost_s=deaf, power_w=1300.0)
    assert loop.nodes.closed.tolist() == [False, True], "its own watchdog opens it"
    assert loop.nodes.power_w[1] == 1300.0
    assert loop.nodes.shorted == 0


def refusal(fault, subject):
    return FaultStatus(fault, subject, "bypass", True, True, 0.0, "", "")


def test_a_node_known_to_take_no_writes_gets_no_heartbeat_although_nothing_was_asked_of_it():
    loop = running()
    site = loop.site
    serial, name = site.modules[1].serial, site.strings[1].name
    allowed = replace(
        envelope(site),
        faults=(refusal("module_writes_refused", serial), refusal("converter_writes_refused", name)),
    )
    actions = loop.tick(envelope_=allowed).actions
    assert not actions.heartbeat_modules[1]
    assert actions.heartbeat_modules.sum() == site.topology.n_modules - 1
    assert actions.heartbeat_strings.tolist() == [True, False]
    assert actions.modules_out[1]
    assert actions.unsure_modules[1], "it reads inserted, and its watchdog is running"
    for _ in range(9):
        outcome = loop.tick(envelope_=allowed)
    assert loop.nodes.closed.tolist() == [True, False], "its own watchdog opens it"
    assert not outcome.actions.unsure_modules[1]
    assert not loop.nodes.inserted[1]
    assert loop.nodes.shorted == 0


def test_a_converter_that_takes_no_writes_is_lost_once_until_it_opens_or_obeys():
    loop = running()
    loop.nodes.beaten_s = np.full(2, 1e9)  # its watchdog does not work either
    allowed = replace(
        envelope(loop.site), faults=(refusal("converter_writes_refused", loop.site.strings[0].name),)
    )
    before = len(loop.phases)
    moves = [
        (e.before, e.after)
        for _ in range(8)
        for e in loop.tick(envelope_=allowed, lost_s=np.array([True, False])).actions.events
        if e.subject == loop.site.strings[0].name
    ]
    assert moves == [("joined", "lost")], "nothing chatters"
    assert loop.phases[before][1] is Phase.JOINED
    loop.tick()
    loop.tick()
    assert loop.phases[-1][0] is not Phase.LOST, "it obeys again: left in order"


@pytest.mark.parametrize(("count", "left"), [(1, False), (4, True)])
def test_modules_that_take_no_writes_are_out_and_their_string_is_left_only_where_its_window_fails(
    count, left
):
    loop = running()
    deaf = np.arange(12) < count
    allowed = envelope(loop.site, insertion=np.where(deaf, 1, 0).astype(np.uint8))
    for _ in range(3):
        loop.tick(lost_m=deaf, envelope_=allowed)
    assert loop.outcome.actions.modules_out[:count].all()
    for _ in range(8):
        loop.tick(lost_m=deaf, envelope_=allowed)
    assert loop.nodes.closed.tolist() == [not left, True]
    assert loop.nodes.shorted == 0
