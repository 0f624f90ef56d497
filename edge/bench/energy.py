"""Energy of the policies on the twin: the rules with perfect knowledge, ours in closed loop, and a bound.

`utilisation` is string-side energy, counted while at least 95 % of the asked power is delivered, over what
the same modules give each alone at the run's mean C-rate. The clairvoyant knows true parameters and the
whole future: no schedule can hold the power P longer than T with

    P*T = sum_i v_i*min(r_i, (I + t_i)*T),   I = P_string/V_min,

since a module gives at most its charge r_i and at most the largest useful string current plus its trim.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench.closed_loop import LoopResult, run_closed_loop, stop_when_undelivered
from edge.bench.energy_policies import DELIVERED_MIN_FRAC, RULES, PolicyRun, run_rule
from edge.bench.energy_site import C_RATE, FINE, SOH_MEAN, believed, energy_site, full_truth, request_w
from reconf.site import Chemistry, Site
from reconf.twin.baselines import BaselineRun, ideal_energy

SETTLE_S = 120.0


@dataclass(frozen=True, slots=True)
class SeedResult:
    """All policies on one draw of modules."""

    seed: int
    utilisation: dict[str, float]
    switchings_per_module_hour: dict[str, float]
    clairvoyant_utilisation: float
    violations: int
    fallback_intervals: int


def run(
    modules: int,
    spares: int,
    cv: float,
    seeds: int,
    soh_error: float = 0.0,
    chemistry: str = "NMC",
    strings: int = 2,
    plot: Path | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> dict[str, Any]:
    """The table of `reconf bench energy`.

    Args:
        modules: in series in each string.
        spares: positions beyond what the converter window needs.
        cv: coefficient of variation of SOH.
        seeds: draws of modules.
        soh_error: relative error of the graded SOH our estimator starts from.
        chemistry: of all modules.
        strings: side by side (one string has nothing to be sorted against).
        plot: where a picture goes.
        workers: processes side by side; seeds do not know of each other.
        say: progress.
    """
    results = []
    for done in _all_seeds(modules, spares, cv, seeds, soh_error, Chemistry(chemistry), strings, workers):
        results.append(done)
        seed = done.seed
        say(f"seed {seed}: " + ", ".join(f"{n} {u:.4f}" for n, u in done.utilisation.items()))
    table = summary(results)
    table |= {"modules": modules, "spares": spares, "cv": cv, "seeds": seeds, "strings": strings}
    table |= {"soh_error": soh_error, "chemistry": chemistry, "c_rate": C_RATE}
    if plot is not None:
        draw(table, plot)
    return table


def _all_seeds(
    modules: int, spares: int, cv: float, seeds: int, soh_error: float, chemistry: Chemistry, strings: int,
    workers: int,
) -> Iterator[SeedResult]:  # fmt: skip
    """Results in the order of the seeds."""
    work = partial(one_seed, modules, spares, cv, soh_error=soh_error, chemistry=chemistry, strings=strings)
    if workers <= 1:
        yield from map(work, range(1, seeds + 1))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, range(1, seeds + 1))


def one_seed(
    modules: int, spares: int, cv: float, seed: int, soh_error: float, chemistry: Chemistry, strings: int
) -> SeedResult:
    """Every policy on the same modules."""
    site = energy_site(modules, spares, cv, chemistry, strings, FINE)
    truth, power_w = full_truth(site, seed), request_w(site)
    ideal = ideal_energy(site, truth, C_RATE * SOH_MEAN)
    runs = {name: run_rule(site, truth, power_w, name) for name in RULES}
    known = believed(site, truth, soh_error, np.random.default_rng(seed))
    loop = run_closed_loop(
        known,
        truth,
        lambda _: power_w,
        stop=stop_when_undelivered(DELIVERED_MIN_FRAC, 60.0, SETTLE_S),
        seed=seed,
    )
    runs["reconf"] = counted(loop, power_w)
    best = clairvoyant_kwh(site, ideal, power_w)
    return SeedResult(
        seed=seed,
        utilisation={name: r.energy_kwh / ideal.string_energy_kwh for name, r in runs.items()},
        switchings_per_module_hour={n: r.switchings_per_module_hour for n, r in runs.items()},
        clairvoyant_utilisation=best / ideal.string_energy_kwh,
        violations=sum(r.violations for r in runs.values()),
        fallback_intervals=loop.fallback_intervals,
    )


def counted(loop: LoopResult, power_w: float) -> PolicyRun:
    """Our run by the same rule: energy of the ticks in which 95 % of the request was delivered."""
    given = loop.given_w.sum(axis=1)
    energy = np.diff(loop.string_kwh, prepend=0.0)
    # samples are taken before the physics of their tick, so power belongs to the energy booked up to it
    kwh = float(energy[given >= DELIVERED_MIN_FRAC * power_w].sum())
    hours = float(loop.time_s[-1]) / 3600.0
    rate = loop.switchings / loop.plant.topology.n_modules / hours
    return PolicyRun(kwh, hours, rate, loop.violations)


def clairvoyant_kwh(site: Site, ideal: BaselineRun, power_w: float) -> float:
    """Upper bound on string-side energy of any schedule; see the module docstring.

    Modules alone at the mean rate give their charge at the least loss there is (every string current is at
    least as large), so their energy per charge bounds v_i.
    """
    charge, topology = ideal.charge_ah, site.topology
    mean_v = ideal.string_energy_kwh * 1e3 / float(charge.sum())
    trim = np.array([m.trim_rating_a for m in site.modules])
    low_v = np.array([s.converter.voltage_min_v for s in site.strings])[topology.string_of]
    per_string = string_power_w(site, power_w)
    current = per_string / low_v
    total_w = per_string * topology.n_strings
    low, high = 0.0, 2.0 * ideal.string_energy_kwh * 1e3 / total_w
    for _ in range(60):
        hours = 0.5 * (low + high)
        if mean_v * float(np.minimum(charge, (current + trim) * hours).sum()) >= total_w * hours:
            low = hours
        else:
            high = hours
    return total_w * low / 1e3


def string_power_w(site: Site, power_w: float) -> float:
    """String-side power of each string when the bus power is shared evenly."""
    converter = site.strings[0].converter
    share = power_w / len(site.strings)
    middle_v = 0.5 * (converter.voltage_min_v + converter.voltage_max_v)
    heat = converter.loss_quadratic_w_per_a2 * (share / middle_v) ** 2
    return share * (1.0 + converter.loss_linear_frac) + converter.loss_fixed_w + heat


def summary(results: list[SeedResult]) -> dict[str, Any]:
    """Means with 95 % intervals, in the keys of the table."""
    names = list(results[0].utilisation)
    policies = {}
    for name in names:
        values = [r.utilisation[name] for r in results]
        policies[name] = {
            "utilisation_mean": statistics.fmean(values),
            "utilisation_ci95": interval95(values),
            "switchings_per_module_hour": statistics.fmean(
                r.switchings_per_module_hour[name] for r in results
            ),
        }
    ratio = [r.utilisation["reconf"] / r.clairvoyant_utilisation for r in results]
    ahead = all(u <= r.clairvoyant_utilisation + 1e-9 for r in results for u in r.utilisation.values())
    return {
        "policies": policies,
        "clairvoyant_ratio": statistics.fmean(ratio),
        "clairvoyant_utilisation": statistics.fmean(r.clairvoyant_utilisation for r in results),
        "clairvoyant_ahead_of_all": ahead,
        "violations": sum(r.violations for r in results),
        "fallback_intervals": sum(r.fallback_intervals for r in results),
        "utilisation_by_seed": {name: [r.utilisation[name] for r in results] for name in names},
    }


def interval95(values: list[float]) -> list[float]:
    """Ends of the 95 % interval of the mean (Student's t); both at the value for a single one."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return [mean, mean]
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return [mean - half, mean + half]


def draw(table: dict[str, Any], path: Path) -> None:
    """Utilisation of the policies as bars with their intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    policies = table["policies"]
    names = sorted(policies, key=lambda n: policies[n]["utilisation_mean"])
    mean = [policies[n]["utilisation_mean"] for n in names]
    ends = np.array([policies[n]["utilisation_ci95"] for n in names])
    figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    error = np.abs(ends - np.array(mean)[:, None]).T
    colours = ["#1b6ca8" if n == "reconf" else "#b8c4ce" for n in names]
    axes.barh(names, mean, xerr=error, color=colours)
    axes.axvline(table["clairvoyant_utilisation"], color="#c0392b", linewidth=1.0, label="clairvoyant bound")
    axes.set_xlim(min(0.6, *mean), 1.02)
    axes.set_xlabel("energy over what the modules give alone")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
