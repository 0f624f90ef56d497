"""Which state of a string each rule of verify looks at: closed or closing, perhaps in, before or after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_site import MODULE_V, command, guard_site, image, silent
from test_guard_verify_rules import Case, at, believed, full, out_of, with_inputs
from test_guard_verify_rules import allowed as allowing
from test_guard_verify_rules import closing as closing_case

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.readings import Channel, Quality, SiteImage, SiteInputs
from reconf.site import Chemistry
from reconf.verify import History, verify_steps

FIRST = np.array([True, False])


def broken(case: Case) -> set[tuple[str, str]]:
    """Rules broken and by whom."""
    answer = case.ask()
    return {(v.rule, v.subject) for v in answer.violations} if isinstance(answer, Refused) else set()


def rules(case: Case) -> set[str]:
    return {rule for rule, _ in broken(case)}


def strings(seen: SiteImage, **changes) -> SiteImage:
    return replace(seen, strings=replace(seen.strings, **changes))


def missed(case: Case) -> Case:
    """The first converter missed its last reading, one tick ago."""
    stood = case.seen.strings
    case.seen = strings(case.seen, answered=~FIRST & stood.answered, age_s=np.where(FIRST, 1.0, 0.0))
    return case


# ---- the bus ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bus_v", "stands"), [(719.0, False), (721.0, True), (879.0, True), (881.0, False)])
def test_nobody_runs_on_a_bus_outside_its_window(bus_v, stands):
    assert rules(Case(seen=image(guard_site(), bus_v=bus_v))) == (set() if stands else {"bus_lost"})


def test_a_bus_voltage_that_was_not_read_is_not_taken_for_a_bus_that_is_lost():
    case = Case()
    unread = Channel.of(np.array([np.nan, 800.0]))
    case.seen = strings(case.seen, bus_voltage_v=unread)
    assert rules(case) == set()


def master_and_follower(mode: tuple[int, int], closed: tuple[bool, bool] = (True, True)) -> Case:
    site = guard_site(master="S0")
    before = replace(command(site, mode=1), mode=np.array(mode), bus_voltage_v=np.full(2, 800.0))
    seen = image(site, closed=np.array(closed))
    return Case(site, seen=seen, before=before, after=replace(before, power_w=np.array([0.0, 1000.0])))


def test_a_converter_follows_only_a_master_that_is_read_closed():
    assert rules(master_and_follower((2, 1))) == set()
    assert ("bus_lost", "S1") in broken(master_and_follower((2, 1), closed=(False, True)))


def test_a_master_that_does_not_hold_the_bus_is_none():
    assert broken(master_and_follower((0, 1))) == {("bus_lost", "S1")}


def test_another_converter_that_holds_the_bus_does_not_make_it_a_master():
    case = master_and_follower((1, 2)).with_after(power_w=np.array([1000.0, 0.0]))
    assert broken(case) >= {("bus_lost", "S0"), ("bus_master", "S1")}


# ---- temperatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("power_w", "hot_degc", "passes"), [
    (-4000.0, 44.0, True), (-4000.0, 46.0, False), (4000.0, 46.0, True),
])  # fmt: skip
def test_a_module_too_hot_to_be_charged_may_still_be_discharged(power_w, hot_degc, passes):
    """Of a site whose table forbids charging sooner than use."""
    site = guard_site()
    table = dict(site.limits[Chemistry.NMC])
    row = table["charge_temperature_degc", "max"]
    table["charge_temperature_degc", "max"] = replace(row, operating=43.0, recommended=44.0, safety=45.0)
    case = Case(replace(site, limits={Chemistry.NMC: table})).with_after(power_w=np.full(2, power_w))
    case = believed(case, temperature_high_degc=at(np.full(12, 26.0), 4, hot_degc))
    assert broken(case) == (set() if passes else {("charge_temperature", "M0-4")})


# ---- on the way: no worse than what is in force already ----------------------------------------------


def test_power_may_be_lowered_out_of_a_state_below_the_window():
    """Under 8 kW the voltage lies below the window, under 2 kW inside: the way there is no worse."""
    site = guard_site()
    kept = [True, True, True, True, False, False] * 2
    seen = image(site, kept)
    before = command(site, inserted=kept, power_w=8000.0, limit_a=60.0)
    case = Case(site, seen=seen, before=before, after=replace(before, power_w=np.full(2, 2000.0)))
    resistive = believed(case, r0_ohm=full(case, 0.1))
    assert broken(resistive) == set()
    resistive.after = replace(before, power_w=np.full(2, 7900.0))
    assert "window_min" in rules(resistive)


def test_charging_may_be_lowered_out_of_a_state_above_the_window():
    site = guard_site()
    volts = 1.14 * MODULE_V
    before = command(site, power_w=-8000.0, limit_a=44.0)
    case = Case(
        site, seen=image(site, module_v=volts), before=before,
        after=replace(before, power_w=np.full(2, -100.0)),
    )  # fmt: skip
    case = believed(case, ocv_v=full(case, volts), r0_ohm=full(case, 0.05))
    assert broken(case) == set()
    case.after = replace(before, power_w=np.full(2, -7900.0))
    assert "window_max" in rules(case)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_current_limit_may_be_lowered_although_it_already_lets_through_more_than_is_allowed(sign):
    site = guard_site()
    before = command(site, power_w=sign * 4000.0, limit_a=40.0)
    case = Case(site, before=before, after=replace(before, current_limit_a=np.full(2, 20.0)))
    case.after = replace(case.after, power_w=np.full(2, sign * 2000.0))
    case = allowing(case, discharge_now_a=full(case, 20.0), charge_now_a=full(case, 20.0))
    assert broken(case) == set()
    case.after = replace(case.after, current_limit_a=np.full(2, 21.0))
    assert "module_discharge" in rules(case) or "module_charge" in rules(case)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_string_and_trim_current_may_be_lowered_together_out_of_what_a_module_no_longer_bears(sign):
    """A module that lost charge bears 30 A: from 28 A and 4 A of trim to 24 A and 4 A."""
    trims = np.zeros(12)
    trims[:2] = sign * 4.0, -sign * (4.0 * 0.92 if sign > 0.0 else 4.0 / 0.92)
    site = guard_site()
    before = replace(command(site, power_w=sign * 3000.0, limit_a=28.0), trim_current_a=trims)
    case = Case(site, before=before, after=replace(before, current_limit_a=np.full(2, 24.0)))
    bears = np.where(np.arange(12) == 0, 30.0 / (3.0 if sign > 0.0 else 1.5), 48.0)
    case = believed(case, capacity_ah=bears, capacity_std_ah=np.zeros(12))
    assert broken(case) == set()
    case.after = before
    assert rules(case) == {"sum_discharge" if sign > 0.0 else "sum_charge"}


def test_a_module_that_leaves_is_still_in_while_the_limit_rises():
    """Bypassed in one write, the limit raised in another: the second may arrive first."""
    site = guard_site()
    before = command(site, power_w=2000.0, limit_a=15.0)
    out = at(np.ones(12, np.bool_), 0, False)
    case = Case(site, before=before, after=command(site, inserted=out, power_w=2000.0, limit_a=40.0))
    case = believed(case, capacity_ah=np.where(np.arange(12) == 0, 10.0, 48.0), capacity_std_ah=np.zeros(12))
    assert broken(case) == {("subset_discharge", "M0-0")}
    case.after = replace(case.after, current_limit_a=np.full(2, 15.0))
    assert broken(case) == set()


# ---- perhaps in ------------------------------------------------------------------------------------


def leaving_module(**estimate_changes) -> Case:
    """A module commanded out that was silent: nobody knows whether it still stands in."""
    site = guard_site()
    before = command(site, inserted=out_of(1), limit_a=40.0)
    case = Case(site, seen=silent(image(site, out_of(1)), modules=[0]), before=before)
    case.after = replace(before, power_w=np.full(2, 3000.0))
    return believed(case, **estimate_changes)


def test_a_silent_module_that_may_still_be_in_is_held_to_what_it_bears():
    assert broken(leaving_module()) == set()
    weak = leaving_module(capacity_ah=at(np.full(12, 48.0), 0, 10.0), capacity_std_ah=np.zeros(12))
    assert ("module_discharge", "M0-0") in broken(weak)


def test_a_module_out_of_service_that_may_be_in_bears_its_table_and_one_that_sticks_in_what_is_allowed_now():
    """The envelope gives 0 A for what is out of service: nobody asks such a module for anything."""
    limits = {"discharge_now_a": at(np.full(12, 60.0), 0, 0.0)}
    assert broken(allowing(leaving_module(), **limits)) == set()
    stuck = leaving_module()
    stuck.seen = image(stuck.site)
    status = at(stuck.seen.modules.status, 0, int(Rm1Status.INSERTED | Rm1Status.SWITCH_FAULT))
    status[6] = 0  # the other string's first module is out, as commanded
    stuck.seen = replace(stuck.seen, modules=replace(stuck.seen.modules, status=status))
    assert broken(stuck) == set()
    assert ("module_discharge", "M0-0") in broken(allowing(stuck, **limits))


def unknown(case: Case, row: int) -> Case:
    volts = at(case.seen.modules.voltage_v.value, row, np.nan)
    case.seen = replace(case.seen, modules=replace(case.seen.modules, voltage_v=Channel.of(volts)))
    return believed(case, ocv_v=at(np.full(12, MODULE_V), row, np.nan))


def test_a_silent_module_of_unknown_voltage_that_may_still_be_in_is_refused():
    assert ("unknown_voltage", "M0-0") in broken(unknown(leaving_module(), 0))


def test_a_bypassed_module_of_unknown_voltage_stops_nobody():
    site = guard_site()
    before = command(site, inserted=out_of(1))
    case = Case(site, seen=image(site, out_of(1)), before=before)
    case.after = replace(before, power_w=np.full(2, 3000.0))
    assert broken(unknown(case, 0)) == set()


def test_a_module_of_unknown_voltage_is_not_switched_in_behind_a_closed_contactor_without_power_either():
    site = guard_site()
    before = command(site, inserted=out_of(1), mode=0, limit_a=0.0)
    case = Case(site, seen=image(site, out_of(1)), before=before)
    case.after = command(site, mode=0, limit_a=0.0)
    assert broken(case) == set()
    assert ("unknown_voltage", "M0-0") in broken(unknown(case, 0))


# ---- closed, closing, open -------------------------------------------------------------------------


def idle(count: int, *, before: int, module_v: float = MODULE_V, closed: bool = True, **kinds) -> Case:
    """MODE 0: modules from the end of each string are switched in until so many are."""
    site = guard_site()
    order = {"mode": 0, "limit_a": 0.0, **kinds}
    case = Case(
        site, seen=image(site, out_of(6 - before), module_v=module_v, closed=closed),
        before=command(site, inserted=out_of(6 - before), **{"contactor": closed, **order}),
        after=command(site, inserted=out_of(6 - count), **{"contactor": closed, **order}),
    )  # fmt: skip
    return believed(case, ocv_v=full(case, module_v))


def closing(module_v: float = MODULE_V, count: int = 6) -> Case:
    site = guard_site()
    kept = out_of(6 - count)
    before = command(site, inserted=kept, mode=0, limit_a=0.0, contactor=False)
    case = Case(
        site, seen=image(site, kept, closed=False, module_v=module_v), before=before,
        after=replace(before, contactor=np.ones(2, np.bool_)),
    )  # fmt: skip
    return believed(case, ocv_v=full(case, module_v))


def test_a_contactor_does_not_close_onto_a_string_outside_its_window():
    assert rules(closing()) == set()
    assert rules(closing(count=3)) == {"window_min"}
    # the converter reads its string as open: only the closing itself tells that the voltage matters
    assert rules(closing(1.16 * MODULE_V)) == {"window_max"}


def test_a_closed_string_that_rests_below_its_window_may_take_modules_in():
    assert rules(idle(3, before=2)) == set()


def test_no_module_lifts_a_string_above_its_window_while_its_contactor_may_be_closed():
    high = 1.17 * MODULE_V
    assert "window_max" in rules(idle(6, before=5, module_v=high))
    opening = idle(6, before=5, module_v=high)
    opening.after = replace(opening.after, contactor=np.zeros(2, np.bool_))
    assert "window_max" in rules(opening)
    assert rules(idle(6, before=5, module_v=high, closed=False)) == set()


@pytest.mark.parametrize("rule", ["site_open", "string_unusable"])
def test_what_may_not_be_used_neither_closes_nor_runs_while_it_is_opened(rule):
    shut = {"site_open": {"site_open": True}, "string_unusable": {"string_usable": np.zeros(2, np.bool_)}}
    assert rules(allowing(closing_case(), **shut[rule])) == {rule}
    opening = Case().with_after(contactor=np.zeros(2, np.bool_))
    assert rules(allowing(opening, **shut[rule])) == {rule}
    # a string that stays open may still move its modules
    assert rules(allowing(idle(6, before=5, closed=False), **shut[rule])) == set()


@pytest.mark.parametrize(("apart_v", "passes"), [(3.0, True), (-3.0, True), (5.0, False), (-5.0, False)])
def test_a_contactor_closes_only_where_converter_and_modules_agree_however_little_would_flow(apart_v, passes):
    """266 V: 1 % and 1 V, and what the modules' voltages are in doubt, over 0.6 ohm."""
    case = closing()
    volts = case.seen.strings.voltage_v
    case.seen = strings(case.seen, voltage_v=replace(volts, value=volts.value + apart_v))
    case = believed(case, r0_ohm=full(case, 0.1))
    assert rules(case) == (set() if passes else {"connect_voltage"})


