"""The first state: rest voltage where there is one, what was saved, and the time that passed between.

The rest voltage is turned into an SOC by the whole likelihood over the SOC grid, not by the inverse of the
curve: mean and deviation are then right on a plateau too, where the inverse is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.model import SOC_NODES, soc_grid
from reconf.estimation.anomaly import ANOMALY_TESTS
from reconf.estimation.charge import BIAS_DRIFT_C
from reconf.estimation.constants import Constants, constants_of
from reconf.estimation.health import Trend
from reconf.estimation.integrity import IntegrityState
from reconf.estimation.memory import (
    AnomalyState,
    ChargeState,
    CircuitState,
    FilterState,
    GroupState,
    ResistanceState,
    SavedModule,
)
from reconf.estimation.span import Span
from reconf.estimation.state import Finding
from reconf.readings import SiteImage
from reconf.site import Site

REST_CURRENT_C = 0.02
"""Below this C-rate a module counts as at rest when the control starts."""
SAVED_TRUST_STD_FRAC = 0.15
"""A saved SOC less certain than this is replaced by the rest voltage, not corrected by it."""


def initial_state(
    site: Site,
    image: SiteImage,
    saved: Mapping[str, SavedModule] | None = None,
    away_s: float = 0.0,
    constants: Constants | None = None,
) -> FilterState:
    """State of the filter before its first tick.

    Args:
        site: what is believed of the modules.
        image: the first readings; anything may be missing.
        saved: knowledge of earlier runs by serial; modules without it start from the site file.
        away_s: time since `saved` was written [s], widens it.
        constants: other cell models than those that the site names (tests against measured cells).
    """
    constants = site.derived(constants_of) if constants is None else constants
    knowledge = saved or {}
    serials = site.topology.serials
    rows = [knowledge.get(serial) for serial in serials]
    charge = _charge(constants, image, rows, away_s)
    circuit = _circuit(constants, image, rows, away_s)
    resistance = _resistance(constants, rows)
    voltage, heard = _rest_voltage(constants, image, circuit, resistance)
    left = constants.prior_resistance_scale * circuit.unknown_v
    groups = _from_voltage(constants, voltage, heard, _doubt_v(constants, image, left))
    groups = _from_saved(constants, groups, charge, rows, away_s, image)
    return FilterState(
        constants=constants,
        serials=serials,
        time_s=image.time_s,
        groups=groups,
        span=Span(
            _column(rows, "below_ah", np.zeros(len(serials))),
            _column(rows, "above_ah", np.zeros(len(serials))),
        ),
        resistance=resistance,
        charge=charge,
        circuit=circuit,
        integrity=_integrity(constants, circuit, resistance, rows, serials),
        anomaly=_anomaly(constants, rows, serials),
        trend=_trend(rows, away_s),
        cut_soc_frac=np.full(len(serials), 0.02),
        unheard_s=np.where(heard, 0.0, np.inf),
        started=heard,
    )


def _column(rows: Sequence[SavedModule | None], name: str, default: FloatArray) -> FloatArray:
    """(M,) values of the saved field `name`, `default` where nothing was saved."""
    return np.array(
        [d if row is None else float(getattr(row, name)) for row, d in zip(rows, default, strict=True)]
    )


def _grid_column(rows: Sequence[SavedModule | None], name: str, default: FloatArray) -> FloatArray:
    """(M, C) values of the saved field `name`."""
    values = default.copy()
    for i, row in enumerate(rows):
        if row is not None:
            kept = getattr(row, name)
            values[i, : len(kept)] = kept
    return values


def _charge(
    constants: Constants, image: SiteImage, rows: Sequence[SavedModule | None], away_s: float
) -> ChargeState:
    tuning = constants.tuning
    m = constants.rated_ah.size
    zero = np.zeros(m)
    readings = image.modules
    load = tuning.load_prior_c * constants.rated_ah
    counter = np.where(readings.charge_counter_ah.usable, readings.charge_counter_ah.value, np.nan)
    bias_var = _column(rows, "bias_var", (tuning.current_bias_std_c * constants.rated_ah) ** 2)
    return ChargeState(
        current_a=np.where(readings.current_a.usable, readings.current_a.value, 0.0),
        bias_a=_column(rows, "bias_a", zero),
        bias_var=bias_var + (BIAS_DRIFT_C * constants.rated_ah) ** 2 * away_s / 3600.0,
        gain_frac=_column(rows, "gain_frac", zero),
        gain_var=_column(rows, "gain_var", np.full(m, tuning.current_gain_std_frac**2)),
        counter_ah=counter,
        counted_ah=zero,
        counted_s=zero,
        uptime_s=readings.uptime_s,
        insert_count=readings.insert_count,
        quiet_s=zero,
        load_a=_column(rows, "load_a", load),
        load_mean_a=_column(rows, "load_mean_a", load),
    )


def _circuit(
    constants: Constants, image: SiteImage, rows: Sequence[SavedModule | None], away_s: float
) -> CircuitState:
    m, bank = constants.rated_ah.size, constants.bank
    middle = bank.at(np.full(m, 0.5))
    load = constants.tuning.rest_load_std_c * constants.rated_ah
    anything = load * (middle.r1_ohm + middle.r2_ohm)
    known = np.array([row is not None for row in rows])
    faded = np.where(known, np.exp(-away_s / bank.tau2_s), 1.0)
    sensors = image.modules.temperature_degc
    count = sensors.usable.sum(axis=1)
    total = np.where(sensors.usable, sensors.value, 0.0).sum(axis=1)
    believed = _column(rows, "temperature_degc", np.full(m, constants.ambient_degc))
    temperature = np.where(count > 0, total / np.maximum(count, 1), believed)
    return CircuitState(
        v1_v=_column(rows, "v1_v", np.zeros(m)) * np.exp(-away_s / bank.tau1_s),
        v2_v=_column(rows, "v2_v", np.zeros(m)) * np.exp(-away_s / bank.tau2_s),
        hysteresis=_column(rows, "hysteresis", np.zeros(m)),
        core_degc=temperature,
        surface_degc=temperature.copy(),
        # what flowed while nobody watched, and before that
        unknown_v=np.hypot(
            _column(rows, "unknown_v", anything) * faded, np.where(known, anything * (1.0 - faded), 0.0)
        ),
    )


def _resistance(constants: Constants, rows: Sequence[SavedModule | None]) -> ResistanceState:
    shape = constants.mask.shape
    prior = np.broadcast_to(constants.prior_resistance_scale[:, None], shape)
    std = constants.tuning.resistance_prior_std_frac
    nothing = np.full(shape, np.nan)
    m = shape[0]
    return ResistanceState(
        scale=_grid_column(rows, "resistance_scale", prior),
        var=_grid_column(rows, "resistance_var", (std * prior) ** 2),
        ref_voltage_v=nothing,
        ref_drop_v=nothing.copy(),
        ref_slow_v=np.zeros(m),
        ref_ocv_v=nothing.copy(),
        ref_current_a=np.zeros(m),
        ref_age_s=np.full(m, np.inf),
    )


def _integrity(
    constants: Constants,
    circuit: CircuitState,
    resistance: ResistanceState,
    rows: Sequence[SavedModule | None],
    serials: tuple[str, ...],
) -> IntegrityState:
    """What was latched stays latched; the free-running observer starts where the sensors are."""
    mean = np.where(constants.mask, resistance.scale, 0.0).sum(axis=1) / constants.bank.n_cells
    fresh = IntegrityState.start(constants, circuit.core_degc, mean)
    cells = fresh.untrue_cells.copy()
    findings: list[Finding] = []
    for i, row in enumerate(rows):
        if row is not None:
            cells[i, list(row.untrue_cells)] = True
            findings += [Finding(serials[i], *f) for f in row.findings if f[1] not in ANOMALY_TESTS]
    return replace(
        fresh,
        ratio_scale=_column(rows, "ratio_scale", mean),
        ratio_var=_column(rows, "ratio_var", fresh.ratio_var),
        untrue=_column(rows, "untrue", np.zeros(mean.size)).astype(np.int64),
        untrue_cells=cells,
        findings=tuple(findings),
    )


def _trend(rows: Sequence[SavedModule | None], away_s: float) -> Trend:
    """The sums of every module's life, older by the time away."""
    fresh = Trend.start(len(rows))
    kept = [fresh.of(m) if row is None or not row.trend else row.trend for m, row in enumerate(rows)]
    columns = np.array(kept, dtype=np.float64).reshape(len(rows), len(Trend.__dataclass_fields__)).T
    known = np.array([row is not None for row in rows])
    trend = Trend(*(column.copy() for column in columns))
    return replace(trend, age_s=trend.age_s + np.where(known, away_s, 0.0))


