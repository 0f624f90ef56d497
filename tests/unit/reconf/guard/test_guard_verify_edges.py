"""Where exactly the rules of verify say no: margins, signs and doubts, each against a number by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_site import MODULE_V, R_OHM, command, guard_site, image, silent
from hypothesis import event, example, given
from hypothesis import strategies as st
from test_guard_verify_rules import Case, at, believed, closing, full, out_of

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel
from reconf.verify import History
from reconf.verify.tables import build_tables

VOLTS = 6 * MODULE_V * 0.998
OHM = 6 * (1.15 * R_OHM + 0.0005)
STRING_W = 5000.0 * 1.01 + 20.0
CURRENT_A = 2 * STRING_W / (VOLTS + np.sqrt(VOLTS**2 - 4 * STRING_W * (OHM + 0.02)))
"""At 5 kW, with every voltage at its lowest and every resistance at its highest."""
WORST = 1.15 * (1.0 + 2.0 * 0.001 / (1.5 * R_OHM))
"""Resistance of the worst cell group over the believed mean, with two deviations of the mean."""
FAST_OHM, SLOW_OHM = WORST * R_OHM / 12, WORST * 0.5 * R_OHM / 12
"""Of the worst cell group: at once, and with the times of its polarisation."""
TABLES = guard_site().derived(build_tables)
TIMES_S, FAST_FRAC = TABLES.polarisation_times_s[:, 0], float(TABLES.polarisation_fast_frac[0])


def drop_v(current_a: float, hold_s: float) -> float:
    """Of the worst group after `hold_s` from rest; 10 mV of its polarisation are in doubt."""
    fast, slow = 1.0 - np.exp(-hold_s / TIMES_S)
    settled = SLOW_OHM * current_a * (FAST_FRAC * fast + (1.0 - FAST_FRAC) * slow)
    return FAST_OHM * current_a + settled + 0.01 * fast


def broken(case: Case) -> set[str]:
    answer = case.ask()
    return {v.rule for v in answer.violations} if isinstance(answer, Refused) else set()


def last_accepted(case_of, refused: float, accepted: float) -> float:
    """The value nearest to `refused` that is still let through."""
    assert isinstance(case_of(accepted).ask(), VerifiedCommand), case_of(accepted).ask()
    assert isinstance(case_of(refused).ask(), Refused)
    for _ in range(40):
        middle = 0.5 * (refused + accepted)
        if isinstance(case_of(middle).ask(), Refused):
            refused = middle
        else:
            accepted = middle
    return accepted


def discharging(hold_s: float, name: str, **after) -> callable:
    def case_of(value: float) -> Case:
        case = Case(history=History(hold_s=hold_s)).with_after(**after)
        return believed(case, **{name: full(case, value)})

    return case_of


def test_the_worst_group_of_a_module_has_more_resistance_than_its_mean():
    lowest_v = last_accepted(discharging(1.0, "cell_voltage_min_v"), 2.70, 3.5)
    assert lowest_v == pytest.approx(2.7 + drop_v(CURRENT_A, 1.0), abs=5e-4)


def test_the_current_of_a_constant_power_rises_while_nobody_looks():
    lowest_v = last_accepted(discharging(30.0, "cell_voltage_min_v"), 2.70, 3.5)
    rises_a = CURRENT_A * (1.0 + 0.12 * 29.0 / 30.0)
    falls_v = 0.1 / 12 * rises_a * 30.0 / 3600.0
    assert lowest_v == pytest.approx(2.7 + drop_v(rises_a, 30.0) + falls_v, abs=5e-4)


@pytest.mark.parametrize(("name", "sign"), [("remaining_ah", 1.0), ("chargeable_ah", -1.0)])
def test_the_charge_that_is_left_or_fits_is_doubted_by_a_quarter(name, sign):
    least_ah = last_accepted(discharging(30.0, name, power_w=np.full(2, sign * 5000.0)), 0.0, 24.0)
    if sign > 0.0:
        moved_ah = CURRENT_A * (1.0 + 0.12 * 29.0 / 30.0) * 30.0 / 3600.0
        assert least_ah == pytest.approx(1.25 * moved_ah - 0.002 * 48.0 / 30.0, rel=0.01)
    else:
        # charging: 5000 W at the bus come to 4930 W, less resistance and fixed loss
        assert least_ah == pytest.approx(1.25 * 4930.0 / (VOLTS + 2.0) * 30.0 / 3600.0, rel=0.03)


@pytest.mark.parametrize("hold_s", [1.0, 120.0])
@pytest.mark.parametrize("slope_v_per_ah", [0.01, 0.5])
def test_on_a_plateau_a_doubtful_soc_may_hide_the_end_until_the_voltage_is_looked_at(hold_s, slope_v_per_ah):
    """2.5 Ah are left; 1.4 of them go in two minutes. Two deviations are 1.9 Ah, 20 mV of a slope 0.5."""

    def case(std_frac: float) -> Case:
        made = Case(history=History(hold_s=hold_s)).with_after(power_w=np.full(2, 5000.0))
        return believed(
            made,
            remaining_ah=full(made, 2.5),
            soc_std_frac=full(made, std_frac),
            cell_voltage_min_v=full(made, 3.2),
            ocv_slope_v_per_ah=full(made, slope_v_per_ah),
        )

    assert broken(case(0.0)) == set()
    hidden = hold_s > 1.0 and slope_v_per_ah < 0.1
    assert broken(case(0.02)) == ({"cell_voltage_min"} if hidden else set())


@given(
    true_ah=st.floats(0.05, 4.0),
    wrong=st.floats(0.87, 1.15),
    off=st.floats(-2.0, 2.0),
    std_frac=st.floats(0.0, 0.04),
    hold_s=st.floats(60.0, 300.0),
    power_w=st.floats(500.0, 5000.0),
    start_v=st.floats(2.9, 3.4),
)
@example(true_ah=1.0, wrong=1.15, off=2.0, std_frac=0.04, hold_s=300.0, power_w=5000.0, start_v=3.4)
def test_no_cell_falls_off_its_plateau_though_soc_and_capacity_are_believed_too_high(
    true_ah, wrong, off, std_frac, hold_s, power_w, start_v
):
    """The capacity is off by 15 % and the SOC by two deviations, at once, and nothing of it shows."""
    case = Case(history=History(hold_s=hold_s)).with_after(power_w=np.full(2, power_w))
    case = believed(
        case,
        cell_voltage_min_v=full(case, start_v),
        ocv_slope_v_per_ah=full(case, 0.001),
        soc_std_frac=full(case, std_frac),
        remaining_ah=full(case, max(true_ah * wrong + off * std_frac * 48.0, 0.0)),
    )
    rules = broken(case)
    event("refused" if rules else "accepted")
    if not rules:
        gone_ah = power_w / (6 * MODULE_V) * (hold_s - 1.0) / 3600.0
        below_ah = max(gone_ah - true_ah, 0.0)
        end_v = TABLES.cell_empty_v[0] - TABLES.end_slope_v[0, 0] * below_ah / 48.0
        assert gone_ah <= true_ah or end_v >= TABLES.cell_voltage_min_v[0]


@pytest.mark.parametrize(
    ("name", "power_w", "refused", "accepted"),
    [("cell_voltage_min_v", 5000.0, 2.7, 3.5), ("cell_voltage_max_v", -5000.0, 4.25, 3.8)],
)
def test_a_trim_in_the_same_direction_adds_to_the_string_current_in_its_cells(
    name, power_w, refused, accepted
):
    edges = []
    for trim_a in (3.0, 0.0, -3.0):
        trims = np.zeros(12)
        trims[0], trims[1] = trim_a, -trim_a * (0.92 if trim_a > 0 else 1 / 0.92)

        def case_of(value, trims=trims):
            case = Case().with_after(power_w=np.full(2, power_w), trim_current_a=trims)
            base = {"cell_voltage_min_v": 3.69, "cell_voltage_max_v": 3.71}[name]
            return believed(case, **{name: at(full(case, base), 0, value)})

        edges.append(last_accepted(case_of, refused, accepted))
    step_v = drop_v(3.0, 1.0) - drop_v(0.0, 1.0)
    assert edges[0] - edges[1] == pytest.approx(step_v, abs=4e-4)
    assert edges[1] - edges[2] == pytest.approx(step_v, abs=4e-4)


# ---- closing ---------------------------------------------------------------------------------------


def linked(channel_of) -> Case:
    case = closing()
    link = channel_of(case.seen.strings.link_voltage_v)
    case.seen = replace(case.seen, strings=replace(case.seen.strings, link_voltage_v=link))
    return case


@pytest.mark.parametrize(("share", "live"), [(0.09, False), (0.11, True), (-0.11, True), (-1.5, True)])
def test_a_link_above_a_tenth_of_the_window_is_live_whichever_way_it_is_wired(share, live):
    volts = share * 0.6 * 6 * MODULE_V
    assert ("welded" in broken(linked(lambda c: replace(c, value=np.full(2, volts))))) is live


def test_a_link_that_is_not_read_counts_as_live():
    assert "welded" in broken(linked(lambda c: Channel.of(np.full(c.value.shape, np.nan))))


def test_power_is_not_asked_of_a_silent_converter_that_did_not_run():
    site = guard_site()
    case = Case(site, before=command(site, mode=0, limit_a=0.0), after=command(site, power_w=100.0))
    assert broken(case) == set()
    case.seen = silent(case.seen, strings=[0, 1])
    assert "power_before_closed" in broken(case)


# ---- switches --------------------------------------------------------------------------------------


def test_a_change_of_all_modules_for_others_may_leave_none_in_on_the_way():
    first, second = [True, True, True, False, False, False] * 2, [False, False, False, True, True, True] * 2
    site = guard_site()
    case = Case(
        site,
        seen=image(site, first),
        before=command(site, inserted=first),
        after=command(site, inserted=second),
    )
    assert "string_bypassed" in broken(case)


def test_a_contactor_that_precharges_is_not_open():
    site = guard_site()
    case = Case(
        site,
        seen=image(site, closed=False),
        before=command(site, mode=0, contactor=False, limit_a=0.0),
        after=SlotCommand.safe(12, 2),
    )
    assert broken(case) == set()
    case.seen = image(site, closed=False, status=int(Rc1Status.PRECHARGING))
    assert broken(case) == {"string_bypassed"}


def test_a_module_that_shows_another_state_than_commanded_may_stand_either_way_until_it_was_read_back():
    site = guard_site()
    four_in = [True, True, True, True, False, False] * 2
    seen = image(site, four_in)
    status = at(seen.modules.status, 0, seen.modules.status[0] & ~int(Rm1Status.INSERTED))
    case = Case(
        site,
        seen=replace(seen, modules=replace(seen.modules, status=status)),
        before=command(site, inserted=four_in),
        after=command(site, inserted=four_in, power_w=1000.0),
    )
    assert "window_min" in broken(case)
    case.history = History(settled=at(np.zeros(12, np.bool_), 0, True))
    assert broken(case) == set()


def test_a_silent_module_that_is_commanded_out_still_counts_towards_the_highest_voltage():
    site = guard_site()
    case = Case(
        site,
        seen=image(site, out_of(1), module_v=1.17 * MODULE_V),
        before=command(site, inserted=out_of(1)),
        after=command(site, inserted=out_of(1), power_w=2000.0),
    )
    case = believed(case, ocv_v=full(case, 1.17 * MODULE_V))
    assert broken(case) == set()
    case.seen = silent(case.seen, modules=[0])
    assert "window_max" in broken(case)


@pytest.mark.parametrize(
    "latch", [Rc1Status.WATCHDOG_EXPIRED, Rc1Status.HARDWARE_FAULT, Rc1Status.EMERGENCY_STOP]
)
def test_no_power_is_asked_of_a_converter_that_is_latched(latch):
    assert broken(Case(seen=image(guard_site(), status=int(latch)))) == {"converter_latched"}
