"""`estimate`: from the readings of one tick to what is believed of every module."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.bank import BankPoint
from reconf.estimation import charge as counting
from reconf.estimation import circuit, groups, resistance
from reconf.estimation.constants import Constants
from reconf.estimation.memory import FilterState
from reconf.estimation.remaining import Reach, pick, reach
from reconf.estimation.start import initial_state
from reconf.estimation.state import Estimate
from reconf.readings import SiteImage
from reconf.site import Site

__all__ = ["estimate", "initial_state"]

MIN_PLAUSIBLE_CELL_V = 0.5
"""Below this a cell reading is a fault (reversed, open wire), nothing to correct an SOC with."""


def estimate(site: Site, state: FilterState, image: SiteImage, dt_s: float) -> tuple[FilterState, Estimate]:
    """One tick of the filter.

    Args:
        site: the site.
        state: of the last tick, from `initial_state` before the first.
        image: readings of this tick; anything may be missing, stale or NaN.
        dt_s: control time since the last tick, > 0.

    Returns:
        The new state and the estimate.
    """
    if not dt_s > 0.0:
        raise ValueError(f"dt_s must be positive, found {dt_s!r}")
    constants = state.constants
    untrue_current = np.zeros(constants.rated_ah.size, dtype=np.bool_)
    counted, moved = counting.measure(site, constants, state.charge, image, dt_s, untrue_current)
    state = _predict(constants, replace(state, charge=counted), moved, image, dt_s)
    point = constants.bank.at(state.groups.soc_frac)
    voltage, voltage_std = _cell_voltages(constants, image)
    state = _correct(constants, state, point, voltage, voltage_std, moved, dt_s)
    heard = np.isfinite(voltage).any(axis=1)
    state = replace(
        state,
        time_s=image.time_s,
        unheard_s=np.where(heard, 0.0, state.unheard_s + dt_s),
        started=state.started | heard,
    )
    ends = reach(constants, state, state.cut_soc_frac)
    state = replace(state, cut_soc_frac=ends.cut_soc_frac)
    return state, _estimate(constants, state, point, voltage, ends, image)


def _predict(
    constants: Constants, state: FilterState, moved: counting.Moved, image: SiteImage, dt_s: float
) -> FilterState:
    """Charge, polarisation and temperature to the time of this image."""
    soc = state.groups.soc_frac
    middle = np.where(constants.mask, soc, 0.0).sum(axis=1) / constants.bank.n_cells
    point = constants.bank.at(middle)
    amps = moved.current_a
    # a doubt about the current is an offset: over its memory of ten minutes it adds up linearly
    charge_std = moved.current_std_a / 3600.0 * np.sqrt(dt_s * max(dt_s, 600.0))
    after = groups.predict(
        constants,
        state.groups,
        moved.charge_ah,
        charge_std,
        _curve_std_v(constants, point),
        dt_s,
    )
    inside = circuit.step_polarisation(
        constants, state.circuit, point, amps, constants.prior_capacity_ah, dt_s
    )
    scale = state.resistance.scale.mean(axis=1)
    ohmic = amps * amps * point.r0_ohm * constants.bank.r0_factor(state.circuit.core_degc)
    lost = scale * (ohmic + amps * (inside.v1_v + inside.v2_v))
    reversible = -amps * (state.circuit.core_degc + 273.15) * point.entropy_v_per_k
    sensors = image.modules.temperature_degc
    usable = sensors.usable
    count = usable.sum(axis=1)
    surface = np.where(usable, sensors.value, 0.0).sum(axis=1) / np.maximum(count, 1)
    ambient = image.inputs.ambient_degc
    around = circuit.Surroundings(surface, constants.ambient_degc if np.isnan(ambient) else ambient)
    heat = constants.bank.n_cells * (lost + reversible)
    return replace(
        state,
        groups=after,
        circuit=circuit.step_heat(constants, inside, heat, around, count > 0, dt_s),
    )


def _cell_voltages(constants: Constants, image: SiteImage) -> tuple[FloatArray, FloatArray]:
    """(M, C) voltages to compute with (NaN: none) and their white deviation.

    A group whose own reading is missing gets its share of the module voltage less the others.
    """
    readings = image.modules
    cells, whole = readings.cell_voltage_v, readings.voltage_v
    own = cells.usable & readings.answered[:, None] & (cells.value > MIN_PLAUSIBLE_CELL_V) & constants.mask
    value = np.where(own, cells.value, np.nan)
    std = np.full(value.shape, constants.tuning.voltage_noise_v)
    missing = constants.mask & ~own
    if missing.any():
        count = missing.sum(axis=1)
        rest = whole.value - np.where(own, value, 0.0).sum(axis=1)
        share = rest / np.maximum(count, 1)
        fits = whole.usable & readings.answered & (count > 0) & (share > MIN_PLAUSIBLE_CELL_V) & (share < 5.0)
        fill = missing & fits[:, None]
        value = np.where(fill, share[:, None], value)
        std = np.where(fill, 0.02, std)
    return value, std


def _correct(
    constants: Constants,
    state: FilterState,
    point: BankPoint,
    voltage_v: FloatArray,
    voltage_std_v: FloatArray,
    moved: counting.Moved,
    dt_s: float,
) -> FilterState:
    """Use the cell voltages: resistance from steps, charge and capacity from steady samples."""
    tuning, inside = constants.tuning, state.circuit
    slow = inside.v1_v + inside.v2_v
    amps_factor = moved.current_a * constants.bank.r0_factor(inside.core_degc)
    drop = point.r0_ohm * amps_factor[:, None] + slow[:, None]
    shift = _ocv_shift(constants, state, point)
    rho, _, _ = resistance.update(
        constants,
        state.resistance,
        voltage_v=voltage_v,
        ocv_v=point.ocv_v + shift,
        drop_v=drop,
        slow_v=slow,
        current_a=moved.current_a,
        steady=moved.steady,
        dt_s=dt_s,
    )
    model = rho.var + (tuning.polarisation_error_frac * rho.scale) ** 2
    persistence = max(1.0, tuning.polarisation_error_reach_s / dt_s)
    # where the current has just moved, voltage and current may be a sample apart
    jump = np.where(moved.steady, 0.0, moved.jump_a + tuning.steady_current_c * constants.rated_ah)
    apart = rho.scale * point.r0_ohm * (jump * constants.bank.r0_factor(inside.core_degc))[:, None]
    measurement = groups.Measurement(
        voltage_v=voltage_v + rho.scale * drop - shift,
        var_v2=voltage_std_v**2 + model * drop * drop * persistence + apart * apart,
        use=np.isfinite(voltage_v),
        curve_std_v=_curve_std_v(constants, point),
    )
    corrected, _ = groups.correct(constants, state.groups, point, measurement)
    return replace(state, groups=corrected, resistance=rho)


def _curve_std_v(constants: Constants, point: BankPoint) -> FloatArray:
    """(M,) deviation of the OCV curve with its hysteresis; `point` may be (M,) or (M, C)."""
    width = point.hysteresis_v if point.hysteresis_v.ndim == 1 else point.hysteresis_v[:, 0]
    std: FloatArray = np.hypot(constants.ocv_std_v, constants.tuning.hysteresis_error_frac * width)
    return std


def _ocv_shift(constants: Constants, state: FilterState, point: BankPoint) -> FloatArray:
    """(M, C) what temperature, age and hysteresis add to the OCV of a new cell at 25 degC."""
    inside = state.circuit
    lost = 1.0 - state.groups.capacity_ah / constants.rated_ah[:, None]
    shift: FloatArray = (
        (inside.core_degc - 25.0)[:, None] * point.entropy_v_per_k
        + lost * point.ocv_ageing_v
        + inside.hysteresis[:, None] * point.hysteresis_v
    )
    return shift


def _sum(constants: Constants, values: FloatArray) -> FloatArray:
    """Sum over the groups that a module has -> (M,)."""
    total: FloatArray = np.where(constants.mask, values, 0.0).sum(axis=1)
    return total


def _estimate(
    constants: Constants,
    state: FilterState,
    point: BankPoint,
    voltage_v: FloatArray,
    ends: Reach,
    image: SiteImage,
) -> Estimate:
    """Gather what the rest of the house is told."""
    held, inside, rho, bank = state.groups, state.circuit, state.resistance, constants.bank
    tuning = constants.tuning
    capacity = np.maximum(ends.weakest_ah + ends.room_ah, 0.05 * constants.rated_ah)
    soc, std = held.soc_frac, held.soc_std_frac()
    ocv = point.ocv_v + _ocv_shift(constants, state, point) - inside.hysteresis[:, None] * point.hysteresis_v
    ocv = ocv + held.ocv_error_v
    fast = rho.scale * point.r0_ohm * bank.r0_factor(inside.core_degc)[:, None]
    settled = rho.scale * (point.r1_ohm + point.r2_ohm) * bank.rc_factor(inside.core_degc)[:, None]
    polarisation = rho.scale * (inside.v1_v + inside.v2_v)[:, None]
    polarisation -= inside.hysteresis[:, None] * point.hysteresis_v
    resistance_all = _sum(constants, fast + settled)
    relative = pick(np.sqrt(rho.var) / rho.scale, ends.weakest)
    low, high = _temperature_bounds(image, state)
    shown = np.where(
        np.isfinite(voltage_v), voltage_v, ocv - polarisation - fast * state.charge.current_a[:, None]
    )
    cut_std = 0.25 * np.abs(ends.cut_soc_frac) * pick(held.capacity_ah, ends.weakest)
    return Estimate(
        time_s=image.time_s,
        soc_frac=ends.weakest_ah / capacity,
        soc_std_frac=pick(std, ends.weakest),
        soc_weakest_frac=pick(soc, ends.weakest),
        soc_strongest_frac=pick(soc, ends.strongest),
        capacity_ah=capacity,
        capacity_std_ah=np.sqrt(pick(held.var_qq, ends.weakest)),
        remaining_ah=ends.remaining_ah,
        remaining_std_ah=np.hypot(np.sqrt(pick(held.var_rr, ends.weakest)), cut_std),
        chargeable_ah=ends.chargeable_ah,
        ocv_v=_sum(constants, ocv),
        ocv_slope_v_per_ah=_sum(constants, point.slope_v / held.capacity_ah),
        polarisation_v=_sum(constants, polarisation),
        r0_ohm=_sum(constants, fast),
        resistance_ohm=resistance_all,
        resistance_std_ohm=resistance_all * np.hypot(relative, tuning.polarisation_error_frac),
        temperature_degc=inside.core_degc,
        temperature_low_degc=low,
        temperature_high_degc=high,
        cell_voltage_min_v=np.where(constants.mask, shown, np.inf).min(axis=1),
        cell_voltage_max_v=np.where(constants.mask, shown, -np.inf).max(axis=1),
        trusted=_trusted(state, image),
    )


def _temperature_bounds(image: SiteImage, state: FilterState) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest temperature that sensors and observer allow (M,)."""
    sensors = image.modules.temperature_degc
    inside = state.circuit
    doubt = 1.0 + np.minimum(0.01 * np.where(np.isfinite(state.unheard_s), state.unheard_s, 1e4), 10.0)
    low = np.minimum(inside.core_degc, inside.surface_degc) - doubt
    high = np.maximum(inside.core_degc, inside.surface_degc) + doubt
    value = sensors.value
    low = np.minimum(low, np.where(sensors.usable, value, np.inf).min(axis=1))
    high = np.maximum(high, np.where(sensors.usable, value, -np.inf).max(axis=1))
    return low, high


def _trusted(state: FilterState, image: SiteImage) -> BoolArray:
    """Voltage, current and a temperature fresh; the module has been seen since power-up."""
    readings = image.modules
    fresh = state.started & (readings.age_s <= state.constants.tuning.stale_after_s)
    trusted: BoolArray = (
        fresh
        & readings.voltage_v.usable
        & readings.current_a.usable
        & readings.temperature_degc.usable.any(axis=1)
    )
    return trusted