def _anomaly(
    constants: Constants, rows: Sequence[SavedModule | None], serials: tuple[str, ...]
) -> AnomalyState:
    """What was found of cells stays found; drifts are measured anew."""
    kept = [
        Finding(serials[i], *f)
        for i, row in enumerate(rows)
        if row is not None
        for f in row.findings
        if f[1] in ANOMALY_TESTS
    ]
    m, c = constants.mask.shape
    return replace(AnomalyState.start((m, c)), findings=tuple(kept))


def _rest_voltage(
    constants: Constants, image: SiteImage, circuit: CircuitState, resistance: ResistanceState
) -> tuple[FloatArray, BoolArray]:
    """(M, C) open-circuit voltages at 25 degC as far as they can be known, NaN elsewhere; (M,) any known."""
    readings = image.modules
    whole = readings.voltage_v.value / constants.bank.n_cells
    cells = readings.cell_voltage_v
    cells_ok = cells.usable & (cells.value > 0.5)
    voltage = np.where(cells_ok, cells.value, np.where(readings.voltage_v.usable, whole, np.nan)[:, None])
    current = np.where(readings.current_a.usable, readings.current_a.value, 0.0)
    middle = constants.bank.at(np.full(constants.rated_ah.size, 0.5))
    drop = middle.r0_ohm * constants.bank.r0_factor(circuit.core_degc) * current
    warm = (circuit.core_degc - 25.0) * middle.entropy_v_per_k
    rest = voltage + resistance.scale * drop[:, None] - warm[:, None]
    rest -= (middle.hysteresis_v * circuit.hysteresis)[:, None]
    rest = np.where(constants.mask, rest, np.nan)
    heard: BoolArray = np.asarray(np.isfinite(rest).any(axis=1), dtype=np.bool_)
    return rest, heard


