"""Parameter sets of graphite anodes and their electrolyte, sampled on grids, with their sources.

The files in `data/` are made by `edge.plating_sets` from the published sets; each names its paper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError

REFERENCE_K = 298.15
GAS_CONSTANT = 8.314462618
FARADAY = 96485.33212
SETS = ("Chen2020", "OKane2022", "ORegan2022", "Ecker2015")
"""Shipped sets."""


@dataclass(frozen=True, slots=True)
class AnodeSet:
    """One parameter set. Functions are sampled; between grid points they are linear."""

    name: str
    source: str
    doi: str
    temperature_range_k: tuple[float, float]
    x_empty: float
    """Stoichiometry of the anode at SOC 0."""
    x_full: float
    """At SOC 1."""
    thickness_m: FloatArray
    """(3,) negative electrode, separator, positive electrode."""
    porosity: FloatArray
    """(3,)"""
    tortuosity: FloatArray
    """(3,) effective over bulk transport, e.g. porosity ** 1.5."""
    particle_radius_m: float
    active_fraction: float
    concentration_max: float
    """[mol/m3]"""
    film_ohm_m2: float
    salt: float
    """Initial salt concentration [mol/m3]."""
    x_grid: FloatArray
    """(nx,) stoichiometry"""
    potential_v: FloatArray
    """(nx,) open-circuit potential against lithium at the reference temperature."""
    entropy_v_per_k: FloatArray
    """(nx,) its change with temperature."""
    log_diffusivity: FloatArray
    """(nx,) ln of the particle diffusivity [m2/s] at the reference temperature."""
    diffusivity_j_per_mol: float
    """Arrhenius activation energy."""
    exchange_a_per_m2: FloatArray
    """(nx,) exchange current density at the reference temperature and initial salt."""
    exchange_j_per_mol: float
    exchange_salt_power: float
    """i0 ~ (c_e / salt) ** power."""
    salt_grid: FloatArray
    """(nc,) [mol/m3]"""
    temperature_grid_k: FloatArray
    """(nt,)"""
    conductivity: FloatArray
    """(nt, nc) [S/m]"""
    salt_diffusivity: FloatArray
    """(nt, nc) [m2/s]"""
    diffusion_factor: FloatArray
    """(nt, nc) (1 - t+) times the thermodynamic factor."""
    transference: FloatArray
    """(nt, nc) t+ for the salt balance."""

    @property
    def specific_area(self) -> float:
        """Particle surface per volume of electrode [1/m]."""
        return 3.0 * self.active_fraction / self.particle_radius_m

    @property
    def charge_c_per_m2(self) -> float:
        """Charge between SOC 0 and 1 per area of electrode [C/m2]."""
        swing = self.x_full - self.x_empty
        return FARADAY * float(self.thickness_m[0]) * self.active_fraction * self.concentration_max * swing


_ARRAYS = (
    "thickness_m", "porosity", "tortuosity", "x_grid", "potential_v", "entropy_v_per_k", "log_diffusivity",
    "exchange_a_per_m2", "salt_grid", "temperature_grid_k", "conductivity", "salt_diffusivity",
    "diffusion_factor", "transference",
)  # fmt: skip


def anode_set(document: dict[str, Any]) -> AnodeSet:
    """An `AnodeSet` from its JSON document."""
    fields: dict[str, Any] = {
        k: np.array(v, dtype=np.float64) if k in _ARRAYS else v for k, v in document.items()
    }
    fields["temperature_range_k"] = tuple(document["temperature_range_k"])
    return AnodeSet(**fields)


@cache
def load_anode_set(name: str) -> AnodeSet:
    """A shipped set.

    Raises:
        ParameterError: there is none of that name.
    """
    file = resources.files("reconf.electrochem") / "data" / f"{name}.json"
    if name not in SETS or not file.is_file():
        raise ParameterError(f"no anode parameter set {name!r}; shipped: {', '.join(SETS)}")
    return anode_set(json.loads(file.read_text()))
