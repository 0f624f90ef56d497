"""The worked examples of docs/allocation.md."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.fixed import Fixed, checked
from optimizer.structured import Engine, solve_fixed


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_four_modules_at_the_lower_edge_of_the_window(engine: Engine) -> None:
    target = np.array([14.0, 8.0, 6.0, 4.0])
    current = 1280.0 / 120.0
    fixed = checked(
        Fixed(
            start=np.array([0, 4]),
            v=np.full(4, 40.0),
            a=np.zeros(4),
            mu=400.0 / target,
            c=target,
            lo=np.zeros(4),
            hi=np.full(4, current),
            g=np.ones(1),
            k=np.zeros(1),
            zlo=np.full(1, 120.0 * current),
            zhi=np.full(1, 160.0 * current),
            power_w=1280.0,
            rho=100.0,
        )
    )
    q = solve_fixed(fixed, engine).q
    np.testing.assert_allclose(q, [10.667, 9.481, 7.111, 4.741], atol=1e-3)
    np.testing.assert_allclose((q / current).sum(), 3.0, atol=1e-9)