def stale(channel: Channel) -> Channel:
    """As it was, and no longer to be trusted."""
    return replace(channel, quality=np.full(channel.value.shape, int(Quality.STALE), np.uint8))


def test_a_string_voltage_that_is_not_fresh_closes_nothing_however_well_it_fits():
    case = closing()
    case.seen = strings(case.seen, voltage_v=stale(case.seen.strings.voltage_v))
    assert rules(case) == {"connect_voltage", "connect_inrush"}


def test_a_link_that_is_not_fresh_counts_as_live_however_dead_it_was():
    case = closing()
    case.seen = strings(case.seen, link_voltage_v=stale(case.seen.strings.link_voltage_v))
    assert rules(case) == {"welded"}


def test_a_contactor_does_not_close_onto_a_number_in_the_power_register():
    assert broken(closing().with_after(power_w=np.array([500.0, 0.0]))) == {("close_unloaded", "S0")}


def test_a_contactor_does_not_close_before_each_module_was_read_where_it_is_to_be():
    mute = closing()
    mute.seen = silent(mute.seen, modules=[0])
    mute.history = History(unsure=np.zeros(12, np.bool_))
    assert broken(mute) == {("close_settled", "S0")}
    leaving = closing().with_after(inserted=at(np.ones(12, np.bool_), 7, False))
    assert ("close_settled", "S1") in broken(leaving)
    assert ("close_settled", "S0") not in broken(leaving)


