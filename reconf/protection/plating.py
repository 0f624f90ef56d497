"""Largest charge current before lithium plates on the anode.

Published highest constant charge rate that keeps the anode above 0 V against lithium from 20 % SOC on, with
fresh cells: the lower envelope of the parameter sets of Chen et al. 2020 (doi 10.1149/1945-7111/ab9050),
O'Kane et al. 2022 (doi 10.1039/d2cp00417h), O'Regan et al. 2022 (doi 10.1016/j.electacta.2022.140700) and
Ecker et al. 2015 (doi 10.1149/2.0551509jes), as an Arrhenius law in temperature and an exponential in SOC::

    c(T, z) = c_298(z) exp(-Ea/R (1/T - 1/298.15)),     c_298(z) = c_298(0.8) exp(-k (z - 0.8))
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.cells.model import GAS_CONSTANT, ZERO_CELSIUS_K

REFERENCE_K: Final = 298.15
RATE_AT_80_C: Final = 0.39
"""C-rate at 298 K up to 80 % SOC, lowest of the sets (O'Regan 2022)."""
ACTIVATION_J_PER_MOL: Final = 17_800.0
"""Fits 0.15 C at 263 K to 0.39 C at 298 K of that set; at 313 K it gives 0.55 C, which C at 313 K agrees."""
SOC_STEEPNESS: Final = 1.73
"""k: the set of Chen 2020 allows 1.11 C to 50 % and 0.66 C to 80 % at 298 K."""
MARGIN_FRAC: Final = 0.87
"""A margin of 10 mV of anode potential costs 12 to 14 % of the current."""
SOC_FLOOR: Final = 0.3
"""Below it the law would promise more than the sets were asked for."""


def charge_limit_a(
    soc_high_frac: FloatArray,
    temperature_low_degc: FloatArray,
    capacity_ah: FloatArray,
) -> FloatArray:
    """Largest charge current magnitude [A] of each module (M,).

    Args:
        soc_high_frac: SOC of the fullest cell group, with its doubt added.
        temperature_low_degc: lowest temperature the module may have.
        capacity_ah: present capacity; what an aged anode has lost shrinks its limit alike.
    """
    inverse = 1.0 / (temperature_low_degc + ZERO_CELSIUS_K) - 1.0 / REFERENCE_K
    warm = np.exp(-ACTIVATION_J_PER_MOL / GAS_CONSTANT * inverse)
    full = np.exp(-SOC_STEEPNESS * (np.maximum(soc_high_frac, SOC_FLOOR) - 0.8))
    limit: FloatArray = MARGIN_FRAC * RATE_AT_80_C * warm * full * capacity_ah
    return limit
