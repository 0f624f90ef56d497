"""How far a module has moved since a reading of it last did."""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.estimation.integrity_state import IntegrityState, Untrue
from reconf.replacing import replace

FROZEN_MODEL_SHARE: Final = 0.65
"""Of a move of the observer that is surely one of the module (the rest its heating may be wrong by)."""


def frozen_k(
    state: IntegrityState, first_k: FloatArray, second_k: FloatArray
) -> tuple[IntegrityState, FloatArray]:
    """(M, 2) how far a module has moved since each of its sensors last did [K], NaN where nobody can tell.

    What the other sensor saw counts only as far as the observer saw it too: it may be the one that lies. A
    sensor that stands still itself says nothing about the other.
    """
    surface = state.surface_degc[:, None]
    other = surface + np.stack([second_k, first_k], axis=1)
    model = np.broadcast_to(surface, other.shape)
    fresh = state.changed | np.isnan(state.alive_model_degc)
    # where its whole zone stays warmer than the observer, that the observer moves is no news
    zone = np.broadcast_to(state.zones.surface_degc[:, None], other.shape)
    by_model = FROZEN_MODEL_SHARE * _less(model - state.alive_model_degc, zone - state.alive_zone_degc)
    by_other = other - state.alive_degc
    both = np.sign(by_model) * np.maximum(np.minimum(np.abs(by_model), np.sign(by_model) * by_other), 0.0)
    known = state.changed[:, ::-1] & np.isfinite(by_other)
    moved = np.where(fresh, 0.0, np.where(known, both, by_model))
    read = (state.counts[:2] > 0).T & np.isfinite(np.stack([first_k, second_k], axis=1))
    return replace(
        state,
        alive_degc=np.where(fresh, other, state.alive_degc),
        alive_model_degc=np.where(fresh, model, state.alive_model_degc),
        alive_zone_degc=np.where(fresh, zone, state.alive_zone_degc),
    ), np.where(read, moved, np.nan)


def _less(first_k: FloatArray, second_k: FloatArray) -> FloatArray:
    """The smaller of two moves, none where they go apart."""
    together = np.sign(first_k) == np.sign(second_k)
    less: FloatArray = np.where(
        together, np.sign(first_k) * np.minimum(np.abs(first_k), np.abs(second_k)), 0.0
    )
    return less


def still_voltages(state: IntegrityState) -> IntArray:
    """(M,) first voltage whose reading stood still over the block, C for the module's, -1 where none did."""
    judged = np.column_stack([state.untrue_cells, state.is_untrue(Untrue.MODULE_VOLTAGE)])
    still = np.isfinite(state.last_v) & ~state.changed_v & ~judged
    result: IntArray = np.where(still.any(axis=1), still.argmax(axis=1), -1)
    return result
