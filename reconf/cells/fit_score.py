"""A cell model held against a module log: per cell only its capacity and one resistance scale are fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from reconf.arrays import FloatArray
from reconf.cells.fit_logs import TestLog
from reconf.cells.fit_write import simulate_v
from reconf.cells.model import CellModel


@dataclass(frozen=True, slots=True)
class CellScore:
    """How well the model follows each cell of a log; K cells."""

    rmse_v: FloatArray
    """(K,)"""
    worst_v: FloatArray
    capacity_ah: FloatArray
    resistance_scale: FloatArray
    start_soc_frac: FloatArray
    """Read from the rest voltage at the start."""
    simulated_v: FloatArray
    """(N, K)"""


def score_cells(model: CellModel, log: TestLog, rated_capacity_ah: float) -> CellScore:
    """Drive `model` with the current and the counted charge of `log`, cell by cell."""
    degc = log.temperature_degc.mean(axis=1) if log.temperature_degc.shape[1] else 25.0
    cells = log.cell_voltage_v if log.cell_voltage_v.shape[1] else log.voltage_v[:, None]
    soc = np.linspace(0.0, 1.05, 2101)
    start = np.interp(cells[0], model.ocv_v(soc), soc)
    thin = slice(None, None, max(1, len(log.time_s) // 3000))
    fitted, simulated = [], []
    for k in range(cells.shape[1]):

        def voltage(search: FloatArray, k: int = k) -> FloatArray:
            return simulate_v(
                model,
                log,
                float(search[0]) * rated_capacity_ah,
                start_soc=float(start[k]),
                resistance_scale=float(search[1]),
                rated_capacity_ah=rated_capacity_ah,
                temperature_degc=degc,
            )

        def error(search: FloatArray, k: int = k) -> FloatArray:
            result: FloatArray = 1e3 * (voltage(search, k) - cells[:, k])[thin]
            return result

        found = least_squares(error, np.array([0.9, 1.0]), bounds=([0.2, 0.1], [1.5, 10.0]))
        fitted.append(found.x)
        simulated.append(voltage(found.x, k))
    numbers, curves = np.array(fitted), np.array(simulated).T
    return CellScore(
        np.sqrt(((curves - cells) ** 2).mean(axis=0)),
        np.abs(curves - cells).max(axis=0),
        numbers[:, 0] * rated_capacity_ah,
        numbers[:, 1],
        start,
        curves,
    )
