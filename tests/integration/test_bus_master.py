"""The daemon's core while one RC1 holds the DC bus (MODE 2)."""

from __future__ import annotations

import numpy as np

from edge.bench.bus import bus_site, one_seed


def test_bus_stays_close_through_slots_and_load_steps_and_all_stop_when_the_master_is_lost() -> None:
    result = one_seed(bus_site(2), 1, 0.5, calm_s=2.0, after_s=1.5)
    assert result.violations == 0
    # before the load comes and after the master is lost the bus is nobody's measure
    assert 0.001 < result.step_max_frac <= 0.05
    assert result.return_s <= 1.0
    assert result.slot_changes == 0 or result.slot_max_frac <= 0.01
    assert 1 <= result.lost_ticks <= 2
    assert np.abs(result.volts[:100] / 800.0 - 1.0).max() < 0.02
