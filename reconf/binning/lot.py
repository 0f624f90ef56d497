"""A lot: modules as graded, struct of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.cells.parameters import load_cell_model
from reconf.errors import DataFileError
from reconf.site import Chemistry

CELL_MODELS = {
    Chemistry.LMO: "leaf_lmo",
    Chemistry.NMC: "nmc_generic",
    Chemistry.LFP: "lfp_generic",
    Chemistry.NCA: "nca_generic",
}
"""Parameter file taken where a module's cell is not known better."""
Z90 = 1.6448536269514722
"""Half width of a central 90 % interval of a normal distribution in standard deviations."""
DEFAULT_SOH_STD_FRAC = 0.05
"""Taken where a row has an SOH and says nothing of its interval."""
MAX_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class ModuleKind:
    """What must be alike within a string: chemistry and voltage."""

    chemistry: Chemistry
    cell_model: str
    n_cells: int
    n_parallel: int
    rated_capacity_ah: float

    @property
    def name(self) -> str:
        """Name of the kind, fit for a key of a site file."""
        rated = f"{self.rated_capacity_ah:g}".replace(".", "p")
        return f"{self.chemistry.value.lower()}_{self.n_cells}s{self.n_parallel}p_{rated}ah"

    def voltage_v(self) -> float:
        """Mean open-circuit voltage of a module [V]."""
        model = load_cell_model(self.cell_model)
        return self.n_cells * float(model.ocv_v(np.linspace(0.0, 1.0, 101)).mean())

    def resistance_new_ohm(self) -> float:
        """Resistance of a new module at half charge and 25 degC, polarisation settled [ohm]."""
        model = load_cell_model(self.cell_model)
        half = np.array([0.5])
        first, second = model.rc_ohm(half)
        per_ah = float((model.r0_ohm(half) + first + second)[0]) * model.reference_capacity_ah
        return self.n_cells * per_ah / self.rated_capacity_ah


@dataclass(frozen=True, slots=True)
class Lot:
    """M modules."""

    serials: tuple[str, ...]
    kinds: tuple[ModuleKind, ...]
    kind_of: IntArray
    """(M,) index into `kinds`."""
    capacity_ah: FloatArray
    """(M,) graded."""
    capacity_std_ah: FloatArray
    """(M,)"""
    resistance_ohm: FloatArray
    """(M,)"""
    voltage_v: FloatArray
    """(M,) mean open-circuit voltage of a module."""
    rated_capacity_ah: FloatArray
    """(M,)"""
    resistance_scale: FloatArray
    """(M,) graded resistance over that of the kind when new."""

    @property
    def soh_frac(self) -> FloatArray:
        """(M,) capacity over rated capacity."""
        soh: FloatArray = self.capacity_ah / self.rated_capacity_ah
        return soh

    @property
    def soh_std_frac(self) -> FloatArray:
        """(M,) its standard deviation."""
        std: FloatArray = self.capacity_std_ah / self.rated_capacity_ah
        return std


class _Row:
    """One row with complaints that name line and column."""

    def __init__(self, where: str, row: Mapping[str, object], complaints: list[str]) -> None:
        self.where = where
        self.row = row
        self.complaints = complaints

    def text(self, *names: str, default: str | None = None) -> str:
        for name in names:
            found = str(self.row.get(name) if self.row.get(name) is not None else "").strip()
            if found:
                return found
        if default is None:
            self.complaints.append(f"{self.where}: column {names[0]}: nothing there")
            return ""
        return default

    def number(self, *names: str, low: float, high: float, default: float | None = None) -> float:
        text = self.text(*names, default=None if default is None else repr(default))
        if not text:
            return float("nan")
        try:
            value = float(text)
        except ValueError:
            hint = " (decimal comma? use a point)" if "," in text else ""
            self.complaints.append(f"{self.where}: column {names[0]}: {text!r} is not a number{hint}")
            return float("nan")
        if not low <= value <= high:
            self.complaints.append(f"{self.where}: column {names[0]}: {value:g} is outside {low:g}..{high:g}")
            return float("nan")
        return value

    def kind(self, rated_default_ah: float | None) -> ModuleKind | None:
        name = self.text("chemistry", "Mat", default="NMC").upper()
        if name not in Chemistry.__members__:
            allowed = ", ".join(Chemistry.__members__)
            self.complaints.append(f"{self.where}: column chemistry: {name!r} is none of {allowed}")
            return None
        chemistry = Chemistry[name]
        rated = self.number("rated_capacity_ah", "Qn", low=0.1, high=2000.0, default=rated_default_ah)
        return ModuleKind(
            chemistry=chemistry,
            cell_model=self.text("cell_model", default=CELL_MODELS[chemistry]),
            n_cells=int(self.number("n_cells", low=1, high=15, default=1.0)),
            n_parallel=int(self.number("n_parallel", low=1, high=1000, default=1.0)),
            rated_capacity_ah=rated,
        )

    @property
    def has_capacity(self) -> bool:
        """Whether a measured capacity is given."""
        return bool(self.text("capacity_ah", "Q", default=""))

    def soh(self, rated_ah: float) -> tuple[float, float]:
        """SOH and its standard deviation."""
        if self.has_capacity:
            capacity = self.number("capacity_ah", "Q", low=0.01, high=2000.0)
            soh, std = capacity / rated_ah, 0.01
        else:
            soh, std = self.number("soh_frac", "soh", "SOH", low=0.05, high=1.3), DEFAULT_SOH_STD_FRAC
        low = self.text("soh_low_frac", "soh_low", default="")
        if low:
            lower = self.number("soh_low_frac", "soh_low", low=0.0, high=1.3)
            upper = self.number("soh_high_frac", "soh_high", low=0.0, high=1.4)
            std = max((upper - lower) / (2.0 * Z90), 1e-4)
        return soh, self.number("soh_std_frac", low=1e-4, high=0.5, default=std)


