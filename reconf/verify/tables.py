"""What verify knows of a site before it reads an image: arrays from the site file and the limit tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.model import CellModel, soc_grid
from reconf.cells.parameters import load_cell_model
from reconf.protection.limits import LimitTable, Tier, site_limits
from reconf.site import Site

NO_LIMIT = float("inf")
BRANCH_SPREAD_FRAC = 0.10
"""Retired cells of one pack differ so much in resistance (Schuster et al. 2015,
doi 10.1016/j.est.2015.05.003)."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Constants of one site as arrays; (M,) by module, (S,) by string."""

    n_modules: int
    n_strings: int
    string_of: IntArray
    start: IntArray
    n_cells: FloatArray
    rated_capacity_ah: FloatArray
    r_on_ohm: FloatArray
    trim_rating_a: FloatArray
    trim_efficiency_frac: FloatArray
    cell_voltage_min_v: FloatArray
    """Safety tier of one cell group."""
    cell_voltage_max_v: FloatArray
    cell_empty_v: FloatArray
    """Operating tier: where charge counts as used up."""
    cell_full_v: FloatArray
    end_slope_v: FloatArray
    """(2, M) by how much a cell group's open-circuit voltage goes on falling (rising) with the charge over
    its capacity, once it is empty (full) [V]: where there was a plateau before, there is a cliff then."""
    temperature_max_degc: FloatArray
    """Safety tier."""
    temperature_min_degc: FloatArray
    charge_temperature_min_degc: FloatArray
    charge_temperature_max_degc: FloatArray
    discharge_max_a: FloatArray
    """Safety tier of the current, from the rated capacity, at which no branch of a module's parallel cells
    carries more than its share of it; `Context.aged_frac` of it is left."""
    charge_max_a: FloatArray
    polarisation_times_s: FloatArray
    """(2, M) time constants of the RC pairs of the cell model, the faster first."""
    polarisation_fast_frac: FloatArray
    """Share of the faster pair in both pairs' resistance, where it is largest."""
    heat_capacity_j_per_k: FloatArray
    """Of the module's core."""
    string_r_on_ohm: FloatArray
    """Sum of the conducting switches: every position has exactly one, inserted or not."""
    power_rating_w: FloatArray
    current_rating_a: FloatArray
    voltage_min_v: FloatArray
    voltage_max_v: FloatArray
    loss_fixed_w: FloatArray
    loss_linear_frac: FloatArray
    loss_quadratic_w_per_a2: FloatArray
    is_master: BoolArray
    """The string whose converter holds the bus; nowhere when the PCS does."""
    bus_min_v: float
    bus_max_v: float
    insulation_monitor: bool
    insulation_min_ohm_per_v: float
    """Safety tier."""
    serials: tuple[str, ...]
    names: tuple[str, ...]

    def sum_by_string(self, values: FloatArray) -> FloatArray:
        """Sum (M,) over each string -> (S,)."""
        sums: FloatArray = np.bincount(self.string_of, weights=values, minlength=self.n_strings).astype(
            np.float64
        )
        return sums

    def any_by_string(self, mask: BoolArray) -> BoolArray:
        """Whether any module of a string is in `mask` -> (S,)."""
        found: BoolArray = np.bincount(self.string_of[mask], minlength=self.n_strings) > 0
        return found

    def min_by_string(self, values: FloatArray, where: BoolArray) -> FloatArray:
        """Smallest of the masked values of each string, inf where none -> (S,)."""
        lowest = np.full(self.n_strings, np.inf)
        np.minimum.at(lowest, self.string_of[where], values[where])
        return lowest


