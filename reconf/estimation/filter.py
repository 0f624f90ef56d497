"""`estimate`: from the readings of one tick to what is believed of every module."""

from __future__ import annotations

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.bank import BankPoint
from reconf.estimation import anomaly, circuit, groups, integrity, resistance, span
from reconf.estimation import charge as counting
from reconf.estimation.anomaly import ANOMALY_TESTS
from reconf.estimation.constants import Constants, curves, total
from reconf.estimation.health import follow
from reconf.estimation.integrity_state import Signals, Untrue
from reconf.estimation.memory import FilterState
from reconf.estimation.remaining import reach
from reconf.estimation.report import believed_temperatures, report
from reconf.estimation.start import initial_state
from reconf.estimation.state import Estimate
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.site import Site, ThermalSpec

__all__ = ["clear_findings", "estimate", "initial_state"]

MEAN_CURRENT_FROM_S = 3.0
REST_C = 0.02
"""Below this C-rate a module rests: neither its resistance nor its capacity shows in its voltages [1/h]."""
QUIET_C = 0.3
"""Below this C-rate a voltage measures the charge of a cell against its neighbours [1/h]."""
MIN_PLAUSIBLE_CELL_V = 0.5
"""Below this a cell reading is a fault (reversed, open wire), nothing to correct an SOC with."""


def estimate(
    site: Site, state: FilterState, image: SiteImage, dt_s: float, cooling_frac: float = 0.0
) -> tuple[FilterState, Estimate]:
    """One tick of the filter.

    Args:
        site: the site.
        state: of the last tick, from `initial_state` before the first.
        image: readings of this tick; anything may be missing, stale or NaN.
        dt_s: control time since the last tick, > 0.
        cooling_frac: how far the site's cooling has come up, as it was asked for; 0 without one.

    Returns:
        The new state and the estimate.
    """
    if not dt_s > 0.0:
        raise ValueError(f"dt_s must be positive, found {dt_s!r}")
    constants = state.constants
    counted, moved = counting.measure(
        site,
        constants,
        state.charge,
        image,
        dt_s,
        untrue=state.integrity.is_untrue(Untrue.CURRENT),
        untrue_counter=state.integrity.is_untrue(Untrue.COUNTER),
        untrue_converter=state.integrity.is_untrue(Untrue.CONVERTER_CURRENT),
    )
    gain = cooling_gain(site.thermal, cooling_frac)
    state = _predict(constants, replace(state, charge=counted), moved, image, dt_s, gain)
    warm = circuit.Warm.of(constants, state.circuit.core_degc)
    point = curves(constants, state.groups.soc_frac)
    shift = _ocv_shift(constants, state, point)
    voltage, voltage_std = _cell_voltages(constants, state, image)
    state, steps, innovation = _correct(
        constants, state, warm, point, shift, voltage, voltage_std, moved, dt_s
    )
    state = _watch(site, constants, state, moved, steps, point, innovation, image, dt_s, gain)
    heard = np.isfinite(voltage).any(axis=1)
    state = replace(
        state,
        time_s=image.time_s,
        unheard_s=np.where(heard, 0.0, state.unheard_s + dt_s),
        started=state.started | heard,
    )
    ends = reach(constants, state, warm, state.cut_soc_frac)
    known = report(constants, state, warm, point, shift, voltage, ends, image, dt_s)
    rated = constants.rated_ah
    trend = follow(state.trend, known.capacity_ah / rated, known.capacity_std_ah / rated, dt_s)
    return replace(state, cut_soc_frac=ends.cut_soc_frac, trend=trend), known


