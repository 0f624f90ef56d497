"""Time and truth of the structured solver against cvxpy on the identical problem, and the certified gap.

Both solve the fixed-current problem of the same interval (`optimizer.fixed`): the reference through cvxpy
with PIQP, the faster of its parametrised form (DPP) and of `ignore_dpp`, re-solved in the same process with
every parameter changed; the structured solver beside it. Times are medians over seeds of the best of several
runs.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.bench.allocate_case import draw_case
from edge.bench.allocate_hostile import compare
from optimizer.ahead import looking_ahead
from optimizer.allocate import SHORT_FRAC, proven, to_plan
from optimizer.certify import certify
from optimizer.fixed import Fixed, make, violation
from optimizer.horizon import solve_horizon
from optimizer.model import Model, at_power, build
from optimizer.result import AllocationInput
from optimizer.solution import Solution
from optimizer.solve import deliverable, solve
from optimizer.structured import solve_fixed

if TYPE_CHECKING:
    from optimizer.problem import ReferenceProblem

REPEATS = 5
HORIZON_INTERVAL_S = 900.0
DPP_MAX_MODULES = 2000
REFERENCE_MAX_MODULES = 20_000
GAP_MAX_MODULES = 2000
"""Sites above this are several edges in practice; their gap is taken from a part of the strings."""


def run(
    modules: int,
    strings: int,
    seeds: int,
    horizon: int = 1,
    gap_seeds: int = 20,
    plot: Path | None = None,
    compare_cases: int = 2000,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> dict[str, Any]:
    """The table of `reconf bench allocate`."""
    drawn = [draw_case(modules, strings, seed) for seed in range(1, seeds + 1)]
    models = [
        at_power(m, min(m.power_w, float(deliverable(m).sum()))) for m in (build(*case) for case in drawn)
    ]
    found = [solve(m, case[1]) for m, case in zip(models, drawn, strict=True)]
    problems = [make(m, f.current_a, f.trim_a) for m, f in zip(models, found, strict=True)]
    say("structured solver")
    structured = [_structured(p) for p in problems]
    whole_ms = [_best_ms(partial(solve, m, c[1]), 3) for m, c in zip(models, drawn, strict=True)]
    table: dict[str, Any] = {"modules": modules, "strings": strings, "horizon": horizon}
    table["structured_ms"] = statistics.median(ms for ms, _, _ in structured)
    table["interval_ms"] = statistics.median(whole_ms)
    table["max_violation"] = max(v for _, _, v in structured)
    if horizon > 1:
        table |= _ahead(models, [case[1] for case in drawn], horizon)
    if modules <= REFERENCE_MAX_MODULES:
        say("reference (cvxpy)")
        table |= _reference(problems, [cost for _, cost, _ in structured])
        table["ratio"] = table["reference_ms"] / table["structured_ms"]
    else:
        table |= {"reference_solver": "none above 20000 modules", "reference_ms": None, "ratio": None}
        table |= {"relative_cost_difference": None, "reference_compile_s": None, "reference_rss_mib": None}
    say("random and hostile cases")
    table |= _compared(compare_cases)
    say("certified gap")
    gaps = _gaps(modules, strings, gap_seeds)
    table |= {"gap_p50": float(np.percentile(gaps, 50)), "gap_p99": float(np.percentile(gaps, 99))}
    table["gap_samples"] = len(gaps)
    table["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    if plot is not None:
        draw(gaps, table, plot)
    return table


def _compared(cases: int) -> dict[str, Any]:
    """Both solvers on many small problems of every hostile kind."""
    if cases <= 0:
        return {}
    found = compare(cases, seed=1)
    return {
        "compared_cases": found.cases,
        "compared_cost_difference": found.worst_difference,
        "compared_violation": found.worst_violation,
    }


def _ahead(models: list[Model], asked: list[AllocationInput], horizon: int) -> dict[str, float]:
    """Times with the coming intervals known: their effect on this one, and all of them rolled out."""
    look, roll = [], []
    for model, question in zip(models, asked, strict=True):
        # up to twice the present power in a peak, then a charge window
        coming = model.sign * model.power_w * np.sin(np.linspace(0.5, 4.0, horizon - 1)) * 2.0
        look.append(_best_ms(partial(looking_ahead, model, coming, HORIZON_INTERVAL_S), 3))
        powers = np.abs(coming[coming * model.sign > 0.0])
        roll.append(_best_ms(partial(solve_horizon, model, question, [model.power_w, *powers]), 1))
    return {"looking_ahead_ms": statistics.median(look), "horizon_ms": statistics.median(roll)}


def _served(model: Model) -> Model:
    """The part of the request that can be served, as the allocator itself does."""
    return at_power(model, min(model.power_w, float(deliverable(model).sum())))


def _best_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least wall time of a few runs [ms]; the first, which may compile, is not counted."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def _structured(fixed: Fixed) -> tuple[float, float, float]:
    """Best time [ms], cost and violation of the structured solver."""
    answer = solve_fixed(fixed)
    return _best_ms(lambda: solve_fixed(fixed)), answer.cost, violation(fixed, answer.q)


def _reference(problems: list[Fixed], costs: list[float]) -> dict[str, Any]:
    """The faster form of cvxpy + PIQP: median re-solve, first compile, cost difference, memory."""
    from optimizer.problem import ReferenceProblem

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    forms = [True, False] if problems[0].v.size <= DPP_MAX_MODULES else [False]
    best: dict[str, Any] = {}
    for dpp in forms:
        problem = ReferenceProblem(problems[0].start, enforce_dpp=dpp)
        began = time.perf_counter()
        problem.solve(problems[0], "PIQP")
        compiled_s = time.perf_counter() - began
        timed = [_resolve(problem, fixed) for fixed in problems]
        ms = statistics.median(t for t, _ in timed)
        if not best or ms < best["reference_ms"]:
            difference = max(abs(c - r) / max(abs(r), 1e-9) for c, (_, r) in zip(costs, timed, strict=True))
            best = {
                "reference_solver": f"cvxpy + PIQP, {'DPP' if dpp else 'ignore_dpp'}",
                "reference_ms": ms,
                "relative_cost_difference": difference,
                "reference_compile_s": compiled_s,
            }
    best["reference_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0 - before
    return best


def _resolve(problem: ReferenceProblem, fixed: Fixed) -> tuple[float, float]:
    """Least of three times [ms] of feeding and solving again, and the cost."""
    times, cost = [], 0.0
    other = replace(fixed, c=fixed.c * 1.01, power_w=fixed.power_w * 0.99)
    for _ in range(3):
        problem.feed(other)
        began = time.perf_counter()
        cost = problem.solve(fixed, "PIQP").cost
        times.append(1e3 * (time.perf_counter() - began))
    return min(times), cost


def _gaps(modules: int, strings: int, seeds: int) -> list[float]:
    """Certified gaps of whole plans over many cases; large sites by as many strings as stay below the cap."""
    per_string = max(modules // strings, 1)
    few = max(min(strings, GAP_MAX_MODULES // per_string), 1)
    gaps = []
    for seed in range(1001, 1001 + seeds):
        site, asked = draw_case(per_string * few, few, seed)
        model = build(site, asked)
        served = _served(model)
        if served.power_w < model.power_w * (1.0 - SHORT_FRAC):
            continue  # power is short: nothing to choose, so no gap (see optimizer.allocate)
        gaps.append(_gap(served, solve(served, asked), site, asked))
    return gaps


def _gap(model: Model, solution: Solution, site: Any, asked: Any) -> float:
    found = proven(model, asked, solution)
    plan = to_plan(site, model, asked, found.solution, 0.0)
    return certify(site, model, asked, plan, found.solution, found.bound_w).gap_frac


def draw(gaps: list[float], table: dict[str, Any], path: Path) -> None:
    """Distribution of the certified gap."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 3.2), layout="constrained")
    share = np.arange(1, len(gaps) + 1) / len(gaps)
    axes.step(100.0 * np.sort(gaps), share, where="post", color="#1b6ca8")
    axes.set_xlabel("certified gap over the plan's own losses [%]")
    axes.set_ylabel("share of cases")
    axes.set_title(f"{table['modules']} modules, {table['strings']} strings: {table['structured_ms']:.3f} ms")
    figure.savefig(path, dpi=150)
    plt.close(figure)
