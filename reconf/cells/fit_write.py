"""Writing fitted parameters as a cell parameter file, and scoring a model against a log."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from reconf.arrays import FloatArray
from reconf.cells.fit_ecm import EcmFit, filtered
from reconf.cells.fit_logs import TestLog
from reconf.cells.fit_ocv import OcvFit
from reconf.cells.fit_thermal import ThermalFit
from reconf.cells.model import REFERENCE_DEGC, CellModel, ThermalParameters, arrhenius


def anchored(fit: EcmFit, voltage_min_v: float) -> tuple[FloatArray, FloatArray, float]:
    """SOC axis and open-circuit voltage of `fit` stretched so that U(0) is `voltage_min_v`; and the capacity.

    A test ends at the cut-off *under load*, so a little charge is left: the curve is carried on with its
    lowest slope until it meets the cut-off.
    """
    soc, ocv = fit.ocv_soc_frac, fit.ocv_v
    slope = (ocv[1] - ocv[0]) / (soc[1] - soc[0])
    if ocv[0] >= voltage_min_v:
        start = float(soc[0] - (ocv[0] - voltage_min_v) / max(slope, 5.0))
        apart = soc > start + 1e-3  # nodes closer together than the file's digits are one
        soc, ocv = np.concatenate(([start], soc[apart])), np.concatenate(([voltage_min_v], ocv[apart]))
    else:
        start = float(np.interp(voltage_min_v, ocv, soc))
        inside = soc > start + 1e-3
        soc, ocv = np.concatenate(([start], soc[inside])), np.concatenate(([voltage_min_v], ocv[inside]))
    return (soc - start) / (1.0 - start), ocv, fit.capacity_ah * (1.0 - start)


def _flow(values: Sequence[float] | FloatArray, digits: int) -> list[float]:
    return [round(float(v), digits) for v in values]


def ecm_block(fit: EcmFit, voltage_min_v: float) -> dict[str, Any]:
    """Parts `reference_capacity_ah`, `ocv` and `resistance` of a parameter file."""
    soc, ocv, capacity = anchored(fit, voltage_min_v)
    nodes = 1.0 - (1.0 - fit.soc_frac) * fit.capacity_ah / capacity
    return {
        "reference_capacity_ah": round(capacity, 2),
        "ocv": {"soc_frac": _flow(soc, 4), "ocv_v": _flow(ocv, 4)},
        "resistance": {
            "soc_frac": _flow(nodes, 4),
            "r0_ohm_ah": _flow(fit.r0_ohm * capacity, 5),
            "r1_ohm_ah": _flow(fit.r1_ohm * capacity, 5),
            "r2_ohm_ah": _flow(fit.r2_ohm * capacity, 5),
            "tau1_s": round(fit.tau1_s, 1),
            "tau2_s": round(fit.tau2_s, 1),
            "activation_r0_j_per_mol": round(fit.activation_r0_j_per_mol, -2),
            "activation_rc_j_per_mol": round(fit.activation_rc_j_per_mol, -2),
        },
    }


def ocv_block(fit: OcvFit) -> dict[str, Any]:
    """Part `ocv` of a parameter file."""
    return {"ocv": {"soc_frac": _flow(fit.soc_frac, 4), "ocv_v": _flow(fit.ocv_v, 4)}}


def thermal_block(parameters: ThermalParameters) -> dict[str, Any]:
    """Part `thermal` of a parameter file."""
    return {
        "thermal": {
            name: float(f"{getattr(parameters, name):.4g}") for name in ThermalParameters.__dataclass_fields__
        }
    }


def as_yaml(block: Mapping[str, Any]) -> str:
    """`block` as YAML, lists on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel's stub says None only
    yaml.width = 200
    out = io.StringIO()
    yaml.dump(dict(block), out)
    return out.getvalue()


def simulate_v(
    model: CellModel,
    log: TestLog,
    capacity_ah: float,
    *,
    start_soc: float = 1.0,
    resistance_scale: float = 1.0,
    rated_capacity_ah: float | None = None,
    temperature_degc: FloatArray | float = REFERENCE_DEGC,
) -> FloatArray:
    """(N,) terminal voltage of one cell of `model` driven by the current and charge of `log`."""
    soc = start_soc - log.discharged_ah / capacity_ah
    degc = np.broadcast_to(np.asarray(temperature_degc, dtype=np.float64), soc.shape)
    scale = resistance_scale / (capacity_ah if rated_capacity_ah is None else rated_capacity_ah)
    rc = scale * arrhenius(degc, model.activation_rc_j_per_mol)
    drive1 = (log.current_a * rc * model.curve("r1_ohm_ah", soc))[:, None]
    drive2 = (log.current_a * rc * model.curve("r2_ohm_ah", soc))[:, None]
    r0 = scale * arrhenius(degc, model.activation_r0_j_per_mol) * model.curve("r0_ohm_ah", soc)
    result: FloatArray = (
        model.ocv_v(soc, degc)
        - r0 * log.current_a
        - filtered(log.time_s, drive1, model.tau1_s)[:, 0]
        - filtered(log.time_s, drive2, model.tau2_s)[:, 0]
    )
    return result


def describe_thermal(fit: ThermalFit) -> str:
    """One line for people."""
    doubt = "" if fit.cooling_identified else "; the log cannot tell the cooling, do not rely on it"
    return (
        f"surface within {fit.rmse_k:.2f} K rms, {fit.worst_k:.2f} K at worst; "
        f"time constant to ambient {fit.time_constant_s / 60.0:.0f} min{doubt}"
    )
