"""Charge that can still leave or enter a module, and the groups that decide it.

*Remaining charge* of a module is that of its weakest group (the least charge above empty) down to the SOC
z_cut at which the group's terminal voltage under the expected load meets the lower operating limit:

    U(z_cut) - M - rho * [R0(z_cut, T) * I_load + (R1 + R2)(z_cut, T) * I_mean] = V_min,
    remaining = r_weakest - z_cut * Q_weakest.

I_load is the discharge current seen while inserted (memory of ten minutes of load, 0.2 C before any), as
the whole string current meets R0 when the module is inserted; I_mean is the same with the bypassed time
counted, as the RC pairs average over insertions. *Chargeable charge* is that of the strongest group (the
least room) up to the SOC whose open-circuit voltage is the upper operating limit: a charge ends with a
falling current, so no load is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.estimation.circuit import Warm
from reconf.estimation.constants import Constants, curves, pick
from reconf.estimation.memory import FilterState, GroupState

CUT_REACH = (-0.05, 0.6)
"""A cut-off above this SOC means that the load is more than the module can carry at all."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All (M,)."""

    weakest: IntArray
    """Group that ends the discharge."""
    strongest: IntArray
    """Group that ends the charge."""
    weakest_ah: FloatArray
    """Charge of the weakest group above SOC 0."""
    room_ah: FloatArray
    """Charge that the strongest group can still take up to SOC 1."""
    cut_soc_frac: FloatArray
    """SOC of the weakest group at cut-off under the expected load."""
    remaining_ah: FloatArray
    chargeable_ah: FloatArray


def reach(
    constants: Constants, state: FilterState, warm: Warm, cut_soc_frac: FloatArray, passes: int = 2
) -> Reach:
    """Remaining and chargeable charge; `cut_soc_frac` is the last answer, improved by `passes` steps."""
    groups = state.groups
    weakest, strongest = _ends(constants, groups)
    rho = pick(constants, state.resistance.scale, weakest)
    cut = improved_cut(constants, state, warm, rho, cut_soc_frac, passes)
    weakest_ah = pick(constants, groups.charge_ah, weakest)
    room_ah = pick(constants, groups.capacity_ah, strongest) - pick(constants, groups.charge_ah, strongest)
    capacity_weakest = pick(constants, groups.capacity_ah, weakest)
    kept = (1.0 - constants.full_soc_frac) * pick(constants, groups.capacity_ah, strongest)
    return Reach(
        weakest=weakest,
        strongest=strongest,
        weakest_ah=weakest_ah,
        room_ah=room_ah,
        cut_soc_frac=cut,
        remaining_ah=np.maximum(weakest_ah - cut * capacity_weakest, 0.0),
        chargeable_ah=np.maximum(room_ah - kept, 0.0),
    )


def _ends(constants: Constants, groups: GroupState) -> tuple[IntArray, IntArray]:
    """(M,) weakest and strongest group."""
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        charge, capacity = np.ascontiguousarray(groups.charge_ah), np.ascontiguousarray(groups.capacity_ah)
        found = kernels_module.ends(charge, capacity, constants.mask)
        return found[0], found[1]
    charge = np.where(constants.mask, groups.charge_ah, np.inf)
    room = np.where(constants.mask, groups.capacity_ah - groups.charge_ah, np.inf)
    return charge.argmin(axis=1), room.argmin(axis=1)


def improved_cut(
    constants: Constants,
    state: FilterState,
    warm: Warm,
    rho: FloatArray,
    cut_soc_frac: FloatArray,
    passes: int,
) -> FloatArray:
    """`passes` damped Newton steps on the cut-off condition; the curve is steep there and nearly straight."""
    bank, core = constants.bank, state.circuit.core_degc
    load_r0 = warm.r0_factor * state.charge.load_a
    load_rc = warm.rc_factor * state.charge.load_mean_a
    if constants.engine == "compiled":
        from reconf.estimation import kernels_module

        given = (cut_soc_frac, rho, load_r0, load_rc, core - 25.0, constants.cell_min_v)
        return kernels_module.improve_cut(
            *given, bank.row, bank.table, bank.rated_capacity_ah, passes, *CUT_REACH
        )
    cut = cut_soc_frac
    for _ in range(passes):
        point = curves(constants, cut)
        drop = rho * (point.r0_ohm * load_r0 + (point.r1_ohm + point.r2_ohm) * load_rc)
        terminal = point.ocv_v + (core - 25.0) * point.entropy_v_per_k - point.hysteresis_v - drop
        step = np.clip((constants.cell_min_v - terminal) / point.slope_v, -0.03, 0.03)
        cut = np.clip(cut + 0.8 * step, *CUT_REACH)
    return cut
