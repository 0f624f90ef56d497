"""What a capacity test teaches the state filter: it measured what the filter only infers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reconf.captest.point import Capacity
from reconf.estimation.memory import FilterState

POINT_STD_FRAC = 0.01
"""SOC at the end of a test, one sigma: the module has just rested there."""


def learned(memory: FilterState, result: Capacity) -> FilterState:
    """The filter with the module's capacity as measured, where that is the better knowledge.

    Groups keep their SOC and their ratios; capacities are scaled so that the module's agrees. With charge
    r = z Q the covariance follows from independent doubts of z and Q:
    var Q = s², cov(r, Q) = z s², var r = (z s)² + (Q s_z)².
    """
    if result.serial not in memory.serials:
        return memory
    m, groups = memory.serials.index(result.serial), memory.groups
    n = int(memory.constants.bank.n_cells[m])
    charge, capacity = groups.charge_ah[m, :n], groups.capacity_ah[m, :n]
    believed = float(charge.min() + (capacity - charge).min())
    if believed <= 0.0 or result.std_ah**2 >= float(groups.var_qq[m, :n].mean()):
        return memory
    soc, scaled = charge / capacity, capacity * (result.capacity_ah / believed)
    variance = np.full(n, result.std_ah**2)
    values = {
        "capacity_ah": scaled,
        "charge_ah": soc * scaled,
        "var_qq": variance,
        "var_rq": soc * variance,
        "var_rr": soc**2 * variance + (POINT_STD_FRAC * scaled) ** 2,
        "var_re": np.zeros(n),
        "var_qe": np.zeros(n),
    }
    changed = {}
    for name, row in values.items():
        array = getattr(groups, name).copy()
        array[m, :n] = row
        changed[name] = array
    return replace(memory, groups=replace(groups, **changed))
