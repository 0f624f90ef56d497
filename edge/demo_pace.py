"""How fast the demo's time may run on this machine, found by trying."""

from __future__ import annotations

import time

import numpy as np

from edge.bench.closed_loop import Loop
from reconf.site import Site
from reconf.twin.truth import draw_truth

FASTEST = 240.0
SLOWEST = 10.0
WARM_TICKS = 8
TRIED_TICKS = 25
WIRES_SHARE = 1.1
"""Reading, writing and publishing over sockets take about as long as deciding."""
STRETCH = 2.8
"""Ticks may come this much later than the site file says before the energy of this site suffers."""


def suitable_time_scale(site: Site, seed: int) -> float:
    """Time scale at which this machine keeps up with the site's ticks, as busy as it is now."""
    rng = np.random.default_rng(seed)
    loop = Loop(site, draw_truth(site, rng, soc_frac=0.8), lambda _: 0.0, seed=seed)
    loop.start()
    taken: list[float] = []
    for tick in range(WARM_TICKS + TRIED_TICKS):
        began = time.perf_counter()
        loop.step()
        if tick >= WARM_TICKS:
            taken.append(time.perf_counter() - began)
    tick_wall_s = float(np.median(taken)) * (1.0 + WIRES_SHARE)
    return float(np.clip(STRETCH * site.timing.tick_s / tick_wall_s, SLOWEST, FASTEST))