def build_tables(site: Site) -> Tables:
    """Index `site`; use through `site.derived(build_tables)`."""
    topology = site.topology
    modules = site.modules
    converters = [s.converter for s in site.strings]
    limits = [site.limits[m.chemistry] for m in modules]

    def of_modules(name: str) -> FloatArray:
        return np.array([getattr(m, name) for m in modules], dtype=np.float64)

    def of_converters(name: str) -> FloatArray:
        return np.array([getattr(c, name) for c in converters], dtype=np.float64)

    def safety(quantity: str, side: str) -> FloatArray:
        return np.array([_safety(table, quantity, side) for table in limits], dtype=np.float64)

    rated = of_modules("rated_capacity_ah")
    bears = rated / _worst_branch(of_modules("n_parallel"))
    cells = [load_cell_model(m.cell_model) for m in modules]
    core = np.array([m.thermal.heat_capacity_core_j_per_k_ah for m in cells], dtype=np.float64)
    return Tables(
        n_modules=topology.n_modules,
        n_strings=topology.n_strings,
        string_of=topology.string_of,
        start=topology.start,
        n_cells=topology.n_cells.astype(np.float64),
        rated_capacity_ah=rated,
        r_on_ohm=topology.r_on_ohm,
        trim_rating_a=of_modules("trim_rating_a"),
        trim_efficiency_frac=of_modules("trim_efficiency_frac"),
        cell_voltage_min_v=safety("cell_voltage_v", "min"),
        cell_voltage_max_v=safety("cell_voltage_v", "max"),
        cell_empty_v=np.array([t["cell_voltage_v", "min"].operating for t in limits], dtype=np.float64),
        cell_full_v=np.array([t["cell_voltage_v", "max"].operating for t in limits], dtype=np.float64),
        end_slope_v=np.array([m.docv_dsoc_v(np.array([0.0, 1.0])) for m in cells], dtype=np.float64).T.copy(),
        temperature_max_degc=safety("temperature_degc", "max"),
        temperature_min_degc=safety("temperature_degc", "min"),
        charge_temperature_min_degc=safety("charge_temperature_degc", "min"),
        charge_temperature_max_degc=safety("charge_temperature_degc", "max"),
        discharge_max_a=safety("discharge_current_c", "max") * bears,
        charge_max_a=safety("charge_current_c", "max") * bears,
        polarisation_times_s=np.array([[m.tau1_s, m.tau2_s] for m in cells], dtype=np.float64).T.copy(),
        polarisation_fast_frac=np.array([_fast_frac(m) for m in cells], dtype=np.float64),
        heat_capacity_j_per_k=core * rated * topology.n_cells,
        string_r_on_ohm=topology.sum_by_string(topology.r_on_ohm),
        power_rating_w=of_converters("power_rating_w"),
        current_rating_a=of_converters("current_rating_a"),
        voltage_min_v=of_converters("voltage_min_v"),
        voltage_max_v=of_converters("voltage_max_v"),
        loss_fixed_w=of_converters("loss_fixed_w"),
        loss_linear_frac=of_converters("loss_linear_frac"),
        loss_quadratic_w_per_a2=of_converters("loss_quadratic_w_per_a2"),
        is_master=np.array([s.name == site.bus.master for s in site.strings], dtype=np.bool_),
        bus_min_v=site.bus.min_v,
        bus_max_v=site.bus.max_v,
        insulation_monitor=site.inputs.insulation_monitor,
        insulation_min_ohm_per_v=_safety(site_limits(), "insulation_ohm_per_v", "min"),
        serials=topology.serials,
        names=tuple(s.name for s in site.strings),
    )


def _worst_branch(cells: FloatArray) -> FloatArray:
    """Current of the best-conducting of so many parallel cells over the mean of all (1.0 for one).

    It has BRANCH_SPREAD_FRAC less resistance than the middle, all the others as much more.
    """
    best, others = 1.0 / (1.0 - BRANCH_SPREAD_FRAC), 1.0 / (1.0 + BRANCH_SPREAD_FRAC)
    worst: FloatArray = best * cells / (best + (cells - 1.0) * others)
    return worst


def _fast_frac(model: CellModel) -> float:
    """Largest share over SOC of the faster RC pair in both pairs' resistance."""
    fast, slow = model.curve("r1_ohm_ah", soc_grid()), model.curve("r2_ohm_ah", soc_grid())
    return float((fast / np.maximum(fast + slow, 1e-12)).max())


def _safety(table: LimitTable, quantity: str, side: str) -> float:
    """Safety tier of a row; no limit where the table has no such row."""
    row = table.get((quantity, side))
    if row is None:
        return NO_LIMIT if side == "max" else -NO_LIMIT
    return row.tier(Tier.SAFETY)
