"""Fitted pulse models as JSON: versioned, readable, no code inside."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import DataFileError
from reconf.grading.domain import DomainModel
from reconf.grading.kernel import KernelMachine, KernelSpec
from reconf.grading.pulses import PulseModel

FORMAT = "reconf pulse models"
VERSION = 1


def _pack(array: FloatArray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(data.shape), "float32": base64.b64encode(data.tobytes()).decode()}


def _unpack(packed: dict[str, Any]) -> FloatArray:
    flat = np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4")
    return flat.reshape(packed["shape"]).astype(np.float64)


def _member(machine: KernelMachine) -> dict[str, Any]:
    arrays = {k: _pack(getattr(machine, k)) for k in ("mean", "projection", "centres", "weights")}
    return {"spec": asdict(machine.spec), "offset": machine.offset, **arrays}


def _model(model: PulseModel) -> dict[str, Any]:
    domain = {k: _pack(getattr(model.domain, k)) for k in ("mean", "scale", "precision")}
    return {
        "chemistry": model.chemistry,
        "rated_ah": model.rated_ah,
        "pulses": model.pulses,
        "members": [_member(m) for m in model.members],
        "domain": {**domain, "threshold": model.domain.threshold},
        "anchor": _pack(model.anchor),
        "anchor_error": _pack(model.anchor_error),
        "width": model.width,
        "soh_range": list(model.soh_range),
    }


def dumps(models: tuple[PulseModel, ...], source: str) -> str:
    """The artefact as text; `source` says what it was trained on."""
    document = {"format": FORMAT, "version": VERSION, "source": source, "models": [_model(m) for m in models]}
    return json.dumps(document, indent=1) + "\n"


def loads(name: str, text: str) -> tuple[PulseModel, ...]:
    """Read an artefact.

    Raises:
        DataFileError: not an artefact of this version.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise DataFileError(
                f"{name}: needs {FORMAT!r} version {VERSION}; retrain with 'reconf grade train'"
            )
        return tuple(_read(entry) for entry in document["models"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataFileError(
            f"{name}: no pulse model artefact ({error!r}); retrain with 'reconf grade train'"
        ) from error


def _read(entry: dict[str, Any]) -> PulseModel:
    members = tuple(
        KernelMachine(
            spec=KernelSpec(**m["spec"]),
            mean=_unpack(m["mean"]),
            projection=_unpack(m["projection"]),
            centres=_unpack(m["centres"]),
            weights=_unpack(m["weights"]),
            offset=float(m["offset"]),
        )
        for m in entry["members"]
    )
    d = entry["domain"]
    return PulseModel(
        chemistry=str(entry["chemistry"]),
        rated_ah=float(entry["rated_ah"]),
        pulses=int(entry["pulses"]),
        members=members,
        domain=DomainModel(
            _unpack(d["mean"]), _unpack(d["scale"]), _unpack(d["precision"]), float(d["threshold"])
        ),
        anchor=_unpack(entry["anchor"]),
        anchor_error=_unpack(entry["anchor_error"]),
        width=float(entry["width"]),
        soh_range=(float(entry["soh_range"][0]), float(entry["soh_range"][1])),
    )


def choose(
    models: tuple[PulseModel, ...], chemistry: str, rated_ah: float, pulses: int
) -> tuple[PulseModel, bool]:
    """The model for a type, and whether it was trained on just that type (size within 10 %).

    Raises:
        DataFileError: no model of that chemistry at all.
    """
    fitting = [m for m in models if m.chemistry == chemistry.upper() and m.pulses == pulses]
    if not fitting:
        known = sorted({f"{m.chemistry} {m.rated_ah:g} Ah" for m in models})
        raise DataFileError(f"no pulse model for chemistry {chemistry!r}; trained: {', '.join(known)}")
    best = min(fitting, key=lambda m: abs(np.log(m.rated_ah / rated_ah)))
    return best, abs(best.rated_ah / rated_ah - 1) <= 0.1