def _predict(
    constants: Constants,
    state: FilterState,
    moved: counting.Moved,
    image: SiteImage,
    dt_s: float,
    cooling_gain: float,
) -> FilterState:
    """Charge, polarisation and temperature to the time of this image."""
    soc = state.groups.soc_frac
    middle = total(constants, soc) / constants.bank.n_cells
    point = curves(constants, middle)
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
    travelled = span.travel(constants, state.span, moved.charge_ah)
    # over a long tick the counter knows the mean current, the reading only its last second; over a short
    # one the counter's resolution would be the larger error
    mean_a = moved.charge_ah * (3600.0 / dt_s) if dt_s >= MEAN_CURRENT_FROM_S else amps
    inside = circuit.step_polarisation(
        constants, state.circuit, point, mean_a, constants.prior_capacity_ah, dt_s
    )
    scale = total(constants, state.resistance.scale) / constants.bank.n_cells
    ohmic = amps * amps * point.r0_ohm * constants.bank.r0_factor(state.circuit.core_degc)
    lost = scale * (ohmic + amps * (inside.v1_v + inside.v2_v))
    reversible = -amps * (state.circuit.core_degc + 273.15) * point.entropy_v_per_k
    value, usable = believed_temperatures(image, state)
    count = usable.sum(axis=1)
    surface = np.where(usable, value, 0.0).sum(axis=1) / np.maximum(count, 1)
    around = circuit.Surroundings(surface, _ambient_degc(constants, image))
    heat = constants.bank.n_cells * (lost + reversible)
    watch = state.integrity
    air = np.asarray(around.ambient_degc)
    free = circuit.step_nodes(constants, watch.core_degc, watch.surface_degc, heat, air, dt_s, cooling_gain)
    with_zone = watch.zones
    zone = circuit.step_nodes(
        constants, with_zone.core_degc, with_zone.surface_degc, heat, air, dt_s,
        cooling_gain * with_zone.share_frac[with_zone.of],
    )  # fmt: skip
    return replace(
        state,
        groups=after,
        span=travelled,
        circuit=circuit.step_heat(constants, inside, heat, around, count > 0, dt_s, cooling_gain),
        integrity=replace(
            watch,
            core_degc=free[0],
            surface_degc=free[1],
            zones=replace(watch.zones, core_degc=zone[0], surface_degc=zone[1]),
        ),
    )


def cooling_gain(spec: ThermalSpec, level_frac: float) -> float:
    """Conductance to the surroundings over that without the site's cooling, at `level_frac` of it."""
    if spec.cooling == "off":
        return 1.0
    return 1.0 + level_frac * (1.0 / spec.cooling_resistance_factor_frac - 1.0)


def _ambient_degc(constants: Constants, image: SiteImage) -> float:
    """As measured, or as the site file has it."""
    ambient = image.inputs.ambient_degc
    return constants.ambient_degc if np.isnan(ambient) else ambient


def _cell_voltages(
    constants: Constants, state: FilterState, image: SiteImage
) -> tuple[FloatArray, FloatArray]:
    """(M, C) voltages to compute with (NaN: none) and their white deviation.

    A group whose own reading is missing gets its share of the module voltage less the others.
    """
    readings, watch = image.modules, state.integrity
    cells, whole = readings.cell_voltage_v, readings.voltage_v
    own = cells.usable & readings.answered[:, None] & (cells.value > MIN_PLAUSIBLE_CELL_V) & constants.mask
    own &= ~watch.untrue_cells & ~watch.is_untrue(Untrue.CELL_VOLTAGES)[:, None]
    whole_ok = whole.usable & readings.answered & ~watch.is_untrue(Untrue.MODULE_VOLTAGE)
    value = np.where(own, cells.value, np.nan)
    std = np.full(value.shape, constants.tuning.voltage_noise_v)
    missing = constants.mask & ~own
    if missing.any():
        count = missing.sum(axis=1)
        rest = whole.value - np.where(own, value, 0.0).sum(axis=1)
        share = rest / np.maximum(count, 1)
        fits = whole_ok & (count > 0) & (share > MIN_PLAUSIBLE_CELL_V) & (share < 5.0)
        fill = missing & fits[:, None]
        value = np.where(fill, share[:, None], value)
        std = np.where(fill, 0.02, std)
    return value, std


