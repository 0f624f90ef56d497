"""What verify makes of an image before any rule: the sources of a string, and the site's own outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from guard_site import MODULE_V, R_OHM, command, envelope, estimate, guard_site, image

from reconf.actuation import Refused, VerifiedCommand
from reconf.protection.envelope import FaultStatus, SiteOutputs
from reconf.readings import Channel, SiteInputs
from reconf.verify import verify
from reconf.verify.circuit import SOURCE_MARGIN_FRAC, sources
from reconf.verify.outputs import safe_outputs
from reconf.verify.tables import build_tables

SITE = guard_site()
TABLES = build_tables(SITE)


# ---- sources ---------------------------------------------------------------------------------------


def hull(measured_v: float, believed_v: float, *, current_a: float = 0.0, polarisation_v: float = 0.0):
    """Lowest and highest source voltage of the first module."""
    seen = image(SITE, module_v=measured_v, current_a=current_a)
    belief = estimate(SITE, ocv_v=np.full(12, believed_v), polarisation_v=np.full(12, polarisation_v))
    found = sources(TABLES, seen, belief)
    return found.u_low_v[0], found.u_high_v[0], bool(found.known[0])


@pytest.mark.parametrize("views", [(40.0, 45.0), (45.0, 40.0)])
def test_both_views_of_a_module_count_each_where_it_is_worse(views):
    low, high, known = hull(*views)
    assert low == pytest.approx(40.0 * (1.0 - SOURCE_MARGIN_FRAC))
    assert high == pytest.approx(45.0 * (1.0 + SOURCE_MARGIN_FRAC))
    assert known


@pytest.mark.parametrize("views", [(np.nan, 42.0), (42.0, np.nan)])
def test_one_view_is_enough_and_its_margin_stands(views):
    low, high, known = hull(*views)
    assert (low, high) == pytest.approx(
        (42.0 * (1.0 - SOURCE_MARGIN_FRAC), 42.0 * (1.0 + SOURCE_MARGIN_FRAC))
    )
    assert known


def test_a_module_that_nobody_knows_may_be_anything_up_to_its_full_cells():
    low, high, known = hull(np.nan, np.nan)
    assert (low, high, known) == (0.0, 12 * 4.25, False)


def test_a_view_without_end_is_no_view():
    assert hull(42.0, np.inf)[:3] == (0.0, 12 * 4.25, False)


@pytest.mark.parametrize("current_a", [20.0, -20.0])
def test_the_measured_view_takes_the_drop_of_its_current_out_and_the_believed_one_its_polarisation(current_a):
    low, high, _ = hull(42.0, 60.0, current_a=current_a)
    assert low == pytest.approx((42.0 + R_OHM * current_a) * (1.0 - SOURCE_MARGIN_FRAC))
    low, high, _ = hull(30.0, 60.0, polarisation_v=0.5)
    assert high == pytest.approx(59.5 * (1.0 + SOURCE_MARGIN_FRAC))


def test_a_voltage_is_not_used_without_the_current_of_its_second():
    seen = image(SITE, module_v=30.0)
    blind = replace(seen, modules=replace(seen.modules, current_a=Channel.of(np.full(12, np.nan))))
    found = sources(TABLES, blind, estimate(SITE))
    assert found.u_low_v == pytest.approx(np.full(12, MODULE_V * (1.0 - SOURCE_MARGIN_FRAC)))


def test_a_module_that_measures_reversed_pulls_its_string_down():
    assert hull(-40.0, 45.0)[:2] == pytest.approx((-40.0, 45.0 * (1.0 + SOURCE_MARGIN_FRAC)))
    assert hull(-40.0, -42.0)[:2] == pytest.approx((-42.0, -40.0))
    before = command(SITE)
    asked = command(SITE, power_w=500.0)
    volts = np.full(12, MODULE_V)
    volts[:2] = 0.0  # still inside the window: 4 of 6 are enough
    flat = verify(SITE, image(SITE, module_v=volts), estimate(SITE), envelope(SITE), before, asked, dt_s=1.0)
    assert isinstance(flat, VerifiedCommand), flat
    volts[:2] = -MODULE_V
    answer = verify(
        SITE, image(SITE, module_v=volts), estimate(SITE), envelope(SITE), before, asked, dt_s=1.0
    )
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} >= {("window_min", "S0")}


@pytest.mark.parametrize(
    ("ohm", "low_ohm", "high_ohm"),
    [(0.01, 0.0085, 0.0115), (0.0, 0.0, 0.0), (-0.01, 0.0, 0.0), (np.nan, 0.0, 0.0), (np.inf, 0.0, 0.0)],
)
def test_a_resistance_is_doubted_by_15_percent_and_one_that_is_none_counts_as_0(ohm, low_ohm, high_ohm):
    found = sources(TABLES, image(SITE), estimate(SITE, r0_ohm=np.full(12, ohm)))
    assert found.r_low_ohm == pytest.approx(np.full(12, low_ohm))
    assert found.r_high_ohm == pytest.approx(np.full(12, high_ohm))


# ---- outputs ---------------------------------------------------------------------------------------


def outputs(inputs: SiteInputs | None = None, *, site_open: bool = False, **asked) -> SiteOutputs:
    """Of a verified command that leaves every string, which nothing refuses."""
    before = command(SITE, power_w=1000.0)
    rest = replace(before, mode=np.zeros(2, np.int64), power_w=np.zeros(2))
    seen = replace(image(SITE), inputs=inputs or SiteInputs())
    limits = envelope(SITE, site_open=site_open, outputs=SiteOutputs(**asked))
    answer = verify(SITE, seen, estimate(SITE), limits, before, rest, dt_s=1.0)
    assert isinstance(answer, VerifiedCommand), answer
    return answer.outputs


def test_nothing_sounds_runs_or_cools_without_a_reason():
    assert outputs() == SiteOutputs(cooling_frac=0.0, alarm=False, ventilate=False)
    assert outputs(SiteInputs(door_open=True)) == outputs()


@pytest.mark.parametrize("signal", ["gas_alarm", "smoke_alarm", "fire_alarm", "emergency_stop"])
def test_each_detector_sounds_the_alarm_whatever_protection_asks(signal):
    assert outputs(SiteInputs(**{signal: True})).alarm


def test_the_alarm_sounds_where_protection_asks_or_the_site_must_be_left():
    assert outputs(alarm=True).alarm
    assert outputs(site_open=True).alarm


@pytest.mark.parametrize(
    ("signals", "asked", "ventilated"),
    [
        (("gas_alarm",), False, True),
        ((), True, True),
        (("smoke_alarm",), False, False),
        (("fire_alarm",), True, False),
        (("gas_alarm", "fire_alarm"), True, False),
    ],
)
def test_gas_is_extracted_and_no_fire_is_fanned(signals, asked, ventilated):
    inputs = SiteInputs(**dict.fromkeys(signals, True))
    assert outputs(inputs, ventilate=asked).ventilate is ventilated


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (0.0, 0.0),
        (0.4, 0.4),
        (1.0, 1.0),
        (1.7, 1.0),
        (-0.3, 0.0),
        (np.nan, 1.0),
        (np.inf, 1.0),
        (-np.inf, 1.0),
    ],
)
def test_cooling_lies_between_none_and_full_and_is_full_where_the_demand_is_no_number(asked, given):
    assert outputs(cooling_frac=asked).cooling_frac == given


@pytest.mark.parametrize("latched", [True, False])
def test_a_fire_panel_that_falls_quiet_lets_no_fan_start_before_somebody_has_cleared_it(latched):
    """Its wire may have burnt; the fault is there until then, active or latched."""
    fire = FaultStatus("fire_alarm", "site", "open_site", not latched, True, 0.0, "", "Leave the room.")
    limits = envelope(SITE, site_open=True, outputs=SiteOutputs(), faults=(fire,))
    seen = replace(image(SITE), inputs=SiteInputs(gas_alarm=True))
    assert not safe_outputs(seen, limits).ventilate
    assert safe_outputs(seen, replace(limits, faults=())).ventilate
