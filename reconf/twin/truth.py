"""What the twin knows and the control does not: the drawn truth of every module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError
from reconf.site import Chemistry, Site

SOH_REACH_STD = 2.5
"""Draws beyond this many standard deviations are drawn again."""
SMALLEST_TREND = 0.5
"""The straight line of resistance over SOH is not followed further down than this."""
CELL_CAPACITY_CV = 0.010
"""Of the cells within one module, which aged together. Six groups of two cells of three used Leaf modules,
fitted with `reconf fit score`, spread by 0.7 % (data: doi 10.5281/zenodo.2580327); so single cells by 1 %."""
CELL_RESISTANCE_CV = 0.07
"""The same six: 4.9 % of groups of two."""


@dataclass(frozen=True, slots=True)
class ResistanceSpread:
    """How resistance goes with SOH in retired cells.

    R0 at 30 % SOC of the PulseBat cells, regressed on SOH (Tao et al. 2024, doi 10.1038/s41467-024-54454-0).
    """

    growth_per_soh_lost: float
    """Relative change of resistance per unit of SOH lost beyond the mean."""
    cv: float
    """Spread about that line."""


RESISTANCE_SPREAD = {
    Chemistry.LMO: ResistanceSpread(-1.45, 0.23),  # 80 cells: the better ones have *more* resistance
    Chemistry.NMC: ResistanceSpread(1.6, 0.08),  # mean of 42 cells of 21 Ah (3.2) and 67 of 2.1 Ah (0.1)
    Chemistry.LFP: ResistanceSpread(0.35, 0.083),  # 56 cells
    Chemistry.NCA: ResistanceSpread(1.6, 0.08),  # none measured; as NMC
}


@dataclass(frozen=True, slots=True)
class Truth:
    """True parameters and initial state. M modules, C cell groups of the largest module."""

    soh_frac: FloatArray
    """(M,) capacity of the weakest group over the rated one."""
    capacity_ah: FloatArray
    """(M, C) present capacity of each group; columns beyond a module's groups repeat its mean."""
    resistance_scale: FloatArray
    """(M, C) over that of the cell model when new."""
    branch_peak_frac: FloatArray
    """(M, C) pulse current of a group's best-conducting cell over the mean of its cells; 1 for one cell."""
    soc_frac: FloatArray
    """(M, C) at the start."""
    temperature_degc: FloatArray
    """(M,) at the start, core and surface alike."""
    cooling_scale: FloatArray
    """(M,) surface-to-ambient conductance over the cell model's."""
    current_gain_frac: FloatArray
    """(M,) error of the module current sensor's gain."""
    current_offset_a: FloatArray
    """(M,)"""
    cell_voltage_offset_v: FloatArray
    """(M, C)"""
    temperature_offset_k: FloatArray
    """(M, 2)"""


def _standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Standard normal draws, those beyond SOH_REACH_STD drawn again."""
    draws = rng.standard_normal(shape)
    while (outside := np.abs(draws) > SOH_REACH_STD).any():
        draws[outside] = rng.standard_normal(int(outside.sum()))
    return draws


def draw_soh(site: Site, rng: np.random.Generator) -> FloatArray:
    """(M,) true SOH: the belief plus its error, stretched about the mean to the site's `twin_soh_cv`.

    With `twin_soh_cv` 0 the belief's own uncertainty is all the spread there is; with a positive one the
    sample's coefficient of variation equals it exactly, whatever the seed.
    """
    belief = np.array([m.soh_frac for m in site.modules])
    std = np.array([m.soh_std_frac for m in site.modules])
    draws = _standard_normal(rng, belief.shape)
    soh = belief + std * draws
    cv = site.twin_soh_cv
    if cv > 0.0 and belief.size > 1:
        if float(np.std(soh)) < 1e-9:
            soh = belief + draws
        soh = belief.mean() * (1.0 + cv * (soh - soh.mean()) / np.std(soh))
    if (soh <= 0.05).any():
        raise ParameterError(f"a drawn SOH of {soh.min():.3f} is no module; lower twin_soh_cv ({cv:g})")
    result: FloatArray = soh
    return result


def draw_resistance(site: Site, soh_frac: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(M,) true resistance scales about the believed ones, going with SOH as they do in retired cells."""
    modules = site.modules
    believed = np.array([x.resistance_scale for x in modules])
    spread = [RESISTANCE_SPREAD[x.chemistry] for x in modules]
    growth = np.array([x.growth_per_soh_lost for x in spread])
    cv = np.array([x.cv for x in spread])
    trend = np.maximum(1.0 + growth * (soh_frac.mean() - soh_frac), SMALLEST_TREND)
    result: FloatArray = believed * trend * np.exp(cv * _standard_normal(rng, soh_frac.shape))
    return result


