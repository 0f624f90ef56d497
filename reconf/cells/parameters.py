"""Reading cell parameter files (reconf/cells/data/*.yaml) into `CellModel`s."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from scipy.interpolate import PchipInterpolator

from reconf.arrays import FloatArray, frozen
from reconf.cells.model import CURVES, SOC_NODES, CellModel, ThermalParameters, soc_grid
from reconf.errors import DataFileError

# Below the cut-off real cells dive within a few percent of their charge, and above full they climb; the
# tables of the sources end there, so the curves go on at no less than these slopes [V per unit SOC].
# A cell that is forced on is reversed near -10 % SOC and stays on a plateau of copper dissolution:
# Guo et al., Sci. Rep. 6 (2016) 30248, doi 10.1038/srep30248.
DIVE_SLOPE_V = 20.0
DIVE_CURVATURE_V = 300.0
CLIMB_SLOPE_V = 4.0
REVERSED_V = -1.4
REVERSED_SLOPE_V = 0.5


def cell_model_names() -> tuple[str, ...]:
    """Names of the parameter files that ship with the project."""
    folder = resources.files("reconf.cells").joinpath("data")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def parameter_text(name: str) -> str:
    """Text of the shipped parameter file `name`; raises `DataFileError` where there is none."""
    file = resources.files("reconf.cells").joinpath("data", f"{name}.yaml")
    if not file.is_file():
        raise DataFileError(f"no cell model named {name!r}; there are {', '.join(cell_model_names())}")
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=32)
def load_cell_model(name: str) -> CellModel:
    """The shipped cell model `name`; raises `DataFileError` where there is none of that name."""
    return parse_cell_model(parameter_text(name), name)


def read_cell_model(path: Path) -> CellModel:
    """A cell model from a parameter file anywhere on disk (as written by `reconf fit`)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from error
    return parse_cell_model(text, path.stem)


def parse_cell_model(text: str, name: str) -> CellModel:
    """Build a `CellModel` from the text of a parameter file."""
    try:
        raw = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise DataFileError(f"cell model {name}: not readable as YAML: {error}") from error
    try:
        return _build(raw, name)
    except (KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"cell model {name}: {type(error).__name__}: {error}") from error


def _build(raw: Mapping[str, Any], name: str) -> CellModel:
    resistance = raw["resistance"]
    curves = np.vstack(
        [
            ocv_on_grid(raw["ocv"]["soc_frac"], raw["ocv"]["ocv_v"]),
            curve_on_grid(raw["ocv_ageing"]["soc_frac"], raw["ocv_ageing"]["v_per_unit_soh_lost"]),
            curve_on_grid(raw["entropy"]["soc_frac"], raw["entropy"]["v_per_k"]),
            *(curve_on_grid(resistance["soc_frac"], resistance[f"r{k}_ohm_ah"]) for k in range(3)),
            curve_on_grid(raw["hysteresis"]["soc_frac"], raw["hysteresis"]["half_width_v"]),
        ]
    )
    if curves.shape != (len(CURVES), SOC_NODES) or not np.isfinite(curves).all():
        raise ValueError("a curve is incomplete or not a number")
    if (np.diff(curves[0]) <= 0).any() or (curves[3:6] <= 0).any():
        raise ValueError("the open-circuit voltage must rise with SOC and resistances must be positive")
    frozen(curves)
    return CellModel(
        name=name,
        chemistry=str(raw["chemistry"]),
        reference_capacity_ah=float(raw["reference_capacity_ah"]),
        voltage_min_v=float(raw["voltage_min_v"]),
        voltage_max_v=float(raw["voltage_max_v"]),
        curves=curves,
        tau1_s=float(resistance["tau1_s"]),
        tau2_s=float(resistance["tau2_s"]),
        activation_r0_j_per_mol=float(resistance["activation_r0_j_per_mol"]),
        activation_rc_j_per_mol=float(resistance["activation_rc_j_per_mol"]),
        hysteresis_rate=float(raw["hysteresis"]["rate"]),
        coulombic_efficiency_frac=float(raw["coulombic_efficiency_frac"]),
        thermal=ThermalParameters(**{k: float(v) for k, v in raw["thermal"].items()}),
        valid_temperature_degc=(
            float(raw["valid"]["temperature_degc"][0]),
            float(raw["valid"]["temperature_degc"][1]),
        ),
        valid_current_c=float(raw["valid"]["current_c"]),
        sources=tuple({str(k): str(v) for k, v in row.items()} for row in raw["sources"]),
    )


def _checked(soc: Any, values: Any) -> tuple[FloatArray, FloatArray]:
    x = np.asarray(soc, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or (np.diff(x) <= 0).any():
        raise ValueError("a curve needs as many values as SOC points, and rising SOC points")
    return x, y


def curve_on_grid(soc: Any, values: Any) -> FloatArray:
    """A table on the common grid, monotone between its points and constant beyond them."""
    x, y = _checked(soc, values)
    grid = soc_grid()
    if x.size == 1:
        return np.full(grid.shape, y[0])
    inside = np.clip(grid, x[0], x[-1])
    result: FloatArray = PchipInterpolator(x, y)(inside)
    return result


def ocv_on_grid(soc: Any, ocv: Any) -> FloatArray:
    """The open-circuit voltage on the common grid, diving below 0 and climbing above 1.

    The table must run from SOC 0 to SOC 1.
    """
    x, y = _checked(soc, ocv)
    if x[0] != 0.0 or x[-1] != 1.0:
        raise ValueError("the open-circuit voltage must be given from SOC 0 to SOC 1")
    grid = soc_grid()
    shape = PchipInterpolator(x, y)
    below = np.minimum(grid, 0.0)
    above = np.maximum(grid - 1.0, 0.0)
    start = max(float(shape(0.0, 1)), DIVE_SLOPE_V)
    end = max(float(shape(1.0, 1)), CLIMB_SLOPE_V)
    inside = shape(np.clip(grid, 0.0, 1.0)) + end * above
    dive = inside + start * below - DIVE_CURVATURE_V * below**2
    result: FloatArray = np.where(grid < 0.0, np.maximum(dive, REVERSED_V + REVERSED_SLOPE_V * below), inside)
    return result