DOUBTS = {
    "site_inputs": SiteInputs(unknown=("smoke_alarm",)),
    "insulation": SiteInputs(insulation_ohm_per_v=60.0),
}


@pytest.mark.parametrize("rule", DOUBTS)
@pytest.mark.parametrize("positions", [1, 2])
def test_only_what_may_be_touched_closes_while_insulation_or_an_input_is_in_doubt(positions, rule):
    """One module has 44 V, two have 89 V."""
    site = guard_site(positions=positions)
    before = command(site, mode=0, limit_a=0.0, contactor=False)
    case = Case(
        site, seen=image(site, closed=False), before=before,
        after=replace(before, contactor=np.array([True, False])),
    )  # fmt: skip
    assert rules(case) == set()
    assert broken(with_inputs(case, DOUBTS[rule])) == (set() if positions == 1 else {(rule, "S0")})


@pytest.mark.parametrize("rule", DOUBTS)
def test_a_string_that_is_closed_serves_on_while_insulation_or_an_input_is_in_doubt(rule):
    assert rules(with_inputs(Case(), DOUBTS[rule])) == set()


# ---- dwell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [
    History(since_switch_s=np.full(12, 1.0)), History(switches=np.full(12, 99.0)),
])  # fmt: skip
def test_a_module_that_must_leave_does_not_wait_for_its_dwell_and_one_that_may_does(history):
    site = guard_site()
    case = Case(site, after=command(site, inserted=out_of(1), power_w=3000.0), history=history)
    must = np.zeros(12, np.uint8)
    must[[0, 6]] = int(Insertion.FORBIDDEN)
    assert len(broken(case)) == 2
    assert broken(allowing(case, insertion=must)) == set()
    # nor does it come back sooner
    back = Case(
        site, seen=image(site, out_of(1)), before=command(site, inserted=out_of(1)),
        after=command(site, power_w=3000.0), history=history,
    )  # fmt: skip
    assert len(broken(back)) == 2
    assert {"insertion_forbidden", *rules(back)} == rules(allowing(back, insertion=must))


