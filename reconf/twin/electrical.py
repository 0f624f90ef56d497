"""Cell groups as current sees them over one step: mean voltage affine in the current, exact updates.

For a current held constant over the step, the mean terminal voltage of a group is ``E - (Rs + R0) i``
with ``E`` from the state at its start and ``Rs`` the slow resistance: the share of the RC pairs that
builds up during the step and half the fall of the open-circuit voltage. All RC, hysteresis and thermal
states are then advanced by their exponentials, so no step length is unstable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells import CellBank
from reconf.cells.model import (
    CURVES,
    REFERENCE_DEGC,
    SOC_MIN,
    SOC_NODES,
    SOC_STEP,
    ZERO_CELSIUS_K,
    arrhenius,
)

SECONDS_PER_HOUR = 3600.0


@dataclass(slots=True)
class CellState:
    """State of every cell group, (M, C)."""

    soc_frac: FloatArray
    rc1_v: FloatArray
    rc2_v: FloatArray
    hysteresis: FloatArray
    """-1 after a long discharge, +1 after a long charge."""


@dataclass(frozen=True, slots=True)
class StepConstants:
    """What depends on the step length alone."""

    dt_s: float
    decay1: FloatArray
    """(M, 1) exp(-dt/tau1)"""
    decay2: FloatArray
    mean1: FloatArray
    """(M, 1) mean of exp(-t/tau1) over the step."""
    mean2: FloatArray

    @classmethod
    def of(cls, bank: CellBank, dt_s: float) -> StepConstants:
        """For a step of `dt_s` > 0."""
        x1, x2 = dt_s / bank.tau1_s[:, None], dt_s / bank.tau2_s[:, None]
        return cls(dt_s, np.exp(-x1), np.exp(-x2), -np.expm1(-x1) / x1, -np.expm1(-x2) / x2)


@dataclass(frozen=True, slots=True)
class Response:
    """How the groups answer a current over the coming step; (M, C)."""

    ocv_v: FloatArray
    slope_v_per_c: FloatArray
    """Fall of the open-circuit voltage per coulomb discharged."""
    entropy_v_per_k: FloatArray
    entropy_slope_v_per_k_c: FloatArray
    emf_v: FloatArray
    """E: mean terminal voltage at no current."""
    r0_ohm: FloatArray
    r_slow_ohm: FloatArray
    r1_ohm: FloatArray
    r2_ohm: FloatArray
    hysteresis_v: FloatArray
    """Half width M."""
    coulomb_per_soc: FloatArray


@dataclass(frozen=True, slots=True)
class ModuleResponse:
    """`Response` summed over the groups in series, (M,)."""

    emf_v: FloatArray
    fast_ohm: FloatArray
    """R0: follows the current at once."""
    slow_ohm: FloatArray
    """Follows the mean current of the step."""

    @classmethod
    def of(cls, response: Response) -> ModuleResponse:
        """Sum over the groups."""
        return cls(response.emf_v.sum(axis=1), response.r0_ohm.sum(axis=1), response.r_slow_ohm.sum(axis=1))


@dataclass(frozen=True, slots=True)
class Flow:
    """What flows through the modules during a step, (M,)."""

    duty_frac: FloatArray
    trim_a: FloatArray
    string_a: FloatArray
    """Of the module's string."""
    cell_a: FloatArray
    """Through the cells, mean over the PWM period."""


@dataclass(frozen=True, slots=True)
class GroupParameters:
    """True parameters of every group, (M, C)."""

    capacity_ah: FloatArray
    soh_lost_frac: FloatArray
    mask: FloatArray
    """1.0 where the group exists."""
    per_ah: FloatArray
    """Resistance scale over rated capacity; 0 where there is no group."""


def respond(
    bank: CellBank,
    parameters: GroupParameters,
    state: CellState,
    core_degc: FloatArray,
    step: StepConstants,
) -> Response:
    """Linearise every group about the start of the step."""
    rows, fraction = bank.rows(state.soc_frac)
    n = len(CURVES)
    value = rows[..., :n] + fraction[..., None] * rows[..., n:]
    warm = (core_degc - REFERENCE_DEGC)[:, None]
    lost, mask, per_ah = parameters.soh_lost_frac, parameters.mask, parameters.per_ah
    entropy, half_width = value[..., 2], value[..., 6]
    ocv = value[..., 0] + lost * value[..., 1] + warm * entropy
    rise = rows[..., n] + lost * rows[..., n + 1] + warm * rows[..., n + 2]
    coulombs = parameters.capacity_ah * SECONDS_PER_HOUR
    per_coulomb = 1.0 / (SOC_STEP * coulombs)
    slope = rise * per_coulomb
    rc_scale = per_ah * arrhenius(core_degc, bank.activation_rc_j_per_mol)[:, None]
    r0 = value[..., 3] * (per_ah * arrhenius(core_degc, bank.activation_r0_j_per_mol)[:, None])
    r1 = value[..., 4] * rc_scale
    r2 = value[..., 5] * rc_scale
    slow = r1 * (1.0 - step.mean1) + r2 * (1.0 - step.mean2) + (0.5 * step.dt_s) * slope
    polarisation = state.rc1_v * step.mean1 + state.rc2_v * step.mean2 - half_width * state.hysteresis
    return Response(
        ocv_v=ocv,
        slope_v_per_c=slope,
        entropy_v_per_k=entropy,
        entropy_slope_v_per_k_c=rows[..., n + 2] * per_coulomb,
        emf_v=(ocv - polarisation) * mask,
        r0_ohm=r0,
        r_slow_ohm=slow * mask,
        r1_ohm=r1,
        r2_ohm=r2,
        hysteresis_v=half_width,
        coulomb_per_soc=coulombs,
    )


