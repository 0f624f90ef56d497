"""Two lumped thermal nodes per module, advanced exactly for constant heat over a step; racks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells import CellBank
from reconf.site import ThermalSpec, Topology

LEAST_SHARE: Final = 1e-6
"""Conductance to the surroundings over that to the core, at least: a time constant of centuries."""


@dataclass(frozen=True, slots=True)
class ThermalStep:
    """Propagator of x = (core, surface) over one step length; all (M,)."""

    cc: FloatArray
    cs: FloatArray
    sc: FloatArray
    ss: FloatArray
    rise_core_k_per_w: FloatArray
    """Steady rise of the core above ambient per watt in the core."""
    rise_surface_k_per_w: FloatArray

    @classmethod
    def of(
        cls,
        heat_capacity_core_j_per_k: FloatArray,
        heat_capacity_surface_j_per_k: FloatArray,
        conductance_core_surface_w_per_k: FloatArray,
        conductance_surface_ambient_w_per_k: FloatArray,
        dt_s: float,
    ) -> ThermalStep:
        """exp(A dt) by Sylvester's formula; A has two distinct real negative eigenvalues.

        Lin et al., J. Power Sources 257 (2014) 1, doi 10.1016/j.jpowsour.2014.01.097, eq. 1.
        """
        k_cs = conductance_core_surface_w_per_k
        # a module that loses no heat at all has no steady state to be told by
        k_sa = np.maximum(conductance_surface_ambient_w_per_k, LEAST_SHARE * k_cs)
        a11 = -k_cs / heat_capacity_core_j_per_k
        a12 = -a11
        a21 = k_cs / heat_capacity_surface_j_per_k
        a22 = -(k_cs + k_sa) / heat_capacity_surface_j_per_k
        half = 0.5 * (a11 + a22)
        root = np.sqrt(0.25 * (a11 - a22) ** 2 + a12 * a21)
        fast, slow = half - root, half + root
        e_fast, e_slow = np.exp(fast * dt_s), np.exp(slow * dt_s)
        shared = (e_slow - e_fast) / (slow - fast)
        diagonal = (slow * e_fast - fast * e_slow) / (slow - fast)
        return cls(
            cc=diagonal + a11 * shared,
            cs=a12 * shared,
            sc=a21 * shared,
            ss=diagonal + a22 * shared,
            rise_core_k_per_w=1.0 / k_cs + 1.0 / k_sa,
            rise_surface_k_per_w=1.0 / k_sa,
        )

    def advance(
        self,
        core_degc: FloatArray,
        surface_degc: FloatArray,
        heat_w: FloatArray,
        ambient_degc: FloatArray | float,
    ) -> tuple[FloatArray, FloatArray]:
        """Core and surface after the step, with constant `heat_w` (M,) released in the core."""
        end_core = ambient_degc + heat_w * self.rise_core_k_per_w
        end_surface = ambient_degc + heat_w * self.rise_surface_k_per_w
        core = core_degc - end_core
        surface = surface_degc - end_surface
        return (
            end_core + self.cc * core + self.cs * surface,
            end_surface + self.sc * core + self.ss * surface,
        )


class RackHeat:
    """Modules in their racks: own cooling, the site's cooling system, warmth of the neighbours.

    A neighbour is held at its temperature over one step, which is stable for any step length.
    """

    def __init__(self, bank: CellBank, topology: Topology, spec: ThermalSpec) -> None:
        self.level_frac = 0.0
        """How far the cooling system has come up, 0..1."""
        self._bank = bank
        self._spec = spec
        same = np.diff(topology.string_of) == 0
        self._left = np.concatenate(([False], same))
        self._right = np.concatenate((same, [False]))
        self._neighbours = self._left.astype(np.float64) + self._right.astype(np.float64)
        self._cached: tuple[float, FloatArray, ThermalStep] | None = None

    def advance(
        self,
        core_degc: FloatArray,
        surface_degc: FloatArray,
        heat_w: FloatArray,
        ambient_degc: float,
        cooling_scale: FloatArray,
        cooling_frac: float,
        dt_s: float,
    ) -> tuple[FloatArray, FloatArray]:
        """Core and surface temperatures after the step; `cooling_scale` (M,) multiplies the conductance."""
        scale = cooling_scale * self._cooling_gain(cooling_frac, dt_s)
        share = self._spec.neighbour_conductance_frac
        air: FloatArray | float = ambient_degc
        if share > 0.0:
            beside = np.zeros_like(surface_degc)
            beside[1:] += np.where(self._left[1:], surface_degc[:-1], 0.0)
            beside[:-1] += np.where(self._right[:-1], surface_degc[1:], 0.0)
            total = scale + share * self._neighbours
            air = (scale * ambient_degc + share * beside) / total
            scale = total
        return self._step(scale, dt_s).advance(core_degc, surface_degc, heat_w, air)

    def _cooling_gain(self, asked_frac: float, dt_s: float) -> float:
        """Factor of the conductance; the cooling system comes up and down over its ramp."""
        spec = self._spec
        if spec.cooling == "off":
            return 1.0
        most = dt_s / max(spec.cooling_ramp_s, dt_s)
        self.level_frac += min(max(asked_frac - self.level_frac, -most), most)
        return 1.0 + self.level_frac * (1.0 / spec.cooling_resistance_factor_frac - 1.0)

    def _step(self, scale: FloatArray, dt_s: float) -> ThermalStep:
        cached = self._cached
        if cached is None or cached[0] != dt_s or not np.array_equal(cached[1], scale):
            bank = self._bank
            step = ThermalStep.of(
                bank.heat_capacity_core_j_per_k,
                bank.heat_capacity_surface_j_per_k,
                bank.conductance_core_surface_w_per_k,
                bank.conductance_surface_ambient_w_per_k * scale,
                dt_s,
            )
            cached = self._cached = (dt_s, scale, step)
        return cached[2]
