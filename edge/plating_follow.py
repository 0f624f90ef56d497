"""The worst histories a guard admits: charging at the rate that keeps the anode just above a margin.

Whoever obeys a limit that falls with SOC has, at each SOC, at most the gradients of one who always took all
of it since some rest. Which rest is worst is not known beforehand: from empty the particles at the separator
are ahead of the others, from a rest on the way all of them come to the steep parts of the potential together.
So charges from rests at many SOC are followed, and the lowest rate counts.
All anodes of a run walk through SOC in step: a slow one is given longer steps of time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.electrochem.anode import AnodeModel, AnodeState
from reconf.electrochem.parameters import AnodeSet

START_SOC_FRAC: Final = 0.02
STEP_SOC_FRAC: Final = 0.005
STEPS: Final = 195
"""To 99.5 %; the rule holds the last rate above."""
HIGHEST_RATE_PER_H: Final = 1.5
"""No module of a stationary battery charges faster; so this is also the fastest history."""
LOWEST_RATE_PER_H: Final = 1e-3
FALL_PER_STEP: Final = 0.7
"""The rate falls at most to this share in a step: longer steps of time would not be resolved."""
SALT_FLOOR_FRAC: Final = 0.15
"""Salt that must be left anywhere in the electrolyte, of the initial: well before the model ends."""
VOLT_PER_SALT_FRAC: Final = 0.3
"""Puts salt on the scale of potential for the search: 1 % of salt counts as 3 mV."""
SEARCH_STEPS: Final = 16
POTENTIAL_TOLERANCE_V: Final = 2e-4

# What age adds by the time 70 % of the charge is left, an assumption on the side of caution: the resistance
# of the cell has doubled, half of the increase is film on the anode, and the film fills a tenth of the
# anode's pores. In between, in proportion to the charge lost. Lost anode material needs no term: rates are
# per present charge.
AGED_LOSS_FRAC: Final = 0.3
AGED_FILM_OHM_M2: Final = 1.3e-3
"""Per area of electrode: half of what a fresh energy cell has (25 mOhm over 0.1 m2, as Chen 2020)."""
AGED_PORES_FRAC: Final = 0.1


def aged(parameters: AnodeSet, soh_frac: float) -> AnodeSet:
    """The set after a life that left `soh_frac` of its charge."""
    share = (1.0 - soh_frac) / AGED_LOSS_FRAC
    surface = parameters.specific_area * float(parameters.thickness_m[0])
    left = np.array([1.0 - AGED_PORES_FRAC * share, 1.0, 1.0])
    return replace(
        parameters,
        film_ohm_m2=parameters.film_ohm_m2 + share * AGED_FILM_OHM_M2 * surface,
        porosity=parameters.porosity * left,
        tortuosity=parameters.tortuosity * left**1.5,
    )


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge of M anodes in K steps of SOC."""

    soc_frac: FloatArray
    """(K,) at the end of each step, the same for all."""
    rate_per_h: FloatArray
    """(K, M); NaN where no rate was found that ends at the margin."""
    potential_v: FloatArray
    """(K, M) at the separator at the end of each step."""


@dataclass(frozen=True, slots=True)
class _Walk:
    model: AnodeModel
    temperature_k: FloatArray

    def step(self, state: AnodeState, rate_per_h: FloatArray) -> tuple[AnodeState, FloatArray]:
        """One step of SOC; at its end the potential, or what salt there is above its floor if less."""
        dt_s = 3600.0 * STEP_SOC_FRAC / rate_per_h
        after, _ = self.model.step(state, rate_per_h, self.temperature_k, dt_s)
        reaction, potential = self.model.solve(after, rate_per_h, self.temperature_k)
        parameters = self.model.set
        salt_left = after.salt.min(axis=1) / parameters.salt - SALT_FLOOR_FRAC
        return replace(after, reaction=reaction), np.minimum(potential, salt_left * VOLT_PER_SALT_FRAC)


