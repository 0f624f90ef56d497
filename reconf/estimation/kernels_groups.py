"""Compiled correction of the cell groups: the same steps as `reconf/estimation/groups.py`, group by group.

One pass over all groups instead of some eighty over arrays. Formulas, names and their sources stand in
`reconf.estimation.groups` and `reconf.estimation.far`. The state of a group is the nine numbers of
`GroupState` in their order: (r, Q, e) and its covariance.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.compiled import compiled, compiled_for
from reconf.estimation.far import (
    APART_SIGMA,
    APART_STD,
    FAR_STD_FRAC,
    NODES,
    REACH_STD,
    SEEN_CORRELATION,
    SOC_HIGH,
    SOC_LOW,
)
from reconf.estimation.kernels import TABLE, ocv_at
from reconf.estimation.tuning import CHARGE_REACH, OUT_OF_REACH, SOC_REACH

Group: TypeAlias = tuple[float, float, float, float, float, float, float, float, float]
Said: TypeAlias = tuple[float, float, float, float]
"""Step of SOC, share taken off its variance, its correlation with the curve's error, step of that error."""
LOST_SIGMAS, LOST_STD, CURVE_FLOOR, BOUND, SECANT, FLOOR, LEAST, MOST, CURVE_BOUND = range(9)
"""Places in `numbers`, the widening of a lost group for the whole tick."""


@compiled
def _clip(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))


@compiled
def _soc_var(x: Group) -> float:
    """Variance of SOC times capacity squared [Ah^2]."""
    z = x[0] / x[1]
    return max(x[3] - 2.0 * z * x[4] + z * z * x[6], 1e-12)


@compiled
def _seen(x: Group, std: float) -> bool:
    """The present voltage has been used already."""
    r, q, _, _, _, re, _, qe, ee = x
    seen: bool = abs((re - r / q * qe) / q) > SEEN_CORRELATION * std * np.sqrt(ee)
    return seen


