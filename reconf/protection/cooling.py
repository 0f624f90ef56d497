"""Does the cooling cool? Two models run beside the modules while it is asked for, one cooled and one not.

Both begin at the temperatures that are measured and get the heat that is made and the ambient temperature;
only the conductance to the surroundings differs. When they have gone apart by `TELL_K` the modules tell which
one they are, by the median of their places between the two (one hot module is a fault of its own)::

    place = (T - T_cooled) / (T_uncooled - T_cooled)        0 cooled ... 1 not cooled

Beyond `FAILED_PLACE` twice in a row the cooling is held to have failed, below `WORKS_PLACE` to work. Both
models then begin again. Without an ambient sensor nothing is said: the site file's temperature may be off by
ten kelvin, as much as cooling does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, middle
from reconf.cells.bank import CellBank

TELL_K: Final = 1.0
"""Difference of the two models, median of the modules, from which the modules are asked: ten times what a
sensor rounds by."""
FAILED_PLACE: Final = 0.75
"""Less than a quarter of what the cooling should do is left. Heat believed a third too low (a resistance that
rose unseen) is a place of 0.5 at most where temperatures have settled at twice the rise."""
WORKS_PLACE: Final = 0.5
TIMES: Final = 2
LONGEST_S: Final = 3600.0
"""A comparison that told nothing by then begins again."""
RUNNING_FRAC: Final = 0.99


def nothing(n_modules: int) -> tuple[FloatArray, FloatArray]:
    """Both models while nothing is compared."""
    return np.full((2, n_modules), np.nan), np.full((2, n_modules), np.nan)


@dataclass(frozen=True, slots=True)
class CoolingWatch:
    """What the comparison remembers; temperatures (2, M) core and surface, NaN while nothing is compared."""

    cooled_degc: FloatArray
    uncooled_degc: FloatArray
    ran_s: float = 0.0
    times: int = 0
    """Comparisons in a row that said failed."""
    failed: bool = False
    above_k: float = float("nan")
    """Of the last comparison: median of the modules above the cooled model."""
    apart_k: float = float("nan")
    """Of the last comparison: median of the two models' difference."""

    @classmethod
    def start(cls, n_modules: int) -> CoolingWatch:
        """Nothing compared."""
        return cls(*nothing(n_modules))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What drives the two models in a tick."""

    measured_degc: FloatArray
    """(M,) mean of the sensors that are believed, NaN where there is none."""
    core_degc: FloatArray
    """(M,) as estimated; only where both models begin."""
    heat_w: FloatArray
    """(M,) made now."""
    ambient_degc: float
    """Measured; NaN where no sensor is fitted."""
    cooled_w_per_k: FloatArray
    """(M,) surface to surroundings with the cooling running."""
    uncooled_w_per_k: FloatArray


def watch_cooling(
    bank: CellBank, watch: CoolingWatch, now: Surroundings, level_frac: float, dt_s: float
) -> CoolingWatch:
    """Go on with the comparison, or begin one when the cooling has come up.

    Args:
        bank: heat capacities and the conductance between core and surface.
        watch: of the last tick.
        now: of this tick.
        level_frac: where the cooling's ramp stands.
        dt_s: since the last tick.
    """
    if level_frac < RUNNING_FRAC or np.isnan(now.ambient_degc):
        return CoolingWatch(
            *nothing(now.measured_degc.size), 0.0, watch.times, watch.failed, watch.above_k, watch.apart_k
        )
    if np.isnan(watch.cooled_degc).all():
        return _begun(watch, now)
    cooled = _step(bank, watch.cooled_degc, now, now.cooled_w_per_k, dt_s)
    uncooled = _step(bank, watch.uncooled_degc, now, now.uncooled_w_per_k, dt_s)
    ran = watch.ran_s + dt_s
    going = CoolingWatch(cooled, uncooled, ran, watch.times, watch.failed, watch.above_k, watch.apart_k)
    apart = uncooled[1] - cooled[1]
    usable: BoolArray = np.isfinite(now.measured_degc) & np.isfinite(apart)
    if not usable.any():
        return _begun(watch, now)
    apart_k = middle(apart[usable])
    if apart_k < TELL_K:
        return going if ran < LONGEST_S else _begun(watch, now)
    above_k = middle((now.measured_degc - cooled[1])[usable])
    place = above_k / apart_k
    if WORKS_PLACE <= place <= FAILED_PLACE:
        return going if ran < LONGEST_S else _begun(watch, now)
    times = watch.times + 1 if place > FAILED_PLACE else 0
    failed = times >= TIMES or (watch.failed and times > 0)
    told = CoolingWatch(cooled, uncooled, 0.0, times, failed, above_k, apart_k)
    return _begun(told, now)


def _begun(watch: CoolingWatch, now: Surroundings) -> CoolingWatch:
    """Both models at the temperatures of now; the verdict stays until another one is reached."""
    both = np.array([now.core_degc, now.measured_degc])
    return CoolingWatch(both, both.copy(), 0.0, watch.times, watch.failed, watch.above_k, watch.apart_k)


def _step(
    bank: CellBank, degc: FloatArray, now: Surroundings, outer_w_per_k: FloatArray, dt_s: float
) -> FloatArray:
    """(2, M) core and surface after `dt_s`, an implicit step of the two nodes (stable at any length)."""
    inner = bank.conductance_core_surface_w_per_k
    cc, cs = bank.heat_capacity_core_j_per_k / dt_s, bank.heat_capacity_surface_j_per_k / dt_s
    core_in = cc * degc[0] + now.heat_w
    surface_in = cs * degc[1] + outer_w_per_k * now.ambient_degc
    det = (cc + inner) * (cs + inner + outer_w_per_k) - inner**2
    core = ((cs + inner + outer_w_per_k) * core_in + inner * surface_in) / det
    surface = ((cc + inner) * surface_in + inner * core_in) / det
    return np.array([core, surface])
