"""Over-discharge of any cell group, seen coming by its own knee.

Below about 10 % SOC the open-circuit voltage dives, and the model's slope may be late: a weak group inside
a module is dragged down by the string and, below 0 V, its anode rises to where copper dissolves (Guo et al.,
Sci. Rep. 6 (2016) 30248, doi 10.1038/srep30248; Juarez-Robles et al., J. Electrochem. Soc. 167 (2020) 090558,
doi 10.1149/1945-7111/aba00a). So the slope of the weakest group is measured as well, over charge rather than
time, and the steeper of the two is used by the voltage guard.

What is compared are voltages under load, freed of a drop that is only known to a share: where the current
changed within the window (a frequency service turns round from tick to tick), a part of the fall is the
doubt in that drop and no slope. Only the fall beyond that doubt counts. At the knee itself a constant power
changes its current by a few percent while the voltage falls, so that the doubt stays far below the fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray

WINDOW_FRAC: Final = 0.003
"""Share of the capacity that is discharged between two measurements of the slope; small enough to see the
knee coming, large enough that a millivolt of noise stays below the slope itself."""
STEEPENING: Final = 2.0
"""The next window is expected to be steeper than the last by up to this factor."""


@dataclass(frozen=True, slots=True)
class KneeState:
    """Where the last window began, and the slope measured in it; (M,)."""

    voltage_v: FloatArray
    """Voltage of the weakest group without its ohmic drop when the window began; NaN: none yet."""
    doubt_v: FloatArray
    """What of the drop taken off then was not sure."""
    moved_ah: FloatArray
    """Discharged since."""
    slope_v_per_ah: FloatArray
    """Measured in the last complete window, per group; 0 while unknown or charging."""

    @classmethod
    def start(cls, n_modules: int) -> KneeState:
        """Nothing measured."""
        return cls(np.full(n_modules, np.nan), np.zeros(n_modules), np.zeros(n_modules), np.zeros(n_modules))


def follow_knee(
    state: KneeState,
    voltage_v: FloatArray,
    doubt_v: FloatArray,
    current_a: FloatArray,
    capacity_ah: FloatArray,
    dt_s: float,
) -> KneeState:
    """Advance by one tick.

    Args:
        state: of the last tick.
        voltage_v: (M,) weakest group without its drop under load, NaN where not measured.
        doubt_v: (M,) by how much that drop may be larger, with its sign (discharge positive).
        current_a: (M,) through the module, discharge positive.
        capacity_ah: (M,)
        dt_s: control time since the last tick.
    """
    moved = state.moved_ah + current_a * (dt_s / 3600.0)
    unknown = np.isnan(voltage_v)
    begin = np.isnan(state.voltage_v)
    back = moved < 0.0
    full = (moved >= WINDOW_FRAC * capacity_ah) & ~begin & ~unknown
    fall_v = state.voltage_v - voltage_v - np.abs(doubt_v - state.doubt_v)
    slope = np.where(full, np.maximum(fall_v, 0.0) / np.maximum(moved, 1e-9), state.slope_v_per_ah)
    slope = np.where(back, 0.0, slope)
    restart = (full | back | begin) & ~unknown
    return KneeState(
        voltage_v=np.where(restart, voltage_v, state.voltage_v),
        doubt_v=np.where(restart, doubt_v, state.doubt_v),
        moved_ah=np.where(restart | back, 0.0, moved),
        slope_v_per_ah=slope,
    )


def steeper_v_per_ah(model_v_per_ah: FloatArray, state: KneeState) -> FloatArray:
    """(M,) slope per group the voltage guard is to use while discharging."""
    slope: FloatArray = np.maximum(model_v_per_ah, STEEPENING * state.slope_v_per_ah)
    return slope
