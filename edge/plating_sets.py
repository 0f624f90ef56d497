"""Sample the anode parameter sets of PyBaMM onto grids (needs the test extra; the result is shipped).

PyBaMM: Sulzer et al. 2021, doi:10.5334/jors.309. The sets are published in the papers named below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reconf.arrays import FloatArray
from reconf.electrochem.parameters import GAS_CONSTANT, REFERENCE_K

SOURCES = {
    "Chen2020": ("Chen et al., J. Electrochem. Soc. 167, 080534 (2020)", "10.1149/1945-7111/ab9050"),
    "OKane2022": ("O'Kane et al., Phys. Chem. Chem. Phys. 24, 7909 (2022)", "10.1039/D2CP00417H"),
    "ORegan2022": ("O'Regan et al., Electrochim. Acta 425, 140700 (2022)", "10.1016/j.electacta.2022.140700"),
    "Ecker2015": ("Ecker et al., J. Electrochem. Soc. 162, A1836 (2015)", "10.1149/2.0551509jes"),
}
X_GRID = np.linspace(0.0, 1.0, 401)
SALT_GRID = np.linspace(0.0, 3000.0, 31)
TEMPERATURE_GRID_K = np.linspace(253.15, 333.15, 9)
DOMAINS = ("Negative electrode", "Separator", "Positive electrode")


def _sampler(values: Any) -> Callable[..., FloatArray]:
    import pybamm

    def sample(name: str, *arguments: FloatArray) -> FloatArray:
        entry = values[name]
        shape = np.broadcast_shapes(*(np.shape(a) for a in arguments))
        if not callable(entry):
            return np.full(shape, float(entry))
        columns = [pybamm.Vector(np.broadcast_to(a, shape).ravel()) for a in arguments]
        result = np.asarray(values.process_symbol(entry(*columns)).evaluate(), dtype=np.float64)
        return np.broadcast_to(result.reshape(-1), int(np.prod(shape))).reshape(shape).copy()

    return sample


def _activation(cold: float, warm: float, cold_k: float, warm_k: float) -> float:
    if cold == warm:
        return 0.0
    return float(-GAS_CONSTANT * np.log(cold / warm) / (1.0 / cold_k - 1.0 / warm_k))


def sample_set(name: str) -> dict[str, Any]:
    """The JSON document of one set."""
    import pybamm

    values = pybamm.ParameterValues(name)
    sample = _sampler(values)
    cmax = float(values["Maximum concentration in negative electrode [mol.m-3]"])
    salt = float(values["Initial concentration in electrolyte [mol.m-3]"])
    x_empty, x_full, _, _ = pybamm.lithium_ion.get_min_max_stoichiometries(values)
    # the ends of the stoichiometry are singular in several sets
    x = np.clip(X_GRID, 1e-3, 1.0 - 1e-3)
    cold, warm, mid = 263.15, 313.15, np.array([0.5])

    def exchange(ce: FloatArray, at: FloatArray, kelvin: float) -> FloatArray:
        name_i0 = "Negative electrode exchange-current density [A.m-2]"
        return sample(name_i0, ce, at * cmax, np.full_like(at, cmax), np.full_like(at, kelvin))

    def diffusivity(at: FloatArray, kelvin: float) -> FloatArray:
        return sample("Negative particle diffusivity [m2.s-1]", at, np.full_like(at, kelvin))

    full = np.full_like(x, salt)
    half_salt, all_salt = (
        exchange(np.array([salt / 2]), mid, REFERENCE_K),
        exchange(np.array([salt]), mid, REFERENCE_K),
    )
    t_grid, c_grid = TEMPERATURE_GRID_K[:, None], np.maximum(SALT_GRID, 1.0)[None, :]
    transference = sample("Cation transference number", c_grid, t_grid)
    thermodynamic = sample("Thermodynamic factor", c_grid, t_grid)
    exponents = [float(values[f"{d} Bruggeman coefficient (electrolyte)"]) for d in DOMAINS]
    porosity = [float(values[f"{d} porosity"]) for d in DOMAINS]
    return {
        "name": name,
        "source": SOURCES[name][0],
        "doi": SOURCES[name][1],
        "temperature_range_k": [253.15, 333.15],
        "x_empty": float(x_empty),
        "x_full": float(x_full),
        "thickness_m": [float(values[f"{d} thickness [m]"]) for d in DOMAINS],
        "porosity": porosity,
        "tortuosity": [p**b for p, b in zip(porosity, exponents, strict=True)],
        "particle_radius_m": float(values["Negative particle radius [m]"]),
        "active_fraction": float(values["Negative electrode active material volume fraction"]),
        "concentration_max": cmax,
        "film_ohm_m2": 0.0,
        "salt": salt,
        "x_grid": X_GRID.tolist(),
        "potential_v": sample("Negative electrode OCP [V]", x).round(7).tolist(),
        "entropy_v_per_k": sample("Negative electrode OCP entropic change [V.K-1]", x).round(9).tolist(),
        "log_diffusivity": np.log(diffusivity(x, REFERENCE_K)).round(6).tolist(),
        "diffusivity_j_per_mol": _activation(
            diffusivity(mid, cold)[0], diffusivity(mid, warm)[0], cold, warm
        ),
        "exchange_a_per_m2": exchange(full, x, REFERENCE_K).round(9).tolist(),
        "exchange_j_per_mol": _activation(
            exchange(np.array([salt]), mid, cold)[0], exchange(np.array([salt]), mid, warm)[0], cold, warm
        ),
        "exchange_salt_power": float(np.log(all_salt[0] / half_salt[0]) / np.log(2.0)),
        "salt_grid": SALT_GRID.tolist(),
        "temperature_grid_k": TEMPERATURE_GRID_K.tolist(),
        "conductivity": np.maximum(sample("Electrolyte conductivity [S.m-1]", c_grid, t_grid), 1e-3).tolist(),
        "salt_diffusivity": np.maximum(
            sample("Electrolyte diffusivity [m2.s-1]", c_grid, t_grid), 1e-13
        ).tolist(),
        "diffusion_factor": ((1.0 - transference) * thermodynamic).tolist(),
        "transference": transference.round(6).tolist(),
    }
