"""Tightening any limit never enlarges the envelope; doubt always narrows it."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bench.protect_site import bench_site, true_estimate
from reconf.protection.envelope import Insertion
from reconf.protection.limits import default_limits
from reconf.protection.protect import OperatorLimits, available_energy_kwh, initial_protection, protect
from reconf.protection.refusing import RefusedPlans
from reconf.site import Chemistry
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

N = 6
WIDENING = (
    "discharge_now_a",
    "charge_now_a",
    "discharge_avg_a",
    "charge_avg_a",
    "trim_give_a",
    "trim_take_a",
    "string_voltage_max_v",
    "string_discharge_a",
    "string_charge_a",
    "string_discharge_w",
    "string_charge_w",
    "string_usable",
)
SETTINGS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def envelope_of(site, image, estimate, operator=None, dt=1.0):
    _, envelope = protect(site, initial_protection(site), image, estimate, dt, operator or OperatorLimits())
    return envelope


def assert_within(tight, wide):
    """Everything that `tight` allows, `wide` allows."""
    for name in WIDENING:
        low, high = (np.asarray(getattr(e, name), dtype=float) for e in (tight, wide))
        assert (low <= high + 1e-9).all(), (name, low, high)
    assert (tight.string_voltage_min_v >= wide.string_voltage_min_v).all()
    out_wide, out_tight = (e.insertion == Insertion.FORBIDDEN for e in (wide, tight))
    assert (out_tight | ~out_wide).all()
    assert tight.site_open or not wide.site_open
    for name in ("discharge_w", "charge_w"):
        low, high = (np.array(getattr(e.capability, name)) for e in (tight, wide))
        # the best current is looked for in steps of 7 %, which costs up to half of that
        assert (low <= 1.06 * high + 1.0).all(), (name, low, high)


@cache
def scene(chemistry, soc_percent, degc, amps, seed):
    site = bench_site(N, chemistry=chemistry)
    rng = np.random.default_rng(seed)
    plant = Plant(site, draw_truth(site, rng), float(degc))
    plant.cells.soc_frac[:] = soc_percent / 100.0
    plant.core_degc[:] = degc
    plant.surface_degc[:] = degc
    plant.step_alone(np.full(N, float(amps)), 1.0)
    return site, plant.observe(rng), true_estimate(plant)


scenes = st.builds(
    scene,
    st.sampled_from(list(Chemistry)),
    st.integers(1, 99),
    st.integers(-12, 49),
    st.sampled_from([-15, 0, 30]),
    st.integers(0, 3),
)
rows = st.sampled_from(sorted(default_limits("NMC")))


@SETTINGS
@given(scenes, rows, st.floats(0.01, 0.9))
def test_tightening_any_limit_never_enlarges(drawn, key, share):
    """Each tier of one row moves inwards by a share of the room to the other side (or to zero)."""
    site, image, estimate = drawn
    chemistry = next(iter(site.limits))
    table = dict(site.limits[chemistry])
    row = table[key]
    other = table.get((key[0], "min" if key[1] == "max" else "max"))
    span = row.operating - (0.0 if other is None else other.operating)
    shift = 0.3 * share * span
    table[key] = replace(
        row,
        operating=row.operating - shift,
        recommended=row.recommended - shift,
        safety=row.safety - shift,
    )
    tight = replace(site, limits={chemistry: table})
    assert_within(envelope_of(tight, image, estimate), envelope_of(site, image, estimate))


@SETTINGS
@given(scenes, st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.0, 0.5), st.floats(0.5, 1.0))
def test_an_operators_limit_never_enlarges(drawn, discharge_c, charge_c, low, high):
    site, image, estimate = drawn
    asked = OperatorLimits(
        max_discharge_c=discharge_c,
        max_charge_c=charge_c,
        soc_min_frac=low,
        soc_max_frac=high,
        max_discharge_w=5e3,
        max_charge_w=2e3,
        bypass=frozenset({site.topology.serials[0]}),
    )
    tight, wide = envelope_of(site, image, estimate, asked), envelope_of(site, image, estimate)
    assert_within(tight, wide)
    assert max(tight.capability.discharge_w) <= 5e3
    assert max(tight.capability.charge_w) <= 2e3


REPORTED = {
    "output_failed": True,
    "isolation_lost": True,
    "emergency_stop": True,
    "opened_unasked": np.ones(1, dtype=np.bool_),
    "join_failed": np.ones(1, dtype=np.bool_),
    "switches_apart": np.arange(N) == 1,
    "unconfirmed": np.arange(N) == 2,
    "out_of_service": np.arange(N) == 3,
    "refused_plans": RefusedPlans(50, "said so"),
}


@SETTINGS
@given(scenes, st.sampled_from(sorted(REPORTED)))
def test_what_the_site_reports_never_enlarges(drawn, flag):
    site, image, estimate = drawn
    reported = OperatorLimits(**{flag: REPORTED[flag]})
    assert_within(envelope_of(site, image, estimate, reported), envelope_of(site, image, estimate))


DOUBTS = ("soc_std_frac", "capacity_std_ah", "remaining_std_ah", "resistance_std_ohm")


@SETTINGS
@given(scenes, st.sampled_from([*DOUBTS, "temperature"]), st.floats(1.0, 20.0))
def test_doubt_always_narrows(drawn, what, factor):
    site, image, estimate = drawn
    if what == "temperature":
        worse = replace(
            estimate,
            temperature_low_degc=estimate.temperature_low_degc - 0.5 * factor,
            temperature_high_degc=estimate.temperature_high_degc + 0.5 * factor,
        )
    else:
        worse = replace(estimate, **{what: factor * getattr(estimate, what)})
    assert_within(envelope_of(site, image, worse), envelope_of(site, image, estimate))


@SETTINGS
@given(scenes, st.integers(0, N - 1))
def test_losing_a_module_never_enlarges(drawn, lost):
    site, image, estimate = drawn
    trusted = np.arange(N) != lost
    assert_within(
        envelope_of(site, image, replace(estimate, trusted=trusted)), envelope_of(site, image, estimate)
    )


@SETTINGS
@given(scenes, st.floats(100.0, 9000.0), st.sampled_from([1.0, -1.0]))
def test_available_energy_is_bounded_by_what_is_stored(drawn, power_w, sign):
    site, image, estimate = drawn
    envelope = envelope_of(site, image, estimate)
    energy = available_energy_kwh(site, estimate, envelope, sign * power_w)
    charge = estimate.remaining_ah if sign > 0 else estimate.chargeable_ah
    most = float((charge * 4.3 * 12).sum()) / 1000.0
    assert 0.0 <= energy <= 1.25 * most
    if sign > 0:
        assert energy <= 1.001 * available_energy_kwh(site, estimate, envelope, 0.0)


@pytest.mark.parametrize("name", [f.name for f in fields(OperatorLimits)])
def test_every_operator_limit_is_covered(name):
    """A new field of the operator's limits must be thought of here."""
    assert name in {
        "max_discharge_c", "max_charge_c", "max_discharge_w", "max_charge_w", "soc_min_frac", "soc_max_frac",
        "bypass", "emergency_stop", "unconfirmed", "out_of_service", "output_failed", "isolation_lost",
        "opened_unasked", "switches_apart", "join_failed", "refused_plans",
    }  # fmt: skip
