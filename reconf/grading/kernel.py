"""Kernel regression on a few centres: small enough to read, exact enough to grade with.

Subset of regressors (Smola & Bartlett 2001; Rasmussen & Williams 2006, sect. 8.3.1): the answer is
f(x) = b + k(x, C) w with (Kn' Kn + ridge Kc) w = Kn' y, where C are k-means centres of the training
features. Only centres and weights are kept, no measured row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from reconf.arrays import FloatArray, IntArray
from reconf.errors import ParameterError

SQRT3 = 3.0**0.5
SQRT5 = 5.0**0.5


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One member of a committee, before it is fitted."""

    features: str
    """Name in `reconf.grading.features.FEATURES`."""
    kernel: str
    """`rbf`, `matern32`, `matern52` or `laplace`."""
    length: float
    """Length scale in units of the root of the number of features."""
    ridge: float
    linear: float = 0.1
    """Weight of the linear kernel added to it."""
    ceiling: float = 0.0
    """SOH [points] above every cell; where set, the log of the distance to it is regressed."""
    components: int = 0
    """Principal components kept, scaled by the root of their spread; 0: plain standardisation."""
    centres: int = 250


@dataclass(frozen=True, slots=True)
class KernelMachine:
    """A fitted member."""

    spec: KernelSpec
    mean: FloatArray
    """(f,)"""
    projection: FloatArray
    """(f, p) from centred features to the kernel's space."""
    centres: FloatArray
    """(m, p)"""
    weights: FloatArray
    """(m,)"""
    offset: float


def _exp(x: FloatArray) -> FloatArray:
    value: FloatArray = np.exp(x)
    return value


def _profile(kernel: str, d2: FloatArray) -> FloatArray:
    """Stationary kernels of the squared scaled distance (Rasmussen & Williams 2006, eq. 4.9, 4.17)."""
    r: FloatArray = np.sqrt(d2)
    if kernel == "rbf":
        return _exp(-d2 / 2)
    if kernel == "matern32":
        return np.multiply(1 + SQRT3 * r, _exp(-SQRT3 * r))
    if kernel == "matern52":
        return np.multiply(1 + SQRT5 * r + 5 * d2 / 3, _exp(-SQRT5 * r))
    if kernel == "laplace":
        return _exp(-r)
    raise ParameterError(f"unknown kernel {kernel!r}; known: rbf, matern32, matern52, laplace")


def gram(spec: KernelSpec, a: FloatArray, b: FloatArray) -> FloatArray:
    """Kernel between rows of `a` (n, p) and `b` (m, p) -> (n, m)."""
    d2: FloatArray = cdist(a, b, "sqeuclidean") / (spec.length**2 * a.shape[1])
    value: FloatArray = _profile(spec.kernel, d2) + spec.linear * (a @ b.T) / a.shape[1]
    return value


def _projection(spec: KernelSpec, centred: FloatArray) -> FloatArray:
    scale = np.maximum(centred.std(axis=0), 1e-9)
    if not spec.components:
        plain: FloatArray = np.diag(1 / scale)
        return plain
    _, spread, axes = np.linalg.svd(centred / scale, full_matrices=False)
    keep = min(spec.components, len(spread))
    gain = (spread[:keep] / np.sqrt(len(centred))) ** -0.5
    whitened: FloatArray = (axes[:keep].T * gain) / scale[:, None]
    return whitened


def to_target(spec: KernelSpec, soh_points: FloatArray) -> FloatArray:
    """What is regressed."""
    if not spec.ceiling:
        return soh_points
    target: FloatArray = -10.0 * np.log(np.maximum(spec.ceiling - soh_points, 0.3))
    return target


def from_target(spec: KernelSpec, target: FloatArray) -> FloatArray:
    """Inverse of `to_target` [points]."""
    if not spec.ceiling:
        return target
    return spec.ceiling - np.exp(-target / 10.0)


def fit(spec: KernelSpec, features: FloatArray, soh_points: FloatArray, seed: int) -> KernelMachine:
    """Fit one member on features (n, f) and SOH (n,) [points]."""
    mean = features.mean(axis=0)
    projection = _projection(spec, features - mean)
    points = (features - mean) @ projection
    count = min(spec.centres, len(points))
    centres, _ = kmeans2(
        points, count, minit="points", seed=np.random.default_rng(seed), iter=8, missing="warn"
    )
    target = to_target(spec, soh_points)
    offset = float(target.mean())
    cross = gram(spec, points, centres)
    system = cross.T @ cross + spec.ridge * gram(spec, centres, centres)
    system[np.diag_indices(count)] += 1e-9 * np.trace(system) / count
    weights = cho_solve(cho_factor(system), cross.T @ (target - offset))
    return KernelMachine(spec, mean, projection, centres, weights, offset)


def predict(machine: KernelMachine, features: FloatArray) -> FloatArray:
    """SOH [points] of features (n, f) -> (n,)."""
    points = (features - machine.mean) @ machine.projection
    target = machine.offset + gram(machine.spec, points, machine.centres) @ machine.weights
    return from_target(machine.spec, target)


def leave_group_out(
    machine: KernelMachine, features: FloatArray, soh_points: FloatArray, group: IntArray
) -> FloatArray:
    """Predictions [points] for every row as if its own group had not been in the training.

    Closed form of ridge regression: r_g = (I - H_gg)^-1 (y - H y)_g with the hat matrix H.
    """
    spec = machine.spec
    points = (features - machine.mean) @ machine.projection
    cross = gram(spec, points, machine.centres)
    system = cross.T @ cross + spec.ridge * gram(spec, machine.centres, machine.centres)
    system[np.diag_indices(len(system))] += 1e-9 * np.trace(system) / len(system)
    factor = cho_factor(system)
    target = to_target(spec, soh_points) - machine.offset
    residual = target - cross @ cho_solve(factor, cross.T @ target)
    out = np.empty_like(target)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        hat = cross[rows] @ cho_solve(factor, cross[rows].T)
        out[rows] = np.linalg.solve(np.eye(len(rows)) - hat, residual[rows])
    return from_target(spec, machine.offset + target - out)
