"""Errors of SOH from pulses, cell-disjoint, and whether an unseen type is recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.grading import training_table
from reconf.grading.domain import fit_domain, strangeness
from reconf.grading.features import shape
from reconf.grading.recipes import RECIPES
from reconf.grading.training import CrossValidation, Samples, cross_validate, one_pulse, two_pulse

SHUFFLINGS = (1, 2, 3, 4, 5)


def _mean(results: list[CrossValidation]) -> dict[str, float]:
    keys = ("mae_points", "mape_percent", "p95_points", "coverage90", "mean_width_points", "known_flagged")
    return {k: round(float(np.mean([getattr(r, k) for r in results])), 4) for k in keys}


def unseen_flagged(samples: dict[str, Samples], name: str) -> float:
    """Share of the cells of type `name` that detectors of all the other types call out of domain."""
    unseen = samples[name]
    x = shape(unseen.first_v)
    scores = [
        strangeness(fit_domain(shape(s.first_v), s.group), x) for other, s in samples.items() if other != name
    ]
    odd = np.min(scores, axis=0)
    return float(np.mean([np.median(odd[unseen.group == c]) > 1 for c in np.unique(unseen.group)]))


def run(
    folder: Path, shufflings: tuple[int, ...] = SHUFFLINGS, progress: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """The table of errors: GroupKFold of 10 over physical cells, mean over shufflings, SOC unknown."""
    tables = {name: training_table(folder, recipe) for name, recipe in RECIPES.items()}
    singles = {name: one_pulse(RECIPES[name], table) for name, table in tables.items()}
    types: dict[str, Any] = {}
    for name, table in tables.items():
        recipe = RECIPES[name]
        both = {"one_pulse": singles[name], "two_pulse": two_pulse(recipe, table)}
        types[name] = {}
        for kind, samples in both.items():
            progress(f"{name} {kind}")
            types[name][kind] = _mean([cross_validate(recipe, samples, s) for s in shufflings])
    flagged = {name: unseen_flagged(singles, name) for name in RECIPES}
    total = {name: len(np.unique(s.group)) for name, s in singles.items()}
    return {
        "protocol": f"10 folds over physical cells, shufflings {list(shufflings)}, SOC unknown, "
        "two pulses 20 % of rated Ah apart",
        "types": types,
        "out_of_domain_flagged": sum(flagged[n] * total[n] for n in flagged) / sum(total.values()),
        "out_of_domain_flagged_by_type": flagged,
        "known_flagged": float(np.mean([types[n][k]["known_flagged"] for n in types for k in types[n]])),
    }