@pytest.mark.parametrize("history", [
    History(since_switch_s=np.full(12, 1.0)), History(switches=np.full(12, 99.0)),
])  # fmt: skip
def test_only_a_module_that_moves_under_a_running_converter_waits_for_its_dwell(history):
    assert rules(Case(history=history)) == set()
    idling = idle(6, before=5)
    idling.history = history
    assert rules(idling) == set()


def test_a_link_that_rises_while_it_is_precharged_is_not_welded():
    """The contactor is commanded closed and not there yet; meanwhile a trim begins."""
    site = guard_site()
    before = command(site, mode=0, limit_a=0.0)
    trims = np.zeros(12)
    trims[:2] = 3.0, -3.0 * 0.92
    seen = image(site, closed=False, link_v=200.0, status=int(Rc1Status.PRECHARGING))
    case = Case(site, seen=seen, before=before, after=replace(before, trim_current_a=trims))
    assert rules(case) == set()
    # only the first string moves at all: the command to close the other one still stands
    case.before = replace(before, contactor=~FIRST)
    assert broken(case) == {("welded", "S0")}


@pytest.mark.parametrize("leaves", [True, False])
def test_an_open_string_may_be_filled_from_nothing_and_a_closed_one_not_emptied(leaves):
    case = idle(5, before=0, closed=False) if not leaves else idle(0, before=5, closed=False)
    assert rules(case) == set()
    shut = idle(0, before=5)
    assert rules(shut) >= {"string_bypassed"}
    assert rules(closing(count=0)) >= {"string_bypassed"}


