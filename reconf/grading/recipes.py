"""Which committee each type of cell gets, and where its training rows come from.

Kernels and scales were chosen by 10-fold cross-validation over whole cells with shuffling 0; the errors
that `reconf bench soh` reports are from shufflings 1..5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconf.grading.kernel import KernelSpec


@dataclass(frozen=True, slots=True)
class Recipe:
    """One type of cell."""

    name: str
    chemistry: str
    rated_ah: float
    file: str
    """In the folder of pulse tables."""
    group_prefix: str
    """IDs are physical cells up to this separator; empty: the whole ID."""
    one_pulse: tuple[KernelSpec, ...]
    two_pulse: tuple[KernelSpec, ...]


_LMO_TWO = KernelSpec("raw", "matern32", 1.5, 0.01, components=16)
_NMC21_ONE = (
    KernelSpec("steps", "matern52", 0.7, 1e-3, ceiling=101.2, centres=300),
    KernelSpec("raw", "laplace", 1.0, 0.01, linear=0.0, centres=300),
    KernelSpec("steps", "matern32", 3.0, 1e-3, components=6),
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "LMO10", "LMO", 10.0, "LMO_10Ah_W_5000.csv.gz", "",
            (KernelSpec("shape", "matern52", 1.5, 0.01, components=12),), (_LMO_TWO,),
        ),
        Recipe(
            "NMC21", "NMC", 21.0, "NMC_21Ah_W_5000.csv.gz", "",
            _NMC21_ONE, (KernelSpec("raw", "rbf", 0.7, 0.01, components=8),),
        ),
        Recipe(
            "LFP35", "LFP", 35.0, "LFP_35Ah_W_5000.csv.gz", "",
            (KernelSpec("shape", "matern32", 1.5, 0.01),),
            (KernelSpec("raw", "matern52", 1.5, 0.01, components=8),),
        ),
        Recipe(
            "NMC2.1", "NMC", 2.1, "NMC_2.1Ah_W_5000.csv.gz", "-",
            (KernelSpec("shape", "rbf", 0.7, 0.1),),
            (KernelSpec("raw", "matern52", 0.7, 0.01, components=16),),
        ),
    )
}  # fmt: skip
