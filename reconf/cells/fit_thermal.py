"""Two-node thermal parameters from a log with temperatures: heat modelled, surface measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from reconf.arrays import FloatArray
from reconf.cells.fit_logs import TestLog
from reconf.cells.model import ZERO_CELSIUS_K, CellModel, ThermalParameters
from reconf.errors import DataFileError

SURFACE_SHARE = 1.0 / 6.0
"""Share of the heat capacity in the surface node (case and foil against electrode stack)."""
CORE_SURFACE_S = 270.0
"""Core heat capacity over conductance to the surface: L²/(3 alpha) of a slab, mean against surface, with
half thickness L 13.5 mm, 0.5 W/(m K) through the stack and 2.2 MJ/(m³ K); properties as in Maleki et al.,
J. Electrochem. Soc. 146 (1999) 947, doi 10.1149/1.1391704."""
WARM_K = 2.0
"""A smaller rise drowns in sensor steps and draughts."""


@dataclass(frozen=True, slots=True)
class ThermalFit:
    """Fitted parameters, per ampere-hour and cell group, with what the log could tell of them."""

    parameters: ThermalParameters
    rmse_k: float
    worst_k: float
    time_constant_s: float
    """Heat capacity over conductance to ambient."""
    cooling_identified: bool
    """False where the log is too short or too cool to tell the conductance from zero."""
    predicted_degc: FloatArray


def heat_w(log: TestLog, model: CellModel, capacity_ah: float, start_soc: float, cells: int) -> FloatArray:
    """(N,) heat of all cells: i (U - V) - i T dU/dT (Bernardi et al. 1985, doi 10.1149/1.2113792)."""
    soc = start_soc - log.discharged_ah / capacity_ah
    degc = log.temperature_degc.mean(axis=1)
    ocv = model.ocv_v(soc, degc)
    entropy = model.entropy_v_per_k(soc)
    over = cells * ocv - log.voltage_v
    result: FloatArray = log.current_a * (over - cells * (degc + ZERO_CELSIUS_K) * entropy)
    return result


def simulate(
    time_s: FloatArray, heat: FloatArray, ambient_degc: float, start_degc: float, parts: tuple[float, ...]
) -> FloatArray:
    """(N,) surface temperature for whole-log parameters (core J/K, surface J/K, W/K inside, W/K outside)."""
    core_c, surface_c, inside, outside = parts
    a = np.array([[-inside / core_c, inside / core_c], [inside / surface_c, -(inside + outside) / surface_c]])
    values, vectors = np.linalg.eig(a)
    back = np.linalg.inv(vectors)
    drive = back @ np.array([1.0 / core_c, 0.0])
    state = back @ np.array([start_degc - ambient_degc] * 2)
    out = np.empty(len(time_s))
    out[0] = start_degc
    for n in range(1, len(time_s)):
        keep = np.exp(values * (time_s[n] - time_s[n - 1]))
        state = state * keep + drive * heat[n] * (keep - 1.0) / values
        out[n] = ambient_degc + float((vectors[1] @ state).real)
    return out


def fit_thermal(
    log: TestLog,
    model: CellModel,
    capacity_ah: float,
    *,
    cells: int,
    start_soc: float = 1.0,
    ambient_degc: float | None = None,
) -> ThermalFit:
    """Fit heat capacity and conductance to ambient; the ratio inside is kept from the literature."""
    if log.temperature_degc.shape[1] == 0:
        raise DataFileError(f"{log.name}: no temperature column")
    keep = slice(None, None, max(1, len(log.time_s) // 1500))
    time_s = log.time_s[keep]
    measured = log.temperature_degc.mean(axis=1)[keep]
    heat = heat_w(log, model, capacity_ah, start_soc, cells)[keep]
    start = float(measured[:3].mean())
    ambient = start if ambient_degc is None else ambient_degc
    size = cells * capacity_ah

    def parts(search: FloatArray) -> tuple[float, float, float, float]:
        total, outside = (float(x) for x in np.exp(search))
        core, surface = total * (1.0 - SURFACE_SHARE), total * SURFACE_SHARE
        return core, surface, core / CORE_SURFACE_S, outside

    def residual(search: FloatArray) -> FloatArray:
        result: FloatArray = simulate(time_s, heat, ambient, start, parts(search)) - measured
        return result

    guess = np.log([22.0 * size, 22.0 * size / 2400.0])
    found = least_squares(residual, guess, bounds=(guess - 3.0, guess + 3.0))
    total = parts(found.x)
    error = residual(found.x)
    reach = np.abs(found.x - guess)
    informative = np.linalg.inv(found.jac.T @ found.jac + 1e-12 * np.eye(2)) * float((error**2).mean())
    return ThermalFit(
        ThermalParameters(*(x / size for x in total)),
        float(np.sqrt((error**2).mean())),
        float(np.abs(error).max()),
        (total[0] + total[1]) / total[3],
        bool(np.ptp(measured) > WARM_K and np.sqrt(informative[1, 1]) < 0.5 and np.all(reach < 2.9)),
        error + measured,
    )
