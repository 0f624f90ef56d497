"""The first state: rest voltage where there is one, what was saved, and the time that passed between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reconf.estimation.anomaly import ANOMALY_TESTS
from reconf.estimation.charge import BIAS_DRIFT_C
from reconf.estimation.constants import Constants, constants_of
from reconf.estimation.health import Trend
from reconf.estimation.integrity_state import IntegrityState, Pair
from reconf.estimation.memory import (
    AnomalyState,
    ChargeState,
    CircuitState,
    FilterState,
    ResistanceState,
    SavedModule,
)
from reconf.estimation.rest import doubt_v, from_voltage, rest_voltage
from reconf.estimation.resume import column, from_saved, grid_column
from reconf.estimation.span import Span
from reconf.estimation.state import Finding
from reconf.readings import SiteImage
from reconf.replacing import replace
from reconf.site import Site


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
    voltage, heard = rest_voltage(constants, image, circuit, resistance)
    left = constants.prior_resistance_scale * circuit.unknown_v
    groups = from_voltage(constants, voltage, heard, doubt_v(constants, image, left))
    groups = from_saved(constants, groups, charge, rows, away_s, image)
    return FilterState(
        constants=constants,
        serials=serials,
        time_s=image.time_s,
        groups=groups,
        span=Span(
            column(rows, "below_ah", np.zeros(len(serials))),
            column(rows, "above_ah", np.zeros(len(serials))),
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


def _charge(
    constants: Constants, image: SiteImage, rows: Sequence[SavedModule | None], away_s: float
) -> ChargeState:
    tuning = constants.tuning
    m = constants.rated_ah.size
    zero = np.zeros(m)
    readings = image.modules
    load = tuning.load_prior_c * constants.rated_ah
    counter = np.where(readings.charge_counter_ah.usable, readings.charge_counter_ah.value, np.nan)
    bias_var = column(rows, "bias_var", (tuning.current_bias_std_c * constants.rated_ah) ** 2)
    return ChargeState(
        current_a=np.where(readings.current_a.usable, readings.current_a.value, 0.0),
        bias_a=column(rows, "bias_a", zero),
        bias_var=bias_var + (BIAS_DRIFT_C * constants.rated_ah) ** 2 * away_s / 3600.0,
        gain_frac=column(rows, "gain_frac", zero),
        gain_var=column(rows, "gain_var", np.full(m, tuning.current_gain_std_frac**2)),
        counter_ah=counter,
        counted_ah=zero,
        counted_s=zero,
        uptime_s=readings.uptime_s,
        insert_count=readings.insert_count,
        quiet_s=zero,
        load_a=column(rows, "load_a", load),
        load_mean_a=column(rows, "load_mean_a", load),
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
    believed = column(rows, "temperature_degc", np.full(m, constants.ambient_degc))
    temperature = np.where(count > 0, total / np.maximum(count, 1), believed)
    return CircuitState(
        v1_v=column(rows, "v1_v", np.zeros(m)) * np.exp(-away_s / bank.tau1_s),
        v2_v=column(rows, "v2_v", np.zeros(m)) * np.exp(-away_s / bank.tau2_s),
        hysteresis=column(rows, "hysteresis", np.zeros(m)),
        core_degc=temperature,
        surface_degc=temperature.copy(),
        # what flowed while nobody watched, and before that
        unknown_v=np.hypot(
            column(rows, "unknown_v", anything) * faded, np.where(known, anything * (1.0 - faded), 0.0)
        ),
    )


def _resistance(constants: Constants, rows: Sequence[SavedModule | None]) -> ResistanceState:
    shape = constants.mask.shape
    prior = np.broadcast_to(constants.prior_resistance_scale[:, None], shape)
    std = constants.tuning.resistance_prior_std_frac
    nothing = np.full(shape, np.nan)
    m = shape[0]
    return ResistanceState(
        scale=grid_column(rows, "resistance_scale", prior),
        var=grid_column(rows, "resistance_var", (std * prior) ** 2),
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
    kept = [fresh.pair.of(i) if row is None or not row.pair else row.pair for i, row in enumerate(rows)]
    return replace(
        fresh,
        pair=Pair(*np.array(kept, dtype=np.float64).reshape(len(rows), 4).T.copy()),
        ratio_scale=column(rows, "ratio_scale", mean),
        ratio_var=column(rows, "ratio_var", fresh.ratio_var),
        untrue=column(rows, "untrue", np.zeros(mean.size)).astype(np.int64),
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