def soc_steps(skipped: int = 0) -> FloatArray:
    """(STEPS - skipped,) SOC at the end of each step."""
    steps: FloatArray = START_SOC_FRAC + STEP_SOC_FRAC * np.arange(skipped + 1, STEPS + 1, dtype=np.float64)
    return steps


def follow(parameters: AnodeSet, temperature_k: FloatArray, margin_v: float, skipped: int = 0) -> Charge:
    """Charge anodes (M,) from a rest, each step at the largest rate that ends at `margin_v` or above.

    Args:
        parameters: of the anodes.
        temperature_k: (M,)
        margin_v: what is to be left.
        skipped: steps of SOC between empty and the rest that the charge begins from.
    """
    walk = _Walk(AnodeModel(parameters), temperature_k)
    start = START_SOC_FRAC + STEP_SOC_FRAC * skipped
    state = walk.model.rested(np.full(len(temperature_k), start))
    rate = np.full(len(temperature_k), HIGHEST_RATE_PER_H)
    rows = []
    for k in range(STEPS - skipped):
        floor = LOWEST_RATE_PER_H if k == 0 else np.maximum(FALL_PER_STEP * rate, LOWEST_RATE_PER_H)
        rate = _largest(walk, state, rate, np.broadcast_to(floor, rate.shape), margin_v)
        state, potential = walk.step(state, rate)
        rows.append((np.where(potential < margin_v - POTENTIAL_TOLERANCE_V, np.nan, rate), potential))
    rates, potentials = (np.array(column) for column in zip(*rows, strict=True))
    return Charge(soc_steps(skipped), rates, potentials)


def _largest(
    walk: _Walk, state: AnodeState, start: FloatArray, floor: FloatArray, margin_v: float
) -> FloatArray:
    """Largest rate that ends the step at the margin; `floor` where none above it does. Bracketed secant."""
    low = floor
    high = np.full(start.shape, HIGHEST_RATE_PER_H)
    last_rate, last_excess = low, np.full(start.shape, np.nan)
    rate = np.clip(start, np.minimum(low * 1.01, high), high)
    for _ in range(SEARCH_STEPS):
        excess = walk.step(state, rate)[1] - margin_v
        low, high = np.where(excess >= 0.0, rate, low), np.where(excess < 0.0, rate, high)
        slope = (excess - last_excess) / np.where(rate == last_rate, np.nan, rate - last_rate)
        good = np.isfinite(slope) & (slope < -1e-4)
        # aims a little inside, so that the secant comes in from the feasible side
        secant = rate - (excess - 0.5 * POTENTIAL_TOLERANCE_V) / np.where(good, slope, -1.0)
        first = np.where(excess >= 0.0, rate * 1.03, rate * 0.97)
        trial = np.where(good, secant, np.where(np.isfinite(last_excess), 0.5 * (low + high), first))
        settled = ((excess >= 0.0) & (excess < POTENTIAL_TOLERANCE_V)) | (high - low < 1e-4 * high)
        settled |= low >= HIGHEST_RATE_PER_H
        if settled.all():
            break
        last_rate, last_excess = rate, excess
        inside = (trial > low) & (trial < high)
        edge = np.where(high >= HIGHEST_RATE_PER_H, HIGHEST_RATE_PER_H, 0.5 * (low + high))
        rate = np.where(settled, low, np.where(inside, trial, edge))
    return low


def trace(parameters: AnodeSet, temperature_k: FloatArray, rate_per_h: FloatArray) -> Charge:
    """The potential along a charge from empty at given rates (K, M), K as `follow` has."""
    walk = _Walk(AnodeModel(parameters), temperature_k)
    state = walk.model.rested(np.full(len(temperature_k), START_SOC_FRAC))
    potentials = []
    for rate in rate_per_h:
        state, potential = walk.step(state, rate)
        potentials.append(potential)
    return Charge(soc_steps(), rate_per_h, np.array(potentials))
