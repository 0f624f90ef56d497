"""Every limit, every doubt, every published number; and the first reason is the one that binds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site, true_estimate
from reconf.estimation.state import Cooling
from reconf.protection.bounds import Bound, build_constants
from reconf.protection.envelope import Insertion
from reconf.protection.limits import MODULE_ROWS, default_limits, site_limits
from reconf.protection.protect import (
    OperatorLimits,
    available_energy_kwh,
    explain,
    initial_protection,
    protect,
)
from reconf.protection.reasons import TEXTS
from reconf.site import Chemistry
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

N = 6
SETTINGS = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
NARROWS = (
    "discharge_now_a", "charge_now_a", "discharge_avg_a", "charge_avg_a", "trim_give_a", "trim_take_a",
    "string_voltage_max_v", "string_discharge_a", "string_charge_a", "string_discharge_w", "string_charge_w",
    "string_usable", "charge_minutes_a", "joining_difference_v",
)  # fmt: skip
"""Published arrays that are the larger the more is allowed. The plating margin is none of them: it is told of
the current that flows, and no limit is made of it."""
SEARCH_FRAC = 0.07
"""The best power is looked for in steps of 7 %, and so may lie by up to this below the best there is."""

ENERGY_FRAC = 0.005
"""The same of the energy, whose current is looked for between the ends of the window."""


def scene(chemistry, soc_percent, degc, amps, seed):
    site = bench_site(N, chemistry=chemistry)
    rng = np.random.default_rng(seed)
    plant = Plant(site, draw_truth(site, rng), float(degc))
    plant.cells.soc_frac[:] = soc_percent / 100.0 + rng.normal(0.0, 0.01, plant.cells.soc_frac.shape)
    plant.core_degc[:] = plant.surface_degc[:] = degc + rng.normal(0.0, 1.0, N)
    plant.step_alone(np.full(N, float(amps)), 1.0)
    return site, plant.observe(rng), true_estimate(plant)


scenes = st.builds(
    scene,
    st.sampled_from(list(Chemistry)),
    st.integers(2, 98),
    st.integers(-12, 49),
    st.sampled_from([-40, -15, 0, 30, 60]),
    st.integers(0, 50),
)
powers = st.sampled_from([-9e3, -3e3, -500.0, 0.0, 500.0, 3e3, 9e3])


def guarded(site, image, estimate, operator=None):
    return protect(site, initial_protection(site), image, estimate, 1.0, operator or OperatorLimits())


def published(site, image, estimate, power_w, operator=None):
    """Everything that is the larger the more is allowed, by name."""
    _, envelope = guarded(site, image, estimate, operator)
    numbers = {name: np.asarray(getattr(envelope, name), dtype=float) for name in NARROWS}
    numbers["string_voltage_min_v"] = -envelope.string_voltage_min_v
    numbers["inserted"] = (envelope.insertion != Insertion.FORBIDDEN).astype(float)
    numbers["connected"] = np.array([float(not envelope.site_open)])
    for direction in ("discharge_w", "charge_w"):
        for horizon_s, watt in zip(
            envelope.capability.horizon_s, getattr(envelope.capability, direction), strict=True
        ):
            numbers[f"{direction} for {horizon_s:g} s"] = np.array([watt])
    numbers["energy_kwh"] = np.array([available_energy_kwh(site, estimate, envelope, power_w)])
    return numbers


def assert_narrower(tight, wide):
    for name, low in tight.items():
        slack = 1e-9 + 1e-6 * np.abs(wide[name])
        searched = name.endswith(" s")
        share = SEARCH_FRAC if searched else ENERGY_FRAC if name == "energy_kwh" else 0.0
        slack = slack + share * np.abs(wide[name])
        assert (low <= wide[name] + slack).all(), (name, low, wide[name])


def moved_row(row, shift):
    """Every tier inwards by `shift` (outwards where it is negative)."""
    sign = -1.0 if row.side == "max" else 1.0
    tiers = {tier: getattr(row, tier) + sign * shift for tier in ("operating", "recommended", "safety")}
    return replace(row, **tiers)


def with_row(site, key, shift):
    chemistry = next(iter(site.limits))
    table = dict(site.limits[chemistry])
    table[key] = moved_row(table[key], shift)
    return replace(site, limits={chemistry: table})


def with_site_row(site, key, shift):
    """The same for a row of strings or of the site, which no site file can change."""
    tight = replace(site)
    constants = site.derived(build_constants)
    rows = {**constants.site_limits, key: Bound.of([moved_row(site_limits()[key], shift)])}
    tight._derived[build_constants] = replace(constants, site_limits=rows)
    return tight


@SETTINGS
@given(scenes, st.sampled_from(MODULE_ROWS), st.floats(0.01, 0.9), powers)
def test_tightening_any_module_limit_narrows_all_that_is_published(drawn, key, share, power_w):
    site, image, estimate = drawn
    table = site.limits[next(iter(site.limits))]
    other = table.get((key[0], "min" if key[1] == "max" else "max"))
    shift = 0.3 * share * abs(table[key].operating - (0.0 if other is None else other.operating))
    tight = with_row(site, key, shift)
    assert_narrower(published(tight, image, estimate, power_w), published(site, image, estimate, power_w))


@SETTINGS
@given(scenes, st.sampled_from(sorted(site_limits())), st.floats(0.01, 0.5), powers, st.floats(20.0, 95.0))
def test_tightening_any_string_or_site_limit_narrows_all_that_is_published(
    drawn, key, share, power_w, heatsink
):
    site, image, estimate = drawn
    strings = image.strings
    warm = replace(strings.heatsink_temperature_degc, value=np.full(site.topology.n_strings, heatsink))
    image = replace(image, strings=replace(strings, heatsink_temperature_degc=warm))
    tight = with_site_row(site, key, share * abs(site_limits()[key].operating) + 1e-3)
    assert_narrower(published(tight, image, estimate, power_w), published(site, image, estimate, power_w))


DOUBTS = {
    "soc": lambda e, x: replace(e, soc_std_frac=e.soc_std_frac + 0.01 * x),
    "weakest": lambda e, x: replace(e, soc_weakest_frac=e.soc_weakest_frac - 0.005 * x),
    "strongest": lambda e, x: replace(e, soc_strongest_frac=e.soc_strongest_frac + 0.005 * x),
    "capacity": lambda e, x: replace(e, capacity_std_ah=e.capacity_std_ah + 0.3 * x),
    "remaining": lambda e, x: replace(e, remaining_std_ah=e.remaining_std_ah + 0.3 * x),
    "resistance": lambda e, x: replace(e, resistance_std_ohm=e.resistance_std_ohm * (1.0 + x)),
    "temperature_low": lambda e, x: replace(e, temperature_low_degc=e.temperature_low_degc - 0.5 * x),
    "temperature_high": lambda e, x: replace(e, temperature_high_degc=e.temperature_high_degc + 0.5 * x),
    "cell_min": lambda e, x: replace(e, cell_voltage_min_v=e.cell_voltage_min_v - 0.005 * x),
    "cell_max": lambda e, x: replace(e, cell_voltage_max_v=e.cell_voltage_max_v + 0.005 * x),
    "cooling": lambda e, x: replace(e, cooling=lost(1.0 / (1.0 + x))),
}
"""Ways in which an estimate can be less sure of what it says, each by `x` >= 0."""


def lost(share):
    return Cooling(np.ones(N, dtype=bool), np.full(N, share), np.full(N, 4.0), np.full(N, 2.5))


@SETTINGS
@given(scenes, st.sampled_from(sorted(DOUBTS)), st.floats(0.05, 20.0), powers)
def test_any_doubt_narrows_all_that_is_published(drawn, what, size, power_w):
    site, image, estimate = drawn
    doubtful = DOUBTS[what](estimate, size)
    assert_narrower(published(site, image, doubtful, power_w), published(site, image, estimate, power_w))


@pytest.mark.parametrize("key", sorted(default_limits("NMC")))
def test_every_row_of_the_table_is_tightened(key):
    assert key in MODULE_ROWS


# ---- reasons ------------------------------------------------------------------------------------


def rows_behind(rule, field, site):
    """Sites or operators with exactly that limit relaxed; none where no limit of a table is behind it."""
    direction = "discharge" if field.startswith("discharge") else "charge"
    low, high = ("cell_voltage_v", "min"), ("cell_voltage_v", "max")
    return {
        "rating": [(f"{direction}_current_c", "max")],
        "cell_voltage": [low if direction == "discharge" else high],
        "temperature": [("temperature_degc", "max"), ("temperature_degc", "min")],
        "cold_charge": [("charge_temperature_degc", "max"), ("charge_temperature_degc", "min")],
        "thermal_forecast": [("temperature_degc", "max")],
    }.get(rule, [])


@SETTINGS
@given(scenes, st.floats(0.2, 2.0), st.floats(0.2, 2.0), st.floats(0.0, 0.4), st.floats(0.6, 1.0))
def test_the_first_reason_binds_and_says_what_lifts_it(drawn, out_c, in_c, low, high):
    site, image, estimate = drawn
    operator = OperatorLimits(max_discharge_c=out_c, max_charge_c=in_c, soc_min_frac=low, soc_max_frac=high)
    state, envelope = guarded(site, image, estimate, operator)
    for m, serial in enumerate(site.topology.serials):
        firsts = {}
        for reason in explain(state, serial):
            assert reason.text
            assert reason.lift
            firsts.setdefault(reason.limit, reason)
        for field in ("discharge_now_a", "charge_now_a", "discharge_avg_a", "charge_avg_a"):
            first = firsts[field]
            value = getattr(envelope, field)[m]
            if envelope.insertion[m] == Insertion.FORBIDDEN:
                assert value == 0.0
                assert "insertion" in firsts or "string_usable" in firsts
                continue
            assert first.value == pytest.approx(value)
            assert first.lift == TEXTS[first.rule][1]
            relaxed = [
                with_row(site, key, -_little(site, key)) for key in rows_behind(first.rule, field, site)
            ]
            if relaxed:
                wider = [getattr(guarded(s, image, estimate, operator)[1], field)[m] for s in relaxed]
                second = sorted(r.value for r in explain(state, serial) if r.limit == field)[1]
                assert max(wider) > value or second == pytest.approx(value), (field, first)
            if first.rule == "remote_limit":
                free = replace(operator, max_discharge_c=2.0 * out_c, max_charge_c=2.0 * in_c)
                assert getattr(guarded(site, image, estimate, free)[1], field)[m] > value
            if first.rule == "soc_window" and value < first.value + 1e-9:
                free = replace(operator, soc_min_frac=0.5 * low, soc_max_frac=0.5 + 0.5 * high)
                assert getattr(guarded(site, image, estimate, free)[1], field)[m] >= value


def _little(site, key):
    """A step outwards that is felt although the value lies past the safety tier."""
    row = site.limits[next(iter(site.limits))][key]
    return 3.0 * max(abs(row.safety - row.operating), 1e-2 * abs(row.operating))
