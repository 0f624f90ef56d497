"""Two modules of a twin change places, as when a person carries them: physics, sensors and nodes with them.

What belongs to the position stays: the unit id, the place in the string, the switch's resistance, the air.
"""

from __future__ import annotations

import numpy as np

from reconf.errors import ParameterError
from reconf.twin.firmware import NodeBank

TRUTH_ROWS = (
    "soh_frac", "capacity_ah", "resistance_scale", "branch_peak_frac", "soc_frac", "current_gain_frac",
    "current_offset_a", "cell_voltage_offset_v", "temperature_offset_k",
)  # fmt: skip
"""Of `Truth`: what a module and the sensors of its node bring along."""
KIND = ("chemistry", "cell_model", "n_cells", "n_parallel", "rated_capacity_ah", "trim_efficiency_frac")
IDENTITY = slice(100, 117)
"""Holding registers that a node keeps."""


def swap_modules(bank: NodeBank, first: str, second: str) -> None:
    """Exchange the modules at two positions, by label. Both nodes boot.

    Raises:
        ParameterError: no such position, the modules are of different kinds, or a contactor above them is
            closed.
    """
    site, plant = bank.site, bank.plant
    labels = [p.label for p in site.positions]
    missing = [place for place in (first, second) if place not in labels]
    if missing:
        raise ParameterError(f"no position {missing[0]!r}; there are {labels[0]} .. {labels[-1]}")
    a, b = labels.index(first), labels.index(second)
    if any(getattr(site.modules[a], key) != getattr(site.modules[b], key) for key in KIND):
        raise ParameterError(f"{first} and {second} hold modules of different kinds")
    if bank.rc1.closed[site.topology.string_of[[a, b]]].any():
        raise ParameterError(f"{first} or {second} is live: a contactor is closed")
    rows, turned = [a, b], [b, a]
    for name in TRUTH_ROWS:
        values = getattr(plant.truth, name)
        values[rows] = values[turned]
    plant.exchange_rows(a, b)
    for values in (bank.rm1.bank.holding[:, IDENTITY], bank.rm1.bank.input[:, 2:3]):
        values[rows] = values[turned]
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[rows] = True
    bank.rm1.restart(mask, plant.time_s, plant.charge_out_ah)