def _largest_capacity_ah(rows: Sequence[Mapping[str, object]]) -> float | None:
    """Largest measured capacity: stands in for the rated one where a table has none."""
    found = []
    for row in rows:
        try:
            found.append(float(str(row.get("capacity_ah") or row.get("Q"))))
        except ValueError:
            continue  # complained about, or not needed, when the row is read
    return max(found, default=None)


def lot_from_rows(name: str, rows: Sequence[Mapping[str, object]], lines: Sequence[int] | None = None) -> Lot:
    """A lot from rows of text or numbers.

    Columns: `serial` (or ID), `capacity_ah` or `soh_frac` with `soh_low_frac`/`soh_high_frac` (90 %
    interval) or `soh_std_frac`; optional chemistry, cell_model, n_cells, n_parallel, rated_capacity_ah,
    resistance_ohm.

    Raises:
        DataFileError: with line and column of everything that is wrong.
    """
    complaints: list[str] = []
    first_at: dict[str, str] = {}
    kinds: dict[ModuleKind, int] = {}
    new: dict[ModuleKind, tuple[float, float]] = {}
    table: list[tuple[int, float, float, float, float]] = []
    largest_ah = _largest_capacity_ah(rows)
    for i, row in enumerate(rows):
        where = f"{name}:{lines[i]}" if lines is not None else f"{name}: row {i + 1}"
        reader = _Row(where, row, complaints)
        serial = reader.text("serial", "ID")
        if serial in first_at:
            complaints.append(
                f"{where}: column serial: {serial!r} a second time, first at {first_at[serial]}"
            )
        first_at.setdefault(serial, where)
        kind = reader.kind(largest_ah)
        if kind is None or complaints:
            continue
        if kind not in kinds:
            kinds[kind] = len(kinds)
            new[kind] = kind.voltage_v(), kind.resistance_new_ohm()
        voltage, resistance_new = new[kind]
        soh, std = reader.soh(kind.rated_capacity_ah)
        resistance = reader.number("resistance_ohm", low=1e-6, high=10.0, default=resistance_new)
        table.append((kinds[kind], soh, std, resistance, voltage))
    if complaints:
        more = len(complaints) - MAX_COMPLAINTS
        raise DataFileError(
            "\n".join(complaints[:MAX_COMPLAINTS] + ([f"... and {more} more"] if more > 0 else []))
        )
    if not table:
        raise DataFileError(f"{name}: no module in it")
    columns = np.array(table)
    listed = tuple(kinds)
    kind_of = columns[:, 0].astype(np.int64)
    rated = np.array([k.rated_capacity_ah for k in listed])[kind_of]
    fresh = np.array([new[k][1] for k in listed])[kind_of]
    return Lot(
        serials=tuple(first_at),
        kinds=listed,
        kind_of=kind_of,
        capacity_ah=columns[:, 1] * rated,
        capacity_std_ah=columns[:, 2] * rated,
        resistance_ohm=columns[:, 3],
        voltage_v=columns[:, 4],
        rated_capacity_ah=rated,
        resistance_scale=columns[:, 3] / fresh,
    )
