"""Groups that are far off on a plateau are found again together."""

from __future__ import annotations

import numpy as np

from edge.bench.foreign import follow
from reconf.estimation import far
from reconf.site import Chemistry


def test_groups_of_a_module_that_rests_on_a_plateau_do_not_drift_apart():
    drive = follow(Chemistry.LFP, "rest", 0, dt_s=40.0, hours=3.0).drive
    groups = drive.state.groups
    assert (groups.soc_std_frac() > far.FAR_STD_FRAC).mean() > 0.5
    apart = groups.soc_frac - groups.soc_frac.mean(axis=1, keepdims=True)
    # 0.5 points are true; each group on its own had come to 3
    assert np.sqrt(np.mean(apart**2)) < 0.02
    # and what they are apart by looks like capacity that is not there
    believed = drive.estimate.capacity_ah / groups.capacity_ah.min(axis=1)
    assert believed.mean() > 0.94


def test_a_group_unlike_its_module_is_a_party_of_its_own():
    groups = follow(Chemistry.LFP, "rest", 1, dt_s=40.0, hours=0.05).drive.state.groups
    shape = groups.charge_ah.shape
    std = np.full(shape, 0.2)
    voltage = np.full(shape, 3.3)
    voltage[2, 1] = 3.0
    given = (voltage, np.full(shape, 4e-6), np.full(shape[0], 0.006))
    chosen = far.choose(groups, std, np.ones(shape, dtype=np.bool_), *given)
    here = chosen.rows == 2
    odd = chosen.party[here & (chosen.columns == 1)]
    assert odd.size == 1
    assert (chosen.party == odd[0]).sum() == 1
    assert np.unique(chosen.party[here]).size < here.sum()
