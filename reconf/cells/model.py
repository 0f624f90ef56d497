"""Equivalent-circuit model of one cell: curves over SOC on a uniform grid, constants beside them.

Terminal voltage, discharge positive (second-order Thevenin model with one hysteresis state, Plett,
J. Power Sources 134 (2004) 262, doi 10.1016/j.jpowsour.2004.02.032)::

    V = U(z, SOH) + (T - 25) dU/dT(z) + M(z) h - v1 - v2 - R0(z, T) i

SOC `z` is charge left over *present* capacity between the cut-offs, so U(0) is the empty and U(1) the
full open-circuit voltage at any age. Resistances are kept as ohm times ampere-hour, which is a property
of the electrode area: a group of parallel cells with rated capacity Q has R = r / Q.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError

SOC_MIN: Final = -0.10
"""First node of every SOC grid; curves go on linearly beyond."""
SOC_MAX: Final = 1.10
"""Last node of every SOC grid."""
SOC_NODES: Final = 481
SOC_STEP: Final = (SOC_MAX - SOC_MIN) / (SOC_NODES - 1)
REFERENCE_DEGC: Final = 25.0
ZERO_CELSIUS_K: Final = 273.15
GAS_CONSTANT: Final = 8.314462618
"""[J/(mol K)], CODATA 2018."""

CURVES: Final = (
    "ocv_v",
    "ocv_ageing_v",
    "entropy_v_per_k",
    "r0_ohm_ah",
    "r1_ohm_ah",
    "r2_ohm_ah",
    "hysteresis_v",
)
"""Curves of `CellModel.curves`, in this order."""


def soc_grid() -> FloatArray:
    """The common SOC grid (SOC_NODES,)."""
    grid: FloatArray = np.linspace(SOC_MIN, SOC_MAX, SOC_NODES)
    return grid


def arrhenius(temperature_degc: FloatArray, activation_j_per_mol: FloatArray | float) -> FloatArray:
    """Factor of a resistance at `temperature_degc` [degC] against that at 25 degC.

    exp(Ea/R (1/T - 1/T0)); Waag, Käbitz, Sauer, Applied Energy 102 (2013) 885,
    doi 10.1016/j.apenergy.2012.09.030, find it for the impedance of EV cells at every age.
    """
    inverse = 1.0 / (temperature_degc + ZERO_CELSIUS_K) - 1.0 / (REFERENCE_DEGC + ZERO_CELSIUS_K)
    factor: FloatArray = np.exp(activation_j_per_mol / GAS_CONSTANT * inverse)
    return factor


@dataclass(frozen=True, slots=True)
class ThermalParameters:
    """Two lumped nodes, per ampere-hour and cell group: multiply by n_cells * rated_capacity_ah.

    C_c dT_c/dt = heat - k_cs (T_c - T_s);  C_s dT_s/dt = k_cs (T_c - T_s) - k_sa (T_s - T_a);
    Lin et al., J. Power Sources 257 (2014) 1, doi 10.1016/j.jpowsour.2014.01.097.
    """

    heat_capacity_core_j_per_k_ah: float
    heat_capacity_surface_j_per_k_ah: float
    conductance_core_surface_w_per_k_ah: float
    conductance_surface_ambient_w_per_k_ah: float


@dataclass(frozen=True, slots=True)
class CellModel:
    """Parameters of one cell type. Every method is vectorised over `soc` (any shape)."""

    name: str
    chemistry: str
    reference_capacity_ah: float
    """Capacity of the cell the parameters were taken from [Ah]."""
    voltage_min_v: float
    """Lower cut-off; U(0) equals it [V]."""
    voltage_max_v: float
    """Upper limit while charging [V]."""
    curves: FloatArray
    """(len(CURVES), SOC_NODES) at 25 degC, new."""
    tau1_s: float
    tau2_s: float
    activation_r0_j_per_mol: float
    activation_rc_j_per_mol: float
    hysteresis_rate: float
    """Plett's gamma: the hysteresis state follows exp(-gamma * |charge| / capacity)."""
    coulombic_efficiency_frac: float
    """Charge stored over charge put in."""
    thermal: ThermalParameters
    valid_temperature_degc: tuple[float, float]
    valid_current_c: float
    """Largest C-rate the parameters were checked at."""
    sources: tuple[Mapping[str, str], ...]
    """What comes from where: keys `what`, `source`, `doi`."""

    def curve(self, name: str, soc: FloatArray) -> FloatArray:
        """Curve `name` of `CURVES` at `soc`; linear between nodes and beyond them."""
        return interpolate(self.curves[CURVES.index(name)], soc)

    def ocv_v(
        self, soc: FloatArray, temperature_degc: FloatArray | float = REFERENCE_DEGC, soh: float = 1.0
    ) -> FloatArray:
        """Open-circuit voltage [V] at `soc`, `temperature_degc` and state of health `soh`."""
        new = self.curve("ocv_v", soc) + (1.0 - soh) * self.curve("ocv_ageing_v", soc)
        warm: FloatArray = new + (temperature_degc - REFERENCE_DEGC) * self.entropy_v_per_k(soc)
        return warm

    def docv_dsoc_v(self, soc: FloatArray) -> FloatArray:
        """Slope of the open-circuit voltage over SOC at 25 degC, new [V per unit SOC]."""
        return slope(self.curves[0], soc)

    def entropy_v_per_k(self, soc: FloatArray) -> FloatArray:
        """Entropic coefficient dU/dT [V/K]."""
        return self.curve("entropy_v_per_k", soc)

    def r0_ohm(self, soc: FloatArray, temperature_degc: FloatArray | float = REFERENCE_DEGC) -> FloatArray:
        """Ohmic resistance of the reference cell when new [ohm]."""
        factor = arrhenius(np.asarray(temperature_degc, dtype=np.float64), self.activation_r0_j_per_mol)
        return self.curve("r0_ohm_ah", soc) * factor / self.reference_capacity_ah

    def rc_ohm(
        self, soc: FloatArray, temperature_degc: FloatArray | float = REFERENCE_DEGC
    ) -> tuple[FloatArray, FloatArray]:
        """Resistances of the two RC pairs of the reference cell when new [ohm]."""
        factor = arrhenius(np.asarray(temperature_degc, dtype=np.float64), self.activation_rc_j_per_mol)
        scale = factor / self.reference_capacity_ah
        return self.curve("r1_ohm_ah", soc) * scale, self.curve("r2_ohm_ah", soc) * scale

    def require_valid(self, temperature_degc: float, current_c: float) -> None:
        """Raise `ParameterError` where the parameters were never checked."""
        low, high = self.valid_temperature_degc
        if not low <= temperature_degc <= high:
            raise ParameterError(
                f"{self.name}: {temperature_degc:.1f} degC is outside {low:g}..{high:g} degC of its source"
            )
        if abs(current_c) > self.valid_current_c:
            raise ParameterError(
                f"{self.name}: {current_c:.2f} C is above the {self.valid_current_c:g} C of its source"
            )


def locate(soc: FloatArray) -> tuple[np.ndarray, FloatArray]:
    """Index of the node below each `soc` and the fraction towards the next (outside 0..1 beyond the grid)."""
    position = (soc - SOC_MIN) / SOC_STEP
    index = np.clip(position, 0, SOC_NODES - 2).astype(np.intp)
    return index, position - index


def interpolate(curve: FloatArray, soc: FloatArray) -> FloatArray:
    """Linear interpolation of `curve` (SOC_NODES,) on the common grid, going on linearly outside."""
    index, fraction = locate(np.asarray(soc, dtype=np.float64))
    below = curve[index]
    value: FloatArray = below + fraction * (curve[index + 1] - below)
    return value


def slope(curve: FloatArray, soc: FloatArray) -> FloatArray:
    """Derivative of the piecewise linear `curve` [unit per unit SOC]."""
    index, _ = locate(np.asarray(soc, dtype=np.float64))
    value: FloatArray = (curve[index + 1] - curve[index]) / SOC_STEP
    return value
