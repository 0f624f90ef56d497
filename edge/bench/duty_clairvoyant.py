"""An upper bound on what a clairvoyant with the same limits could give on a duty: a linear programme.

He knows the whole day and every true parameter, has one mean module whose charge can be moved freely between
modules, no plating and no voltage limit, and a converter whose fixed loss shrinks with its power. With p the
bus power per module and h its heat, h >= R (p / U)^2 is kept by tangents only, so every true plan is inside
and the optimum is a bound::

    max sum p_dis dt,  0 <= p_dis, p_cha <= asked,  0 <= stored <= E,  T(h) <= T_operating
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, lil_matrix

from reconf.arrays import FloatArray
from reconf.errors import SolverError
from reconf.twin.plant import Plant

TANGENTS: Final = 6


@dataclass(frozen=True, slots=True)
class MeanModule:
    """The truth of a plant, averaged over its modules."""

    energy_wh: float
    stored_wh: float
    voltage_v: float
    resistance_ohm: float
    capacity_j_per_k: float
    conductance_w_per_k: float
    """Core to surroundings."""
    temperature_degc: float
    limit_degc: float
    loss_linear_frac: float
    """Of the converter, per watt at the bus."""
    loss_fixed_w: float
    """Of the converter, per module."""


def mean_module(plant: Plant, limit_degc: float) -> MeanModule:
    """Average `plant` now."""
    bank, mask = plant.bank, plant.bank.mask
    charge = np.where(mask, plant.truth.capacity_ah, np.inf).min(axis=1)
    # a weakest group may stand a hair below empty under load: nothing is stored then, not less than nothing
    soc = np.maximum(np.where(mask, plant.cells.soc_frac, np.inf).min(axis=1), 0.0)
    grid = np.linspace(0.0, 1.0, 41)
    curve = bank.ocv_v(np.broadcast_to(grid, (bank.n_modules, 41)).copy())
    mean_v = curve.mean(axis=1) * bank.n_cells
    below = np.where(grid <= soc[:, None], curve, 0.0).sum(axis=1) / (grid <= soc[:, None]).sum(axis=1)
    # the least resistance over the charge and at the highest temperature: a bound must not heat too much
    point = bank.at(np.broadcast_to(grid, (bank.n_modules, 41)).copy())
    hottest = np.full(bank.n_modules, limit_degc)
    slow = ((point.r1_ohm + point.r2_ohm).T * bank.rc_factor(hottest)).T
    ohm = ((point.r0_ohm.T * bank.r0_factor(hottest)).T + slow).min(axis=1) * bank.n_cells
    scale = np.where(mask, plant.truth.resistance_scale, 0.0).sum(axis=1) / bank.n_cells
    outer = bank.conductance_surface_ambient_w_per_k * plant.truth.cooling_scale
    inner = bank.conductance_core_surface_w_per_k
    return MeanModule(
        energy_wh=float((charge * mean_v).mean()),
        stored_wh=float((charge * soc * below * bank.n_cells).mean()),
        voltage_v=float(mean_v.mean()),
        resistance_ohm=float((ohm * scale).mean()),
        capacity_j_per_k=float((bank.heat_capacity_core_j_per_k + bank.heat_capacity_surface_j_per_k).mean()),
        conductance_w_per_k=float((1.0 / (1.0 / inner + 1.0 / outer)).mean()),
        temperature_degc=float(plant.core_degc.mean()),
        limit_degc=limit_degc,
        loss_linear_frac=float(plant.converters.loss_linear_frac.mean()),
        loss_fixed_w=float(plant.converters.loss_fixed_w.sum()) / bank.n_modules,
    )


def best_wh(
    module: MeanModule, give_w: FloatArray, take_w: FloatArray, ambient_degc: FloatArray, dt_s: float
) -> float:
    """Most energy [Wh] that one mean module can discharge over the duty.

    Args:
        module: the mean module.
        give_w: (T,) mean bus power that may be discharged of one module.
        take_w: (T,) the same for charge; both may be there in one step.
        ambient_degc: (T,)
        dt_s: length of a step.
    """
    n = give_w.size
    hours = dt_s / 3600.0
    kept = float(np.exp(-dt_s * module.conductance_w_per_k / module.capacity_j_per_k))
    rise = (1.0 - kept) / module.conductance_w_per_k
    # columns: discharge, charge, heat, stored after the step, temperature after the step
    dis, cha, heat, stored, warm = (np.arange(n) + i * n for i in range(5))
    balance: lil_matrix = lil_matrix((2 * n, 5 * n))
    right = np.zeros(2 * n)
    for t in range(n):
        most = float(give_w[t] + take_w[t])
        lost = module.loss_linear_frac + (module.loss_fixed_w / most if most > 0.0 else 0.0)
        balance[t, stored[t]], balance[t, heat[t]] = 1.0, hours
        balance[t, dis[t]], balance[t, cha[t]] = hours * (1.0 + lost), -hours * (1.0 - lost)
        balance[n + t, warm[t]], balance[n + t, heat[t]] = 1.0, -rise
        right[n + t] = (1.0 - kept) * ambient_degc[t]
        if t:
            balance[t, stored[t - 1]], balance[n + t, warm[t - 1]] = -1.0, -kept
    right[0], right[n] = module.stored_wh, right[n] + kept * module.temperature_degc
    most = float(max(give_w.max(), take_w.max()))
    rows, limits = [], []
    factor = module.resistance_ohm / module.voltage_v**2
    for point in np.linspace(most / TANGENTS, most, TANGENTS):
        # R (p/U)^2 lies above its tangent at `point`: 2 k point p - k point^2 <= h
        line: lil_matrix = lil_matrix((n, 5 * n))
        line[np.arange(n), dis] = 2.0 * factor * point
        line[np.arange(n), cha] = 2.0 * factor * point
        line[np.arange(n), heat] = -1.0
        rows.append(line)
        limits.append(np.full(n, factor * point**2))
    from scipy.sparse import vstack

    ceiling = max(module.limit_degc, module.temperature_degc, float(ambient_degc.max()))
    bounds = (
        [(0.0, p) for p in give_w]
        + [(0.0, p) for p in take_w]
        + [(0.0, None)] * n
        + [(0.0, module.energy_wh)] * n
        + [(None, ceiling)] * n
    )
    cost = np.zeros(5 * n)
    cost[dis] = -hours
    solved = linprog(
        cost,
        A_ub=csr_matrix(vstack(rows)),
        b_ub=np.concatenate(limits),
        A_eq=csr_matrix(balance),
        b_eq=right,
        bounds=bounds,
        method="highs",
    )
    if not solved.success:
        raise SolverError(f"the clairvoyant's programme was not solved: {solved.message}")
    return float(-solved.fun)