def _doubt_v(constants: Constants, image: SiteImage, left_v: FloatArray) -> FloatArray:
    """(M,) one sigma of what `_rest_voltage` leaves out: relaxation, hysteresis, drop under current."""
    tuning = constants.tuning
    current = image.modules.current_a
    amps = np.where(current.usable, np.abs(current.value), 0.1 * constants.rated_ah)
    middle = constants.bank.at(np.full(constants.rated_ah.size, 0.5))
    unknown = 0.8 * amps * (middle.r0_ohm + middle.r1_ohm + middle.r2_ohm) * constants.prior_resistance_scale
    unknown = np.where(amps > REST_CURRENT_C * constants.rated_ah, unknown, 0.0)
    doubt: FloatArray = np.sqrt(
        tuning.rest_relaxation_std_v**2 + (1.2 * middle.hysteresis_v) ** 2 + unknown**2 + left_v**2
    )
    return doubt


def _from_voltage(
    constants: Constants, rest_v: FloatArray, heard: BoolArray, doubt_v: FloatArray
) -> GroupState:
    """SOC of every group from its rest voltage by the likelihood over the SOC grid."""
    grid = soc_grid()
    inside = (grid >= -0.02) & (grid <= 1.02)
    nodes = grid[inside]
    error = constants.ocv_std_v
    sigma = np.hypot(error, doubt_v)
    mean = np.full(rest_v.shape, 0.5)
    std = np.full(rest_v.shape, constants.tuning.unknown_start_std_frac)
    bank = constants.bank
    for first in np.unique(bank.row):
        # one pass per cell model; the grid is shared by all its modules
        members = np.flatnonzero((bank.row == first) & heard)
        lost = 1.0 - constants.prior_capacity_ah[members] / constants.rated_ah[members]
        new, ageing = bank.table[first : first + SOC_NODES, 0], bank.table[first : first + SOC_NODES, 1]
        curve = new[inside] + lost[:, None] * ageing[inside]
        misfit = (rest_v[members][:, :, None] - curve[:, None, :]) / sigma[members][:, None, None]
        weight = np.exp(-0.5 * np.minimum(misfit, 60.0) ** 2 + 0.5 * (misfit**2).min(axis=2, keepdims=True))
        weight /= weight.sum(axis=2, keepdims=True)
        centre = weight @ nodes
        spread = np.sqrt(np.maximum(weight @ nodes**2 - centre**2, 0.003**2))
        known = np.isfinite(rest_v[members])
        mean[members] = np.where(known, centre, mean[members])
        std[members] = np.where(known, spread, std[members])
    return _assemble(constants, mean, std, sigma)