@compiled
def _mean_and_spread(nodes: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Of SOC by weights, which are made probabilities."""
    weight /= weight.sum()
    centre = (weight * nodes).sum()
    return centre, np.sqrt((weight * (nodes - centre) ** 2).sum() + 1e-6)


@compiled
def _likelihood(
    z: float, std: float, sigma: float, voltage: float, table: FloatArray, row: int
) -> tuple[float, float, float, float]:
    """Mean and deviation of SOC, mean misfit, and the deviation that the voltage alone leaves."""
    nodes, misfit, cost = np.empty(NODES), np.empty(NODES), np.empty(NODES)
    low = max(z - REACH_STD * std, SOC_LOW)
    width = max(min(z + REACH_STD * std, SOC_HIGH), low + 0.01) - low
    for k in range(NODES):
        nodes[k] = low + width * (k / (NODES - 1.0))
        misfit[k] = voltage - ocv_at(table, row, nodes[k])
        cost[k] = (misfit[k] / sigma) ** 2
    _, alone = _mean_and_spread(nodes, np.exp(-0.5 * (cost - cost.min())))
    cost += ((nodes - z) / std) ** 2
    weight = np.exp(-0.5 * (cost - cost.min()))
    centre, spread = _mean_and_spread(nodes, weight)
    return centre, min(spread, std), (weight * misfit).sum(), alone


@compiled
def _party(
    state: FloatArray, m: int, of: BoolArray, voltage: FloatArray, var: FloatArray, var_z: FloatArray
) -> FloatArray:
    """Means over the groups `of` module `m`: SOC, its variance, voltage less e, white variance, that of e."""
    mean, count = np.zeros(5), 0
    for c in range(of.size):
        if of[c]:
            q = state[1, m, c]
            mean[0] += state[0, m, c] / q
            mean[1] += var_z[c] / (q * q)
            mean[2] += voltage[m, c] - state[2, m, c]
            mean[3] += var[m, c]
            mean[4] += state[8, m, c]
            count += 1
    return mean / count


@compiled
def _shared(party: FloatArray, curve_std: float, table: FloatArray, row: int) -> Said:
    """What one grid says to all groups of a party (`reconf.estimation.far.correct`)."""
    z, std, ee = party[0], np.sqrt(party[1]), party[4]
    sigma = np.sqrt(max(ee, curve_std**2) + party[3])
    centre, spread, missed, alone = _likelihood(z, std, sigma, party[2], table, row)
    share, informed = _clip(1.0 - (alone / std) ** 2, 0.0, 1.0), 1.0 - (spread / std) ** 2
    less = share * (2.0 - share) * informed
    return share * (centre - z), less, -informed * np.sqrt(ee) / sigma * spread / std, ee / sigma**2 * missed


@compiled
def _moved(x: Group, var_z: float, said: Said, share_q: float) -> Group:
    """`reconf.estimation.far._moved` of one group."""
    r, q, e, rr, rq, _, qq, _, ee = x
    step, less, correlation, error = said
    z, std2 = r / q, var_z / (q * q)
    less, cov_ze = less * std2, correlation * np.sqrt(std2 * ee)
    g_r = (rr - z * rq) / q / std2
    g_q = (rq - z * qq) / q / std2
    k_q = share_q * g_q
    k_r = g_r - z * (g_q - k_q)
    return (
        r + k_r * step,
        q + k_q * step,
        e + error,
        rr - k_r * (2.0 * g_r - k_r) * less,
        rq - (k_r * g_q + k_q * (g_r - k_r)) * less,
        k_r * cov_ze,
        qq - k_q * (2.0 * g_q - k_q) * less,
        k_q * cov_ze,
        ee,
    )


@compiled
def _correct_near(
    x: Group, use: bool, voltage: float, expected: float, slope: float, remainder: float, var: float,
    floor_v: float, error_share: float, share_q: float, bound: float, lost_sigmas: float,
) -> tuple[Group, bool]:  # fmt: skip
    """The gated Kalman step of one group, and whether its voltage contradicts all that is believed."""
    r, q, e, rr, rq, re, qq, qe, ee = x
    z = r / q
    h_r = slope / q
    h_q = -z * h_r
    p_r = rr * h_r + rq * h_q + re
    p_q = rq * h_r + qq * h_q + qe
    p_e = re * h_r + qe * h_q + ee
    residual = voltage - expected - e if use else 0.0
    variance = h_r * p_r + h_q * p_q + p_e + var + remainder
    size2 = residual * residual
    # roots and divisions are what takes the time here: none where no bound is passed
    bounded = np.sqrt(size2 * variance) / bound if size2 > bound * bound * variance else variance
    weight = 1.0 / bounded if use else 0.0
    step = weight * residual
    variance_z = rr - 2.0 * z * rq + z * z * qq
    floor = floor_v / max(slope, 1e-3) * q
    share = _clip(1.0 - floor**2 / max(variance_z, 1e-12), 0.0, 1.0)
    k_r, k_q, k_e = share * p_r, min(share_q, share) * p_q, error_share * p_e
    if p_r <= 0.0:
        odd = size2 > OUT_OF_REACH**2 * (var + ee)
        k_q = k_q if odd else 0.0
        k_r = share * max(p_r - z * p_q, 0.0) + z * k_q if odd else 0.0
    after = (
        r + k_r * step,
        q + k_q * step,
        e + k_e * step,
        rr - weight * k_r * (2.0 * p_r - k_r),
        rq - weight * (k_r * p_q + k_q * (p_r - k_r)),
        re - weight * (k_r * p_e + k_e * (p_r - k_r)),
        qq - weight * k_q * (2.0 * p_q - k_q),
        qe - weight * (k_q * p_e + k_e * (p_q - k_q)),
        ee - weight * k_e * (2.0 * p_e - k_e),
    )
    return after, size2 > lost_sigmas * lost_sigmas * variance


@compiled
def _search(x: Group, spread_frac: float) -> Group:
    """A group whose voltage contradicts all that is believed."""
    r, q, e, rr, _, _, qq, _, ee = x
    return r, q, e, rr + (spread_frac * q) ** 2, r / q * qq, 0.0, qq, 0.0, ee


@compiled
def _load(state: FloatArray, m: int, c: int) -> Group:
    return (
        state[0, m, c], state[1, m, c], state[2, m, c], state[3, m, c], state[4, m, c], state[5, m, c],
        state[6, m, c], state[7, m, c], state[8, m, c],
    )  # fmt: skip


@compiled
def _store(state: FloatArray, m: int, c: int, x: Group) -> None:
    state[0, m, c], state[1, m, c], state[2, m, c], state[3, m, c], state[4, m, c] = (
        x[0],
        x[1],
        x[2],
        x[3],
        x[4],
    )
    state[5, m, c], state[6, m, c], state[7, m, c], state[8, m, c] = x[5], x[6], x[7], x[8]


@compiled
def _bounded(x: Group, low: float, high: float, error: float) -> Group:
    """Physical bounds of one group, variances positive."""
    r, q, e, rr, rq, re, qq, qe, ee = x
    q = _clip(q, low, high)
    r = _clip(r, CHARGE_REACH[0] * q, CHARGE_REACH[1] * q)
    return r, q, _clip(e, -error, error), max(rr, 1e-10), rq, re, max(qq, 1e-10), qe, max(ee, 1e-12)


@compiled
def _linearise(
    z: float, std: float, expected: float, slope: float, table: FloatArray, row: int
) -> tuple[float, float, float]:
    """Expected OCV, slope and variance of the remainder across one sigma."""
    span = min(std, FAR_STD_FRAC)
    low, high = _clip(z - span, *SOC_REACH), _clip(z + span, *SOC_REACH)
    u_low, u_high = ocv_at(table, row, low), ocv_at(table, row, high)
    secant = (u_high - u_low) / (high - low) if high - low > 1e-6 else slope
    bend = 0.25 * (u_low + u_high) - 0.5 * expected - secant * (0.25 * (low + high) - 0.5 * z)
    return expected + bend, secant, bend * bend


@compiled
def _linearise_all(
    state: FloatArray, m: int, var_z: FloatArray, line: FloatArray, table: FloatArray, row: int
) -> None:
    """Lines across one sigma of all groups of module `m` into `line` (3, C)."""
    for c in range(var_z.size):
        q = state[1, m, c]
        line[0, c], line[1, c], line[2, c] = _linearise(
            state[0, m, c] / q, np.sqrt(var_z[c]) / q, line[0, c], line[1, c], table, row
        )


@compiled
def _split(
    state: FloatArray, m: int, voltage: FloatArray, var: FloatArray, var_z: FloatArray, far: BoolArray,
    curve_std: float,
) -> BoolArray:  # fmt: skip
    """Those of the groups `far` of module `m` that are not like the others."""
    mean = _party(state, m, far, voltage, var, var_z)
    alone = np.zeros(far.size, dtype=np.bool_)
    for c in range(far.size):
        if far[c]:
            q, level = state[1, m, c], voltage[m, c] - state[2, m, c]
            sigma = np.sqrt(max(state[8, m, c], curve_std**2) + var[m, c])
            alone[c] = abs(state[0, m, c] / q - mean[0]) > APART_STD * np.sqrt(var_z[c]) / q
            alone[c] |= abs(level - mean[2]) > APART_SIGMA * sigma
    return alone


@compiled
def _correct_far_ones(
    state: FloatArray, m: int, voltage: FloatArray, var: FloatArray, var_z: FloatArray, share_q: FloatArray,
    near: BoolArray, curve_std: float, table: FloatArray, row: int, secant_std: float,
) -> bool:  # fmt: skip
    """Groups of module `m` that are far off, in place; whether one is left that asks for a secant."""
    far, unseen = np.zeros(var_z.size, dtype=np.bool_), False
    for c in range(var_z.size):
        x = _load(state, m, c)
        std = np.sqrt(var_z[c]) / x[1]
        if near[c] and std > FAR_STD_FRAC:
            far[c] = True
            unseen |= not _seen(x, std)
    if unseen:
        alone = _split(state, m, voltage, var, var_z, far, curve_std)
        alike = far & ~alone
        said = (0.0, 0.0, 0.0, 0.0)
        if alike.any():
            said = _shared(_party(state, m, alike, voltage, var, var_z), curve_std, table, row)
        for c in range(var_z.size):
            if not far[c]:
                continue
            own = said
            if alone[c]:
                one = _party(state, m, np.arange(far.size) == c, voltage, var, var_z)
                own = _shared(one, curve_std, table, row)
            x = _moved(_load(state, m, c), var_z[c], own, share_q[c])
            _store(state, m, c, x)
            var_z[c], near[c] = _soc_var(x), False
    wide = False
    for c in range(var_z.size):
        wide |= near[c] and var_z[c] > (secant_std * state[1, m, c]) ** 2
    return wide


_GRID, _ROW = "f8[:,::1]", "f8[::1]"


@compiled_for("f8[:,:,::1]", *4 * [_GRID], "b1[:,::1]", *4 * [_ROW], "i8[::1]", TABLE, _ROW)
def correct(
    state: FloatArray, ocv: FloatArray, slope: FloatArray, voltage: FloatArray, var: FloatArray,
    use: BoolArray, curve_std: FloatArray, error_share: FloatArray, floor_frac: FloatArray,
    rated: FloatArray, row: IntArray, table: FloatArray, n: FloatArray,
) -> None:  # fmt: skip
    """Correct the groups in `state` (9, M, C) by their voltages, in place.

    Args:
        state: fields of `GroupState` in their order.
        ocv: (M, C) of the new cell at 25 degC.
        slope: (M, C) its dU/dz.
        voltage: (M, C) as in `Measurement`, like the next five.
        var: (M, C)
        use: (M, C)
        curve_std: (M,)
        error_share: (M,)
        floor_frac: (M,)
        rated: (M,) capacity when new [Ah].
        row: (M,) where a module's cell model begins in `table`.
        table: of the bank.
        n: numbers of the tuning, see above.
    """
    modules, groups = ocv.shape
    var_z, share_q, near = np.empty(groups), np.empty(groups), np.empty(groups, dtype=np.bool_)
    line = np.empty((3, groups))
    for m in range(modules):
        far, wide = False, False
        for c in range(groups):
            x = _load(state, m, c)
            var_z[c], near[c] = _soc_var(x), use[m, c]
            floor = n[FLOOR] * floor_frac[m] * x[1]
            share_q[c] = _clip(1.0 - floor * floor / x[6], 0.0, 1.0)
            far |= near[c] and var_z[c] > (FAR_STD_FRAC * x[1]) ** 2
            wide |= near[c] and var_z[c] > (n[SECANT] * x[1]) ** 2
            line[0, c], line[1, c], line[2, c] = ocv[m, c], slope[m, c], 0.0
        # rare, and so kept out of the loops that run always
        if far:
            wide = _correct_far_ones(
                state,
                m,
                voltage,
                var,
                var_z,
                share_q,
                near,
                curve_std[m],
                table,
                row[m],
                n[SECANT],
            )
        if wide:
            _linearise_all(state, m, var_z, line, table, row[m])
        for c in range(groups):
            x, lost = _correct_near(
                _load(state, m, c), near[c], voltage[m, c], line[0, c], line[1, c], line[2, c], var[m, c],
                n[CURVE_FLOOR] * curve_std[m], error_share[m], share_q[c], n[BOUND], n[LOST_SIGMAS],
            )  # fmt: skip
            if lost:
                x = _search(x, n[LOST_STD])
            x = _bounded(x, n[LEAST] * rated[m], n[MOST] * rated[m], n[CURVE_BOUND] * curve_std[m])
            _store(state, m, c, x)
