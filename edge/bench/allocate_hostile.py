"""Structured solver against the reference on drawn and hostile fixed-current problems, by the thousand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from optimizer.fixed import Fixed, checked, violation
from optimizer.structured import solve_fixed
from reconf.compiled import Engine

LAYOUTS: tuple[tuple[int, ...], ...] = ((0, 1), (0, 12), (0, 16, 16, 40, 48))
"""Beginnings of strings: one module alone, one string, several with an empty one among them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both solvers on many problems."""

    cases: int
    worst_difference: float
    """Relative, of the costs."""
    worst_violation: float
    """Of the structured answer, relative."""
    worst_kind: str
    """Kind of the case with the worst difference."""


def drawn(rng: np.random.Generator, starts: tuple[int, ...]) -> Fixed:
    """An ordinary problem."""
    start = np.array(starts, dtype=np.int64)
    n, strings = int(start[-1]), start.size - 1
    of = np.repeat(np.arange(strings), np.diff(start))
    current = rng.uniform(5.0, 30.0, strings)[of]
    v = rng.uniform(30.0, 50.0, n)
    c = current * rng.uniform(0.3, 1.2, n)
    most = np.bincount(of, weights=v * current, minlength=strings).astype(np.float64)
    return Fixed(
        start=start,
        v=v,
        a=rng.uniform(0.1, 30.0, n),
        mu=10.0 * v / np.maximum(c, 0.05),
        c=c,
        lo=np.zeros(n),
        hi=current,
        g=np.full(strings, 0.99),
        k=rng.uniform(0.0, 300.0, strings),
        zlo=0.5 * most,
        zhi=most,
        power_w=float(most.sum() * rng.uniform(0.4, 0.95)),
        rho=100.0,
    )


def _dead_string(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    dead = fixed.string_of == rng.integers(0, fixed.g.size)
    return replace(fixed, hi=np.where(dead, 0.0, fixed.hi))


def _identical(fixed: Fixed, _rng: np.random.Generator) -> Fixed:
    one = np.ones(fixed.v.size)
    return replace(fixed, v=40.0 * one, a=5.0 * one, c=10.0 * one, mu=40.0 * one)


def _overload(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    return replace(fixed, power_w=fixed.power_w * rng.uniform(2.5, 3.5))


def _none_eligible(fixed: Fixed, _rng: np.random.Generator) -> Fixed:
    return replace(fixed, hi=np.zeros(fixed.v.size))


def _stuck(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    """A third stuck out, a third stuck in."""
    kind = rng.integers(0, 3, fixed.v.size)
    hi = np.where(kind == 0, 0.0, fixed.hi)
    return replace(fixed, hi=hi, lo=np.where(kind == 1, hi, 0.0))


def _no_capacity(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    c = fixed.c * (rng.random(fixed.v.size) > 0.4)
    return replace(fixed, c=c, mu=10.0 * fixed.v / np.maximum(c, 0.05))


def _tight_window(fixed: Fixed, rng: np.random.Generator) -> Fixed:
    edge = fixed.zhi * rng.uniform(0.3, 1.05, fixed.g.size)
    return replace(fixed, zlo=edge, zhi=edge)


def _no_power(fixed: Fixed, _rng: np.random.Generator) -> Fixed:
    return replace(fixed, power_w=0.0)


KINDS: dict[str, Callable[[Fixed, np.random.Generator], Fixed]] = {
    "ordinary": lambda fixed, _rng: fixed,
    "dead_string": _dead_string,
    "identical": _identical,
    "overload": _overload,
    "none_eligible": _none_eligible,
    "stuck": _stuck,
    "no_capacity": _no_capacity,
    "tight_window": _tight_window,
    "no_power": _no_power,
}


def hostile(rng: np.random.Generator, starts: tuple[int, ...], kind: str) -> Fixed:
    """One problem of a kind; half of them carry a second kind on top."""
    fixed = KINDS[kind](drawn(rng, starts), rng)
    if rng.random() < 0.5:
        fixed = KINDS[str(rng.choice(list(KINDS)))](fixed, rng)
    return checked(replace(fixed, lo=np.minimum(fixed.lo, fixed.hi)))


def compare(cases: int, seed: int, engine: Engine = "auto") -> Comparison:
    """Both solvers on `cases` problems, all kinds and layouts in turn.

    Raises:
        SolverError: the reference has no answer to a case.
    """
    from optimizer.problem import ReferenceProblem

    rng = np.random.default_rng(seed)
    problems = {starts: ReferenceProblem(np.array(starts, dtype=np.int64)) for starts in LAYOUTS}
    kinds, worst, where, broken = list(KINDS), 0.0, "", 0.0
    for k in range(cases):
        starts, kind = LAYOUTS[k % len(LAYOUTS)], kinds[(k // len(LAYOUTS)) % len(kinds)]
        fixed = hostile(rng, starts, kind)
        told, found = problems[starts].solve(fixed), solve_fixed(fixed, engine)
        difference = cost_difference(told.cost, found.cost)
        broken = max(broken, violation(fixed, found.q))
        if difference > worst:
            worst, where = difference, kind
    return Comparison(cases, worst, broken, where)


def cost_difference(one: float, other: float) -> float:
    """Relative difference of two costs; below a watt it is taken over a watt."""
    return abs(one - other) / max(abs(one), abs(other), 1.0)
