"""Correction of groups whose SOC is so uncertain that no straight line stands for the OCV curve.

A Gaussian prior in SOC times the likelihood of the voltage on a grid of SOC nodes gives mean and deviation
(a point-mass filter in the one direction that the voltage sees; Bucy and Senne 1971, doi
10.1016/0005-1098(71)90121-X). Charge and capacity follow by regression on SOC; what the curve's own error
had in it stays as the covariance of SOC and error, so that the same voltage is not counted again. On a
plateau that covariance says little, as the voltage tells of the error at any SOC; there the deviation that
the voltage alone leaves is a floor to which the gain fades: read a thousand times, it says no more than once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.bank import CellBank
from reconf.cells.model import SOC_MIN, SOC_NODES, SOC_STEP
from reconf.estimation.memory import GroupState
from reconf.replacing import replace

FAR_STD_FRAC = 0.05
"""Above this SOC deviation a group is corrected here."""
SEEN_CORRELATION = 0.4
"""SOC and curve error correlated by more than this: the present voltage has been used already."""
NODES = 61
REACH_STD = 3.5
APART_STD = 0.5
"""A group further from its module's mean SOC, in deviations of its own, is corrected by itself."""
APART_SIGMA = 3.0
"""The same of its voltage, in deviations of noise and curve."""
SOC_LOW, SOC_HIGH = -0.03, 1.03


@dataclass(frozen=True, slots=True)
class Far:
    """Groups (K of them) that are corrected here, in parties that share one grid."""

    rows: IntArray
    """(K,) module of each."""
    columns: IntArray
    """(K,) group of each."""
    party: IntArray
    """(K,) number of the party of each: all groups of a module that are alike, or one that is not."""

    def mean(self, values: FloatArray) -> FloatArray:
        """(P,) mean of `values` (K,) over every party."""
        mean: FloatArray = np.bincount(self.party, values) / np.bincount(self.party)
        return mean


def choose(
    state: GroupState,
    std: FloatArray,
    use: BoolArray,
    voltage_v: FloatArray,
    var_v2: FloatArray,
    curve_std_v: FloatArray,
) -> Far:
    """Groups too uncertain for a straight line, in modules where the voltage of one has not been used yet.

    The groups of a module go together, by their mean: each on its own would follow the noise of its voltage,
    which on a plateau is several points of SOC, and groups apart look like a module with less capacity.
    """
    candidates = use & (std > FAR_STD_FRAC)
    if not candidates.any():
        none = np.zeros(0, dtype=np.intp)
        return Far(none, none, none)
    z = state.soc_frac
    cov = (state.var_re - z * state.var_qe) / state.capacity_ah
    seen = np.abs(cov) > SEEN_CORRELATION * std * np.sqrt(state.var_ee)
    goes = np.any(candidates & ~seen, axis=1, keepdims=True)
    rows, columns = np.nonzero(candidates & goes)
    at = (rows, columns)
    whole = Far(rows, columns, np.unique(rows, return_inverse=True)[1])
    level = voltage_v[at] - state.ocv_error_v[at]
    sigma = np.sqrt(np.maximum(state.var_ee[at], curve_std_v[rows] ** 2) + var_v2[at])
    off_z = np.abs(z[at] - whole.mean(z[at])[whole.party])
    off_v = np.abs(level - whole.mean(level)[whole.party])
    alone = (off_z > APART_STD * std[at]) | (off_v > APART_SIGMA * sigma)
    party = np.where(alone, rows.size + np.arange(rows.size), whole.party)
    return Far(rows, columns, np.unique(party, return_inverse=True)[1])


