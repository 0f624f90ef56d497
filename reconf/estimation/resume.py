"""Knowledge of an earlier run, older by the time away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reconf.arrays import FloatArray
from reconf.estimation.constants import Constants
from reconf.estimation.memory import ChargeState, GroupState, SavedModule
from reconf.readings import SiteImage

SAVED_TRUST_STD_FRAC = 0.15
"""A saved SOC less certain than this is replaced by the rest voltage, not corrected by it."""


def column(rows: Sequence[SavedModule | None], name: str, default: FloatArray) -> FloatArray:
    """(M,) values of the saved field `name`, `default` where nothing was saved."""
    return np.array(
        [d if row is None else float(getattr(row, name)) for row, d in zip(rows, default, strict=True)]
    )


def grid_column(rows: Sequence[SavedModule | None], name: str, default: FloatArray) -> FloatArray:
    """(M, C) values of the saved field `name`."""
    values = default.copy()
    for i, row in enumerate(rows):
        if row is not None:
            kept = getattr(row, name)
            values[i, : len(kept)] = kept
    return values


def from_saved(
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
    capacity = grid_column(rows, "capacity_ah", fresh.capacity_ah)
    moved = _moved_while_away(charge, rows, away_s, image)
    away_frac = tuning.away_std_frac + tuning.self_discharge_frac_per_day * away_s / 86400.0
    widen = np.where(np.isnan(moved), 3.0 * away_frac, away_frac)[:, None] * capacity
    kept = GroupState(
        charge_ah=grid_column(rows, "charge_ah", fresh.charge_ah) - np.nan_to_num(moved)[:, None],
        capacity_ah=capacity,
        ocv_error_v=np.zeros(capacity.shape),
        var_rr=grid_column(rows, "var_rr", fresh.var_rr) + widen**2,
        var_rq=grid_column(rows, "var_rq", fresh.var_rq),
        var_re=np.zeros(capacity.shape),
        var_qq=grid_column(rows, "var_qq", fresh.var_qq),
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
