"""The state filter of the cell groups: charge, capacity and OCV error of every group, M x C at once.

State x = (r, Q, e): charge above empty [Ah], capacity [Ah], slowly varying error of the OCV curve [V].
Charge moved is common to all groups in series, so prediction is r -= dq. The measurement of a group is

    v + rho * drop = U(r/Q) + (T - 25) U_T + M h + e + white noise,   H = (U'/Q, -z U'/Q, 1)

an extended Kalman filter in the sense of Plett, J. Power Sources 134 (2004) 277, doi
10.1016/j.jpowsour.2004.02.033. What differs, and why:

* *charge and capacity together*: two well-known SOC points fix the capacity through their covariance,
  and near empty, where z is small, the knee fixes the remaining charge whatever the capacity;
* *the curve's own error is a state* (consider-type, first order in SOC): a thousand readings on one
  spot of the curve count as one, so a plateau can never talk the filter into false certainty;
* *slope across one sigma* instead of the tangent where the SOC is poorly known (statistical
  linearisation in the one direction that the measurement sees; Lefebvre et al. 2002, doi
  10.1109/TAC.2002.800742), its non-linear remainder counted as noise;
* *far off*, above 5 points of SOC, a grid takes the place of the line (`reconf.estimation.far`);
* *gated corrections*: what the curve's error leaves open, sigma_e / U', is a floor that no number of
  readings passes; below it the gain on charge and capacity fades to nothing (Schmidt-type), so that on
  a plateau the filter is a coulomb counter and never makes things worse;
* *capacity only from charge that travelled*: its gain fades to nothing at the deviation that the ends of
  the charge visited lately allow (`reconf.estimation.span`), so that a rest or a thousand small cycles
  leave it alone;
* *lost and found*: a voltage far outside all that is believed widens the SOC until the grid finds it;
* *bounded innovations* (Huber): a wild reading moves the state no more than a 3 sigma one.

Two engines with one interface: compiled loops (`reconf.estimation.kernels_groups`), and numpy where they
cannot be had; tests hold them against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray
from reconf.cells.bank import BankPoint
from reconf.estimation import far
from reconf.estimation.constants import Constants
from reconf.estimation.memory import GroupState, ResistanceState
from reconf.estimation.tuning import CHARGE_REACH, OUT_OF_REACH, SOC_REACH
from reconf.replacing import replace


@dataclass(frozen=True, slots=True)
class Measurement:
    """Cell voltages ready for the filter."""

    voltage_v: FloatArray
    """(M, C) terminal voltage with the modelled polarisation and hysteresis put back: an OCV at 25 degC."""
    var_v2: FloatArray
    """(M, C) its white variance."""
    use: BoolArray
    """(M, C)"""
    curve_std_v: FloatArray
    """(M,) how far the OCV curve itself may be wrong, with hysteresis and what fades since before a start."""
    error_share: FloatArray
    """(M,) how much of a misfit may be told to the curve: what still fades must leave no trace there."""
    capacity_floor_frac: FloatArray
    """(M,) relative deviation of capacity that the charge visited allows (`reconf.estimation.span`)."""


def predict(
    constants: Constants,
    state: GroupState,
    charge_ah: FloatArray,
    charge_std_ah: FloatArray,
    ocv_std_v: FloatArray,
    dt_s: float,
) -> GroupState:
    """Move `charge_ah` (M,) out of every group; widen by what is not known of it.

    Args:
        constants: of the site.
        state: before.
        charge_ah: (M,) out of the cells.
        charge_std_ah: (M,) doubt about it.
        ocv_std_v: (M,) stationary deviation of the OCV error.
        dt_s: for self-discharge.
    """
    tuning = constants.tuning
    capacity = constants.prior_capacity_ah
    bank = constants.bank
    stored = np.where(charge_ah < 0.0, bank.coulombic_efficiency_frac, 1.0) * charge_ah
    share = np.abs(charge_ah) / capacity
    keep = np.exp(-share / tuning.ocv_error_soc_reach - dt_s / tuning.ocv_error_memory_s)
    gain_var = tuning.current_gain_std_frac**2 * capacity * np.abs(charge_ah)
    leak_var = (tuning.leakage_std_c * constants.rated_ah / 3600.0) ** 2 * 3600.0 * dt_s
    grow_r = gain_var + leak_var + charge_std_ah**2
    grow_q = (tuning.capacity_drift_frac * capacity) ** 2 * share
    white_e = (1.0 - keep * keep) * (ocv_std_v * ocv_std_v)
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        block = state.stacked()
        kernels_module.predict(block, stored, grow_r, grow_q, keep, white_e)
        return GroupState(*block)
    keep = keep[:, None]
    return GroupState(
        charge_ah=state.charge_ah - stored[:, None],
        capacity_ah=state.capacity_ah,
        ocv_error_v=keep * state.ocv_error_v,
        var_rr=state.var_rr + grow_r[:, None],
        var_rq=state.var_rq,
        var_re=keep * state.var_re,
        var_qq=state.var_qq + grow_q[:, None],
        var_qe=keep * state.var_qe,
        var_ee=keep * keep * state.var_ee + white_e[:, None],
    )


def unloaded(
    constants: Constants,
    rho: ResistanceState,
    point: BankPoint,
    voltage_v: FloatArray,
    voltage_std_v: FloatArray,
    shift_v: FloatArray,
    drop_v: FloatArray,
    jump_a: FloatArray,
    dt_s: float,
) -> FloatArray:
    """(2, M, C) voltages without load, new, at 25 degC, and their white variance.

    Args:
        constants: of the site.
        rho: resistance of the groups.
        point: (M, C) curves.
        voltage_v: (M, C) measured.
        voltage_std_v: (M, C) its noise.
        shift_v: (M, C) what temperature, age and hysteresis add to the OCV.
        drop_v: (M, C) modelled polarisation at scale 1.
        jump_a: (M,) by how much voltage and current may be apart, times the factor of temperature on R0.
        dt_s: since the last tick.
    """
    tuning = constants.tuning
    persistence = max(1.0, tuning.polarisation_error_reach_s / dt_s)
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        put = np.ascontiguousarray
        found: FloatArray = kernels_module.unloaded(
            put(voltage_v), put(voltage_std_v), put(shift_v), put(drop_v), put(rho.scale), put(rho.var),
            put(point.r0_ohm), jump_a, tuning.polarisation_error_frac, persistence,
        )  # fmt: skip
        return found
    model = rho.var + (tuning.polarisation_error_frac * rho.scale) ** 2
    apart = rho.scale * point.r0_ohm * jump_a[:, None]
    variance = voltage_std_v**2 + model * drop_v * drop_v * persistence + apart * apart
    return np.stack([voltage_v + rho.scale * drop_v - shift_v, variance])


def correct(
    constants: Constants, state: GroupState, point: BankPoint, measurement: Measurement, dt_s: float
) -> GroupState:
    """Use the voltages, by the engine that `constants` name."""
    step = _correct_compiled if constants.engine == "compiled" else correct_numpy
    return step(constants, state, point, measurement, dt_s)


def _correct_compiled(
    constants: Constants, state: GroupState, point: BankPoint, measurement: Measurement, dt_s: float
) -> GroupState:
    """`correct_numpy` in one pass (`reconf.estimation.kernels_groups`)."""
    from reconf.estimation import kernels_groups

    tuning = constants.tuning
    numbers = {
        kernels_groups.LOST_SIGMAS: tuning.lost_sigmas,
        kernels_groups.LOST_STD: tuning.lost_std_frac_per_s * np.sqrt(dt_s),
        kernels_groups.CURVE_FLOOR: tuning.curve_floor,
        kernels_groups.BOUND: tuning.innovation_bound,
        kernels_groups.SECANT: tuning.secant_std_frac,
        kernels_groups.FLOOR: tuning.capacity_floor,
        kernels_groups.LEAST: tuning.capacity_bounds_frac[0],
        kernels_groups.MOST: tuning.capacity_bounds_frac[1],
        kernels_groups.CURVE_BOUND: tuning.curve_bound,
    }
    after = state.stacked()
    kernels_groups.correct(
        after,
        np.ascontiguousarray(point.ocv_v),
        np.ascontiguousarray(point.slope_v),
        np.ascontiguousarray(measurement.voltage_v),
        np.ascontiguousarray(measurement.var_v2),
        np.ascontiguousarray(measurement.use),
        measurement.curve_std_v,
        measurement.error_share,
        measurement.capacity_floor_frac,
        constants.rated_ah,
        constants.bank.row,
        constants.bank.table,
        np.array([numbers[k] for k in range(len(numbers))]),
    )
    return GroupState(*after)


def correct_numpy(
    constants: Constants, state: GroupState, point: BankPoint, measurement: Measurement, dt_s: float
) -> GroupState:
    """Use the voltages, all groups at once."""
    std = state.soc_std_frac()
    share_q = _capacity_share(constants, state, measurement)
    given = (measurement.voltage_v, measurement.var_v2, measurement.curve_std_v)
    unsure = far.choose(state, std, measurement.use, *given)
    use = measurement.use
    if unsure.rows.size:
        use = use.copy()
        use[unsure.rows, unsure.columns] = False
        state = far.correct(constants.bank, state, unsure, *given, share_q)
        std = state.soc_std_frac()
    expected, slope, remainder = _linearise(constants, state, point, std, use)
    z = state.soc_frac
    h_r = slope / state.capacity_ah
    h_q = -z * h_r
    p_r = state.var_rr * h_r + state.var_rq * h_q + state.var_re
    p_q = state.var_rq * h_r + state.var_qq * h_q + state.var_qe
    p_e = state.var_re * h_r + state.var_qe * h_q + state.var_ee
    residual = np.where(use, measurement.voltage_v - expected - state.ocv_error_v, 0.0)
    variance = h_r * p_r + h_q * p_q + p_e + measurement.var_v2 + remainder
    size, root = np.abs(residual), np.sqrt(variance)
    lost = size > constants.tuning.lost_sigmas * root
    bound = constants.tuning.innovation_bound
    # a bounded innovation is the same as a larger variance: gain and covariance stay consistent
    variance = np.maximum(variance, size * root / bound)
    weight = np.where(use, 1.0 / variance, 0.0)
    step = weight * residual
    # gate: the curve's error repeats at every visit, so its floor cannot be averaged away
    variance_z = state.var_rr - 2.0 * z * state.var_rq + z * z * state.var_qq
    floor = constants.tuning.curve_floor * measurement.curve_std_v[:, None] / np.maximum(slope, 1e-3)
    share = np.clip(1.0 - (floor * state.capacity_ah) ** 2 / np.maximum(variance_z, 1e-12), 0.0, 1.0)
    k_q = np.minimum(share_q, share) * p_q
    # where the curve's error or a capacity that is held explain a voltage so well that charge would move
    # against it, both stay; unless neither can explain it, then the SOC follows the voltage
    against = p_r <= 0.0
    if against.any():
        odd = residual * residual > OUT_OF_REACH**2 * (measurement.var_v2 + state.var_ee)
        follows = np.where(odd, share * np.maximum(p_r - z * p_q, 0.0), 0.0)
        k_q = np.where(against & ~odd, 0.0, k_q)
        k_r = np.where(against, follows + z * k_q, share * p_r)
    else:
        k_r = share * p_r
    k_e = measurement.error_share[:, None] * p_e
    # any gain K = k / S: P - K p' - p K' + K S K' (Joseph), so that a gate never claims what it did not use
    after = GroupState(
        charge_ah=state.charge_ah + k_r * step,
        capacity_ah=state.capacity_ah + k_q * step,
        ocv_error_v=state.ocv_error_v + k_e * step,
        var_rr=state.var_rr - weight * k_r * (2.0 * p_r - k_r),
        var_rq=state.var_rq - weight * (k_r * p_q + k_q * (p_r - k_r)),
        var_re=state.var_re - weight * (k_r * p_e + k_e * (p_r - k_r)),
        var_qq=state.var_qq - weight * k_q * (2.0 * p_q - k_q),
        var_qe=state.var_qe - weight * (k_q * p_e + k_e * (p_q - k_q)),
        var_ee=state.var_ee - weight * k_e * (2.0 * p_e - k_e),
    )
    if lost.any():
        after = _search(constants, after, lost, dt_s)
    return _bounded(constants, after, measurement.curve_std_v)


def _search(constants: Constants, state: GroupState, lost: BoolArray, dt_s: float) -> GroupState:
    """Groups whose voltage contradicts all that is believed: widen SOC until the grid finds it again."""
    spread = constants.tuning.lost_std_frac_per_s * state.capacity_ah * np.sqrt(dt_s)
    z = state.soc_frac
    return replace(
        state,
        var_rr=np.where(lost, state.var_rr + spread * spread, state.var_rr),
        var_rq=np.where(lost, z * state.var_qq, state.var_rq),
        var_re=np.where(lost, 0.0, state.var_re),
        var_qe=np.where(lost, 0.0, state.var_qe),
    )


def _capacity_share(constants: Constants, state: GroupState, measurement: Measurement) -> FloatArray:
    """(M, C) how much of the gain on capacity is used: none below the floor of the visited charge."""
    floor = constants.tuning.capacity_floor * measurement.capacity_floor_frac[:, None] * state.capacity_ah
    share: FloatArray = np.clip(1.0 - floor * floor / state.var_qq, 0.0, 1.0)
    return share


def _linearise(
    constants: Constants, state: GroupState, point: BankPoint, std: FloatArray, use: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expected OCV, slope per unit SOC and variance of the non-linear remainder, each (M, C)."""
    expected, slope = point.ocv_v, point.slope_v
    remainder = np.zeros_like(expected)
    rows = np.flatnonzero(((std > constants.tuning.secant_std_frac) & use).any(axis=1))
    if rows.size:
        expected, slope = expected.copy(), slope.copy()
        z = state.soc_frac[rows]
        span = np.minimum(std[rows], far.FAR_STD_FRAC)
        low = np.clip(z - span, *SOC_REACH)
        high = np.clip(z + span, *SOC_REACH)
        wide = high - low > 1e-6
        u_low = far.ocv_of_rows(constants.bank, rows, low)
        u_high = far.ocv_of_rows(constants.bank, rows, high)
        secant = np.divide(u_high - u_low, high - low, out=slope[rows].copy(), where=wide)
        # three-point rule over z - s, z, z + s with weights 1/4, 1/2, 1/4
        bend = 0.25 * (u_low + u_high) - 0.5 * expected[rows] - secant * (0.25 * (low + high) - 0.5 * z)
        remainder[rows] = bend * bend
        expected[rows] += bend
        slope[rows] = secant
    return expected, slope, remainder


def _bounded(constants: Constants, state: GroupState, curve_std_v: FloatArray) -> GroupState:
    """Capacity, charge and curve error inside their physical bounds, variances positive (rounding only)."""
    tuning = constants.tuning
    low, high = (b * constants.rated_ah[:, None] for b in tuning.capacity_bounds_frac)
    capacity = np.minimum(np.maximum(state.capacity_ah, low), high)
    error = (tuning.curve_bound * curve_std_v)[:, None]
    least, most = CHARGE_REACH
    return GroupState(
        charge_ah=np.minimum(np.maximum(state.charge_ah, least * capacity), most * capacity),
        capacity_ah=capacity,
        ocv_error_v=np.minimum(np.maximum(state.ocv_error_v, -error), error),
        var_rr=np.maximum(state.var_rr, 1e-10),
        var_rq=state.var_rq,
        var_re=state.var_re,
        var_qq=np.maximum(state.var_qq, 1e-10),
        var_qe=state.var_qe,
        var_ee=np.maximum(state.var_ee, 1e-12),
    )