def _correct(
    constants: Constants,
    state: FilterState,
    warm: circuit.Warm,
    point: BankPoint,
    shift: FloatArray,
    voltage_v: FloatArray,
    voltage_std_v: FloatArray,
    moved: counting.Moved,
    dt_s: float,
) -> tuple[FilterState, resistance.Steps, FloatArray]:
    """Use the cell voltages: resistance from steps, charge and capacity from steady samples."""
    tuning, inside = constants.tuning, state.circuit
    slow = inside.v1_v + inside.v2_v
    amps_factor = moved.current_a * warm.r0_factor
    drop = point.r0_ohm * amps_factor[:, None] + slow[:, None]
    rho, steps = resistance.update(
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
    # where the current has just moved, voltage and current may be a sample apart
    jump = np.where(moved.steady, 0.0, moved.jump_a + tuning.steady_current_c * constants.rated_ah)
    ready = groups.unloaded(
        constants, rho, point, voltage_v, voltage_std_v, shift, drop, jump * warm.r0_factor, dt_s
    )
    curve, left = _curve_std_v(constants, point), constants.prior_resistance_scale * inside.unknown_v
    # a resistance that follows SOC otherwise than the model's misleads at every visit, as the curve does
    missed = tuning.polarisation_shape_error_frac * rho.scale[:, 0] * np.abs(drop[:, 0])
    measurement = groups.Measurement(
        voltage_v=ready[0],
        var_v2=ready[1],
        use=np.isfinite(voltage_v),
        curve_std_v=np.sqrt(curve * curve + left * left + missed * missed),
        error_share=curve * curve / (curve * curve + left * left),
        capacity_floor_frac=_capacity_floor(constants, state, warm, point),
    )
    corrected = groups.correct(constants, state.groups, point, measurement, dt_s)
    innovation = measurement.voltage_v - point.ocv_v
    return replace(state, groups=corrected, resistance=rho), steps, innovation


def _capacity_floor(
    constants: Constants, state: FilterState, warm: circuit.Warm, point: BankPoint
) -> FloatArray:
    """(M,) relative deviation of capacity that the charge visited lately allows."""
    n = constants.bank.n_cells
    ohmic = (point.r0_ohm[:, 0] + point.r1_ohm[:, 0] + point.r2_ohm[:, 0]) * warm.rc_factor
    missed = constants.tuning.polarisation_shape_error_frac * state.resistance.scale[:, 0] * ohmic
    return span.capacity_floor_frac(
        constants,
        state.span,
        total(constants, state.groups.soc_frac) / n,
        total(constants, state.groups.capacity_ah) / n,
        np.hypot(_curve_std_v(constants, point), missed * state.charge.load_a),
    )


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


def _watch(
    site: Site,
    constants: Constants,
    state: FilterState,
    moved: counting.Moved,
    steps: resistance.Steps,
    point: BankPoint,
    innovation_v: FloatArray,
    image: SiteImage,
    dt_s: float,
    cooling_gain: float,
) -> FilterState:
    """Residuals of this tick to the tests of sensors and cells."""
    readings = image.modules
    cells, whole = readings.cell_voltage_v, readings.voltage_v
    known = (cells.usable | ~constants.mask).all(axis=1) & whole.usable & readings.answered & moved.steady
    summed = total(constants, np.where(cells.usable, cells.value, 0.0))
    sensors = readings.temperature_degc
    signals = Signals(
        temperature_degc=np.where(sensors.usable & readings.answered[:, None], sensors.value, np.nan),
        model_degc=state.integrity.surface_degc,
        cell_sum_v=np.where(known, summed - whole.value, np.nan),
        cell_voltage_v=cells.value,
        module_voltage_v=whole.value,
        string_current_a=moved.string_gap_a,
        converter_current_a=moved.converter_gap_a,
        quiet_current_a=moved.quiet_gap_a,
        current_a=moved.current_a,
        counter_ah=moved.counter_step_ah,
        current_ah=np.abs(moved.current_a) * dt_s / 3600.0,
        step_xy=steps.xy,
        step_xx=steps.xx,
        ambient_degc=_ambient_degc(constants, image),
        cooling_gain=cooling_gain,
        ambient_known=bool(np.isfinite(image.inputs.ambient_degc)),
    )
    cell_signals = anomaly.CellSignals(
        ocv_v=innovation_v + point.ocv_v,
        raw_v=cells.value,
        answered=readings.answered,
        module_v=np.where(whole.usable, whole.value, np.nan),
        quiet=np.abs(moved.current_a) < QUIET_C * constants.rated_ah,
        resting=np.abs(moved.current_a) < REST_C * constants.rated_ah,
    )
    odd = anomaly.watch(
        constants,
        state.anomaly,
        state.groups,
        state.resistance,
        cell_signals,
        state.serials,
        image.time_s,
        dt_s,
    )
    watched = integrity.watch(
        constants, state.integrity, signals, site.topology.string_of, state.serials, image.time_s, dt_s
    )
    return replace(state, integrity=watched, anomaly=odd)


def clear_findings(
    state: FilterState, serial: str, *, sensors: bool = True, cells: frozenset[str] = ANOMALY_TESTS
) -> FilterState:
    """Believe module `serial` again (an operator's order, after the repair).

    Args:
        state: before.
        serial: of the module.
        sensors: its sensors are used again.
        cells: tests of cells whose findings are forgotten.
    """
    odd = state.anomaly
    kept = tuple(f for f in odd.findings if f.serial != serial or f.test not in cells)
    state = replace(state, anomaly=replace(odd, findings=kept))
    return _believe_sensors(state, serial) if sensors else state


def _believe_sensors(state: FilterState, serial: str) -> FilterState:
    """Every sensor of `serial` is used again; its scores begin anew."""
    watched = state.integrity
    row = state.serials.index(serial)
    untrue, cells, scores = watched.untrue.copy(), watched.untrue_cells.copy(), watched.scores.copy()
    untrue[row], cells[row], scores[:, :, row] = 0, False, 0.0
    pair = watched.pair.forgotten(row)
    kept = tuple(f for f in watched.findings if f.serial != serial)
    return replace(
        state,
        integrity=replace(
            watched, untrue=untrue, untrue_cells=cells, scores=scores, pair=pair, findings=kept
        ),
    )
