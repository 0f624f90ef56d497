"""Voltage limits turned into current limits, before the voltage gets there.

The weakest cell group is predicted over a horizon h at a constant current I, from what it reads now at the
present current i (one lumped RC of resistance R - R0 and time constant tau; Plett, J. Power Sources 134
(2004) 262, doi 10.1016/j.jpowsour.2004.02.032)::

    V(h) = [V + R0 i + p] - p e^(-h/tau) - R0 I - (R - R0)(1 - e^(-h/tau)) I - U' I h

p is the group's polarisation now and U' its OCV slope per coulomb. Setting V(h) to the limit and solving for
I gives a limit that shrinks smoothly with the distance left and lets the group come as near as it can.
Because U' itself steepens at the knee, the charge moved within h is bounded by the charge left as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray

POLARISATION_TIME_S: Final = 40.0
"""Lumped time constant of the RC pairs; a short one is the cautious choice and costs millivolts."""
GROUP_RESISTANCE_FACTOR: Final = 1.15
"""Resistance of the worst cell group over the module's mean group, where it is not tracked to be more."""
RESISTANCE_SIGMAS: Final = 2.0


@dataclass(frozen=True, slots=True)
class GroupModel:
    """The cell group that ends a discharge or a charge, as seen now; all (M,), per group."""

    ohmic_v: FloatArray
    """Voltage without the ohmic drop of the present current."""
    polarisation_v: FloatArray
    """Slow part of the drop now, discharge positive."""
    r0_ohm: FloatArray
    r_slow_ohm: FloatArray
    slope_v_per_ah: FloatArray
    """OCV slope, positive."""


def group_model(
    voltage_v: FloatArray,
    current_a: FloatArray,
    polarisation_v: FloatArray,
    r0_ohm: FloatArray,
    resistance_ohm: FloatArray,
    resistance_std_ohm: FloatArray,
    slope_v_per_ah: FloatArray,
    n_cells: FloatArray,
    worst_frac: FloatArray | float = GROUP_RESISTANCE_FACTOR,
) -> GroupModel:
    """Model of one cell group from its measured voltage and the module's estimate (module values, (M,)).

    `worst_frac`: resistance of the worst group over the mean of its module's.
    """
    doubt = 1.0 + RESISTANCE_SIGMAS * resistance_std_ohm / np.maximum(resistance_ohm, 1e-9)
    scale = worst_frac * doubt / n_cells
    r0 = r0_ohm * scale
    return GroupModel(
        ohmic_v=voltage_v + r0_ohm / n_cells * current_a,
        polarisation_v=polarisation_v / n_cells,
        r0_ohm=r0,
        r_slow_ohm=np.maximum(resistance_ohm - r0_ohm, 0.0) * scale,
        slope_v_per_ah=np.maximum(slope_v_per_ah, 0.0) / n_cells,
    )


def current_to_voltage_a(group: GroupModel, limit_v: FloatArray, sign: float, horizon_s: float) -> FloatArray:
    """Largest current magnitude that keeps the group inside `limit_v` for `horizon_s` [A], 0 where none does.

    Args:
        group: the weakest group (sign +1, discharge) or the strongest (sign -1, charge).
        limit_v: voltage per cell group not to be passed.
        sign: +1 for discharge, -1 for charge.
        horizon_s: how long the current is held.
    """
    kept = np.exp(-horizon_s / POLARISATION_TIME_S)
    room_v = sign * (group.ohmic_v + (1.0 - kept) * group.polarisation_v - limit_v)
    drop_ohm = group.r0_ohm + group.r_slow_ohm * (1.0 - kept) + group.slope_v_per_ah * horizon_s / 3600.0
    limit: FloatArray = np.maximum(room_v, 0.0) / np.maximum(drop_ohm, 1e-9)
    return limit
