from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from allocator_cases import random_fixed

from edge.bench.allocate_hostile import KINDS, LAYOUTS, compare, drawn
from optimizer.fixed import Fixed, checked, objective, violation
from optimizer.problem import ReferenceProblem, second_opinion
from optimizer.share import share_by_curves, string_curve
from optimizer.structured import solve_fixed
from reconf.compiled import Engine
from reconf.errors import ParameterError


def agree(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other), 1.0)


@pytest.mark.parametrize("hostile", [False, True])
def test_engines_agree_on_many_cases_and_keep_every_bound(hostile: bool) -> None:
    rng = np.random.default_rng(7)
    for _ in range(1000):
        fixed = random_fixed(rng, int(rng.integers(1, 60)), int(rng.integers(1, 6)), hostile=hostile)
        plain, fast = solve_fixed(fixed, "numpy"), solve_fixed(fixed, "compiled")
        assert agree(plain.cost, fast.cost)
        assert violation(fixed, plain.q) <= 1e-9
        assert violation(fixed, fast.q) <= 1e-9


@pytest.mark.parametrize("hostile", [False, True])
def test_structured_agrees_with_the_reference(hostile: bool) -> None:
    rng = np.random.default_rng(11)
    for _ in range(12):
        first = random_fixed(rng, int(rng.integers(1, 50)), int(rng.integers(1, 5)), hostile=hostile)
        problem = ReferenceProblem(first.start)
        for _ in range(6):
            told, found = problem.solve(first), solve_fixed(first)
            # the reference stops at its own tolerance; ours may only be better
            assert agree(found.cost, told.cost)
            assert found.cost <= told.cost + 1e-6 * max(abs(told.cost), 1.0)
            first = _shaken(first, rng)


def _shaken(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    from dataclasses import replace

    return checked(
        replace(fixed, power_w=fixed.power_w * rng.uniform(0.5, 1.5), c=fixed.c * rng.uniform(0.8, 1.2))
    )


def test_two_solvers_of_the_reference_agree() -> None:
    rng = np.random.default_rng(3)
    fixed = random_fixed(rng, 48, 2, hostile=False)
    assert second_opinion(ReferenceProblem(fixed.start), fixed).difference < 1e-6


def test_reference_is_parametrised_and_names_its_constraints() -> None:
    problem = ReferenceProblem(np.array([0, 3, 5], dtype=np.int64))
    assert problem.dpp
    assert set(problem.constraints) == {"module_min", "module_max", "window_min", "window_max", "site_power"}


def test_no_answer_is_cheaper_than_the_optimum() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        fixed = random_fixed(rng, 20, 2, hostile=False)
        best = solve_fixed(fixed)
        for _ in range(20):
            other = np.clip(best.q + rng.normal(0.0, 0.5, best.q.size), fixed.lo, fixed.hi)
            if violation(fixed, other) == 0.0:
                assert objective(fixed, other) >= best.cost - 1e-9 * abs(best.cost)


def test_bad_data_is_refused_by_name() -> None:
    rng = np.random.default_rng(1)
    good = random_fixed(rng, 4, 1, hostile=False)
    with pytest.raises(ParameterError, match="mu"):
        checked(replace(good, mu=np.array([1.0, np.nan, 1.0, 1.0])))
    with pytest.raises(ParameterError, match="positive"):
        checked(replace(good, v=-good.v))
    with pytest.raises(ParameterError, match="lower bound"):
        checked(replace(good, lo=good.hi + 1.0))


def test_one_module_at_its_bounds_by_hand() -> None:
    one, none = np.ones(1), np.zeros(1)
    fixed = checked(
        Fixed(
            start=np.array([0, 1]),
            v=40 * one,
            a=one,
            mu=10 * one,
            c=5 * one,
            lo=none,
            hi=8 * one,
            g=one,
            k=none,
            zlo=none,
            zhi=400 * one,
            power_w=200.0,
            rho=100.0,
        )
    )
    # 40 V * q = 200 W: q = 5 = c, so only the linear term costs: 1 W/A * 5 A
    assert solve_fixed(fixed).q[0] == pytest.approx(5.0, abs=1e-12)
    assert solve_fixed(fixed).cost == pytest.approx(5.0, abs=1e-9)


def test_shares_by_cost_curves_are_those_of_the_joint_problem() -> None:
    rng = np.random.default_rng(21)
    for _ in range(200):
        fixed = random_fixed(rng, 40, 4, hostile=False)
        joint = solve_fixed(fixed)
        if abs(joint.unserved_w) > 1e-6 * max(fixed.power_w, 1.0):
            continue
        curves = [string_curve(fixed, s) for s in range(4)]
        shares, price = share_by_curves(curves, fixed.power_w)
        load = np.bincount(fixed.string_of, weights=fixed.v * joint.q, minlength=4)
        np.testing.assert_allclose(shares, fixed.g * load - fixed.k, rtol=1e-7, atol=1e-6)
        assert [c.power_at(price) for c in curves] == pytest.approx(list(shares), rel=1e-7, abs=1e-6)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_both_solvers_agree_on_every_hostile_kind(engine: Engine) -> None:
    found = compare(3 * len(LAYOUTS) * len(KINDS), seed=5, engine=engine)
    assert found.worst_difference <= 1e-6, found.worst_kind
    assert found.worst_violation <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_kinds_are_what_they_say(kind: str) -> None:
    rng = np.random.default_rng(4)
    ordinary = drawn(rng, LAYOUTS[2])
    fixed = checked(KINDS[kind](ordinary, rng))
    answer = solve_fixed(fixed)
    match kind:
        case "dead_string":
            load = np.bincount(fixed.string_of, weights=fixed.v * fixed.hi, minlength=4)
            assert (load[np.diff(fixed.start) > 0] == 0.0).sum() <= 1
        case "identical":
            free = (answer.q > fixed.lo) & (answer.q < fixed.hi)
            for s in range(4):
                # equal modules carry equal shares wherever none is at a bound
                own = answer.q[(fixed.string_of == s) & free]
                assert own.size == 0 or np.ptp(own) <= 1e-9
        case "overload":
            assert answer.unserved_w > 0.0
        case "none_eligible":
            assert (answer.q == 0.0).all()
        case "stuck":
            stuck = fixed.lo == fixed.hi
            assert stuck.any()
            np.testing.assert_array_equal(answer.q[stuck], fixed.hi[stuck])
        case "no_capacity":
            assert (fixed.c == 0.0).any()
        case "tight_window":
            load = np.bincount(fixed.string_of, weights=fixed.v * answer.q, minlength=4)
            np.testing.assert_allclose(load, fixed.zlo, rtol=1e-9, atol=1e-9)
        case "no_power":
            assert fixed.power_w == 0.0
        case other:
            assert other == "ordinary"
            assert abs(answer.unserved_w) <= 1e-6 * fixed.power_w