def stored_current_a(bank: CellBank, current_a: FloatArray, leakage_a: FloatArray) -> FloatArray:
    """(M, C) current that really leaves the charge store: less than asked while charging, plus leakage."""
    stored = np.where(current_a < 0.0, current_a * bank.coulombic_efficiency_frac, current_a)
    result: FloatArray = stored[:, None] + leakage_a
    return result


def enthalpy_power_w(
    response: Response,
    stored_a: FloatArray,
    core_degc: FloatArray,
    dt_s: float,
    mask: FloatArray,
) -> FloatArray:
    """(M,) mean rate at which the groups give up enthalpy: (U - T dU/dT) times the current of the store.

    Bernardi, Pawlikowski, Newman, J. Electrochem. Soc. 132 (1985) 5, doi 10.1149/1.2113792, eq. 22.
    """
    half = 0.5 * dt_s * stored_a
    kelvin = (core_degc + ZERO_CELSIUS_K)[:, None]
    mean = (
        response.ocv_v
        - half * response.slope_v_per_c
        - kelvin * (response.entropy_v_per_k - half * response.entropy_slope_v_per_k_c)
    )
    result: FloatArray = (mean * stored_a * mask).sum(axis=1)
    return result


def advance(
    bank: CellBank,
    state: CellState,
    response: Response,
    current_a: FloatArray,
    stored_a: FloatArray,
    step: StepConstants,
) -> CellState:
    """State after the step with constant module `current_a` (M,) and `stored_a` (M, C)."""
    i = current_a[:, None]
    moved = stored_a * (step.dt_s / response.coulomb_per_soc)
    target = -np.sign(i)
    keep = np.exp(-bank.hysteresis_rate[:, None] * np.abs(moved))
    return CellState(
        soc_frac=state.soc_frac - moved,
        rc1_v=state.rc1_v * step.decay1 + response.r1_ohm * i * (1.0 - step.decay1),
        rc2_v=state.rc2_v * step.decay2 + response.r2_ohm * i * (1.0 - step.decay2),
        hysteresis=np.where(i == 0.0, state.hysteresis, target + (state.hysteresis - target) * keep),
    )


def voltage_behind_r0_v(response: Response, before: CellState, after: CellState) -> FloatArray:
    """(M, C) voltage of every group at the end of the step, less its ohmic drop."""
    moved_c = (before.soc_frac - after.soc_frac) * response.coulomb_per_soc
    result: FloatArray = (
        response.ocv_v
        - moved_c * response.slope_v_per_c
        + response.hysteresis_v * after.hysteresis
        - after.rc1_v
        - after.rc2_v
    )
    return result


def group_enthalpy_j(bank: CellBank, capacity_ah: FloatArray, soc_frac: FloatArray) -> FloatArray:
    """(M, C) enthalpy above the first node of the SOC grid [J]; exact for the piecewise linear curves."""
    columns = len(CURVES)
    nodes = bank.table.reshape(-1, SOC_NODES, 2 * columns)[..., :3]
    integral = np.zeros_like(nodes)
    integral[:, 1:] = np.cumsum(0.5 * (nodes[:, 1:] + nodes[:, :-1]), axis=1) * SOC_STEP
    rows, fraction = bank.rows(soc_frac)
    index = np.clip((soc_frac - SOC_MIN) / SOC_STEP, 0, SOC_NODES - 2).astype(np.intp)
    which = (bank.row // SOC_NODES)[:, None]
    whole = integral[which, index] + SOC_STEP * (
        fraction[..., None] * rows[..., :3]
        + 0.5 * fraction[..., None] ** 2 * rows[..., columns : columns + 3]
    )
    lost = 1.0 - capacity_ah / bank.rated_capacity_ah[:, None]
    # U0 + (T - 25) s - T_K s is independent of T
    per_soc = whole[..., 0] + lost * whole[..., 1] - (REFERENCE_DEGC + ZERO_CELSIUS_K) * whole[..., 2]
    result: FloatArray = per_soc * capacity_ah * SECONDS_PER_HOUR
    return result
