"""Energy of series strings, fixed or time-shared, in closed form and vectorised over strings.

A string of N positions carries the current I for the time T. In a *fixed* string every module carries
all of it. In a *time-shared* string N - m modules are inserted at any time and m rest in turn; the
inserted shares of an interval can be any d in [0, 1]^N with sum d = N - m, because the 0/1 vectors are
the vertices of that set (McNaughton, Management Science 6 (1959) 1, doi 10.1287/mnsc.6.1.1).
"""

from __future__ import annotations

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


def string_energy_wh(capacity_ah: FloatArray, voltage_v: FloatArray, spares: int) -> FloatArray:
    """Energy of strings [Wh], (..., N) -> (...): sum of min(r_i, q) times each module's voltage.

    Args:
        capacity_ah: (..., N).
        voltage_v: (..., N) or broadcastable; mean voltage under load, `loaded_voltage_v`.
        spares: modules that may rest at any time.
    """
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
