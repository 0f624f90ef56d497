"""Has the cooling of a whole zone been lost? One cause for many readings, held against one lie each.

The modules of a string share their air. Where most of them are warmer than the free-running observer in the
same blocks, one parameter explains it, the share of the modelled conductance to the surroundings that is left
(a blocked filter, a dead fan in still air), or surroundings warmer than the ambient sensor says. Many sensors
that lie alike by chance do not, and where they were made to lie, warmer is the harmless side for heat. So the
readings are believed, and `lost` says what is the matter. For charging in the cold warmer is the dangerous
side: there the free-running observer bounds them as before, and once `lost` is told it stands alone, as if
the sensors had been found untrue (`report.temperature_bounds`). Colder than the observer nothing is excused.

A second observer of each module follows its zone. It is made of the same heat and ambient temperature, loses
only `share` of the modelled heat, and is moved by what its zone's median reading says, never below the median
of the free-running one. Share and common error are a Kalman filter of two states per zone,

    b' = b - (k / C) (T_s - T_a) dt (share - share used),      median reading = b + noise

what one module departs by on its own (a lie, its own heat) is left to the tests of the sensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.estimation.integrity_tests import DRIFT
from reconf.replacing import replace

AT_LEAST: Final = 4
"""Modules that are read in a zone, for its median to outvote a lie."""
SHARE_STD: Final = 0.3
"""Of a share nothing is known of, and the most that it is ever doubted."""
SHARE_STEP_STD: Final = 0.05
"""By how much the share may change within a block: a filter that clogs in minutes."""
COMMON_STEP_K: Final = 0.03
COMMON_NOISE_K: Final = 0.15
"""Of a median of block means."""
TELL_STD_K: Final = 0.5
"""Of the common departure beyond what is allowed; half of what a single module's may have."""
LEAST_SHARE: Final = 0.02
"""Told at least: nothing is without any loss."""


def zones_of(string_of: IntArray) -> IntArray:
    """(M,) zone of each module: its string; strings of fewer than `AT_LEAST` modules are one zone."""
    size = np.bincount(string_of)
    small = size < AT_LEAST
    zone: IntArray = np.where(small, int(np.argmax(small)), np.arange(size.size))[string_of]
    return zone