def _assemble(constants: Constants, mean: FloatArray, std: FloatArray, sigma_v: FloatArray) -> GroupState:
    """Joint state of charge, capacity and OCV error from an SOC that came from a voltage."""
    capacity = np.broadcast_to(constants.prior_capacity_ah[:, None], mean.shape).copy()
    var_q = np.broadcast_to(constants.prior_capacity_std_ah[:, None] ** 2, mean.shape).copy()
    middle = constants.bank.at(np.full(constants.rated_ah.size, 0.5))
    # nobody knows from which side the module came: all of the loop
    unknown = 1.2 * middle.hysteresis_v
    var_e = np.broadcast_to((constants.ocv_std_v**2 + unknown**2)[:, None], mean.shape).copy()
    # an SOC read off the curve errs with the curve: cov(z, e) = -var_e / slope, slope = sigma_v / std
    informed = 1.0 - np.minimum(std / constants.tuning.unknown_start_std_frac, 1.0) ** 2
    cov_ze = -informed * var_e * std / sigma_v[:, None]
    return GroupState(
        charge_ah=mean * capacity,
        capacity_ah=capacity,
        ocv_error_v=np.zeros(mean.shape),
        var_rr=(capacity * std) ** 2 + mean**2 * var_q,
        var_rq=mean * var_q,
        var_re=capacity * cov_ze,
        var_qq=var_q,
        var_qe=np.zeros(mean.shape),
        var_ee=var_e,
    )


def _from_saved(
    constants: Constants,
    fresh: GroupState,
    charge: ChargeState,
    rows: Sequence[SavedModule | None],
    away_s: float,
    image: SiteImage,
) -> GroupState:
    """Saved groups, moved by the counter where the node kept on counting, widened by the time away."""
    known = np.array([row is not None for row in rows])
    if not known.any():
        return fresh
    tuning = constants.tuning
    capacity = _grid_column(rows, "capacity_ah", fresh.capacity_ah)
    moved = _moved_while_away(charge, rows, away_s, image)
    away_frac = tuning.away_std_frac + tuning.self_discharge_frac_per_day * away_s / 86400.0
    widen = np.where(np.isnan(moved), 3.0 * away_frac, away_frac)[:, None] * capacity
    kept = GroupState(
        charge_ah=_grid_column(rows, "charge_ah", fresh.charge_ah) - np.nan_to_num(moved)[:, None],
        capacity_ah=capacity,
        ocv_error_v=np.zeros(capacity.shape),
        var_rr=_grid_column(rows, "var_rr", fresh.var_rr) + widen**2,
        var_rq=_grid_column(rows, "var_rq", fresh.var_rq),
        var_re=np.zeros(capacity.shape),
        var_qq=_grid_column(rows, "var_qq", fresh.var_qq),
        var_qe=np.zeros(capacity.shape),
        var_ee=fresh.var_ee,
    )
    vague = kept.soc_std_frac() > np.maximum(fresh.soc_std_frac(), SAVED_TRUST_STD_FRAC)
    vague |= ~known[:, None]
    names = GroupState.__dataclass_fields__
    return GroupState(**{n: np.where(vague, getattr(fresh, n), getattr(kept, n)) for n in names})


def _moved_while_away(
    charge: ChargeState, rows: Sequence[SavedModule | None], away_s: float, image: SiteImage
) -> FloatArray:
    """(M,) charge that left while nobody watched, NaN where the node started anew or did not answer."""
    before = np.array([np.nan if row is None or row.counter_ah is None else row.counter_ah for row in rows])
    up_before = np.array([0 if row is None else row.uptime_s for row in rows])
    ran_on = image.modules.uptime_s >= up_before + 0.9 * away_s - 5.0
    moved: FloatArray = np.where(ran_on, charge.counter_ah - before, np.nan)
    return moved
