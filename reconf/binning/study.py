"""Share of the charge that strings of given cells give, by arrangement, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reconf.arrays import FloatArray
from reconf.binning.energy import string_charge_ah
from reconf.errors import ParameterError


def utilisations(capacity_ah: FloatArray, strings: int, length: int, spares: Sequence[int]) -> FloatArray:
    """Charge given over charge inside, (D, S·N) drawn cells in random order -> (D, 2 + len(spares)).

    Columns: random fixed, sorted fixed, random time-shared with each number of spares.
    """
    whole = capacity_ah.sum(axis=1)
    rows = capacity_ah.reshape(-1, strings, length)
    ordered = np.sort(capacity_ah, axis=1).reshape(-1, strings, length)
    charges = [length * string_charge_ah(r, 0).sum(axis=1) for r in (rows, ordered)]
    charges += [(length - m) * string_charge_ah(rows, m).sum(axis=1) for m in spares]
    shares: FloatArray = np.stack(charges, axis=1) / whole[:, None]
    return shares


def cell_study(
    capacity_ah: FloatArray,
    strings: int,
    length: int,
    spares: Sequence[int],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, float | list[float]]]:
    """Draw strings from real cells without replacement, and resample the cells (bootstrap).

    Returns:
        By arrangement: `mean`, `draws_90` (5..95 % over draws from these cells) and `cells_90` (the same
        over means of resampled lots: how well these cells pin the mean down).

    Raises:
        ParameterError: too few cells.
    """
    need = strings * length
    if len(capacity_ah) < need:
        raise ParameterError(f"{strings} strings of {length} need {need} cells; there are {len(capacity_ah)}")
    got = utilisations(_drawn(capacity_ah, need, draws, rng), strings, length, spares)
    boot = np.stack(
        [
            utilisations(
                _drawn(rng.choice(capacity_ah, len(capacity_ah)), need, 50, rng), strings, length, spares
            ).mean(axis=0)
            for _ in range(200)
        ]
    )
    names = ["random_fixed", "sorted_fixed", *(f"shared_{length - m}_of_{length}" for m in spares)]
    return {
        name: {
            "mean": float(got[:, i].mean()),
            "draws_90": [float(v) for v in np.quantile(got[:, i], (0.05, 0.95))],
            "cells_90": [float(v) for v in np.quantile(boot[:, i], (0.05, 0.95))],
        }
        for i, name in enumerate(names)
    }


def _drawn(capacity_ah: FloatArray, need: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """(draws, need) cells in random order, no cell twice in a draw."""
    order = np.argsort(rng.random((draws, len(capacity_ah))), axis=1)[:, :need]
    drawn: FloatArray = capacity_ah[order]
    return drawn
