"""Cases for the allocator's tests."""

from __future__ import annotations

import numpy as np

from optimizer.fixed import Fixed, checked


def random_fixed(rng: np.random.Generator, modules: int, strings: int, *, hostile: bool) -> Fixed:
    """A fixed-current problem; hostile ones have empty strings, dead modules, forced ones and 3x overload."""
    if hostile:
        cuts = np.sort(rng.integers(0, modules + 1, strings - 1))
    else:
        cuts = (np.arange(1, strings) * modules) // strings
    start = np.concatenate(([0], cuts, [modules])).astype(np.int64)
    of = np.repeat(np.arange(strings), np.diff(start))
    current = rng.uniform(5.0, 30.0, strings)[of]
    v = rng.uniform(30.0, 50.0, modules)
    c = current * rng.uniform(0.3, 1.2, modules)
    hi, lo = current.copy(), np.zeros(modules)
    if hostile:
        hi *= rng.random(modules) > rng.choice([0.05, 0.5, 1.0])
        lo = np.where(rng.random(modules) < 0.05, hi, 0.0)
        c *= rng.random(modules) > 0.1
        if rng.random() < 0.2:
            v[:], c[:] = 40.0, 10.0
    most = np.bincount(of, weights=v * hi, minlength=strings)
    zlo = most * rng.uniform(0.3, 1.1, strings)
    top = 3.0 if hostile else 0.95
    return checked(
        Fixed(
            start=start,
            v=v,
            a=rng.uniform(0.1, 30.0, modules),
            mu=10.0 * v / np.maximum(c, 0.05),
            c=c,
            lo=lo,
            hi=hi,
            g=np.full(strings, 0.99),
            k=rng.uniform(0.0, 300.0, strings),
            zlo=zlo,
            zhi=np.maximum(zlo, most * rng.uniform(0.7, 1.0, strings)),
            power_w=float(most.sum() * rng.uniform(0.0, top)),
            rho=100.0,
        )
    )
