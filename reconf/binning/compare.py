"""What an assignment is worth: now and over years, against chance, sorting and the upper bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.binning.assign import Assignment, Layout, energy_bound_wh, shuffled
from reconf.binning.energy import loaded_voltage_v, string_energy_wh
from reconf.binning.lot import Lot

POLICIES = ("random_fixed", "sorted_fixed", "random_shared", "planned")


@dataclass(frozen=True, slots=True)
class Ageing:
    """How modules lose capacity: a scenario, to be set by whoever knows the duty."""

    fade_per_year: float = 0.02
    """Share of the rated capacity lost in a year, mean of the lot."""
    fade_cv: float = 0.4
    """Spread between modules (log-normal); cells of one batch already differ by this order
    (Baumhöfer et al., J. Power Sources 247 (2014) 332, doi 10.1016/j.jpowsour.2013.08.108)."""
    years: int = 10
    doubling_k: float = 10.0
    """Warmer by this much ages twice as fast (Waldmann et al. 2014, doi 10.1016/j.jpowsour.2014.03.112)."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Energy of one policy over D draws, per full discharge of the site."""

    name: str
    energy_wh: FloatArray
    """(D, Y + 1) after 0..Y years."""
    used_wh: FloatArray
    """(D,) energy in the modules the policy uses, now."""

    def summary(self) -> dict[str, float | list[float]]:
        """Means, 5..95 % of the draws, utilisation."""
        now, life = self.energy_wh[:, 0], self.energy_wh.mean(axis=1)
        return {
            "now_kwh": float(now.mean()) / 1e3,
            "now_kwh_90": [float(v) / 1e3 for v in np.quantile(now, (0.05, 0.95))],
            "utilisation": float((now / self.used_wh).mean()),
            "mean_of_years_kwh": float(life.mean()) / 1e3,
            "mean_of_years_kwh_90": [float(v) / 1e3 for v in np.quantile(life, (0.05, 0.95))],
            "by_year_kwh": [float(v) / 1e3 for v in self.energy_wh.mean(axis=0)],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All policies on the same draws, and the bound on the graded values."""

    worth: tuple[Worth, ...]
    objective_wh: float
    """Energy of the plan at the graded values."""
    bound_wh: float

    @property
    def gap_frac(self) -> float:
        """How far the plan may be from the best."""
        return (self.bound_wh - self.objective_wh) / self.bound_wh


def assigned_energy_wh(
    assignment: Assignment, layout: Layout, capacity_ah: FloatArray, loaded_v: FloatArray, spares: int
) -> FloatArray:
    """Energy of every string [Wh], (S,). Parallel groups: capacities add, voltages average by capacity."""
    capacity = capacity_ah[assignment.index]
    group = capacity.sum(axis=2)
    voltage = (capacity * loaded_v[assignment.index]).sum(axis=2) / np.maximum(group, 1e-12)
    return string_energy_wh(group, voltage, min(spares, layout.length - 1))


def loaded(lot: Lot, layout: Layout) -> FloatArray:
    """(M,) voltage under the module's share of the string current."""
    return loaded_voltage_v(lot.voltage_v, lot.resistance_ohm, layout.current_a / layout.parallel)


def plan_energy_wh(lot: Lot, layout: Layout, assignment: Assignment) -> tuple[float, float]:
    """(energy of the assignment, upper bound) at the graded values [Wh]."""
    volts = loaded(lot, layout)
    energy = assigned_energy_wh(assignment, layout, lot.capacity_ah, volts, layout.spares)
    return float(energy.sum()), energy_bound_wh(lot, layout, volts)


def compare(
    lot: Lot,
    layout: Layout,
    planned: Assignment,
    sorted_plan: Assignment,
    ageing: Ageing,
    draws: int,
    rng: np.random.Generator,
) -> Comparison:
    """Draw truths within the graded intervals and let them age; every policy meets the same truths.

    Args:
        lot: as graded.
        layout: strings and spares.
        planned: the assignment to be judged, run with the layout's spares.
        sorted_plan: sorted by capacity, run as fixed strings.
        ageing: scenario.
        draws: number of truths.
        rng: randomness.
    """
    names = [n for n in POLICIES if layout.spares or n != "random_shared"]
    energy = {n: np.zeros((draws, ageing.years + 1)) for n in names}
    used = {n: np.zeros(draws) for n in names}
    volts = loaded(lot, layout)
    for d in range(draws):
        chance = shuffled(lot, layout, rng)
        truth = np.maximum(lot.capacity_ah + lot.capacity_std_ah * rng.standard_normal(len(volts)), 0.0)
        pace = _fade_ah(lot, ageing, rng)
        for name in names:
            assignment = {"sorted_fixed": sorted_plan, "planned": planned}.get(name, chance)
            spares = 0 if name.endswith("fixed") else layout.spares
            warm = _warmth(assignment, layout, ageing, len(volts))
            used[name][d] = float((truth * volts)[assignment.index].sum())
            for year in range(ageing.years + 1):
                now = np.maximum(truth - year * pace * warm, 0.0)  # an empty module gives nothing
                energy[name][d, year] = assigned_energy_wh(assignment, layout, now, volts, spares).sum()
    objective, bound = plan_energy_wh(lot, layout, planned)
    return Comparison(tuple(Worth(n, energy[n], used[n]) for n in names), objective, bound)


def _fade_ah(lot: Lot, ageing: Ageing, rng: np.random.Generator) -> FloatArray:
    """(M,) loss per year [Ah]."""
    sigma = np.sqrt(np.log1p(ageing.fade_cv**2))
    factor = rng.lognormal(-0.5 * sigma**2, sigma, len(lot.serials)) if sigma > 0 else 1.0
    fade: FloatArray = ageing.fade_per_year * lot.rated_capacity_ah * factor
    return fade


def _warmth(assignment: Assignment, layout: Layout, ageing: Ageing, n_modules: int) -> FloatArray:
    """(M,) factor of the fade from where a module sits."""
    factor = np.ones(n_modules)
    by_position = 2.0 ** (layout.warmth_k() / ageing.doubling_k)
    factor[assignment.index] = by_position[None, :, None]
    return factor
