"""The capacity of a live module, found while the asked power is delivered."""

from dataclasses import replace

import numpy as np

from edge.bench.closed_loop import Loop
from edge.bench.energy_site import energy_site, full_truth, request_w
from edge.core_values import StartCapacityTest
from reconf.binning.lot import Z90
from reconf.site import Chemistry, TimingSpec


def true_capacity_ah(loop, m):
    """What the weakest group can still give and the strongest can still take."""
    n = int(loop.site.topology.n_cells[m])
    q, z = loop.plant.truth.capacity_ah[m, :n], loop.plant.cells.soc_frac[m, :n]
    return float((z * q).min() + ((1.0 - z) * q).min())


def test_capacity_within_one_and_a_half_percent_while_the_site_serves():
    site = energy_site(6, 2, 0.13, Chemistry.NMC, strings=1)
    site = replace(site, timing=TimingSpec(tick_s=20.0, slot_s=40.0, interval_s=240.0))
    power_w = 0.9 * request_w(site)
    loop = Loop(site, full_truth(site, 2), lambda _t: power_w, seed=2, physics_step_s=5.0)
    loop.start()
    given = []
    for tick in range(700):
        outcome = loop.step()
        if tick == 5:
            answer = loop.core.order(StartCapacityTest(string="S0"), loop.plant.time_s, loop.plant.time_s)
            assert answer.accepted, answer.text
            again = loop.core.order(StartCapacityTest(), loop.plant.time_s, loop.plant.time_s)
            assert again.reason == "already_running"
        if tick > 10:
            given.append(float(loop.plant.true.bus_power_w.sum()) / power_w)
        test = outcome.view.capacity_test
        if test is not None and test.results:
            break
    assert test.results, outcome.view.estimate.soc_frac
    (result,) = test.results
    truth = true_capacity_ah(loop, site.topology.serials.index(result.serial))
    assert abs(result.capacity_ah / truth - 1.0) < 0.015
    assert abs(result.capacity_ah - truth) < 2.0 * Z90 * result.std_ah
    assert Z90 * result.std_ah / result.capacity_ah < 0.015
    assert np.mean(given) > 0.998
    assert min(given) > 0.97
    assert loop.plant.violations.steps == 0
    texts = [e.text for e in loop.events if e.kind == "capacity_test" and e.subject == result.serial]
    assert [t.split()[0] for t in texts] == ["approach", "rest_one", "carry", "rest_two", "capacity"]
