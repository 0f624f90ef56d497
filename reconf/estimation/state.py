"""The estimate: what the rest of the house is told of each module."""

from __future__ import annotations

from dataclasses import dataclass

from reconf.arrays import BoolArray, FloatArray
from reconf.estimation.health import Trend


@dataclass(frozen=True, slots=True)
class Finding:
    """A sensor judged untrue or a cell judged abnormal: latched, with its evidence."""

    serial: str
    subject: str
    """`temperature_1`, `temperature_2`, `current`, `charge_counter`, `module_voltage`, `cell_voltage_7`,
    `cell_7`."""
    test: str
    """Stable id of the test, e.g. `sensor_pair`, `resistance`, `leakage`."""
    since_s: float
    """Control time of the judgement."""
    evidence: str
    """Measured against expected, with units, in one plain sentence."""


@dataclass(frozen=True, slots=True)
class Cooling:
    """Whether heat is carried away as modelled, by module. All (M,)."""

    lost: BoolArray
    """The modules of its zone are warmer together than heat and ambient temperature explain."""
    share_frac: FloatArray
    """Conductance to the surroundings over the modelled one without the site's cooling; 1 while nothing is
    lost."""
    warmer_k: FloatArray
    """Median of its zone above the model, NaN where nobody can tell."""
    allowed_k: FloatArray
    """What of it is no news."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """State of every module at `time_s`. Standard deviations are one sigma. All arrays (M,)."""

    time_s: float
    soc_frac: FloatArray
    """Charge left over *present* capacity, of the module as a whole."""
    soc_std_frac: FloatArray
    soc_weakest_frac: FloatArray
    """SOC of the cell group that will end the discharge."""
    soc_strongest_frac: FloatArray
    """SOC of the cell group that will end the charge."""
    capacity_ah: FloatArray
    """Present capacity between the cut-offs."""
    capacity_std_ah: FloatArray
    remaining_ah: FloatArray
    """Charge that can still leave the module before its weakest group reaches cut-off."""
    remaining_std_ah: FloatArray
    chargeable_ah: FloatArray
    """Charge that can still enter before the strongest group reaches its upper limit."""
    ocv_v: FloatArray
    """Open-circuit voltage of the module now."""
    ocv_slope_v_per_ah: FloatArray
    """dOCV/dq for charge *entering*; falls by this per Ah discharged."""
    polarisation_v: FloatArray
    """Sum of RC and hysteresis voltages now; terminal = ocv - polarisation - r0*i."""
    r0_ohm: FloatArray
    """Ohmic resistance at the present temperature."""
    resistance_ohm: FloatArray
    """Resistance for minutes (R0 + RC settled) at the present temperature."""
    resistance_std_ohm: FloatArray
    temperature_degc: FloatArray
    """Best estimate of the core."""
    temperature_low_degc: FloatArray
    """Lowest that both sensors, the observer and their doubts allow (cold limits use this)."""
    temperature_high_degc: FloatArray
    """Highest that both sensors, the observer and their doubts allow (hot limits use this)."""
    cell_voltage_min_v: FloatArray
    """Lowest cell-group voltage, measured or substituted."""
    cell_voltage_max_v: FloatArray
    trusted: BoolArray
    """Sensors fresh and judged true: the module may take part."""
    cooling: Cooling | None = None
    """None where nobody looks after it: all as modelled."""
    group_resistance_frac: FloatArray | None = None
    """Resistance of the group that has most over the mean of its module's; None where nobody tracks it."""
    trend: Trend | None = None
    """Capacity over the module's life, for `forecast_now`; None where nobody keeps it."""
    findings: tuple[Finding, ...] = ()
    """Everything latched now, in the order it was found."""
