"""What the doubt of a module's capacity costs: no full charge."""

from dataclasses import replace

import numpy as np

from edge.bench.protect_site import bench_site, true_estimate
from reconf.protection.protect import initial_protection, protect
from reconf.site import ThermalSpec
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

SITE = bench_site(4, thermal=ThermalSpec(ambient_degc=-5.0))


def envelope_with(soc_frac, **doubts):
    """The envelope of a pack whose estimate is the truth but for its deviations."""
    truth = draw_truth(SITE, np.random.default_rng(1), soc_frac=soc_frac, soc_std_frac=0.0)
    plant = Plant(SITE, truth, -5.0)
    image = observe(plant, np.random.default_rng(2), 0, 0.0)
    estimate = replace(true_estimate(plant), **{name: np.full(4, value) for name, value in doubts.items()})
    return protect(SITE, initial_protection(SITE), image, estimate, 1.0)[1], estimate


def test_doubt_of_the_capacity_keeps_no_module_from_being_filled():
    doubts = {"soc_std_frac": 0.002, "capacity_std_ah": 3.0, "remaining_std_ah": 3.0}
    full, estimate = envelope_with(0.985, **doubts)
    fits = np.minimum(estimate.chargeable_ah * 3600.0 / SITE.timing.interval_s, full.charge_now_a)
    # a quarter of the doubt of what still fits, which is little so near to the top
    assert (full.charge_avg_a > 0.8 * fits).all()
    # where half is empty the doubt of the capacity counts
    half, _ = envelope_with(0.5, **doubts)
    assert (half.charge_avg_a <= half.charge_now_a + 1e-9).all()


def test_a_group_with_more_resistance_than_the_others_narrows_what_its_voltage_allows():
    known, _ = envelope_with(0.03)
    spread, _ = envelope_with(0.03, group_resistance_frac=1.1)
    worse, _ = envelope_with(0.03, group_resistance_frac=1.45)
    # groups of one module differ by that much before anybody has looked
    assert np.array_equal(spread.discharge_now_a, known.discharge_now_a)
    assert (worse.discharge_now_a < 0.85 * known.discharge_now_a).all()
