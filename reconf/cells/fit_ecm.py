"""Fit of open-circuit voltage, R0 and two RC pairs to pulse (HPPC) logs, one or several temperatures at once.

For given time constants and activation energies the voltage is *linear* in everything else: with hat
functions over SOC, an RC pair whose resistance depends on SOC answers with the sum over its nodes of the
filtered products of current and hat function. So the inner problem is bounded linear least squares, solved
exactly, and only up to four numbers are searched (variable projection: Golub and Pereyra, Inverse Problems
19 (2003) R1, doi 10.1088/0266-5611/19/2/201).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import lsq_linear, minimize

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.fit_logs import TestLog, steps_of
from reconf.cells.model import REFERENCE_DEGC, arrhenius

OCV_NODES = np.concatenate(
    [
        np.array([0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.085, 0.1, 0.125, 0.15, 0.175]),
        np.linspace(0.2, 1.0, 17),
    ]
)
RESISTANCE_NODES = np.array([0, 0.04, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
ENTROPY_NODES = np.array([0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0])
ENTROPY_UNIT = 1e-3
LONGEST_GAP_S = 60.0
LONGEST_TAU_S = 2000.0
"""A slower pair cannot be told from the open-circuit voltage by pulses an hour apart."""
SMOOTHING = 0.5
"""Error [V] that weighs as much as a second difference of 1 ohm between neighbouring resistance nodes."""


@dataclass(frozen=True, slots=True)
class FitInput:
    """One log made ready: thinned, its SOC axis fixed."""

    name: str
    temperature_degc: float
    time_s: FloatArray
    current_a: FloatArray
    voltage_v: FloatArray
    soc_frac: FloatArray
    scored: BoolArray
    """Samples whose error counts; the others only carry the RC states."""


@dataclass(frozen=True, slots=True)
class EcmFit:
    """Fitted parameters of one cell, resistances in ohm at 25 degC."""

    capacity_ah: float
    ocv_soc_frac: FloatArray
    ocv_v: FloatArray
    soc_frac: FloatArray
    r0_ohm: FloatArray
    r1_ohm: FloatArray
    r2_ohm: FloatArray
    tau1_s: float
    tau2_s: float
    entropy_soc_frac: FloatArray
    entropy_v_per_k: FloatArray
    activation_r0_j_per_mol: float
    activation_rc_j_per_mol: float
    rmse_v: dict[str, float]
    worst_v: dict[str, float]
    predicted_v: tuple[FloatArray, ...]
    """Fitted voltage of each input."""


def prepare(
    log: TestLog,
    temperature_degc: float,
    capacity_ah: float,
    full_at: int,
    *,
    voltage: FloatArray | None = None,
) -> FitInput:
    """Thin `log` from sample `full_at` (SOC 1) on and give it its SOC axis."""
    part = log.window(full_at, len(log.time_s))
    volt = part.voltage_v if voltage is None else voltage[full_at:]
    keep = thinned(part.time_s, part.current_a, volt)
    soc = 1.0 - part.discharged_ah[keep] / capacity_ah
    return FitInput(
        log.name,
        temperature_degc,
        part.time_s[keep],
        part.current_a[keep],
        volt[keep],
        soc,
        np.isfinite(volt[keep]) & (soc >= 0.0) & (soc <= 1.0),
    )


def thinned(time_s: FloatArray, current_a: FloatArray, voltage_v: FloatArray) -> BoolArray:
    """Samples worth keeping: where current or voltage has moved, and one at least every LONGEST_GAP_S."""
    keep = np.zeros(time_s.shape, dtype=np.bool_)
    keep[[0, -1]] = True
    last = 0
    step_a = 0.02 * float(np.abs(current_a).max())
    for k in range(1, len(time_s) - 1):
        moved = abs(current_a[k] - current_a[k - 1]) > step_a or abs(current_a[k + 1] - current_a[k]) > step_a
        if moved or abs(voltage_v[k] - voltage_v[last]) > 0.002 or time_s[k] - time_s[last] >= LONGEST_GAP_S:
            keep[k] = True
            last = k
    return keep


def full_charge_sample(log: TestLog, rest_a: float) -> int:
    """Last sample of the rest after the charge that moved most: the log's SOC 1.

    0 where the log holds no charge: then it must begin full.
    """
    borders = steps_of(log, rest_a)
    charges = [
        (log.discharged_ah[a] - log.discharged_ah[b - 1], k)
        for k, (a, b) in enumerate(pairwise(borders))
        if log.current_a[a:b].mean() < -rest_a
    ]
    if not charges:
        return 0
    _, largest = max(charges)
    rests = largest + 1 < len(borders) - 1 and abs(log.current_a[borders[largest + 1]]) < rest_a
    return int(borders[largest + 2 if rests else largest + 1]) - 1


def hats(soc: FloatArray, nodes: FloatArray) -> FloatArray:
    """(N, K) hat functions on `nodes` at `soc`; constant beyond the ends."""
    index = np.clip(np.searchsorted(nodes, soc, side="right") - 1, 0, len(nodes) - 2)
    fraction = np.clip((soc - nodes[index]) / (nodes[index + 1] - nodes[index]), 0.0, 1.0)
    out = np.zeros((len(soc), len(nodes)))
    rows = np.arange(len(soc))
    out[rows, index] = 1.0 - fraction
    out[rows, index + 1] += fraction
    return out


def filtered(time_s: FloatArray, drive: FloatArray, tau_s: float) -> FloatArray:
    """First-order lag of each column of `drive` (N, K); row n acts from sample n-1 to n; starts at rest."""
    keep = np.exp(-np.diff(time_s, prepend=time_s[0]) / tau_s)
    out = np.zeros_like(drive)
    state = np.zeros(drive.shape[1])
    for n in range(len(time_s)):
        state = drive[n] + (state - drive[n]) * keep[n]
        out[n] = state
    return out


def design(data: FitInput, tau1_s: float, tau2_s: float, factor_r0: float, factor_rc: float) -> FloatArray:
    """(N, KU + 3 KR + KE) matrix: voltage = matrix @ (OCV increments, r0, r1, r2 at 25 degC, dU/dT)."""
    ocv = hats(data.soc_frac, OCV_NODES)
    increments = np.cumsum(ocv[:, ::-1], axis=1)[:, ::-1]  # node k contributes to every node above it
    drive = hats(data.soc_frac, RESISTANCE_NODES) * data.current_a[:, None]
    lagged = [filtered(data.time_s, drive, tau) for tau in (tau1_s, tau2_s)]
    warm = hats(data.soc_frac, ENTROPY_NODES) * (data.temperature_degc - REFERENCE_DEGC)
    return np.hstack(
        [increments, -factor_r0 * drive, -factor_rc * lagged[0], -factor_rc * lagged[1], warm * ENTROPY_UNIT]
    )


def _solve(inputs: Sequence[FitInput], search: FloatArray) -> tuple[FloatArray, float]:
    """Best linear parameters for the searched numbers, and the mean squared error."""
    tau1, tau2 = np.exp(search[0]), np.exp(search[1])
    activation = search[2:] * 1e4 if len(search) > 2 else np.zeros(2)
    blocks, targets = [], []
    for data in inputs:
        warm = np.array(data.temperature_degc)
        f0 = float(arrhenius(warm, float(activation[0])))
        f1 = float(arrhenius(warm, float(activation[1])))
        blocks.append(design(data, float(tau1), float(tau2), f0, f1)[data.scored])
        targets.append(data.voltage_v[data.scored])
    matrix, target = np.vstack(blocks), np.concatenate(targets)
    q, r = np.linalg.qr(matrix)
    reduced = q.T @ target
    rest = float(target @ target - reduced @ reduced)
    smooth = _smoothing(matrix.shape[1], float(np.sqrt(len(target))))
    lower = np.full(matrix.shape[1], 1e-6)
    lower[0] = 0.0
    lower[-len(ENTROPY_NODES) :] = -2.0
    upper = np.full(matrix.shape[1], np.inf)
    upper[-len(ENTROPY_NODES) :] = 2.0
    answer = lsq_linear(
        np.vstack([r, smooth]), np.concatenate([reduced, np.zeros(len(smooth))]), bounds=(lower, upper)
    )
    error = float(((r @ answer.x - reduced) ** 2).sum()) + max(rest, 0.0)
    return answer.x, error / len(target)


def _smoothing(columns: int, weight: float) -> FloatArray:
    """Second differences of each resistance curve over its nodes, and a touch of ridge on dU/dT."""
    k = len(RESISTANCE_NODES)
    rows = []
    for start in range(len(OCV_NODES), len(OCV_NODES) + 3 * k, k):
        for n in range(1, k - 1):
            row = np.zeros(columns)
            row[start + n - 1 : start + n + 2] = (1.0, -2.0, 1.0)
            rows.append(SMOOTHING * weight * row)
    for n in range(columns - len(ENTROPY_NODES), columns):
        row = np.zeros(columns)
        row[n] = 1e-4 * weight  # undetermined, and then 0, where all temperatures are alike
        rows.append(row)
    return np.array(rows)


def fit_ecm(inputs: Sequence[FitInput], capacity_ah: float, *, max_iterations: int = 120) -> EcmFit:
    """Fit all `inputs` together; activation energies are searched where temperatures differ."""
    temperatures = {round(d.temperature_degc, 1) for d in inputs}
    start = [np.log(10.0), np.log(200.0)]
    if len(temperatures) > 1:
        start += [2.0, 3.0]

    def objective(search: FloatArray) -> float:
        if search[1] - search[0] < np.log(3.0) or search[0] < 0.0 or search[1] > np.log(LONGEST_TAU_S):
            return 1.0
        if len(search) > 2 and (np.abs(search[2:]) > 10.0).any():
            return 1.0
        return 1e6 * _solve(inputs, search)[1]

    found = minimize(
        objective,
        np.array(start),
        method="Nelder-Mead",
        options={"maxiter": max_iterations, "xatol": 0.01, "fatol": 0.01},
    )
    return _unpack(inputs, found.x, capacity_ah)


def _unpack(inputs: Sequence[FitInput], search: FloatArray, capacity_ah: float) -> EcmFit:
    linear, _ = _solve(inputs, search)
    tau1, tau2 = (float(x) for x in np.exp(search[:2]))
    activation = search[2:] * 1e4 if len(search) > 2 else np.zeros(2)
    predicted, rmse, worst = [], {}, {}
    for data in inputs:
        warm = np.array(data.temperature_degc)
        f0, f1 = (float(arrhenius(warm, float(a))) for a in activation)
        voltage = design(data, tau1, tau2, f0, f1) @ linear
        error = (voltage - data.voltage_v)[data.scored]
        predicted.append(voltage)
        rmse[data.name] = float(np.sqrt((error**2).mean()))
        worst[data.name] = float(np.abs(error).max())
    ku, kr = len(OCV_NODES), len(RESISTANCE_NODES)
    r0, r1, r2 = (linear[ku + n * kr : ku + (n + 1) * kr] for n in range(3))
    return EcmFit(
        capacity_ah,
        OCV_NODES,
        np.cumsum(linear[:ku]),
        RESISTANCE_NODES,
        r0,
        r1,
        r2,
        tau1,
        tau2,
        ENTROPY_NODES,
        linear[ku + 3 * kr :] * ENTROPY_UNIT,
        float(activation[0]),
        float(activation[1]),
        rmse,
        worst,
        tuple(predicted),
    )
