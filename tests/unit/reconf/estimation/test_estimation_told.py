"""What is told of SOC is wide enough for cells that are not the model's, and never says more than nothing."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bench.foreign import case
from edge.bench.protect_site import bench_site
from reconf.estimation.told import WIDEST_STD_FRAC, told_soc_std_frac
from reconf.site import Chemistry


def test_told_deviation_is_wider_and_ends_where_nothing_is_known():
    site = bench_site(4, chemistry=Chemistry.LFP)
    own = np.array([0.001, 0.02, 0.15, 0.35])
    told = told_soc_std_frac(site, own)
    assert (told[:2] > own[:2]).all()
    assert told[2] == WIDEST_STD_FRAC
    assert told[3] == own[3]


@pytest.mark.parametrize("chemistry", [Chemistry.LFP, Chemistry.NMC], ids=str)
def test_told_intervals_cover_cells_of_other_makers(chemistry):
    found = case(chemistry, "mid", (7,), dt_s=40.0, hours=3.0)
    assert found["soc_coverage90_told"] >= 0.8
    assert found["soc_coverage90_told"] >= found["soc_coverage90_own"]
