"""Constants of protection for one site, as arrays: limit tiers by module, converters, fault timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.bank import CellBank
from reconf.protection.branches import worst_branch_share
from reconf.protection.faults import FaultRow, Scope, Timing, fault_rows
from reconf.protection.limits import LimitRow, LimitTable, Tier, default_limits, site_limits
from reconf.site import Site, Topology

TIER_OF = {"operating": Tier.OPERATING, "recommended": Tier.RECOMMENDED, "safety": Tier.SAFETY}


@dataclass(frozen=True, slots=True)
class Bound:
    """One row of the limit tables over all subjects."""

    tiers: FloatArray
    """(3, N)"""
    hysteresis: FloatArray
    """(N,)"""
    debounce_s: FloatArray
    """(N,)"""

    @property
    def operating(self) -> FloatArray:
        """Operating tier (N,)."""
        row: FloatArray = self.tiers[Tier.OPERATING]
        return row

    @property
    def recommended(self) -> FloatArray:
        """Operating tier (N,)."""
        row: FloatArray = self.tiers[Tier.RECOMMENDED]
        return row

    @property
    def safety(self) -> FloatArray:
        """Operating tier (N,)."""
        row: FloatArray = self.tiers[Tier.SAFETY]
        return row

    @classmethod
    def of(cls, rows: list[LimitRow]) -> Bound:
        """Stack one row per subject."""
        return cls(
            tiers=np.array([[r.tier(t) for r in rows] for t in Tier], dtype=np.float64).reshape(3, len(rows)),
            hysteresis=np.array([r.hysteresis for r in rows], dtype=np.float64),
            debounce_s=np.array([r.debounce_s for r in rows], dtype=np.float64),
        )


Bounds = Mapping[tuple[str, str], Bound]


@dataclass(frozen=True, slots=True)
class Converters:
    """Converters of all strings; arrays (S,)."""

    power_rating_w: FloatArray
    current_rating_a: FloatArray
    voltage_min_v: FloatArray
    voltage_max_v: FloatArray
    loss_fixed_w: FloatArray
    loss_linear_frac: FloatArray
    loss_quadratic_w_per_a2: FloatArray


@dataclass(frozen=True, slots=True)
class Constants:
    """Everything protection derives from the site alone."""

    topology: Topology
    names: tuple[str, ...]
    """(S,) string names."""
    bank: CellBank
    limits: Bounds
    """Module rows, each over M modules."""
    site_limits: Bounds
    """String and site rows, each over one subject."""
    converters: Converters
    trim_rating_a: FloatArray
    graded_capacity_ah: FloatArray
    """(M,) rated capacity times graded SOH: stands in where the estimate has no number."""
    branch_share: FloatArray
    """(M,) current of the worst parallel branch over its fair share."""
    string_r_on_ohm: FloatArray
    """(S,) every position has one conducting switch, inserted or not."""
    timing: Mapping[str, Timing]
    """By scope."""

    @property
    def n_modules(self) -> int:
        """M, the number of modules."""
        return self.topology.n_modules

    @property
    def n_strings(self) -> int:
        """S, the number of strings."""
        return self.topology.n_strings

    def min_by_string(self, values: FloatArray) -> FloatArray:
        """Smallest of an (M,) array in each string -> (S,)."""
        lowest: FloatArray = np.minimum.reduceat(values, self.topology.start[:-1])
        return lowest


def build_constants(site: Site) -> Constants:
    """Index `site`; use through `site.derived(build_constants)`."""
    topology = site.topology
    modules = site.modules
    tables: list[LimitTable] = [
        {**default_limits(m.chemistry), **site.limits.get(m.chemistry, {})} for m in modules
    ]
    keys = sorted({key for table in tables for key in table})
    limits = {key: Bound.of([table[key] for table in tables]) for key in keys}
    shared = {key: Bound.of([row]) for key, row in site_limits().items()}
    converters = [s.converter for s in site.strings]

    def of_converters(name: str) -> FloatArray:
        return np.array([getattr(c, name) for c in converters], dtype=np.float64)

    counts: dict[Scope, int] = {"module": topology.n_modules, "string": topology.n_strings, "site": 1}
    return Constants(
        topology=topology,
        names=tuple(s.name for s in site.strings),
        bank=CellBank.of(modules),
        limits=limits,
        site_limits=shared,
        converters=Converters(
            power_rating_w=of_converters("power_rating_w"),
            current_rating_a=of_converters("current_rating_a"),
            voltage_min_v=of_converters("voltage_min_v"),
            voltage_max_v=of_converters("voltage_max_v"),
            loss_fixed_w=of_converters("loss_fixed_w"),
            loss_linear_frac=of_converters("loss_linear_frac"),
            loss_quadratic_w_per_a2=of_converters("loss_quadratic_w_per_a2"),
        ),
        trim_rating_a=np.array([m.trim_rating_a for m in modules], dtype=np.float64),
        graded_capacity_ah=np.array([m.rated_capacity_ah * m.soh_frac for m in modules], dtype=np.float64),
        branch_share=worst_branch_share(np.array([m.n_parallel for m in modules], dtype=np.int64)),
        string_r_on_ohm=topology.sum_by_string(topology.r_on_ohm),
        timing={
            scope: _timing(fault_rows(scope), limits if scope == "module" else shared, n)
            for scope, n in counts.items()
        },
    )


def _timing(rows: tuple[FaultRow, ...], bounds: Bounds, n: int) -> Timing:
    """Times of one scope's rows; a row without its own debounce takes that of its limit."""

    def debounce(row: FaultRow) -> FloatArray:
        if row.debounce_s is not None:
            return np.full(n, row.debounce_s)
        if row.limit is None:
            return np.zeros(n)
        of_limit = bounds[row.limit[0], row.limit[1]].debounce_s
        return np.array(np.broadcast_to(of_limit, n))

    return Timing(
        debounce_s=np.array([debounce(row) for row in rows]).reshape(len(rows), n),
        release_s=np.array([[row.release_s] for row in rows]),
        latches=np.array([[row.latching != "none"] for row in rows], dtype=np.bool_),
    )
