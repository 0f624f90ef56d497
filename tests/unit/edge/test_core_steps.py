"""What is left of a proposal that verify refuses: the state is that of a closed loop."""

from dataclasses import replace

import numpy as np
import pytest

import edge.core
from edge.bench.closed_loop import Loop
from edge.bench.protect_site import bench_site
from edge.core_steps import judge
from reconf.twin.truth import draw_truth

POWER_W = 9_000.0


@pytest.fixture
def judged(monkeypatch):
    """(site, case, in_force, proposal) of the last tick of a string of eight that gives power."""
    seen = []

    def listening(site, case, in_force, proposal):
        seen.append((site, case, in_force, proposal))
        return judge(site, case, in_force, proposal)

    monkeypatch.setattr(edge.core, "judge", listening)
    site = bench_site(8, tick_s=10.0)
    truth = draw_truth(site, np.random.default_rng(1), soc_frac=0.5)
    loop = Loop(site, truth, lambda _: POWER_W, seed=1)
    loop.start()
    for _ in range(12):
        loop.step()
    return seen[-1]


def test_a_string_that_would_fall_below_its_window_gets_a_module_more_and_keeps_its_power(judged):
    site, case, in_force, proposal = judged
    assert proposal.power_w[0] > 0.9 * POWER_W
    volts = float(np.median(case.estimate.ocv_v))
    enough = int(np.ceil(case.envelope.string_voltage_min_v[0] / volts))
    few = np.zeros(8, dtype=bool)
    few[: enough - 1] = True
    outcome = judge(site, case, in_force, replace(proposal, inserted=few, trim_current_a=np.zeros(8)))
    assert outcome.refused is None
    assert {v.rule for v in outcome.reduced.violations} >= {"window_min"}
    last = outcome.steps[-1].command
    assert last.power_w[0] == proposal.power_w[0]
    assert enough <= int(last.inserted.sum()) <= enough + 1
    assert last.inserted[few].all()


def test_the_module_that_is_added_is_the_one_that_may_bear_most(judged):
    site, case, in_force, proposal = judged
    volts = float(np.median(case.estimate.ocv_v))
    few = np.arange(8) < int(np.ceil(case.envelope.string_voltage_min_v[0] / volts)) - 1
    mean_a = case.envelope.discharge_avg_a.copy()
    mean_a[7] = mean_a.max() + 1.0
    case = replace(case, envelope=replace(case.envelope, discharge_avg_a=mean_a))
    outcome = judge(site, case, in_force, replace(proposal, inserted=few, trim_current_a=np.zeros(8)))
    assert outcome.reduced is not None
    assert (outcome.steps[-1].command.inserted & ~few)[7]