# ---- a converter that is off ---------------------------------------------------------------------------


def off_with(power_w: float, stood_w: float) -> Case:
    """The first string stops, or stays so, with this number in its power register; the second runs."""
    site = guard_site()
    before = replace(command(site), mode=np.array([0, 1]), power_w=np.array([stood_w, 1000.0]))
    return Case(site, before=before, after=replace(before, power_w=np.array([power_w, 1000.0])))


@pytest.mark.parametrize(
    ("power_w", "stood_w", "passes"),
    [
        (12_000.0, 0.0, True),
        (-12_000.0, 0.0, True),
        (12_001.0, 0.0, False),
        (-12_001.0, 0.0, False),
        (1e300, 0.0, False),
        # a number that another host left there: it may stay or shrink, and not grow
        (50_000.0, 50_000.0, True),
        (-50_000.0, 50_000.0, True),
        (30_000.0, -50_000.0, True),
        (50_001.0, 50_000.0, False),
        (0.0, 50_000.0, True),
        # what is not known of the register before is no reason to let anything in
        (12_000.0, np.nan, True),
        (13_000.0, np.nan, False),
        (0.0, np.nan, True),
    ],
)
def test_nothing_beyond_its_rating_is_put_into_the_register_of_a_converter_that_is_off(
    power_w, stood_w, passes
):
    assert broken(off_with(power_w, stood_w)) == (set() if passes else {("converter_power", "S0")})


