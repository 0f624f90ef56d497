"""What an arrangement is worth, now and over the years, over truths drawn within the estimates' doubt.

Every arrangement meets the same truths (common random numbers), so the doubt of a *difference* is far smaller
than that of either side. Estimates are taken as what is believed (a posterior), so choosing the best of
many moves by its mean is not optimistic; a move must gain in most of the truths besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.binning.compare import Ageing
from reconf.binning.energy import loaded_voltage_v, string_energy_wh
from reconf.rebinning.pack import Pack

YEARS_SAMPLED = 4
"""Points of time at which energy is computed, now and the end among them."""
LEAST_VOLTAGE_FRAC = 0.5
"""A drawn resistance counts as far as it leaves this share of the voltage."""


@dataclass(frozen=True, slots=True)
class Truths:
    """D truths of M modules."""

    capacity_ah: FloatArray
    """(D, M)"""
    pace_ah: FloatArray
    """(D, M) capacity lost per year."""
    loaded_v: FloatArray
    """(D, M)"""
    years: FloatArray
    """(Y,) points of time, 0 first."""


@dataclass(frozen=True, slots=True)
class Gain:
    """Energy of a change per full discharge, over the truths [Wh]."""

    now_wh: FloatArray
    """(D,)"""
    life_wh: FloatArray
    """(D,) mean of the years."""


def draw_truths(pack: Pack, ageing: Ageing, draws: int, rng: np.random.Generator) -> Truths:
    """Capacities, resistances and paces of ageing within their doubt.

    Args:
        pack: modules and their doubt.
        ageing: scenario; `years` is how far is looked ahead.
        draws: D.
        rng: randomness.
    """
    lot, shape = pack.lot, (draws, len(pack.lot.serials))
    capacity = np.maximum(lot.capacity_ah + lot.capacity_std_ah * rng.standard_normal(shape), 0.0)
    scale = np.maximum(1.0 + pack.resistance_std_frac * rng.standard_normal(shape), 0.2)
    sigma = np.sqrt(np.log1p(ageing.fade_cv**2))
    pace = ageing.fade_per_year * lot.rated_capacity_ah * rng.lognormal(-0.5 * sigma**2, sigma, shape)
    current = float(np.mean([s.current_a for s in pack.strings]))
    # refuses estimates that cannot be; single draws beyond that are cut off
    loaded_voltage_v(lot.voltage_v, lot.resistance_ohm, current)
    volts = np.maximum(
        lot.voltage_v - current * scale * lot.resistance_ohm, LEAST_VOLTAGE_FRAC * lot.voltage_v
    )
    years = np.linspace(0.0, ageing.years, YEARS_SAMPLED)
    return Truths(capacity, pace, volts, years)


def string_worth_wh(pack: Pack, truths: Truths, string: int, members: IntArray) -> FloatArray:
    """Energy of `string` with the modules `members`, (D, Y)."""
    hardware = pack.strings[string]
    capacity, pace = truths.capacity_ah[:, members], truths.pace_ah[:, members]
    aged = capacity[:, None, :] - truths.years[None, :, None] * pace[:, None, :]
    return string_energy_wh(
        np.maximum(aged, 0.0), truths.loaded_v[:, None, members], hardware.spares, hardware.trim
    )


def life_mean_wh(worth_wh: FloatArray) -> FloatArray:
    """Mean over the years, (..., Y) at evenly spaced times -> (...), trapezoidal."""
    weight = np.ones(worth_wh.shape[-1])
    weight[[0, -1]] = 0.5
    mean: FloatArray = (worth_wh * weight).sum(axis=-1) / weight.sum()
    return mean


def site_worth_wh(pack: Pack, truths: Truths, held: tuple[IntArray, ...]) -> FloatArray:
    """Energy of the site, (D, Y): strings are independent, each behind its own converter."""
    total: FloatArray = np.sum(
        [string_worth_wh(pack, truths, s, members) for s, members in enumerate(held)], axis=0
    )
    return total
