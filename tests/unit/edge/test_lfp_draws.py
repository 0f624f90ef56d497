"""On a measured LFP plateau, under drawn sensor errors, the filter is no worse than counting."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bench import lfp_draws

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = [
    pytest.mark.needs_data,
    pytest.mark.skipif(not (DATA / "lfp_flat_zone").is_dir(), reason=f"no {DATA / 'lfp_flat_zone'}"),
]


def test_on_the_plateau_no_draw_is_worse_than_counting():
    found = lfp_draws.run(DATA, every=40)
    assert len(found["rmse_percent"]) == found["draws"] == 16
    # full errors: 0.6 and 0.9 % of SOC for a counter
    assert min(found["counting_percent"][:8]) > 0.5
    assert found["worst_excess_percent"] <= 0.05
    assert found["high_percent"] <= 4.0
