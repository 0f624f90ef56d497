"""Resistance of each cell group from natural steps of the current, above all from its own insertions.

Between two *steady* samples (current and switch as in the image before, so that a voltage that lags the
current by one sample does no harm) the change of the terminal voltage less that of the OCV is

    y = -(dv - dU) = rho * d(R0(z, T) i + v1 + v2),

linear in the scale rho of the group over the new cell model; its temperature dependence is in the model
(Arrhenius), so rho is normalised to 25 degC. One scalar Kalman filter per group, with forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.constants import Constants
from reconf.estimation.memory import ResistanceState

OCV_MOVE_STD_FRAC = 0.5
"""Relative doubt about a modelled move of the OCV: at the knee a small error of SOC doubles the slope."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the steps of this tick say of each module's resistance as a whole. (M,), 0 without a step."""

    xy: FloatArray
    """Sum over groups of drop * change / noise variance."""
    xx: FloatArray
    """Sum over groups of drop^2 / noise variance."""


def update(
    constants: Constants,
    state: ResistanceState,
    *,
    voltage_v: FloatArray,
    ocv_v: FloatArray,
    drop_v: FloatArray,
    slow_v: FloatArray,
    current_a: FloatArray,
    steady: BoolArray,
    dt_s: float,
) -> tuple[ResistanceState, Steps]:
    """Use a step, if one lies between the last steady sample and this one.

    Args:
        constants: of the site.
        state: before.
        voltage_v: (M, C) measured, NaN where unusable.
        ocv_v: (M, C) modelled OCV now.
        drop_v: (M, C) modelled polarisation at scale 1 now.
        slow_v: (M,) its RC part.
        current_a: (M,)
        steady: (M,) this sample and the one before belong together.
        dt_s: since the last image.

    Returns:
        The new state, and the steps of this tick.
    """
    tuning = constants.tuning
    age = state.ref_age_s + dt_s
    size = np.abs(current_a - state.ref_current_a)
    step = steady & (age <= tuning.step_max_s) & (size >= tuning.step_min_c * constants.rated_ah)
    drift = tuning.resistance_drift_frac**2 * dt_s / tuning.resistance_memory_s
    scale, var = state.scale, state.var + drift * state.scale**2
    rows = np.flatnonzero(step)
    zero = np.zeros(current_a.size)
    steps = Steps(zero, zero)
    if rows.size:
        # few modules step at a time
        moved = ocv_v[rows] - state.ref_ocv_v[rows]
        change = -(voltage_v[rows] - state.ref_voltage_v[rows] - moved)
        slow = np.abs(slow_v[rows] - state.ref_slow_v[rows])
        seen = _Change(
            y=change,
            x=drop_v[rows] - state.ref_drop_v[rows],
            # where the curve is steep, or a tick long, the OCV moves more than the step does
            noise=(2.0 * tuning.voltage_noise_v**2 + (0.2 * slow) ** 2)[:, None]
            + (OCV_MOVE_STD_FRAC * np.nan_to_num(moved)) ** 2,
            usable=np.isfinite(change) & constants.mask[rows],
        )
        scale = scale.copy()
        scale[rows], var[rows] = _corrected(constants, scale[rows], var[rows], seen)
        steps = _steps(rows, zero.size, seen)
    fresh = steady[:, None] & np.isfinite(voltage_v)
    after = ResistanceState(
        scale=scale,
        var=var,
        ref_voltage_v=np.where(fresh, voltage_v, state.ref_voltage_v),
        ref_drop_v=np.where(fresh, drop_v, state.ref_drop_v),
        ref_slow_v=np.where(steady, slow_v, state.ref_slow_v),
        ref_ocv_v=np.where(fresh, ocv_v, state.ref_ocv_v),
        ref_current_a=np.where(steady, current_a, state.ref_current_a),
        ref_age_s=np.where(steady, 0.0, age),
    )
    return after, steps


@dataclass(frozen=True, slots=True)
class _Change:
    """Across a step, of the K modules that have one. (K, C) unless said otherwise."""

    y: FloatArray
    """Fall of the voltage less that of the OCV."""
    x: FloatArray
    """Change of the modelled polarisation at scale 1."""
    noise: FloatArray
    """Variance."""
    usable: BoolArray


def _corrected(
    constants: Constants, scale: FloatArray, var: FloatArray, seen: _Change
) -> tuple[FloatArray, FloatArray]:
    """Scale and its variance after the step."""
    tuning = constants.tuning
    x = np.where(seen.usable, seen.x, 0.0)
    residual = np.where(seen.usable, seen.y - scale * x, 0.0)
    spread = x * x * var + seen.noise
    variance = np.maximum(spread, np.abs(residual) * np.sqrt(spread) / tuning.innovation_bound)
    gain = var * x / variance
    after = scale + gain * residual
    low, high = tuning.resistance_bounds
    floor = (tuning.resistance_floor_frac * after) ** 2
    return np.minimum(np.maximum(after, low), high), np.maximum(var * (1.0 - gain * x), floor)


def _steps(rows: np.ndarray, modules: int, seen: _Change) -> Steps:
    """The steps of this tick, summed over the groups of each module."""
    xy, xx = np.zeros(modules), np.zeros(modules)
    x = np.where(seen.usable, seen.x, 0.0) / seen.noise
    xy[rows] = (x * np.where(seen.usable, seen.y, 0.0)).sum(axis=1)
    xx[rows] = (x * np.where(seen.usable, seen.x, 0.0)).sum(axis=1)
    return Steps(xy, xx)
