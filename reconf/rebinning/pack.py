"""A running site as re-binning sees it: modules with their doubt, where they sit, what a string can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.binning.energy import Trim, loaded_voltage_v
from reconf.binning.lot import Lot, ModuleKind
from reconf.errors import ParameterError
from reconf.site import ModuleSpec, Site

RATED_LEAST_FRAC = 0.75
"""A module may stand in for another of at least this share of its rated capacity: its current limits go with
its rating, and the smallest limit among the inserted modules binds the string."""
GRADED_RESISTANCE_STD_FRAC = 0.1
"""Of a resistance that was graded and never measured on the site."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the running site knows of one module."""

    capacity_ah: float
    capacity_std_ah: float
    resistance_scale: float
    """Over that of the new cell model."""
    resistance_std_frac: float


@dataclass(frozen=True, slots=True)
class StringHardware:
    """What a string can do with its modules."""

    name: str
    spares: int
    """Positions that may rest at any time, from the converter's window."""
    trim: Trim
    current_a: float
    """String current at which energy is counted."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Modules of a site and of its shelf."""

    lot: Lot
    """All modules: those of the site in site order, then the shelf."""
    resistance_std_frac: FloatArray
    """(M,)"""
    measured: BoolArray
    """(M,) known from operation; else as graded."""
    strings: tuple[StringHardware, ...]
    held: tuple[IntArray, ...]
    """By string: index into the lot for each position."""
    shelf: IntArray
    """Index into the lot of modules that are not in the site."""

    @property
    def loaded_v(self) -> FloatArray:
        """(M,) mean voltage at the site's string current."""
        current = float(np.mean([s.current_a for s in self.strings]))
        return loaded_voltage_v(self.lot.voltage_v, self.lot.resistance_ohm, current)

    def classes(self) -> IntArray:
        """(M,) modules of one class may share a string: same chemistry, same cells in series."""
        keys = [(k.chemistry, k.n_cells) for k in self.lot.kinds]
        order = sorted(set(keys))
        of_kind = np.array([order.index(k) for k in keys], dtype=np.int64)
        found: IntArray = of_kind[self.lot.kind_of]
        return found

    def may_replace(self) -> BoolArray:
        """(M, M) module i may sit where module j sits."""
        alike = self.classes()[:, None] == self.classes()[None, :]
        rated = self.lot.rated_capacity_ah
        strong: BoolArray = rated[:, None] >= RATED_LEAST_FRAC * rated[None, :] - 1e-9
        both: BoolArray = alike & strong
        return both


def kind_of(spec: ModuleSpec) -> ModuleKind:
    """What must be alike within a string."""
    return ModuleKind(spec.chemistry, spec.cell_model, spec.n_cells, spec.n_parallel, spec.rated_capacity_ah)


def spares_of(site: Site, string: int) -> int:
    """Positions that may rest to the very end.

    The others, with every cell at its lower operating limit, still meet the bottom of the converter's window:
    the rule by which `reconf plan` sets that bottom.
    """
    spec = site.strings[string]
    lowest_v = [
        p.module.n_cells * site.limits[p.module.chemistry]["cell_voltage_v", "min"].operating
        for p in spec.positions
    ]
    needed = int(np.ceil(spec.converter.voltage_min_v / float(np.mean(lowest_v)) - 1e-9))
    return max(len(spec.positions) - needed, 0)


def pack_of(
    site: Site,
    known: Mapping[str, Measured],
    shelf: Lot | None = None,
    *,
    current_a: float = 0.0,
    spares: int | None = None,
) -> Pack:
    """Put together what the site file says and what operation has measured.

    Args:
        site: as it stands.
        known: measured modules by serial; the others count as graded in the site file.
        shelf: modules that could come in.
        current_a: string current at which energy is counted; 0: a third of the median capacity.
        spares: positions that may rest; None: what the converters' windows leave.

    Raises:
        ParameterError: a serial is on the shelf and in the site.
    """
    modules = site.modules
    kinds = tuple(dict.fromkeys([*(kind_of(m) for m in modules), *(shelf.kinds if shelf else ())]))
    double = set(site.topology.serials) & set(shelf.serials if shelf else ())
    if double:
        raise ParameterError(f"on the shelf and in the site at once: {', '.join(sorted(double))}")
    new_ohm = np.array([k.resistance_new_ohm() for k in kinds])
    volts = np.array([k.voltage_v() for k in kinds])
    index = np.array([kinds.index(kind_of(m)) for m in modules], dtype=np.int64)
    rated = np.array([m.rated_capacity_ah for m in modules])
    values = [known.get(m.serial) or graded(m) for m in modules]
    capacity = np.array([v.capacity_ah for v in values])
    std = np.array([v.capacity_std_ah for v in values])
    scale = np.array([v.resistance_scale for v in values])
    doubt = np.array([v.resistance_std_frac for v in values])
    measured = np.array([m.serial in known for m in modules])
    if shelf is not None:
        index = np.concatenate([index, np.array([kinds.index(k) for k in shelf.kinds])[shelf.kind_of]])
        rated = np.concatenate([rated, shelf.rated_capacity_ah])
        capacity, std = (
            np.concatenate([capacity, shelf.capacity_ah]),
            np.concatenate([std, shelf.capacity_std_ah]),
        )
        scale = np.concatenate([scale, shelf.resistance_scale])
        doubt = np.concatenate([doubt, np.full(len(shelf.serials), GRADED_RESISTANCE_STD_FRAC)])
        measured = np.concatenate([measured, np.zeros(len(shelf.serials), dtype=np.bool_)])
    count = len(modules)
    current = current_a or float(np.median(capacity[:count])) / 3.0
    lot = Lot(
        serials=(*site.topology.serials, *(shelf.serials if shelf else ())),
        kinds=kinds, kind_of=index, capacity_ah=capacity, capacity_std_ah=std,
        resistance_ohm=scale * new_ohm[index], voltage_v=volts[index], rated_capacity_ah=rated,
        resistance_scale=scale,
    )  # fmt: skip
    held = tuple(
        np.arange(site.topology.start[s], site.topology.start[s + 1], dtype=np.int64)
        for s in range(len(site.strings))
    )
    strings = tuple(_hardware(site, s, current, spares) for s in range(len(site.strings)))
    return Pack(lot, doubt, measured, strings, held, np.arange(count, len(lot.serials), dtype=np.int64))


def graded(spec: ModuleSpec) -> Measured:
    """A module nobody has measured since it was graded."""
    return Measured(
        spec.soh_frac * spec.rated_capacity_ah,
        spec.soh_std_frac * spec.rated_capacity_ah,
        spec.resistance_scale,
        GRADED_RESISTANCE_STD_FRAC,
    )


def _hardware(site: Site, s: int, current_a: float, spares: int | None) -> StringHardware:
    string = site.strings[s]
    modules = [p.module for p in string.positions]
    rest = spares_of(site, s) if spares is None else min(spares, len(modules) - 1)
    trim = Trim(
        min(m.trim_rating_a for m in modules) / current_a, min(m.trim_efficiency_frac for m in modules)
    )
    return StringHardware(string.name, rest, trim, current_a)
