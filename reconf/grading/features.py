"""Features of a pulse test: 21 voltages at fixed moments, and nothing that knows the SOC.

The table follows the PulseBat protocol (Tao et al., Nat. Commun. 15, 10154 (2024),
doi:10.1038/s41467-024-54454-0): U1 rest; then for each current (0.5C, 1C, and the first half of 1.5C)
charge pulse on, its end, off, rest end, discharge pulse on, its end, off, rest end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from reconf.arrays import FloatArray

N_VOLTAGES = 21
"""Columns U1..U21."""


def raw(voltage_v: FloatArray) -> FloatArray:
    """The voltages themselves. (n, 21) -> (n, 21) [V]."""
    return voltage_v


def shape(voltage_v: FloatArray) -> FloatArray:
    """Rest voltage [V], size of the response [V], and its shape [1]. (n, 21) -> (n, 22).

    Dividing by the mean response separates how large the resistance is from how it is made up of
    ohmic, charge-transfer and diffusion parts, which age differently.
    """
    rest = voltage_v[:, :1]
    response = voltage_v[:, 1:] - rest
    size = np.maximum(np.abs(response).mean(axis=1, keepdims=True), 1e-6)
    return np.concatenate([rest, size, response / size], axis=1)


def steps(voltage_v: FloatArray) -> FloatArray:
    """Rest voltage and the response of each pulse against the rest just before it [V]. -> (n, 21)."""
    columns = [voltage_v[:, 0]]
    for start, before in ((1, 0), (9, 8)):
        for j in range(8):
            origin = before if j < 4 else start + 3
            columns.append(voltage_v[:, start + j] - voltage_v[:, origin])
    for later, origin in ((17, 16), (18, 16), (19, 18), (20, 16)):
        columns.append(voltage_v[:, later] - voltage_v[:, origin])
    return np.stack(columns, axis=1)


FEATURES: Mapping[str, Callable[[FloatArray], FloatArray]] = {"raw": raw, "shape": shape, "steps": steps}


def pair_features(name: str, first_v: FloatArray, second_v: FloatArray) -> FloatArray:
    """Features of two pulses on one cell, the one at lower charge first. (n, 21) twice -> (n, 2 f).

    The rise of the rest voltage between them (given the charge moved) is what one pulse cannot tell.
    """
    make = FEATURES[name]
    return np.concatenate([make(first_v), make(second_v)], axis=1)
