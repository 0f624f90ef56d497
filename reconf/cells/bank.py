"""Cell models of all modules of a site, stacked so that one gather answers for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.model import CURVES, REFERENCE_DEGC, SOC_MIN, SOC_NODES, SOC_STEP, CellModel, arrhenius
from reconf.cells.parameters import load_cell_model
from reconf.site import ModuleSpec

_N = len(CURVES)


@dataclass(frozen=True, slots=True)
class BankPoint:
    """All curves of all modules at one SOC array; every field has the shape of that array.

    Values are those of one cell *group* (n_parallel cells of the module's rated capacity), new, at
    25 degC; a module has n_cells of them in series.
    """

    ocv_v: FloatArray
    slope_v: FloatArray
    """dU/dz [V per unit SOC]."""
    ocv_ageing_v: FloatArray
    """Change of U per unit of SOH lost [V]."""
    entropy_v_per_k: FloatArray
    r0_ohm: FloatArray
    r1_ohm: FloatArray
    r2_ohm: FloatArray
    hysteresis_v: FloatArray
    """Half width M(z) of the hysteresis loop."""


@dataclass(frozen=True, slots=True)
class CellBank:
    """Stacked cell models of M modules. Methods take SOC arrays of shape (M,) or (M, K) for any K."""

    n_modules: int
    n_cells: IntArray
    """(M,) groups in series."""
    n_cells_max: int
    """C"""
    mask: BoolArray
    """(M, C) True where the module has such a group."""
    rated_capacity_ah: FloatArray
    """(M,) new."""
    voltage_min_v: FloatArray
    """(M,) per cell."""
    voltage_max_v: FloatArray
    """(M,) per cell."""
    tau1_s: FloatArray
    """(M,)"""
    tau2_s: FloatArray
    activation_r0_j_per_mol: FloatArray
    activation_rc_j_per_mol: FloatArray
    hysteresis_rate: FloatArray
    coulombic_efficiency_frac: FloatArray
    heat_capacity_core_j_per_k: FloatArray
    """(M,) whole module."""
    heat_capacity_surface_j_per_k: FloatArray
    conductance_core_surface_w_per_k: FloatArray
    conductance_surface_ambient_w_per_k: FloatArray
    row: IntArray
    """(M,) first row of each module's model in `table`."""
    table: FloatArray
    """(models * SOC_NODES, 2 * len(CURVES)): value at each node, then its rise to the next."""
    models: tuple[CellModel, ...]

    @classmethod
    def of(cls, modules: Sequence[ModuleSpec]) -> CellBank:
        """Stack the models that `modules` name; order is that of `modules`."""
        names = sorted({m.cell_model for m in modules})
        models = tuple(load_cell_model(n) for n in names)
        which = np.array([names.index(m.cell_model) for m in modules], dtype=np.int64)
        n_cells = np.array([m.n_cells for m in modules], dtype=np.int64)
        rated = np.array([m.rated_capacity_ah for m in modules], dtype=np.float64)
        n_max = int(n_cells.max(initial=1))

        def per_module(values: Sequence[float]) -> FloatArray:
            return np.array(values, dtype=np.float64)[which]

        size = n_cells * rated
        thermal = [m.thermal for m in models]
        return cls(
            n_modules=len(modules),
            n_cells=n_cells,
            n_cells_max=n_max,
            mask=np.arange(n_max) < n_cells[:, None],
            rated_capacity_ah=rated,
            voltage_min_v=per_module([m.voltage_min_v for m in models]),
            voltage_max_v=per_module([m.voltage_max_v for m in models]),
            tau1_s=per_module([m.tau1_s for m in models]),
            tau2_s=per_module([m.tau2_s for m in models]),
            activation_r0_j_per_mol=per_module([m.activation_r0_j_per_mol for m in models]),
            activation_rc_j_per_mol=per_module([m.activation_rc_j_per_mol for m in models]),
            hysteresis_rate=per_module([m.hysteresis_rate for m in models]),
            coulombic_efficiency_frac=per_module([m.coulombic_efficiency_frac for m in models]),
            heat_capacity_core_j_per_k=size * per_module([t.heat_capacity_core_j_per_k_ah for t in thermal]),
            heat_capacity_surface_j_per_k=size
            * per_module([t.heat_capacity_surface_j_per_k_ah for t in thermal]),
            conductance_core_surface_w_per_k=size
            * per_module([t.conductance_core_surface_w_per_k_ah for t in thermal]),
            conductance_surface_ambient_w_per_k=size
            * per_module([t.conductance_surface_ambient_w_per_k_ah for t in thermal]),
            row=which * SOC_NODES,
            table=_stack(models),
            models=models,
        )

    def rows(self, soc: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rows of `table` at `soc` (values, then their rise to the next node) and the fraction towards it."""
        position = (soc - SOC_MIN) * (1.0 / SOC_STEP)
        index = np.minimum(np.maximum(position, 0.0), SOC_NODES - 2.0).astype(np.intp)
        fraction = position - index
        index += _beside(self.row, index)
        return self.table.take(index, axis=0), fraction

    def at(self, soc: FloatArray) -> BankPoint:
        """All curves at `soc` in one gather."""
        rows, fraction = self.rows(soc)
        value = rows[..., :_N] + fraction[..., None] * rows[..., _N:]
        per_ah = _beside(1.0 / self.rated_capacity_ah, soc)
        return BankPoint(
            ocv_v=value[..., 0],
            slope_v=rows[..., _N] * (1.0 / SOC_STEP),
            ocv_ageing_v=value[..., 1],
            entropy_v_per_k=value[..., 2],
            r0_ohm=value[..., 3] * per_ah,
            r1_ohm=value[..., 4] * per_ah,
            r2_ohm=value[..., 5] * per_ah,
            hysteresis_v=value[..., 6],
        )

    def ocv_v(
        self,
        soc: FloatArray,
        temperature_degc: FloatArray | float = REFERENCE_DEGC,
        soh: FloatArray | float = 1.0,
    ) -> FloatArray:
        """Open-circuit voltage of one cell [V]; `temperature_degc`, `soh` scalar, (M,) or like `soc`."""
        rows, fraction = self.rows(soc)
        value = rows[..., :3] + fraction[..., None] * rows[..., _N : _N + 3]
        warm = _beside(temperature_degc, soc) - REFERENCE_DEGC
        lost = 1.0 - _beside(soh, soc)
        result: FloatArray = value[..., 0] + lost * value[..., 1] + warm * value[..., 2]
        return result

    def docv_dsoc_v(self, soc: FloatArray) -> FloatArray:
        """Slope of the open-circuit voltage [V per unit SOC]."""
        rows, _ = self.rows(soc)
        result: FloatArray = rows[..., _N] * (1.0 / SOC_STEP)
        return result

    def soc_of_ocv(
        self,
        ocv_v: FloatArray,
        temperature_degc: FloatArray | float = REFERENCE_DEGC,
        soh: FloatArray | float = 1.0,
    ) -> FloatArray:
        """SOC at which a cell rests at `ocv_v`; outside the grid by the end slope. Bisects the table."""
        warm = _beside(temperature_degc, ocv_v) - REFERENCE_DEGC
        lost = 1.0 - _beside(soh, ocv_v)
        base = _beside(self.row, ocv_v)

        def node(index: np.ndarray, column: int) -> FloatArray:
            rows = self.table.take(index + base, axis=0)
            value: FloatArray = (
                rows[..., column] + lost * rows[..., column + 1] + warm * rows[..., column + 2]
            )
            return value

        low = np.zeros(ocv_v.shape, dtype=np.intp)
        high = np.full(ocv_v.shape, SOC_NODES - 1, dtype=np.intp)
        for _ in range(int(np.ceil(np.log2(SOC_NODES)))):
            middle = (low + high) // 2
            below = node(middle, 0) <= ocv_v
            low = np.where(below, middle, low)
            high = np.where(below, high, middle)
        low = np.minimum(low, SOC_NODES - 2)
        result: FloatArray = SOC_MIN + SOC_STEP * (low + (ocv_v - node(low, 0)) / node(low, _N))
        return result

    def r0_factor(self, temperature_degc: FloatArray) -> FloatArray:
        """Factor of R0 at (M,) or (M, K) `temperature_degc` against 25 degC."""
        return arrhenius(temperature_degc, _beside(self.activation_r0_j_per_mol, temperature_degc))

    def rc_factor(self, temperature_degc: FloatArray) -> FloatArray:
        """Factor of R1 and R2 at (M,) or (M, K) `temperature_degc` against 25 degC."""
        return arrhenius(temperature_degc, _beside(self.activation_rc_j_per_mol, temperature_degc))


def _beside(per_module: FloatArray | IntArray | float, like: np.ndarray) -> np.ndarray:
    """`per_module` shaped to broadcast against `like`, whose first axis counts modules."""
    values = np.asarray(per_module)
    if values.ndim in (0, like.ndim):
        return values
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def _stack(models: Sequence[CellModel]) -> FloatArray:
    """Values at the nodes beside their rises to the next node; the last node repeats the rise before."""
    blocks = []
    for model in models:
        rise = np.diff(model.curves, axis=1)
        rise = np.concatenate([rise, rise[:, -1:]], axis=1)
        blocks.append(np.concatenate([model.curves, rise]).T)
    table: FloatArray = np.ascontiguousarray(np.vstack(blocks))
    table.setflags(write=False)
    return table
