"""Energy of series strings, fixed or time-shared, in closed form and vectorised over strings.

A string of N positions carries the current I for the time T. In a *fixed* string every module carries
all of it. In a *time-shared* string N - m modules are inserted at any time and m rest in turn; the
inserted shares of an interval can be any d in [0, 1]^N with sum d = N - m, because the 0/1 vectors are
the vertices of that set (McNaughton, Management Science 6 (1959) 1, doi 10.1287/mnsc.6.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconf.arrays import FloatArray
from reconf.errors import ParameterError


def string_charge_ah(capacity_ah: FloatArray, spares: int) -> FloatArray:
    """Longest charge q = I·T a string can carry [Ah].

    q is the largest with sum_i min(r_i, q) >= (N - m) q. The left side is concave in q and equals
    min over j of (C_j + (N - j) q), C_j the sum of the j smallest r; so q = min over j > m of
    C_j / (j - m). For m = 0 that is the smallest r.

    Args:
        capacity_ah: (..., N) dischargeable charge r of the modules.
        spares: m, modules that may rest at any time.

    Raises:
        ParameterError: no module would be left inserted.
    """
    length = capacity_ah.shape[-1]
    if not 0 <= spares < length:
        raise ParameterError(f"{spares} spares in strings of {length}: 0..{length - 1} can rest")
    if spares == 0:
        smallest: FloatArray = capacity_ah.min(axis=-1)
        return smallest
    sums = np.cumsum(np.sort(capacity_ah, axis=-1), axis=-1)[..., spares:]
    charge: FloatArray = (sums / np.arange(1, length - spares + 1)).min(axis=-1)
    return charge


@dataclass(frozen=True, slots=True)
class Trim:
    """Small converters between the modules of a string and its trim bus."""

    share_frac: float
    """Trim rating over string current: what a module may give or take beside the string, per q."""
    efficiency_frac: float
    """Module to trim bus to module."""


NO_TRIM = Trim(0.0, 1.0)
ROUNDING = 1e-11
HALVINGS = 40
"""Bisections of q: to 1e-12 of the largest module."""


def _trimmed(capacity_ah: FloatArray, charge_ah: FloatArray, trim: Trim) -> tuple[FloatArray, FloatArray]:
    """(charge each module passes into the string without trim, what trim adds to it), both (..., N).

    Modules above q give min(rho q, r - q), modules below take min(rho q, q - r); the larger side is scaled
    down so that the trim bus balances with its losses.
    """
    q = charge_ah[..., None]
    own = np.minimum(capacity_ah, q)
    give = np.minimum(trim.share_frac * q, capacity_ah - own).sum(axis=-1)
    room = np.minimum(trim.share_frac * q, q - own)
    wanted = room.sum(axis=-1)
    flows = np.minimum(trim.efficiency_frac * give, wanted)
    taken: FloatArray = room * (flows / np.maximum(wanted, 1e-12))[..., None]
    return own, taken


def trimmed_charge_ah(capacity_ah: FloatArray, spares: int, trim: Trim) -> FloatArray:
    """Longest charge a string with trim converters can carry [Ah], (..., N) -> (...).

    A schedule that carries q also carries any smaller charge (run it for a shorter time), so the largest q
    with sum_i (min(r_i, q) + taken_i) >= (N - m) q is found by halving.
    """
    plain = string_charge_ah(capacity_ah, spares)
    if trim.share_frac <= 0.0:
        return plain
    need = capacity_ah.shape[-1] - spares
    low, high = plain, np.maximum(capacity_ah.sum(axis=-1) / need, plain)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        own, taken = _trimmed(capacity_ah, middle, trim)
        holds = (own + taken).sum(axis=-1) >= need * middle * (1.0 - ROUNDING)
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return low


def string_energy_wh(
    capacity_ah: FloatArray, voltage_v: FloatArray, spares: int, trim: Trim = NO_TRIM
) -> FloatArray:
    """Energy of strings [Wh], (..., N) -> (...): what passes each position times its module's voltage.

    Without trim that is the sum of min(r_i, q) v_i.

    Args:
        capacity_ah: (..., N).
        voltage_v: (..., N) or broadcastable; mean voltage under load, `loaded_voltage_v`.
        spares: modules that may rest at any time.
        trim: trim converters of the string's modules.
    """
    if trim.share_frac > 0.0:
        own, taken = _trimmed(capacity_ah, trimmed_charge_ah(capacity_ah, spares, trim), trim)
        shared: FloatArray = ((own + taken) * voltage_v).sum(axis=-1)
        return shared
    charge = string_charge_ah(capacity_ah, spares)
    energy: FloatArray = (np.minimum(capacity_ah, charge[..., None]) * voltage_v).sum(axis=-1)
    return energy


def loaded_voltage_v(voltage_v: FloatArray, resistance_ohm: FloatArray, current_a: float) -> FloatArray:
    """Mean voltage of modules while they carry the string current I [V]: U - I·R.

    A time-shared module carries I or nothing, so its loss per ampere-hour is I·R at any duty.

    Raises:
        ParameterError: the current takes more than half of a module's voltage.
    """
    loaded: FloatArray = voltage_v - current_a * resistance_ohm
    if (loaded < 0.5 * voltage_v).any():
        worst = int(np.argmin(loaded / voltage_v))
        raise ParameterError(
            f"module {worst}: {current_a:g} A over {resistance_ohm[worst]:g} ohm takes more than half of "
            f"its {voltage_v[worst]:g} V; check the resistance or lower the current"
        )
    return loaded