def test_a_converter_is_not_started_on_a_number_that_another_left_in_its_register():
    case = off_with(50_000.0, 50_000.0).with_after(mode=np.ones(2, np.int64))
    assert ("converter_power", "S0") in broken(case)


def test_a_number_in_the_register_of_a_converter_that_is_off_is_no_power_to_ramp_from():
    case = off_with(6000.0, 0.0)
    case.history = History(ramp_w_per_s=500.0)
    assert rules(case) == set()
    started = off_with(6000.0, 6000.0).with_after(mode=np.ones(2, np.int64))
    assert rules(started) == set()
    started.history = History(ramp_w_per_s=500.0)
    assert broken(started) == {("ramp", "site")}
    # neither in the step before, of one change
    site, before, on = started.site, started.before, started.after
    for steps in ((before, on), (on,)):
        answer = verify_steps(
            site, started.seen, started.believed, started.allowed, before, steps,
            dt_s=1.0, history=started.history,
        )  # fmt: skip
        assert isinstance(answer, Refused)
        assert {v.rule for v in answer.violations} == {"ramp"}


# ---- what counts as closing ------------------------------------------------------------------------


def test_a_contactor_that_opened_by_itself_is_closing_when_it_is_asked_to_be_closed():
    case = idle(6, before=5)
    case.history = History(locked=True)
    assert rules(case) == set()
    opened = idle(6, before=5)
    opened.seen = image(opened.site, out_of(1), closed=False)
    opened.history = History(locked=True)
    assert "maintenance" in rules(opened)
    opened.history = History()
    opened = with_inputs(opened, SiteInputs(insulation_ohm_per_v=60.0))
    assert "insulation" in rules(opened)


def test_a_string_that_opened_by_itself_is_held_at_power_0_and_not_closed_again():
    case = Case(seen=image(guard_site(), closed=False), history=History(locked=True))
    case.after = replace(case.before, mode=np.zeros(2, np.int64))
    answer = case.ask()
    assert isinstance(answer, VerifiedCommand), answer
    assert not answer.closes.any()


def test_a_contactor_that_reads_closed_against_its_command_is_closing_when_it_is_asked_to_be():
    site = guard_site()
    before = command(site, mode=0, contactor=False, limit_a=0.0)
    case = Case(
        site, seen=image(site, closed=True), before=before,
        after=replace(before, contactor=np.ones(2, np.bool_)), history=History(locked=True),
    )  # fmt: skip
    assert broken(case) >= {("maintenance", "S0"), ("welded", "S0")}


def test_a_converter_that_missed_one_reading_is_not_taken_for_one_that_opened():
    answer = missed(Case()).ask()
    assert isinstance(answer, VerifiedCommand), answer
    assert not answer.closes.any()


# ---- resting ---------------------------------------------------------------------------------------


def trimmed(before_a: float, after_a: float) -> Case:
    site = guard_site()
    before = replace(command(site), trim_current_a=at(np.zeros(12), 0, before_a))
    after = replace(SlotCommand.safe(12, 2), inserted=before.inserted, contactor=before.contactor)
    case = Case(site, before=before, after=replace(after, trim_current_a=at(np.zeros(12), 0, after_a)))
    return allowing(case, trim_give_a=np.zeros(12), trim_take_a=np.zeros(12))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_leaving_may_lower_a_trim_and_not_turn_it_round(sign):
    assert rules(trimmed(sign * 3.0, sign * 2.0)) == set()
    assert rules(trimmed(sign * 3.0, 0.0)) == set()
    assert "trim_take" in rules(trimmed(3.0, -2.0))
    assert "trim_give" in rules(trimmed(-3.0, 2.0))
    assert rules(trimmed(sign * 2.0, sign * 3.0)) & {"trim_take", "trim_give"}
