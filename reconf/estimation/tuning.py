"""How far the filter trusts models and sensors: standard deviations and time constants, all in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reconf.site import Chemistry

OCV_MODEL_STD_V: Final[dict[Chemistry, float]] = {
    Chemistry.LMO: 0.006,
    Chemistry.NMC: 0.006,
    Chemistry.NCA: 0.006,
    Chemistry.LFP: 0.005,
}
"""Slowly varying error of the open-circuit curve (ageing, scatter between makers, sensor offset).

Aged NMC curves lie within 5 mV of the new one over SOC of *present* capacity (Lavigne et al., J. Power
Sources 324 (2016) 694, doi 10.1016/j.jpowsour.2016.06.006)."""

CHARGE_REACH: Final = (-0.10, 1.05)
"""SOC that a belief may hold: below lies copper, above the curve is so steep that nobody misses it."""
OUT_OF_REACH: Final = 5.0
"""Deviations of noise and curve together: a voltage further off is no error of either."""
SOC_REACH: Final = (-0.05, 1.05)
"""Sigma points stay where the cell model means something."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Numbers of the state filter. One sigma where a deviation is meant."""

    voltage_noise_v: float = 0.002
    """White noise of one cell voltage reading."""
    ocv_error_soc_reach: float = 0.10
    """SOC over which the error of the OCV curve keeps its value."""
    ocv_error_memory_s: float = 12 * 3600.0
    """Time after which the error of the curve is asked for anew even at rest."""
    curve_floor: float = 0.6
    """SOC deviation that corrections may reach, over (error of the OCV curve) / (its slope)."""
    polarisation_error_frac: float = 0.06
    """Relative error of the modelled polarisation at known resistance."""
    span_memory_cycles: float = 2.0
    """Full cycles after which an end of the visited charge is forgotten."""
    capacity_floor: float = 0.3
    """Relative deviation of capacity that corrections may reach, over what the visited charge allows."""
    polarisation_shape_error_frac: float = 0.1
    """The same where it comes back with every swing of the current, as capacity sees it: a resistance that
    follows SOC otherwise than the model's."""
    polarisation_error_reach_s: float = 120.0
    """Time over which that error keeps its value."""
    hysteresis_error_frac: float = 0.25
    """Unknown part of the hysteresis half width. With 0.15 the ends of an LFP plateau moved the SOC of
    a right counter by up to 0.27 points, either way."""
    current_gain_std_frac: float = 0.005
    """Gain error of the current sensor, as charge lost per charge moved over one capacity."""
    current_bias_std_c: float = 0.0008
    """Offset of a module current sensor before anything is learned [1/h] (50 mA on 60 Ah)."""
    string_bias_std_c: float = 0.005
    """Offset of a string current sensor used as a substitute [1/h]."""
    current_noise_c: float = 0.0005
    """Noise and resolution of a module current reading [1/h]."""
    leakage_std_c: float = 0.00005
    """Self-discharge of a group that nobody measures [1/h]."""
    capacity_drift_frac: float = 0.002
    """Wander of the capacity per equivalent full cycle."""
    capacity_belief_std_frac: float = 0.04
    """Doubt about any stated capacity besides what it admits: another rate, another cut-off, time."""
    group_capacity_std_frac: float = 0.015
    """Spread of the groups of one module about its graded capacity."""
    resistance_prior_std_frac: float = 0.25
    resistance_drift_frac: float = 0.05
    """Wander of the resistance scale in `resistance_memory_s`."""
    resistance_memory_s: float = 30 * 86400.0
    resistance_floor_frac: float = 0.005
    resistance_bounds: tuple[float, float] = (0.3, 8.0)
    """Scale over the new cell model; outside it is a fault, not an age."""
    capacity_bounds_frac: tuple[float, float] = (0.2, 1.25)
    """Capacity over rated capacity."""
    lost_sigmas: float = 8.0
    """A voltage this far from its expectation says that the state itself is wrong."""
    lost_std_frac_per_s: float = 0.015
    """Widening of SOC while it is, times the root of the time [1/sqrt(s)]: 12 % in a minute."""
    curve_bound: float = 5.0
    """Largest error of the OCV curve that is believed, over its deviation."""
    innovation_bound: float = 3.0
    """Innovations beyond this many sigma weigh no more than one at the bound (Huber)."""
    secant_std_frac: float = 0.012
    """Above this SOC deviation the slope is taken across +-1 sigma, not at the mean."""
    rest_relaxation_std_v: float = 0.005
    """Voltage still to come, over hours, when a start finds a module without current for an unknown time."""
    rest_load_std_c: float = 0.3
    """Load before a start [1/h], whose polarisation may still be fading when the first voltage is read."""
    unknown_start_std_frac: float = 0.29
    """Deviation of a uniform distribution over 0..1."""
    self_discharge_frac_per_day: float = 0.002
    """Widening of SOC while nobody watched."""
    away_std_frac: float = 0.003
    """Widening of SOC by any restart."""
    steady_current_frac: float = 0.03
    """A current that moved by more than this (or `steady_current_c`) since the last image is a step."""
    steady_current_c: float = 0.005
    step_min_c: float = 0.05
    """Smallest step of current that says something about resistance [1/h]."""
    step_max_s: float = 120.0
    """Oldest steady sample a step may be measured against."""
    load_memory_s: float = 600.0
    """Memory of the load that the cut-off is expected under."""
    load_prior_c: float = 0.2
    """Load expected before any was seen [1/h]."""
    stale_after_s: float = 10.0
    """A module unheard for longer is not trusted."""


TUNING: Final = Tuning()
