"""SOH of a loose module from one pulse test, or from two with some charge moved between them.

A committee of kernel machines per type of cell, an interval calibrated on left-out cells, and a
watch over whether the cell is of the trained type at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import BoolArray, FloatArray, IntArray
from reconf.grading.domain import DomainModel, fit_domain, strangeness
from reconf.grading.features import FEATURES, pair_features
from reconf.grading.kernel import KernelMachine, KernelSpec, fit, leave_group_out, predict

OUTSIDE_LOW_FRAC = 0.40
"""Lower end of the interval of a cell that is out of the trained domain: nothing is known of it."""
OUTSIDE_HIGH_FRAC = 1.05
TEMPERATURE_DEGC = (20.0, 30.0)
"""All training data are from 25 degC; resistance at other temperatures is another feature space."""
NEIGHBOURS = 25
COVERAGE = 0.915
"""Aimed at inside training so that unseen cells are covered at 90 %."""


@dataclass(frozen=True, slots=True)
class PulseModel:
    """A fitted model of one type of cell, for one or two pulses."""

    chemistry: str
    rated_ah: float
    pulses: int
    """1 or 2."""
    members: tuple[KernelMachine, ...]
    domain: DomainModel
    anchor: FloatArray
    """(m, f) centres in the domain's scaled features..."""
    anchor_error: FloatArray
    """(m,) ...and the typical error [points] around each."""
    width: float
    """Half interval over typical error."""
    soh_range: tuple[float, float]
    """[points] seen in training; an estimate is held inside it, widened by 2."""


@dataclass(frozen=True, slots=True)
class PulseGrade:
    """Result for n rows."""

    soh_frac: FloatArray
    low_frac: FloatArray
    high_frac: FloatArray
    in_domain: BoolArray


def _features(name: str, first_v: FloatArray, second_v: FloatArray | None) -> FloatArray:
    return FEATURES[name](first_v) if second_v is None else pair_features(name, first_v, second_v)


def _hold(soh_points: FloatArray, limits: tuple[float, float]) -> FloatArray:
    return np.clip(soh_points, limits[0] - 2.0, limits[1] + 2.0)


def _typical_error(model_anchor: FloatArray, anchor_error: FloatArray, scaled: FloatArray) -> FloatArray:
    """Error [points] to expect at each row: inverse-distance mean over the anchors."""
    d2 = ((scaled[:, None, :] - model_anchor[None, :, :]) ** 2).mean(axis=2)
    weight = 1.0 / (d2 + 0.05)
    weight /= weight.sum(axis=1, keepdims=True)
    error: FloatArray = weight @ anchor_error
    return error


def train(
    chemistry: str,
    rated_ah: float,
    specs: tuple[KernelSpec, ...],
    first_v: FloatArray,
    second_v: FloatArray | None,
    soh_frac: FloatArray,
    group: IntArray,
    seed: int,
) -> PulseModel:
    """Fit a committee on rows (n, 21) of known SOH; `group` is the physical cell of each row.

    Everything (errors, interval, domain) is judged with whole cells left out.
    """
    y = soh_frac * 100.0
    limits = (float(y.min()), float(y.max()))
    members = []
    left_out = np.zeros_like(y)
    for number, spec in enumerate(specs):
        x = _features(spec.features, first_v, second_v)
        machine = fit(spec, x, y, seed + number)
        members.append(machine)
        left_out += _hold(leave_group_out(machine, x, y, group), limits) / len(specs)
    shapes = _features("shape", first_v, second_v)
    domain = fit_domain(shapes, group)
    scaled = (shapes - domain.mean) / domain.scale
    error = np.abs(left_out - y)
    anchor, anchor_error = _anchors(scaled, error, group, seed)
    typical = _typical_error(anchor, anchor_error, scaled)
    return PulseModel(
        chemistry=chemistry,
        rated_ah=rated_ah,
        pulses=1 if second_v is None else 2,
        members=tuple(members),
        domain=domain,
        anchor=anchor,
        anchor_error=anchor_error,
        width=float(np.quantile(error / typical, COVERAGE)),
        soh_range=limits,
    )


def _anchors(
    scaled: FloatArray, error: FloatArray, group: IntArray, seed: int
) -> tuple[FloatArray, FloatArray]:
    """A few centres of the training features, each with the mean left-out error around it."""
    count = min(NEIGHBOURS, len(np.unique(group)))
    rng = np.random.default_rng(seed)
    centres = scaled[rng.choice(len(scaled), size=count, replace=False)]
    for _ in range(12):
        nearest = ((scaled[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack(
            [scaled[nearest == k].mean(axis=0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
    members = np.maximum(np.bincount(nearest, minlength=count), 1)
    mean_error = np.bincount(nearest, weights=error, minlength=count) / members
    # few rows around a centre say little: draw them towards the mean of all
    trust = members / (members + 20.0)
    return centres, trust * mean_error + (1 - trust) * error.mean()


def grade(
    model: PulseModel,
    first_v: FloatArray,
    second_v: FloatArray | None = None,
    cell: IntArray | None = None,
    temperature_degc: FloatArray | None = None,
) -> PulseGrade:
    """Grade n rows of 21 voltages [V]. Rows with the same `cell` share one verdict on the domain.

    A cell out of domain keeps its best guess but gets the interval OUTSIDE_LOW..OUTSIDE_HIGH.
    """
    parts = [
        _hold(predict(m, _features(m.spec.features, first_v, second_v)), model.soh_range)
        for m in model.members
    ]
    estimate = np.mean(parts, axis=0)
    shapes = _features("shape", first_v, second_v)
    odd = strangeness(model.domain, shapes)
    if cell is not None:
        odd = np.array([np.median(odd[cell == c]) for c in cell])
    inside: BoolArray = odd <= 1.0
    if temperature_degc is not None:
        inside &= (temperature_degc >= TEMPERATURE_DEGC[0]) & (temperature_degc <= TEMPERATURE_DEGC[1])
    scaled = (shapes - model.domain.mean) / model.domain.scale
    half = model.width * _typical_error(model.anchor, model.anchor_error, scaled)
    return PulseGrade(
        soh_frac=estimate / 100.0,
        low_frac=np.where(inside, (estimate - half) / 100.0, OUTSIDE_LOW_FRAC),
        high_frac=np.where(inside, (estimate + half) / 100.0, OUTSIDE_HIGH_FRAC),
        in_domain=inside,
    )