def correct(
    bank: CellBank,
    state: GroupState,
    far: Far,
    voltage_v: FloatArray,
    var_v2: FloatArray,
    curve_std_v: FloatArray,
    capacity_share: FloatArray,
) -> GroupState:
    """Use `voltage_v` (M, C, an OCV at 25 degC, new) with white variance `var_v2` for the groups in `far`.

    `curve_std_v` (M,) is how far that voltage and the curve may be apart besides, `capacity_share` (M, C) how
    much of the gain on capacity is used.
    """
    at, of = (far.rows, far.columns), far.party
    row = far.rows[np.unique(of, return_index=True)[1]]
    z, var_e = far.mean(state.soc_frac[at]), far.mean(state.var_ee[at])
    std = np.sqrt(far.mean(state.soc_std_frac()[at] ** 2))
    sigma_v = np.sqrt(np.maximum(var_e, curve_std_v[row] ** 2) + far.mean(var_v2[at]))
    low = np.maximum(z - REACH_STD * std, SOC_LOW)
    high = np.maximum(np.minimum(z + REACH_STD * std, SOC_HIGH), low + 0.01)
    nodes = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, NODES)
    curve = ocv_of_rows(bank, row, nodes)
    misfit = far.mean(voltage_v[at] - state.ocv_error_v[at])[:, None] - curve
    cost = (misfit / sigma_v[:, None]) ** 2
    alone = _spread(nodes, _weight(cost))
    weight = _weight(cost + ((nodes - z[:, None]) / std[:, None]) ** 2)
    centre = (weight * nodes).sum(axis=1)
    spread = np.minimum(_spread(nodes, weight), std)
    share = np.clip(1.0 - (alone / std) ** 2, 0.0, 1.0)
    error = var_e / sigma_v**2 * (weight * misfit).sum(axis=1)
    informed = 1.0 - (spread / std) ** 2
    correlation = -informed * np.sqrt(var_e) / sigma_v * spread / std
    less = share * (2.0 - share) * informed
    step = share * (centre - z)
    return _moved(state, at, step[of], less[of], correlation[of], error[of], capacity_share[at])


def _weight(cost: FloatArray) -> FloatArray:
    """(K, NODES) probability of every node."""
    weight = np.exp(-0.5 * (cost - cost.min(axis=1, keepdims=True)))
    normed: FloatArray = weight / weight.sum(axis=1, keepdims=True)
    return normed


def _spread(nodes: FloatArray, weight: FloatArray) -> FloatArray:
    """(K,) deviation of SOC."""
    centre = (weight * nodes).sum(axis=1, keepdims=True)
    spread: FloatArray = np.sqrt((weight * (nodes - centre) ** 2).sum(axis=1) + 1e-6)
    return spread


def _moved(
    state: GroupState,
    at: tuple[IntArray, IntArray],
    step: FloatArray,
    less: FloatArray,
    correlation: FloatArray,
    error_v: FloatArray,
    capacity_share: FloatArray,
) -> GroupState:
    """Move charge and capacity with SOC by regression, take the share `less` off the variance of SOC.

    `correlation` is that of SOC and the curve's error afterwards, before the variance shrank.
    """
    q, z = state.capacity_ah[at], state.soc_frac[at]
    std = state.soc_std_frac()[at]
    less, cov_ze = less * std**2, correlation * std * np.sqrt(state.var_ee[at])
    rr, rq, qq = state.var_rr[at], state.var_rq[at], state.var_qq[at]
    g_r = (rr - z * rq) / q / std**2
    g_q = (rq - z * qq) / q / std**2
    # with the capacity held, the charge follows the SOC
    k_q = capacity_share * g_q
    k_r = g_r - z * (g_q - k_q)

    def put(values: FloatArray, change: FloatArray) -> FloatArray:
        result = values.copy()
        result[at] = change
        return result

    return replace(
        state,
        charge_ah=put(state.charge_ah, state.charge_ah[at] + k_r * step),
        capacity_ah=put(state.capacity_ah, q + k_q * step),
        ocv_error_v=put(state.ocv_error_v, state.ocv_error_v[at] + error_v),
        var_rr=put(state.var_rr, rr - k_r * (2.0 * g_r - k_r) * less),
        var_rq=put(state.var_rq, rq - (k_r * g_q + k_q * (g_r - k_r)) * less),
        var_qq=put(state.var_qq, qq - k_q * (2.0 * g_q - k_q) * less),
        var_re=put(state.var_re, k_r * cov_ze),
        var_qe=put(state.var_qe, k_q * cov_ze),
    )


def ocv_of_rows(bank: CellBank, rows: IntArray, soc: FloatArray) -> FloatArray:
    """OCV at 25 degC, new, of the modules `rows` (K,) at `soc` (K, any)."""
    position = (soc - SOC_MIN) * (1.0 / SOC_STEP)
    index = np.clip(position, 0.0, SOC_NODES - 2.0).astype(np.intp)
    fraction = position - index
    index += bank.row[rows][:, None]
    column = bank.table[:, 0]
    below = column[index]
    value: FloatArray = below + fraction * (column[index + 1] - below)
    return value
