"""Compiled loops over the groups of each module: prediction, what decides the reach, sums for the report.

Same steps as their namesakes in numpy, named in each docstring; a test holds the two against each other. The
module compiles when it is imported (`reconf.estimation.constants.constants_of`), never within a tick.
"""

from __future__ import annotations

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.cells.model import CURVES, SOC_STEP
from reconf.compiled import compiled_for
from reconf.estimation.kernels import TABLE, soc_node

_N = len(CURVES)
_OCV, _ENTROPY, _R0, _R1, _R2, _HYSTERESIS = (
    CURVES.index(name)
    for name in ("ocv_v", "entropy_v_per_k", "r0_ohm_ah", "r1_ohm_ah", "r2_ohm_ah", "hysteresis_v")
)
_BLOCK, _GRID, _ROW, _INDEX = "f8[:,:,::1]", "f8[:,::1]", "f8[::1]", "i8[::1]"
_MASK = "Array(b1, 2, 'C', readonly=True)"


@compiled_for(_BLOCK, _ROW, _ROW, _ROW, _ROW, _ROW)
def predict(
    state: FloatArray,
    stored_ah: FloatArray,
    grow_rr: FloatArray,
    grow_qq: FloatArray,
    keep: FloatArray,
    white_ee: FloatArray,
) -> None:
    """`groups.predict` of `state` (9, M, C; fields of `GroupState` in order), in place; the rest (M,)."""
    _, modules, groups = state.shape
    for m in range(modules):
        k = keep[m]
        for c in range(groups):
            state[0, m, c] -= stored_ah[m]
            state[2, m, c] *= k
            state[3, m, c] += grow_rr[m]
            state[5, m, c] *= k
            state[6, m, c] += grow_qq[m]
            state[7, m, c] *= k
            state[8, m, c] = k * k * state[8, m, c] + white_ee[m]


@compiled_for(*7 * [_GRID], _ROW, "f8", "f8")
def unloaded(
    voltage: FloatArray, std: FloatArray, shift: FloatArray, drop: FloatArray, scale: FloatArray,
    var: FloatArray, r0: FloatArray, jump: FloatArray, error_frac: float, persistence: float,
) -> FloatArray:  # fmt: skip
    """`groups.unloaded`, (2, M, C)."""
    modules, groups = voltage.shape
    out = np.empty((2, modules, groups))
    for m in range(modules):
        for c in range(groups):
            d, s = drop[m, c], scale[m, c]
            model, apart = var[m, c] + (error_frac * s) ** 2, s * r0[m, c] * jump[m]
            out[0, m, c] = voltage[m, c] + s * d - shift[m, c]
            out[1, m, c] = std[m, c] ** 2 + model * d * d * persistence + apart * apart
    return out


@compiled_for(_GRID, _GRID, _MASK)
def ends(charge_ah: FloatArray, capacity_ah: FloatArray, mask: BoolArray) -> IntArray:
    """(2, M) group with the least charge and group with the least room, as in `remaining.reach`."""
    modules, groups = charge_ah.shape
    found = np.zeros((2, modules), dtype=np.int64)
    for m in range(modules):
        least, tightest = np.inf, np.inf
        for c in range(groups):
            if mask[m, c]:
                charge, room = charge_ah[m, c], capacity_ah[m, c] - charge_ah[m, c]
                if charge < least:
                    least, found[0, m] = charge, c
                if room < tightest:
                    tightest, found[1, m] = room, c
    return found


@compiled_for(_ROW, _ROW, _ROW, _ROW, _ROW, _ROW, _INDEX, TABLE, _ROW, "i8", "f8", "f8")
def improve_cut(
    cut: FloatArray, scale: FloatArray, load_r0: FloatArray, load_rc: FloatArray, warm_k: FloatArray,
    least_v: FloatArray, row: IntArray, table: FloatArray, rated_ah: FloatArray, passes: int, low: float,
    high: float,
) -> FloatArray:  # fmt: skip
    """`remaining.improved_cut`: (M,) SOC at cut-off. `load_r0` and `load_rc` are loads times factors."""
    out = cut.copy()
    for m in range(cut.size):
        per_ah, z = 1.0 / rated_ah[m], cut[m]
        for _ in range(passes):
            node, f = soc_node(z)
            at = table[row[m] + node]
            r0 = (at[_R0] + f * at[_N + _R0]) * per_ah
            rc = (at[_R1] + f * at[_N + _R1]) * per_ah + (at[_R2] + f * at[_N + _R2]) * per_ah
            drop = scale[m] * (r0 * load_r0[m] + rc * load_rc[m])
            ocv = at[_OCV] + f * at[_N + _OCV]
            entropy = at[_ENTROPY] + f * at[_N + _ENTROPY]
            width = at[_HYSTERESIS] + f * at[_N + _HYSTERESIS]
            terminal = ocv + warm_k[m] * entropy - width - drop
            step = (least_v[m] - terminal) / (at[_N + _OCV] * (1.0 / SOC_STEP))
            z = max(low, min(z + 0.8 * max(-0.03, min(step, 0.03)), high))
        out[m] = z
    return out


