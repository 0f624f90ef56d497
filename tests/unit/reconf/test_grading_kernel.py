import numpy as np
import pytest

from reconf.errors import ParameterError
from reconf.grading.kernel import KernelSpec, fit, leave_group_out, predict


def wavy(rng, n=240):
    x = rng.uniform(-1, 1, (n, 3))
    return x, 85 + 6 * np.sin(2 * x[:, 0]) + 3 * x[:, 1] * x[:, 2]


@pytest.mark.parametrize("kernel", ["rbf", "matern32", "matern52", "laplace"])
def test_learns_a_smooth_function(kernel):
    rng = np.random.default_rng(3)
    x, y = wavy(rng)
    machine = fit(KernelSpec("raw", kernel, 0.7, 1e-3, centres=120), x, y, seed=1)
    fresh, truth = wavy(rng, 100)
    assert np.abs(predict(machine, fresh) - truth).mean() < 0.35


def test_leave_group_out_equals_refitting_without_the_group():
    rng = np.random.default_rng(5)
    x, y = wavy(rng, 60)
    group = np.repeat(np.arange(15), 4)
    # every point a centre: then the closed form is exact up to the centres it keeps
    spec = KernelSpec("raw", "rbf", 0.7, 1e-2, centres=60)
    machine = fit(spec, x, y, seed=1)
    closed = leave_group_out(machine, x, y, group)
    refit = np.empty_like(y)
    for g in range(15):
        held = group == g
        again = fit(KernelSpec("raw", "rbf", 0.7, 1e-2, centres=56), x[~held], y[~held], seed=1)
        refit[held] = predict(again, x[held])
    assert np.corrcoef(closed - y, refit - y)[0, 1] > 0.95
    assert np.abs(closed - y).mean() > np.abs(predict(machine, x) - y).mean()


def test_a_ceiling_keeps_estimates_below_it():
    rng = np.random.default_rng(7)
    x, y = wavy(rng)
    machine = fit(KernelSpec("raw", "matern52", 1.0, 1e-2, ceiling=96.0), x, y, seed=1)
    assert predict(machine, 5 * x).max() < 96.0


def test_unknown_kernel_is_named():
    with pytest.raises(ParameterError, match="cosine"):
        fit(KernelSpec("raw", "cosine", 1.0, 1e-2), np.eye(6), np.arange(6.0), seed=1)
