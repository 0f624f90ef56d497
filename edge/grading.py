"""Disk side of grading: tables, the shipped artefact, training from a folder."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from edge.files import read_bytes, read_table_lines
from reconf.errors import DataFileError
from reconf.grading.artefact import dumps, loads
from reconf.grading.pulses import PulseModel
from reconf.grading.recipes import RECIPES, Recipe
from reconf.grading.table import PulseTable, read_pulse_table
from reconf.grading.training import TRAINING_APART_POINTS, fit_samples, one_pulse, two_pulse

ARTEFACT = "pulse_models.json"
SEED = 1


def load_models(path: Path | None = None) -> tuple[PulseModel, ...]:
    """The shipped models, or those of `path`."""
    if path is not None:
        return loads(str(path), read_bytes(path).decode())
    file = resources.files("reconf.grading") / "data" / ARTEFACT
    return loads(ARTEFACT, file.read_text())


def load_table(path: Path) -> PulseTable:
    """A pulse table from CSV (also .gz) or .xlsx."""
    return read_pulse_table(str(path), read_table_lines(path))


def training_table(folder: Path, recipe: Recipe) -> PulseTable:
    """The table a recipe learns from.

    Raises:
        DataFileError: the folder does not hold it.
    """
    path = folder / recipe.file
    if not path.exists():
        raise DataFileError(f"{path}: not there; the folder must hold the pulse tables {recipe.file} ...")
    return load_table(path)


def train_all(folder: Path) -> str:
    """Fit every recipe for one and two pulses; the artefact as text."""
    models: list[PulseModel] = []
    digests = []
    for recipe in RECIPES.values():
        table = training_table(folder, recipe)
        digest = hashlib.sha256((folder / recipe.file).read_bytes()).hexdigest()[:16]
        digests.append(f"{recipe.file} sha256 {digest}")
        models.append(fit_samples(recipe, one_pulse(recipe, table), SEED))
        models.append(fit_samples(recipe, two_pulse(recipe, table, TRAINING_APART_POINTS), SEED))
    source = "PulseBat, doi:10.1038/s41467-024-54454-0; " + "; ".join(digests)
    return dumps(tuple(models), source)
