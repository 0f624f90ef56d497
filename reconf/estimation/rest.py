"""SOC from the rest voltage of a start.

The voltage is turned into an SOC by the whole likelihood over the SOC grid, not by the inverse of the
curve: mean and deviation are then right on a plateau too, where the inverse is not.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.model import SOC_NODES, soc_grid
from reconf.estimation.constants import Constants
from reconf.estimation.memory import CircuitState, GroupState, ResistanceState
from reconf.readings import SiteImage

REST_CURRENT_C = 0.02
"""Below this C-rate a module counts as at rest when the control starts."""


def rest_voltage(
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


def doubt_v(constants: Constants, image: SiteImage, left_v: FloatArray) -> FloatArray:
    """(M,) one sigma of what `rest_voltage` leaves out: relaxation, hysteresis, drop under current."""
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


def from_voltage(
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
