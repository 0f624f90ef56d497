"""Two lumped thermal nodes per module, advanced exactly for constant heat over a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray


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
        k_cs, k_sa = conductance_core_surface_w_per_k, conductance_surface_ambient_w_per_k
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
