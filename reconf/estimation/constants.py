"""What the filter derives once from the site: cell models and limits as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.bank import BankPoint, CellBank
from reconf.compiled import engine_for
from reconf.estimation.tuning import OCV_MODEL_STD_V, TUNING, Tuning
from reconf.estimation.zone import zones_of
from reconf.site import Site


@dataclass(frozen=True, slots=True)
class Constants:
    """Per-site tables of the filter. (M,) unless said otherwise."""

    bank: CellBank
    tuning: Tuning
    mask: BoolArray
    """(M, C) True where the module has such a group."""
    share: FloatArray
    """(M, C) 1 where the module has such a group, else 0."""
    zone_of: IntArray
    """(M,) modules that share their air (`reconf.estimation.zone`)."""
    index: IntArray
    """(M,) 0, 1, 2 ... for picking one group of each module."""
    rated_ah: FloatArray
    prior_capacity_ah: FloatArray
    prior_capacity_std_ah: FloatArray
    prior_resistance_scale: FloatArray
    cell_min_v: FloatArray
    """Lower operating limit of a cell group."""
    cell_max_v: FloatArray
    """Upper operating limit of a cell group."""
    full_soc_frac: FloatArray
    """SOC whose open-circuit voltage is `cell_max_v`, 1 at most."""
    ocv_std_v: FloatArray
    ambient_degc: float
    engine: Literal["numpy", "compiled"]


def curves(constants: Constants, soc_frac: FloatArray) -> BankPoint:
    """`CellBank.at` for (M,) or (M, C) `soc_frac`, by the engine that `constants` name."""
    bank = constants.bank
    if constants.engine == "numpy":
        return bank.at(soc_frac)
    from reconf.estimation import kernels

    grid = soc_frac.reshape(soc_frac.shape[0], -1)
    found = kernels.curves_at(grid, bank.row, bank.table, bank.rated_capacity_ah)
    return BankPoint(*found.reshape(-1, *soc_frac.shape))


def pick(constants: Constants, values: FloatArray, group: IntArray) -> FloatArray:
    """values[m, group[m]] -> (M,)."""
    picked: FloatArray = values[constants.index, group]
    return picked


def total(constants: Constants, values: FloatArray) -> FloatArray:
    """Sum of (M, C) finite values over the groups that a module has -> (M,)."""
    summed: FloatArray = np.einsum("mc,mc->m", values, constants.share)
    return summed


def constants_of(site: Site) -> Constants:
    """Build the tables, and load the compiled loops before a tick needs them; used through `Site.derived`."""
    engine = engine_for("auto")
    if engine == "compiled":
        # compiles, or loads what was compiled
        from reconf.estimation import kernels_groups, kernels_module  # noqa: F401  # see above
    modules = site.modules
    bank = CellBank.of(modules)
    rated = np.array([m.rated_capacity_ah for m in modules])
    tables = [site.limits[m.chemistry] for m in modules]
    cell_max = np.array([t["cell_voltage_v", "max"].operating for t in tables])
    spread = np.hypot(TUNING.group_capacity_std_frac, TUNING.capacity_belief_std_frac) * rated
    return Constants(
        bank=bank,
        tuning=TUNING,
        mask=bank.mask,
        share=bank.mask.astype(np.float64),
        zone_of=zones_of(site.topology.string_of),
        index=np.arange(len(modules), dtype=np.int64),
        rated_ah=rated,
        prior_capacity_ah=rated * np.array([m.soh_frac for m in modules]),
        prior_capacity_std_ah=np.hypot(rated * np.array([m.soh_std_frac for m in modules]), spread),
        prior_resistance_scale=np.array([m.resistance_scale for m in modules]),
        cell_min_v=np.array([t["cell_voltage_v", "min"].operating for t in tables]),
        cell_max_v=cell_max,
        full_soc_frac=np.minimum(bank.soc_of_ocv(cell_max), 1.0),
        ocv_std_v=np.array([OCV_MODEL_STD_V[m.chemistry] for m in modules]),
        ambient_degc=site.thermal.ambient_degc,
        engine=engine,
    )
