"""Numbers, permissions and directions of verify's rules, and what counts as resting or as inserted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_site import command, guard_site, image, silent
from test_guard_verify_rules import Case, at, full, out_of
from test_guard_verify_rules import allowed as allowing
from test_guard_verify_rules import closing as closing_case

from reconf.actuation import Refused, SlotCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.protection.envelope import Insertion
from reconf.verify import History
from reconf.verify.circuit import inserted_bounds
from reconf.verify.context import resting

ALL = np.ones(12, np.bool_)
NONE = np.zeros(12, np.bool_)


def rules(case: Case) -> set[str]:
    answer = case.ask()
    return {v.rule for v in answer.violations} if isinstance(answer, Refused) else set()


# ---- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inserted", "by_itself", "duty", "passes"),
    [
        (True, True, 1.0, True),
        (True, True, 0.5, True),
        (True, True, 0.0, False),
        (False, True, 0.5, False),
        (False, True, 0.0, True),
        (True, True, -0.1, False),
        (True, True, 1.1, False),
        (True, False, 0.0, True),
        (False, False, 0.5, True),
        (True, False, -0.1, False),
        (True, False, 1.1, False),
    ],
)
def test_a_duty_is_a_share_and_goes_with_its_insert_state(inserted, by_itself, duty, passes):
    case = Case().with_after(power_w=np.full(2, 500.0))
    case = case.with_after(
        inserted=at(ALL, 0, inserted), duty_mode=at(NONE, 0, by_itself), duty_frac=at(np.zeros(12), 0, duty)
    )
    assert ("duty_range" in rules(case)) is not passes


@pytest.mark.parametrize(("mode", "known"), [(-1, False), (0, True), (1, True), (2, True), (3, False)])
def test_a_converter_has_three_modes(mode, known):
    case = Case().with_after(mode=np.array([mode, 1]))
    assert ("mode_value" in rules(case)) is not known


@pytest.mark.parametrize(("bus_v", "passes"), [(719.0, False), (721.0, True), (879.0, True), (881.0, False)])
def test_the_set_point_of_the_bus_lies_in_its_window(bus_v, passes):
    site = guard_site(master="S0")
    before = replace(command(site), mode=np.array([2, 1]), bus_voltage_v=np.array([800.0, 0.0]))
    asked = replace(before, bus_voltage_v=np.array([bus_v, 0.0]), power_w=np.array([0.0, 1000.0]))
    assert rules(Case(site, before=before, after=asked)) == (set() if passes else {"bus_setpoint"})


# ---- permission ------------------------------------------------------------------------------------


def forbidding(case: Case, kind: Insertion = Insertion.FORBIDDEN) -> Case:
    return allowing(case, insertion=at(np.zeros(12, np.uint8), 0, int(kind)))


def test_a_forbidden_module_stays_in_only_while_nothing_may_flow():
    still = Case(before=command(guard_site(), limit_a=0.0), after=command(guard_site(), limit_a=0.0, mode=1))
    still = still.with_after(trim_current_a=at(at(np.zeros(12), 2, 3.0), 3, -3.0 * 0.92))
    assert rules(forbidding(still)) == set()
    flowing = replace(still, after=replace(still.after, current_limit_a=np.array([5.0, 0.0])))
    assert rules(forbidding(flowing)) == {"insertion_forbidden"}
    site = guard_site()
    comes = Case(
        site, seen=image(site, out_of(1)), before=command(site, inserted=out_of(1), limit_a=0.0),
        after=command(site, limit_a=0.0),
    )  # fmt: skip
    assert "insertion_forbidden" in rules(forbidding(comes))


@pytest.mark.parametrize("kind", [Insertion.FORBIDDEN, Insertion.FORCED])
def test_a_node_that_runs_a_duty_by_itself_is_in_or_out_by_its_duty(kind):
    site = guard_site()
    for duty in (0.0, 0.5):
        own = {"duty_mode": at(NONE, 0, True), "duty_frac": at(np.zeros(12), 0, duty)}
        before = replace(command(site, inserted=at(ALL, 0, duty > 0.0)), **own)
        case = Case(
            site, seen=image(site, before.inserted), before=before,
            after=replace(before, power_w=np.full(2, 500.0)),
        )  # fmt: skip
        wrong = (duty > 0.0) is (kind is Insertion.FORBIDDEN)
        name = "insertion_forbidden" if kind is Insertion.FORBIDDEN else "insertion_forced"
        assert rules(forbidding(case, kind)) == ({name} if wrong else set())


def test_a_silent_module_stays_in_and_does_not_come_in():
    site = guard_site()
    stays = Case(site, seen=silent(image(site), modules=[0])).with_after(power_w=np.full(2, 1000.0))
    assert rules(stays) == set()
    comes = Case(
        site, seen=silent(image(site, out_of(1)), modules=[0]), before=command(site, inserted=out_of(1))
    )
    assert "stale_module" in rules(comes)


@pytest.mark.parametrize(("age_s", "passes"), [(1.4, True), (1.6, False)])
def test_a_converter_may_miss_one_reading_and_not_two(age_s, passes):
    case = Case()
    stood = case.seen.strings
    seen = replace(stood, answered=np.array([False, True]), age_s=np.array([age_s, 0.0]))
    case.seen = replace(case.seen, strings=seen)
    assert rules(case) == (set() if passes else {"stale_string"})


def test_a_latch_that_was_read_last_counts_until_it_is_read_gone():
    case = Case(seen=image(guard_site(), status=int(Rc1Status.WATCHDOG_EXPIRED)))
    stood = case.seen.strings
    seen = replace(stood, answered=np.zeros(2, np.bool_), age_s=np.ones(2))
    case.seen = replace(case.seen, strings=seen)
    assert rules(case) == {"converter_latched"}


# ---- directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power_w", "limits", "rule"),
    [
        (4000.0, {"string_discharge_w": 3900.0}, "converter_power"),
        (-4000.0, {"string_charge_w": 3900.0}, "converter_power"),
        (4000.0, {"string_discharge_a": 39.0}, "converter_current"),
        (-4000.0, {"string_charge_a": 39.0}, "converter_current"),
    ],
)
def test_what_a_converter_is_allowed_counts_in_the_direction_it_flows(power_w, limits, rule):
    given = {name: np.full(2, value) for name, value in limits.items()}
    assert rules(allowing(Case().with_after(power_w=np.full(2, power_w)), **given)) == {rule}
    assert rules(allowing(Case().with_after(power_w=np.full(2, -power_w)), **given)) == set()


@pytest.mark.parametrize(
    ("before_w", "after_w", "passes"),
    [
        (0.0, 900.0, True), (0.0, 1100.0, False), (0.0, -1100.0, False), (3000.0, 500.0, True),
        (3000.0, 3900.0, True), (3000.0, 4100.0, False), (-3000.0, -4100.0, False),
        (3000.0, -500.0, False), (-3000.0, 500.0, False), (400.0, -500.0, True), (-3000.0, -100.0, True),
    ],
)  # fmt: skip
def test_a_ramp_binds_what_grows_or_turns_round_and_lets_less_through_at_once(before_w, after_w, passes):
    site = guard_site()
    case = Case(site, before=command(site, power_w=before_w / 2.0), history=History(ramp_w_per_s=1000.0))
    case = case.with_after(power_w=np.full(2, after_w / 2.0))
    assert rules(case) == (set() if passes else {"ramp"})


@pytest.mark.parametrize(
    ("gives_a", "takes_a", "passes"),
    [(4.0, 4.0 * 0.92, True), (4.0, 4.0, True), (4.0, 2.0, False), (2.0, 4.0, False), (0.1, 0.0, True)],
)
def test_what_trims_give_reaches_those_that_take_less_a_tenth(gives_a, takes_a, passes):
    trims = np.zeros(12)
    trims[:2] = gives_a, -takes_a
    case = Case().with_after(trim_current_a=trims)
    assert rules(case) == (set() if passes else {"trim_balance"})


@pytest.mark.parametrize(
    ("gives_a", "takes_a", "passes"), [(4.9, 4.9, True), (5.1, 4.9, False), (4.9, 5.1, False)]
)
def test_a_trim_keeps_to_its_rating_either_way(gives_a, takes_a, passes):
    trims = np.zeros(12)
    trims[:2] = gives_a, -takes_a
    wide = {"trim_give_a": full(Case(), 9.0), "trim_take_a": full(Case(), 9.0)}
    answered = rules(allowing(Case().with_after(trim_current_a=trims), **wide))
    assert answered == (set() if passes else {"trim_rating"})


def test_a_contactor_mismatch_is_asked_about_at_closing_alone():
    mismatch = int(Rc1Status.CONTACTOR_MISMATCH)
    assert rules(Case(seen=image(guard_site(), status=mismatch))) == set()
    shut = closing_case(status=mismatch)
    shut.after = replace(shut.after, contactor=np.array([False, True]))
    answer = shut.ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} == {("contactor_mismatch", "S1")}


# ---- resting ---------------------------------------------------------------------------------------

RUNNING = replace(command(guard_site(), power_w=3000.0), trim_current_a=at(np.zeros(12), 0, 2.0))
QUIET = replace(RUNNING, power_w=np.zeros(2), trim_current_a=np.zeros(12))
SOMETIMES = {"duty_mode": at(NONE, 0, True), "duty_frac": at(np.zeros(12), 0, 0.5)}


def rests(before: SlotCommand, after: SlotCommand, *, read_open: bool = False) -> bool:
    """Whether string 0 does."""
    string_of = guard_site().topology.string_of
    return bool(resting(before, after, string_of, np.full(2, read_open))[0])


@pytest.mark.parametrize(
    ("changes", "calm"),
    [
        ({}, True),
        ({"mode": np.array([0, 1])}, True),
        ({"mode": np.array([2, 1])}, False),
        ({"power_w": np.array([1.0, 0.0])}, False),
        ({"power_w": np.array([-1.0, 0.0])}, False),
        ({"mode": np.array([0, 1]), "power_w": np.array([1.0, 0.0])}, False),
        ({"contactor": np.array([False, True])}, True),
        ({"current_limit_a": np.array([0.0, 40.0])}, True),
        ({"inserted": at(ALL, 0, False)}, False),
        ({"trim_current_a": at(np.zeros(12), 0, 2.0)}, True),
        ({"trim_current_a": at(np.zeros(12), 0, 2.1)}, False),
        ({"trim_current_a": at(np.zeros(12), 0, -1.0)}, False),
        ({"trim_current_a": at(np.zeros(12), 1, 0.1)}, False),
        (SOMETIMES, False),
        ({"duty_frac": at(np.zeros(12), 0, 0.5)}, True),
    ],
)
def test_only_less_is_resting(changes, calm):
    assert rests(RUNNING, replace(QUIET, **changes)) is calm


def test_a_string_that_was_off_does_not_rest_when_it_is_started_at_power_0():
    off = replace(QUIET, mode=np.array([0, 1]))
    assert rests(off, off)
    assert not rests(off, QUIET)
    assert not rests(replace(QUIET, mode=np.array([2, 1])), QUIET)


def test_a_contactor_that_was_open_does_not_rest_when_it_is_closed():
    opened = replace(QUIET, contactor=np.array([False, True]))
    assert rests(opened, opened)
    assert not rests(opened, QUIET)


@pytest.mark.parametrize("read_open", [True, False])
def test_modules_are_bypassed_at_rest_only_behind_a_contactor_that_was_read_open(read_open):
    opened = replace(QUIET, contactor=np.array([False, True]))
    out = replace(opened, inserted=at(ALL, 0, False))
    assert rests(opened, out, read_open=read_open) is read_open
    assert not rests(out, opened, read_open=read_open), "none comes in"
    by_itself = replace(opened, **SOMETIMES)
    assert rests(by_itself, by_itself, read_open=read_open)
    assert rests(by_itself, out, read_open=read_open) is read_open
    assert not rests(by_itself, replace(by_itself, duty_frac=at(np.zeros(12), 0, 0.6)), read_open=read_open)
    assert not rests(by_itself, opened, read_open=read_open)
    assert not rests(out, replace(out, duty_mode=at(NONE, 0, True)), read_open=read_open)


HELD = command(guard_site(), power_w=3000.0)
UNFIT = {
    "bus gone": {"bus_v": 100.0},
    "opened by itself": {"closed": False},
    "latched": {"status": int(Rc1Status.HARDWARE_FAULT)},
    "over the window": {"module_v": 60.0},
    "unread": {"module_v": np.nan},
}


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("name", UNFIT)
def test_power_0_is_held_whatever_is_read_and_power_is_not(name, mode):
    case = Case(seen=image(guard_site(), **UNFIT[name]), before=HELD)
    case = allowing(case, site_open=True, string_usable=np.zeros(2, np.bool_), string_discharge_a=np.zeros(2))
    case.after = replace(HELD, power_w=np.zeros(2), mode=np.full(2, mode))
    assert rules(case) == set()
    case.after = replace(HELD, power_w=np.ones(2))
    assert rules(case)


def test_a_current_limit_above_what_is_allowed_stops_nobody_whose_converter_is_off():
    before = replace(HELD, mode=np.zeros(2, np.int64))
    case = allowing(Case(before=before, after=before), string_discharge_a=np.full(2, 10.0))
    assert rules(case) == set()
    assert rules(replace(case, after=HELD)) >= {"converter_current"}


# ---- surely in, perhaps in -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duty", "surely", "maybe"),
    [(None, True, True), (1.0, True, True), (0.99, False, True), (0.01, False, True), (0.0, False, False)],
)
def test_a_duty_below_one_is_either(duty, surely, maybe):
    asked = command(guard_site())
    if duty is not None:
        asked = replace(asked, duty_mode=ALL, duty_frac=np.full(12, duty), inserted=np.full(12, duty > 0.0))
    one, other = inserted_bounds(asked, image(guard_site()), NONE)
    assert (one == surely).all()
    assert (other == maybe).all()
    one, other = inserted_bounds(asked, image(guard_site()), ALL)
    assert not one.any()
    assert other.all()


@pytest.mark.parametrize("commanded", [True, False])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("answered", [True, False])
def test_a_switch_that_says_it_is_stuck_is_where_it_shows_while_its_node_answers(commanded, shown, answered):
    site = guard_site()
    seen = image(site, np.full(12, shown))
    status = seen.modules.status | int(Rm1Status.SWITCH_FAULT)
    seen = replace(seen, modules=replace(seen.modules, status=status, answered=np.full(12, answered)))
    asked = command(site, inserted=np.full(12, commanded))
    surely, maybe = inserted_bounds(asked, seen, NONE)
    stands = shown if answered else commanded
    assert (surely == stands).all()
    assert (maybe == stands).all()