def draw_groups(site: Site, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Capacity and resistance of every group against its module's, and its branch peak; each (M, C).

    Cells in parallel share their voltage: capacities add, conductances add, and on the time scale of a pulse
    current divides as the conductances do. On that of a discharge it follows the capacities, so that a group
    of unequal cells still gives the sum of its charges.
    """
    m, c = site.topology.n_modules, site.topology.n_cells_max
    count = np.array([x.n_parallel for x in site.modules])
    capacity, resistance, peak = np.ones((m, c)), np.ones((m, c)), np.ones((m, c))
    for parallel in np.unique(count):
        rows = np.flatnonzero(count == parallel)
        shape = (len(rows), c, int(parallel))
        conductance = np.exp(CELL_RESISTANCE_CV * _standard_normal(rng, shape))
        capacity[rows] = 1.0 + CELL_CAPACITY_CV * _standard_normal(rng, shape).mean(axis=2)
        resistance[rows] = 1.0 / conductance.mean(axis=2)
        peak[rows] = conductance.max(axis=2) / conductance.mean(axis=2)
    return capacity, resistance, peak


def draw_truth(
    site: Site,
    rng: np.random.Generator,
    *,
    soc_frac: float = 0.95,
    soc_std_frac: float = 0.0,
    group_soc_std_frac: float = 0.003,
    sensor_scale: float = 1.0,
) -> Truth:
    """Draw the truth of every module of `site`.

    Args:
        site: gives the beliefs, and `twin_soh_cv`, the spread that SOH really has.
        rng: the only source of chance; the same seed gives the same truth.
        soc_frac: mean SOC of the modules at the start.
        soc_std_frac: its spread over modules.
        group_soc_std_frac: spread over the groups within a module.
        sensor_scale: scales every sensor error, 0 for perfect sensors.
    """
    topology = site.topology
    m, c = topology.n_modules, topology.n_cells_max
    mask = np.arange(c) < topology.n_cells[:, None]
    soh = draw_soh(site, rng)
    spread, resistance, branch_peak = draw_groups(site, rng)
    weakest = np.where(mask, spread, np.inf).min(axis=1, keepdims=True)
    capacity = (soh * topology.rated_capacity_ah)[:, None] * np.where(mask, spread / weakest, 1.0)
    module_r = draw_resistance(site, soh, rng)
    soc = soc_frac + soc_std_frac * _standard_normal(rng, (m, 1))
    return Truth(
        soh_frac=soh,
        capacity_ah=capacity,
        resistance_scale=module_r[:, None] * resistance,
        branch_peak_frac=branch_peak,
        soc_frac=np.where(mask, soc + group_soc_std_frac * _standard_normal(rng, (m, c)), soc),
        temperature_degc=np.full(m, site.thermal.ambient_degc),
        cooling_scale=np.exp(0.1 * _standard_normal(rng, (m,))),
        current_gain_frac=sensor_scale * 0.003 * _standard_normal(rng, (m,)),
        current_offset_a=sensor_scale * 0.03 * _standard_normal(rng, (m,)),
        cell_voltage_offset_v=sensor_scale * 0.001 * _standard_normal(rng, (m, c)),
        temperature_offset_k=sensor_scale * 0.3 * _standard_normal(rng, (m, 2)),
    )
