"""Polarisation and heat of each module: exact steps of the linear parts of the cell model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.bank import BankPoint
from reconf.estimation.constants import Constants
from reconf.estimation.memory import CircuitState


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Temperatures read this tick. All (M,)."""

    surface_degc: FloatArray
    """Mean of the usable sensors, NaN where none is."""
    ambient_degc: float


@dataclass(frozen=True, slots=True)
class Warm:
    """Factors of temperature on the resistances of every module (M,), reckoned once a tick."""

    r0_factor: FloatArray
    rc_factor: FloatArray

    @classmethod
    def of(cls, constants: Constants, core_degc: FloatArray) -> Warm:
        """At `core_degc` (M,)."""
        return cls(constants.bank.r0_factor(core_degc), constants.bank.rc_factor(core_degc))


def step_polarisation(
    constants: Constants,
    state: CircuitState,
    point: BankPoint,
    current_a: FloatArray,
    capacity_ah: FloatArray,
    dt_s: float,
) -> CircuitState:
    """Two RC pairs at scale 1 and the hysteresis state under a constant current.

    Args:
        constants: of the site.
        state: before.
        point: (M,) cell model at the module's mean SOC.
        current_a: (M,) discharge positive.
        capacity_ah: (M,) for the rate of the hysteresis state.
        dt_s: length of the step.
    """
    bank = constants.bank
    warm = bank.rc_factor(state.core_degc)
    keep1 = np.exp(-dt_s / bank.tau1_s)
    keep2 = np.exp(-dt_s / bank.tau2_s)
    turned = np.exp(-bank.hysteresis_rate * np.abs(current_a) * dt_s / (3600.0 * capacity_ah))
    return CircuitState(
        v1_v=keep1 * state.v1_v + (1.0 - keep1) * point.r1_ohm * warm * current_a,
        v2_v=keep2 * state.v2_v + (1.0 - keep2) * point.r2_ohm * warm * current_a,
        hysteresis=turned * state.hysteresis - (1.0 - turned) * np.sign(current_a),
        core_degc=state.core_degc,
        surface_degc=state.surface_degc,
        unknown_v=keep2 * state.unknown_v,
    )


def step_heat(
    constants: Constants,
    state: CircuitState,
    heat_w: FloatArray,
    around: Surroundings,
    sensed: BoolArray,
    dt_s: float,
    share_frac: float = 1.0,
) -> CircuitState:
    """Two-node thermal observer: prediction from heat and ambient, surface corrected by the sensors.

    The core follows the surface through their conductance (Lin et al. 2014, doi
    10.1016/j.jpowsour.2014.01.097); the correction's time constant is 30 s, long against the noise.
    """
    core, surface = step_nodes(
        constants,
        state.core_degc,
        state.surface_degc,
        heat_w,
        np.asarray(around.ambient_degc),
        dt_s,
        share_frac,
    )
    weight = np.where(sensed, 1.0 - np.exp(-dt_s / 30.0), 0.0)
    error = np.where(sensed, around.surface_degc - surface, 0.0)
    return CircuitState(
        v1_v=state.v1_v,
        v2_v=state.v2_v,
        hysteresis=state.hysteresis,
        core_degc=core,
        surface_degc=surface + weight * error,
        unknown_v=state.unknown_v,
    )


def step_nodes(
    constants: Constants,
    core_degc: FloatArray,
    surface_degc: FloatArray,
    heat_w: FloatArray,
    ambient_degc: FloatArray,
    dt_s: float,
    share_frac: FloatArray | float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Core and surface after `dt_s`, each node exact for the other held (stable at any step).

    `share_frac` of the modelled conductance to the surroundings is there, more than 1 with a fan that runs.
    """
    bank = constants.bank
    inner = bank.conductance_core_surface_w_per_k
    outer = share_frac * bank.conductance_surface_ambient_w_per_k
    keep_core = np.exp(-dt_s * inner / bank.heat_capacity_core_j_per_k)
    core_end = surface_degc + heat_w / inner
    core = core_end + keep_core * (core_degc - core_end)
    total = inner + outer
    keep_surface = np.exp(-dt_s * total / bank.heat_capacity_surface_j_per_k)
    surface_end = (inner * 0.5 * (core + core_degc) + outer * ambient_degc) / total
    surface = surface_end + keep_surface * (surface_degc - surface_end)
    return core, surface
