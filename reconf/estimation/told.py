"""Uncertainty of SOC as it is told to people and other systems.

The filter's own deviation holds for cells that are of its cell model; gains and captests work with it.
Salvaged modules may be of any maker. `edge/bench/foreign.py` draws such cells (curves up to 15 mV off,
resistances, time constants and capacities tens of per cent off, polarisation nobody knows), and there the
filter's deviation is too small by the factors below: the 90 % quantiles of |error| / (1.645 deviation) in the
worst of four duties, seeds 100 and 101. Other seeds check them (`reconf bench foreign`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.site import Chemistry, Site

FOREIGN_FACTOR: Final[dict[Chemistry, float]] = {
    Chemistry.LMO: 3.5,
    Chemistry.NMC: 2.5,
    Chemistry.NCA: 2.5,
    Chemistry.LFP: 5.0,
}
"""NCA as NMC: no cell of it is in the bench."""
WIDEST_STD_FRAC: Final = 0.29
"""Deviation of a uniform distribution over 0..1: nothing is known at all."""


def factors_of(site: Site) -> FloatArray:
    """(M,) factor of each module; used through `Site.derived`."""
    return np.array([FOREIGN_FACTOR[m.chemistry] for m in site.modules])


def told_soc_std_frac(site: Site, std_frac: FloatArray) -> FloatArray:
    """(M,) deviation of SOC to tell, where the filter's own is `std_frac` (M,)."""
    widened = site.derived(factors_of) * std_frac
    told: FloatArray = np.maximum(np.minimum(widened, WIDEST_STD_FRAC), std_frac)
    return told
