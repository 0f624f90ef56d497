"""Lying temperature sensors in closed loop with protection: what the site really does meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bench.closed_loop import Hooks, Loop
from edge.bench.integrity_cold import SAME_SOC_FRAC, cold_lies
from edge.bench.protect_site import bench_site
from reconf.readings import Channel
from reconf.site import ThermalSpec
from reconf.twin.truth import draw_truth

LIARS = slice(2, 6)
"""Modules whose sensors lie."""
FROM_S = 300.0


def lie_of(kelvin, sensors, kelvin_per_min=0.0):
    """An offset from FROM_S on, growing by `kelvin_per_min`."""

    def spoil(image, plant):
        since_s = plant.time_s - FROM_S
        if since_s < 0.0:
            return image
        value = image.modules.temperature_degc.value.copy()
        value[LIARS, sensors] += kelvin + kelvin_per_min * since_s / 60.0
        return replace(image, modules=replace(image.modules, temperature_degc=Channel.of(value)))

    return spoil


def run(hook, *, ambient_degc, power_w, hours, tick_s=10.0, soc_frac=0.9):
    """Drive a site; the hottest true core of the liars, and of every tick (T, 3, L) their charge limits,
    lowest temperatures and true SOC."""
    site = bench_site(12, tick_s=tick_s, thermal=ThermalSpec(ambient_degc=ambient_degc))
    truth = draw_truth(site, np.random.default_rng(4), soc_frac=soc_frac)
    truth = replace(truth, temperature_degc=np.full(12, ambient_degc))
    hooks = Hooks(on_image=hook)
    loop = Loop(site, truth, lambda _: power_w, seed=1, hooks=hooks, ambient_degc=ambient_degc)
    loop.start()
    hottest, charge = -np.inf, []
    for _ in range(round(hours * 3600.0 / tick_s)):
        outcome = loop.step()
        hottest = max(hottest, float(loop.plant.core_degc[LIARS].max()))
        low, soc = outcome.view.estimate.temperature_low_degc, loop.plant.cells.soc_frac.mean(axis=1)
        charge.append([x[LIARS] for x in (outcome.view.envelope.charge_now_a, low, soc)])
    return loop, hottest, np.array(charge)


def test_a_lie_of_both_sensors_plates_no_lithium_while_it_is_not_found():
    found = {row["kind"]: row for row in cold_lies(900.0)}
    assert found.pop("honest")["plating_s"] == 0.0
    assert found["one_sensor_plus_15_k"]["limit_over_honest"] <= 1.001
    # a single tick holds the noise of the sensor that lies
    assert found["one_sensor_ramp_0.1_k_per_min"]["minute_over_honest"] <= 1.005
    assert found["one_sensor_ramp_0.1_k_per_min"]["limit_over_honest"] <= 1.02
    # no promise holds for a pack that scatters three times more than its site file says (docs/protection.md);
    # this keeps the figure from growing unseen
    wrongly = found.pop("graded_wrongly")
    assert wrongly["safety_violations"] == 0
    assert 1.0 < wrongly["limit_over_true"] <= 1.6
    for kind, row in found.items():
        assert row["plating_s"] < 600.0, kind
        assert row["safety_violations"] == 0, kind
        assert row["limit_over_honest"] <= 1.12, kind


FIRST, BOTH = slice(0, 1), slice(0, 2)


@pytest.mark.parametrize(
    ("kelvin", "per_min", "sensors"), [(-15.0, 0.0, FIRST), (-15.0, 0.0, BOTH), (0.0, -0.1, BOTH)]
)
def test_a_sensor_that_hides_heat_lets_no_module_past_its_limits(kelvin, per_min, sensors):
    loop, hottest, _ = run(lie_of(kelvin, sensors, per_min), ambient_degc=46.5, power_w=22_000.0, hours=0.5)
    limits = loop.site.limits[loop.site.modules[0].chemistry]["temperature_degc", "max"]
    assert loop.plant.violations.steps == 0
    assert hottest <= (limits.operating if sensors == FIRST else limits.safety)


def test_a_sensor_that_feigns_warmth_raises_no_charge_limit():
    cold = {"ambient_degc": -4.0, "power_w": -4_000.0, "hours": 0.25, "soc_frac": 0.4}
    _, _, honest = run(None, **cold)
    _, _, lied = run(lie_of(15.0, FIRST), **cold)
    # the sensor that is left is believed with its own doubt, and by what the other one told before
    assert (lied[:, 1] <= honest[:, 1] + 1e-9).all()
    # while the two runs have the same past
    same = np.abs(lied[:, 2] - honest[:, 2]) < SAME_SOC_FRAC
    assert same[: round(1.2 * FROM_S / 10.0)].all()
    assert (lied[:, 0] <= 1.001 * honest[:, 0])[same].all()
    _, _, both = run(lie_of(15.0, BOTH), **cold)
    # both are found at once and the observer speaks with its doubt: less than the 12 % that the plating
    # limit keeps in hand, so that no lithium plates
    assert (both[:, 0] <= 1.12 * honest[:, 0] + 0.05).all()