@compiled_for(*9 * [_GRID], _MASK, *2 * [_GRID], *5 * [_ROW])
def within(
    ocv: FloatArray, slope: FloatArray, r0: FloatArray, r1: FloatArray, r2: FloatArray, width: FloatArray,
    shift: FloatArray, scale: FloatArray, voltage: FloatArray, mask: BoolArray, capacity: FloatArray,
    error: FloatArray, hysteresis: FloatArray, r0_factor: FloatArray, rc_factor: FloatArray,
    slow_v: FloatArray, current: FloatArray,
) -> FloatArray:  # fmt: skip
    """`report.within`: (7, M).

    Args:
        ocv: (M, C) curves at the groups' SOC, as the next five.
        slope: (M, C)
        r0: (M, C)
        r1: (M, C)
        r2: (M, C)
        width: (M, C) of the hysteresis.
        shift: (M, C) what temperature, age and hysteresis add.
        scale: (M, C) of the resistance.
        voltage: (M, C) measured, NaN where there is none.
        mask: (M, C) groups that there are.
        capacity: (M, C)
        error: (M, C) of the curve.
        hysteresis: (M,) state.
        r0_factor: (M,) of temperature.
        rc_factor: (M,)
        slow_v: (M,) v1 + v2.
        current: (M,)
    """
    modules, groups = ocv.shape
    out = np.zeros((7, modules))
    for m in range(modules):
        lowest, highest = np.inf, -np.inf
        for c in range(groups):
            if not mask[m, c]:
                continue
            lag = hysteresis[m] * width[m, c]
            rest = ocv[m, c] + shift[m, c] - lag + error[m, c]
            fast = scale[m, c] * r0[m, c] * r0_factor[m]
            polarised = scale[m, c] * slow_v[m] - lag
            out[0, m] += rest
            out[1, m] += slope[m, c] / capacity[m, c]
            out[2, m] += polarised
            out[3, m] += fast
            out[4, m] += scale[m, c] * (r1[m, c] + r2[m, c]) * rc_factor[m]
            shown = voltage[m, c] if np.isfinite(voltage[m, c]) else rest - polarised - fast * current[m]
            lowest, highest = min(lowest, shown), max(highest, shown)
        out[5, m], out[6, m] = lowest, highest
    return out


@compiled_for("Array(f8, 2, 'C', readonly=True)", _MASK, *6 * [_ROW], "f8", "f8", "f8", "f8", "f8")
def temperature_bounds(
    value: FloatArray, usable: BoolArray, core: FloatArray, surface: FloatArray, free_core: FloatArray,
    free_surface: FloatArray, pair_low: FloatArray, pair_high: FloatArray, ambient: float, doubt_k: float,
    rise_frac: float, agree_k: float, alone_k: float,
) -> FloatArray:  # fmt: skip
    """`report.temperature_bounds`: (2, M) lowest and highest; `value` and `usable` (M, 2), the rest (M,)."""
    out = np.empty((2, core.size))
    for m in range(core.size):
        doubt = doubt_k + rise_frac * max(free_core[m] - ambient, 0.0)
        free_low, free_high = min(free_core[m], free_surface[m]), max(free_core[m], free_surface[m])
        if not (usable[m, 0] or usable[m, 1]):
            out[0, m] = min(core[m], free_low - doubt)
            out[1, m] = max(core[m], free_high + doubt)
            continue
        alone = alone_k
        if usable[m, 0] and usable[m, 1]:
            first, second = value[m, 0], value[m, 1]
            below, above = max(-alone_k, min(pair_low[m], alone_k)), max(-alone_k, min(pair_high[m], alone_k))
            coldest = min(first, second, second + below, first - above)
            warmest = max(first, second, second + above, first - below)
            alone = max(0.0, min(abs(first - second) - agree_k, alone_k))
        else:
            coldest = warmest = value[m, 0] if usable[m, 0] else value[m, 1]
        inward = core[m] - surface[m]
        low = min(core[m], coldest + min(inward, 0.0)) - alone
        high = max(core[m], warmest + max(inward, 0.0)) + alone
        out[0, m], out[1, m] = min(low, free_low + doubt), max(high, free_high - doubt)
    return out