def median_of(values: FloatArray, zone_of: IntArray) -> FloatArray:
    """(Z,) median of each zone's known values, NaN where fewer than `AT_LEAST` are known."""
    # by zone, then by value, what is unknown last
    ordered = values[np.lexsort((values, zone_of))]
    length = np.bincount(zone_of)
    known = np.bincount(zone_of[np.isfinite(values)], minlength=length.size)
    start = np.cumsum(length) - length
    enough = known >= AT_LEAST
    low = np.where(enough, start + (known - 1) // 2, 0)
    high = np.where(enough, start + known // 2, 0)
    median: FloatArray = np.where(enough, 0.5 * (ordered[low] + ordered[high]), np.nan)
    return median


@dataclass(frozen=True, slots=True)
class Zones:
    """What is known of each zone. (Z,) unless said otherwise."""

    of: IntArray
    """(M,) zone of each module."""
    core_degc: FloatArray
    """(M,) the observer that follows its zone."""
    surface_degc: FloatArray
    share_frac: FloatArray
    """Conductance to the surroundings that is there over the modelled one, 1 at most."""
    var_bb: FloatArray
    """Covariance of common error [K2] and share."""
    var_bs: FloatArray
    var_ss: FloatArray
    warmer_k: FloatArray
    """Median above the free-running observer in the last block, NaN where nobody can tell."""
    allowed_k: FloatArray
    """As much of it is no news."""
    score: FloatArray
    lost: BoolArray
    cooling_gain: float = 1.0
    """Of the last block."""

    @classmethod
    def start(cls, zone_of: IntArray, temperature_degc: FloatArray) -> Zones:
        """All is well; the observer of each module at `temperature_degc` (M,)."""
        z = int(zone_of.max(initial=-1)) + 1
        return cls(
            of=zone_of,
            core_degc=temperature_degc.copy(),
            surface_degc=temperature_degc.copy(),
            share_frac=np.ones(z),
            var_bb=np.full(z, COMMON_NOISE_K**2),
            var_bs=np.zeros(z),
            var_ss=np.full(z, SHARE_STD**2),
            warmer_k=np.full(z, np.nan),
            allowed_k=np.full(z, np.nan),
            score=np.zeros(z),
            lost=np.zeros(z, dtype=np.bool_),
        )

    def told_share_frac(self) -> FloatArray:
        """(M,) conductance over that without cooling that may be reckoned with; 1 while nothing is lost."""
        found = np.maximum(self.cooling_gain * self.share_frac, LEAST_SHARE)
        told: FloatArray = np.where(self.lost, found, 1.0)[self.of]
        return told


@dataclass(frozen=True, slots=True)
class Block:
    """What was seen in a block. (M,)."""

    above_zone_k: FloatArray
    """Mean reading less the zone's observer, NaN where no sensor is believed."""
    above_free_k: FloatArray
    """The same less the free-running one."""
    free_core_degc: FloatArray
    free_surface_degc: FloatArray
    loss_k_per_s: FloatArray
    """By how much the whole modelled conductance cools a module now."""
    allowed_k: FloatArray
    """As far a reading may be off the free-running observer."""
    cooling_gain: float = 1.0
    """Modelled conductance over that without the site's cooling."""


def follow(zones: Zones, block: Block, elapsed_s: float, threshold: float) -> Zones:
    """The zones after a block of `elapsed_s`; `threshold` is the score from which cooling counts as lost."""
    common = median_of(block.above_zone_k, zones.of)
    seen = np.isfinite(common)
    by_share = np.where(seen, -median_of(block.loss_k_per_s, zones.of) * elapsed_s, 0.0)
    var_bb = zones.var_bb + 2.0 * by_share * zones.var_bs + by_share**2 * zones.var_ss + COMMON_STEP_K**2
    var_bs = zones.var_bs + by_share * zones.var_ss
    var_ss = np.minimum(zones.var_ss + SHARE_STEP_STD**2, SHARE_STD**2)
    total = var_bb + COMMON_NOISE_K**2
    gain_b, gain_s = np.where(seen, var_bb / total, 0.0), np.where(seen, var_bs / total, 0.0)
    found = np.where(seen, common, 0.0)
    moved = (gain_b * found)[zones.of]
    known = seen[zones.of]
    surface = np.where(known, zones.surface_degc + moved, block.free_surface_degc)
    core = np.where(known, zones.core_degc + moved, block.free_core_degc)
    # warmer alone is a common cause
    below = np.maximum(np.nan_to_num(median_of(block.free_surface_degc - surface, zones.of)), 0.0)[zones.of]
    after = replace(
        zones,
        core_degc=core + below,
        surface_degc=surface + below,
        share_frac=np.where(seen, np.clip(zones.share_frac + gain_s * found, 0.0, 1.0), 1.0),
        var_bb=var_bb * (1.0 - gain_b),
        var_bs=var_bs * (1.0 - gain_b),
        var_ss=np.maximum(var_ss - gain_s * var_bs, 1e-6),
    )
    return _told(after, block, threshold)


def _told(zones: Zones, block: Block, threshold: float) -> Zones:
    """A one-sided CUSUM of the common departure: told at `threshold`, taken back at 0."""
    warmer, allowed = median_of(block.above_free_k, zones.of), median_of(block.allowed_k, zones.of)
    beyond = (warmer - allowed) / TELL_STD_K
    step = np.where(np.isfinite(beyond), np.clip(beyond, 0.0, 8.0) - DRIFT, 0.0)
    score = np.clip(zones.score + step, 0.0, threshold + DRIFT)
    lost = np.where(zones.lost, score > 0.0, score > threshold)
    return replace(
        zones,
        warmer_k=warmer,
        allowed_k=allowed,
        score=score,
        lost=lost,
        cooling_gain=block.cooling_gain,
    )
