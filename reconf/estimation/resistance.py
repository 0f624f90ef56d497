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
    y = -(voltage_v - state.ref_voltage_v - (ocv_v - state.ref_ocv_v))
    x = drop_v - state.ref_drop_v
    slow = np.abs(slow_v - state.ref_slow_v)
    noise = 2.0 * tuning.voltage_noise_v**2 + (0.2 * slow) ** 2
    usable = step[:, None] & np.isfinite(y) & constants.mask
    x = np.where(usable, x, 0.0)
    drift = tuning.resistance_drift_frac**2 * dt_s / tuning.resistance_memory_s
    var = state.var + drift * state.scale**2
    residual = np.where(usable, y - state.scale * x, np.nan)
    spread = x * x * var + noise[:, None]
    variance = np.maximum(
        spread, np.where(usable, np.abs(residual), 0.0) * np.sqrt(spread) / tuning.innovation_bound
    )
    gain = np.where(usable, var * x / variance, 0.0)
    scale = state.scale + np.where(usable, gain * residual, 0.0)
    low, high = tuning.resistance_bounds
    fresh = steady[:, None] & np.isfinite(voltage_v)
    after = ResistanceState(
        scale=np.clip(scale, low, high),
        var=np.maximum(var * (1.0 - gain * x), (tuning.resistance_floor_frac * scale) ** 2),
        ref_voltage_v=np.where(fresh, voltage_v, state.ref_voltage_v),
        ref_drop_v=np.where(fresh, drop_v, state.ref_drop_v),
        ref_slow_v=np.where(steady, slow_v, state.ref_slow_v),
        ref_ocv_v=np.where(fresh, ocv_v, state.ref_ocv_v),
        ref_current_a=np.where(steady, current_a, state.ref_current_a),
        ref_age_s=np.where(steady, 0.0, age),
    )
    weight = np.where(usable, 1.0 / noise[:, None], 0.0)
    steps = Steps((weight * x * np.where(usable, y, 0.0)).sum(axis=1), (weight * x * x).sum(axis=1))
    return after, steps
