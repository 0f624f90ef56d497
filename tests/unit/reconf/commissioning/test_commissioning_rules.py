"""What may be written while a site is proven, and what is made of readings. Each rule has a breach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_site import MODULE_V, command, envelope, estimate, guard_site, image, silent
from hypothesis import given
from hypothesis import strategies as st

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.commissioning.line import UnitCount, judge_line, too_many
from reconf.commissioning.permit import Known, permit, strings_named
from reconf.commissioning.power import judge_power, small_power
from reconf.commissioning.rules import TRIAL_RULES, Trial
from reconf.commissioning.temperature import fit_rack
from reconf.commissioning.trim import judge_trim, trim_pattern
from reconf.devices.rc1 import Rc1Status
from reconf.devices.rm1 import Rm1Status

SITE = guard_site(strings=2, positions=6)
M, S = 12, 2
SAFE = SlotCommand.safe(M, S)
OUT = np.zeros(M, dtype=np.bool_)


def who(*rows: int) -> np.ndarray:
    mask = np.zeros(M, dtype=np.bool_)
    mask[list(rows)] = True
    return mask


def known(**changes) -> Known:
    base = Known(
        image=image(SITE, OUT, closed=False),
        estimate=estimate(SITE),
        envelope=envelope(SITE),
        in_force=SAFE,
        module_watchdog_s=np.full(M, 6.0),
        string_watchdog_s=np.full(S, 3.0),
        faulty=np.zeros(S, dtype=np.bool_),
        dt_s=1.0,
    )
    return replace(base, **changes)


def with_status(seen, *, module: int | None = None, string: int | None = None, bits: int = 0):
    if module is not None:
        status = seen.modules.status.copy()
        status[module] |= bits
        return replace(seen, modules=replace(seen.modules, status=status))
    status = seen.strings.status.copy()
    status[string] |= bits
    return replace(seen, strings=replace(seen.strings, status=status))


OPEN = image(SITE, OUT, closed=False)
THREE = replace(SAFE, inserted=who(0, 1, 2))
BREACHES = {
    "trial_shape": (known(), replace(SAFE, inserted=np.zeros(3, bool)), Trial.SWITCHES),
    "trial_numbers": (known(), replace(SAFE, power_w=np.array([np.nan, 0.0])), Trial.SWITCHES),
    "trial_contactor": (known(image=image(SITE, OUT, closed=True)), THREE, Trial.SWITCHES),
    "trial_link": (known(image=image(SITE, OUT, closed=False, link_v=100.0)), THREE, Trial.SWITCHES),
    "trial_off": (known(), replace(THREE, contactor=np.array([True, False])), Trial.SWITCHES),
    "trial_duty": (known(), replace(THREE, duty_mode=who(0), duty_frac=1.0 * who(0)), Trial.SWITCHES),
    "trial_stale": (known(image=silent(OPEN, modules=[1])), THREE, Trial.SWITCHES),
    "trial_latched": (
        known(image=with_status(OPEN, module=2, bits=int(Rm1Status.WATCHDOG_EXPIRED))), THREE, Trial.SWITCHES,
    ),
    "trial_watchdog": (known(module_watchdog_s=np.full(M, 5.0)), THREE, Trial.SWITCHES),
    "trial_together": (known(), replace(SAFE, inserted=who(0, 1, 2, 3)), Trial.SWITCHES),
    "trial_voltage": (known(image=image(SITE, OUT, closed=False, module_v=60.0)), THREE, Trial.SWITCHES),
    "trial_still": (known(), replace(THREE, trim_current_a=1.0 * who(4) - 1.0 * who(5)), Trial.TRIM),
    "trial_trim": (known(), replace(SAFE, trim_current_a=3.0 * who(0) - 2.7 * who(1)), Trial.TRIM),
    "trial_one_string": (known(), replace(SAFE, contactor=np.ones(S, bool)), Trial.CONNECT),
    "trial_power": (known(), command(SITE, power_w=5000.0, limit_a=2.0), Trial.CONNECT),
    "trial_current": (known(), command(SITE, power_w=100.0, limit_a=40.0), Trial.CONNECT),
    "trial_faulty": (known(faulty=np.array([True, False])), command(SITE, limit_a=2.0), Trial.CONNECT),
}  # fmt: skip


@pytest.mark.parametrize("rule", TRIAL_RULES)
def test_each_rule_has_a_change_that_breaks_it(rule):
    outcome = permit(SITE, BREACHES[rule][0], *BREACHES[rule][1:])
    assert isinstance(outcome, Refused)
    assert rule in {v.rule for v in outcome.violations}


def test_three_modules_behind_an_open_contactor_pass_and_more_voltage_than_needed_does_not():
    assert isinstance(permit(SITE, known(), THREE, Trial.SWITCHES), VerifiedCommand)
    lower = guard_site(strings=2, positions=6)
    strings = tuple(
        replace(s, converter=replace(s.converter, voltage_min_v=3.0 * MODULE_V)) for s in lower.strings
    )
    assert isinstance(permit(replace(lower, strings=strings), known(), THREE, Trial.SWITCHES), Refused)


def test_those_that_come_are_counted_with_those_that_go():
    outcome = permit(SITE, known(in_force=THREE), replace(SAFE, inserted=who(3, 4, 5)), Trial.SWITCHES)
    assert isinstance(outcome, Refused)


def test_taking_back_is_never_refused_behind_an_open_contactor():
    assert isinstance(permit(SITE, known(in_force=THREE), SAFE, Trial.CONNECT, less=True), VerifiedCommand)


def test_bypassing_behind_a_closed_contactor_is_refused_whatever_it_is_called():
    closed = known(image=image(SITE, closed=True), in_force=command(SITE))
    for trial in Trial:
        outcome = permit(SITE, closed, replace(command(SITE), inserted=who()), trial, less=True)
        assert isinstance(outcome, Refused)


def test_refused_strings_are_named():
    outcome = permit(SITE, known(image=silent(OPEN, modules=[1])), THREE, Trial.SWITCHES)
    assert isinstance(outcome, Refused)
    assert strings_named(SITE, outcome).tolist() == [True, False]


# ---- temperatures ------------------------------------------------------------------------------


@given(st.integers(16, 40), st.floats(-0.3, 0.3), st.integers(0, 2000), st.sampled_from([-2.0, 2.0]))
def test_a_sensor_two_kelvin_off_is_found_on_any_gradient_and_no_other(n, slope, seed, off):
    rng = np.random.default_rng(seed)
    healthy = 25.0 + slope * np.arange(n)[:, None] + np.clip(0.3 * rng.standard_normal((n, 2)), -0.6, 0.6)
    assert not fit_rack(healthy).wrong.any()
    wrong = healthy.copy()
    k, sensor = rng.integers(n), rng.integers(2)
    wrong[k, sensor] = 25.0 + slope * k + off
    fit = fit_rack(wrong)
    assert np.argwhere(fit.wrong).tolist() == [[k, sensor]]


def test_a_rack_that_is_not_at_rest_says_so_instead_of_accusing():
    assert fit_rack(25.0 + 2.0 * np.random.default_rng(1).standard_normal((24, 2))).restless
    blind = np.full((6, 2), np.nan)
    with pytest.raises(ValueError, match="no temperature sensor"):
        fit_rack(blind)


# ---- lines -------------------------------------------------------------------------------------


def counts(*failed: int, exchanges: int = 40) -> list[UnitCount]:
    return [
        UnitCount(k + 1, f"M{k}", f"p{k}", exchanges, {"no_answer": f} if f else {})
        for k, f in enumerate(failed)
    ]


def test_a_noisy_line_is_told_from_one_noisy_node_and_from_chance():
    assert judge_line("g", True, counts(*[0] * 25)) == ()
    (remark,) = judge_line("g", True, counts(1, *[0] * 24))
    assert not remark.fault
    (line,) = judge_line("g", True, counts(*[2] * 25))
    assert line.fault
    assert line.subject == "g"
    assert "120 ohm" in line.remedy
    (node,) = judge_line("g", True, counts(15, *[0] * 24))
    assert (node.subject, node.position) == ("M0", "p0")
    assert too_many(5, 1000)
    assert not too_many(3, 1000)


# ---- trim and power ----------------------------------------------------------------------------


def test_trim_set_points_balance_and_stay_within_what_a_trial_needs():
    volts = np.linspace(40.0, 48.0, M)
    able = who(*range(M))
    able[3] = False
    for evens in (True, False):
        t = trim_pattern(SITE, volts, able, evens_give=evens)
        assert t[3] == 0.0
        assert np.abs(t).max() <= 2.0
        for s in range(S):
            rows = SITE.topology.slice_of(s)
            given = (volts[rows] * np.maximum(t[rows], 0.0)).sum() * 0.92
            taken = (volts[rows] * np.maximum(-t[rows], 0.0)).sum()
            assert given == pytest.approx(taken, rel=0.02)


def test_dead_trim_and_a_reversed_current_sensor_are_found():
    setpoint = 2.0 * who(0) - 1.8 * who(1)
    rest = np.zeros(M)
    assert judge_trim(SITE, setpoint, setpoint, setpoint, rest) == ()
    dead = judge_trim(SITE, setpoint, setpoint * who(0), setpoint * who(0), rest)
    assert [f.subject for f in dead] == ["M0-1"]
    turned = judge_trim(SITE, setpoint, setpoint, -setpoint, rest)
    assert [f.subject for f in turned] == ["M0-0", "M0-1"]


def test_a_small_power_is_small_and_a_converter_that_does_not_follow_is_found():
    inserted = who(*range(6))
    small = small_power(SITE, 0, inserted, 6 * MODULE_V)
    assert 0.0 < small.power_w <= 0.1 * 12_000.0
    assert small.power_w / (6 * MODULE_V) <= 0.05 * 60.0
    amps = np.where(inserted, 3.0, 0.0)
    assert judge_power(SITE, 0, 800.0, 795.0, 3.0, amps, np.zeros(M), inserted) == ()
    weak = judge_power(SITE, 0, 800.0, 500.0, 3.0, amps, np.zeros(M), inserted)
    assert [f.subject for f in weak] == ["S0"]
    amps[2] = -3.0
    assert [f.subject for f in judge_power(SITE, 0, 800.0, 800.0, 3.0, amps, np.zeros(M), inserted)] == [
        "M0-2"
    ]


def test_an_emergency_stop_keeps_verify_from_closing():
    stopped = with_status(image(SITE, closed=False), string=0, bits=int(Rc1Status.EMERGENCY_STOP))
    asked = replace(command(SITE, mode=0, limit_a=2.0), contactor=np.array([True, False]))
    outcome = permit(
        SITE, known(image=stopped, in_force=replace(asked, contactor=np.zeros(S, bool))), asked, Trial.CONNECT
    )
    assert isinstance(outcome, Refused)
