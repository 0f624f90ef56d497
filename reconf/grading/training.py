"""From a folder of pulse tables to fitted models, and the cell-disjoint errors they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray
from reconf.grading.pulses import PulseModel, grade, train
from reconf.grading.recipes import Recipe
from reconf.grading.table import PulseTable

FOLDS = 10
PAIR_APART_POINTS = 20.0
"""Charge between the two pulses, in percent of rated Ah."""
TRAINING_APART_POINTS = (15.0, 20.0, 25.0)
"""Pairs the shipped two-pulse models learn from, so that 20 need not be hit exactly."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows (or pairs of rows) of known SOH."""

    first_v: FloatArray
    second_v: FloatArray | None
    soh_frac: FloatArray
    group: IntArray
    """Physical cell of each row."""

    def take(self, rows: IntArray) -> Samples:
        """A subset."""
        second = None if self.second_v is None else self.second_v[rows]
        return Samples(self.first_v[rows], second, self.soh_frac[rows], self.group[rows])


def one_pulse(recipe: Recipe, table: PulseTable) -> Samples:
    """Every row for itself."""
    names = [i.split(recipe.group_prefix)[0] if recipe.group_prefix else i for i in table.ids]
    group = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return Samples(table.voltage_v, None, table.soh_frac, group)


def two_pulse(
    recipe: Recipe, table: PulseTable, apart_points: tuple[float, ...] = (PAIR_APART_POINTS,)
) -> Samples:
    """All pairs of rows of one ID whose charge differs by `apart_points` percent of rated."""
    single = one_pulse(recipe, table)
    at = {(i, round(s)): row for row, (i, s) in enumerate(zip(table.ids, table.soc_points, strict=True))}
    low, high = [], []
    for (cell, soc), row in at.items():
        for apart in apart_points:
            other = at.get((cell, round(soc + apart)))
            if other is not None:
                low.append(row)
                high.append(other)
    return Samples(table.voltage_v[low], table.voltage_v[high], table.soh_frac[low], single.group[low])


def fit_samples(recipe: Recipe, samples: Samples, seed: int) -> PulseModel:
    """Fit the recipe's committee."""
    specs = recipe.one_pulse if samples.second_v is None else recipe.two_pulse
    return train(
        recipe.chemistry,
        recipe.rated_ah,
        specs,
        samples.first_v,
        samples.second_v,
        samples.soh_frac,
        samples.group,
        seed,
    )


def grouped_folds(group: IntArray, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """(train, test) rows of `FOLDS` folds in which no physical cell is on both sides."""
    cells = np.random.default_rng(seed).permutation(np.unique(group))
    count = min(FOLDS, len(cells))
    for fold in range(count):
        test = np.isin(group, cells[fold::count])
        yield np.flatnonzero(~test), np.flatnonzero(test)


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Errors over all folds of one shuffling."""

    mae_points: float
    mape_percent: float
    p95_points: float
    coverage90: float
    mean_width_points: float
    known_flagged: float
    """Share of cells of the trained type that were called out of domain."""


def cross_validate(recipe: Recipe, samples: Samples, seed: int) -> CrossValidation:
    """Ten folds over whole cells; the SOC of the cells is never seen."""
    n = len(samples.soh_frac)
    estimate, inside = np.zeros(n), np.zeros(n, dtype=np.bool_)
    low, high = np.zeros(n), np.zeros(n)
    for fit_rows, test in grouped_folds(samples.group, seed):
        model = fit_samples(recipe, samples.take(fit_rows), seed)
        held = samples.take(test)
        got = grade(model, held.first_v, held.second_v, held.group)
        estimate[test], low[test], high[test], inside[test] = (
            got.soh_frac,
            got.low_frac,
            got.high_frac,
            got.in_domain,
        )
    error = np.abs(estimate - samples.soh_frac)
    covered = (low <= samples.soh_frac) & (samples.soh_frac <= high)
    flagged = [not inside[samples.group == c].all() for c in np.unique(samples.group)]
    return CrossValidation(
        mae_points=100 * float(error.mean()),
        mape_percent=100 * float((error / samples.soh_frac).mean()),
        p95_points=100 * float(np.quantile(error, 0.95)),
        coverage90=float(covered.mean()),
        mean_width_points=100 * float((high - low)[inside].mean()),
        known_flagged=float(np.mean(flagged)),
    )
