"""Does a pulse come from the type of cell a model was trained on?

Squared Mahalanobis distance in the *shape* features, with a shrunk covariance (Ledoit & Wolf 2004,
doi:10.1016/S0047-259X(03)00096-4: here a fixed intensity), against the distance that training cells
show when they are left out themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray, IntArray

SHRINKAGE = 0.02
"""Share of the mean variance put on the diagonal: pulses of one type are nearly collinear."""

MARGIN = 1.25
"""On the threshold: a few dozen cells do not show all of a type."""


@dataclass(frozen=True, slots=True)
class DomainModel:
    """Centre and whitening of one type's features, and the distance that still counts as inside."""

    mean: FloatArray
    """(f,)"""
    scale: FloatArray
    """(f,)"""
    precision: FloatArray
    """(f, f) of the scaled features."""
    threshold: float


def _precision(scaled: FloatArray) -> FloatArray:
    covariance = np.cov(scaled, rowvar=False)
    size = len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    inverse: FloatArray = np.linalg.inv(shrunk)
    return inverse


def _distance(mean: FloatArray, scale: FloatArray, precision: FloatArray, features: FloatArray) -> FloatArray:
    z = (features - mean) / scale
    squared: FloatArray = np.einsum("ij,jk,ik->i", z, precision, z) / z.shape[1]
    return squared


def fit_domain(features: FloatArray, group: IntArray, quantile: float = 0.985) -> DomainModel:
    """Learn a type's domain; `group` marks the physical cell of each row.

    The threshold is the `quantile` of the per-cell median distance with that cell left out, widened
    by `MARGIN` for what so few cells cannot show.
    """
    scale = np.maximum(features.std(axis=0), 1e-9)
    left_out = []
    for g in np.unique(group):
        inside = group != g
        mean = features[inside].mean(axis=0)
        precision = _precision((features[inside] - mean) / scale)
        left_out.append(float(np.median(_distance(mean, scale, precision, features[~inside]))))
    mean = features.mean(axis=0)
    return DomainModel(
        mean=mean,
        scale=scale,
        precision=_precision((features - mean) / scale),
        threshold=MARGIN * float(np.quantile(left_out, quantile)),
    )


def strangeness(model: DomainModel, features: FloatArray) -> FloatArray:
    """Distance over threshold, (n,); above 1 the row is out of the domain."""
    return _distance(model.mean, model.scale, model.precision, features) / model.threshold
