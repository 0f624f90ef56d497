"""The plating guard against PyBaMM: what the full model's anode sees, and what the guard gives up.

For each parameter set and temperature the guard charges a cell of that set from empty with the table of the
same set. PyBaMM's Doyle-Fuller-Newman model (and its SPMe) run the same current; then the DFN is charged with
its anode held at 0 V against lithium, which is all a guard could have given on that charge. Held so from
rests on the way as well it tells what a guard could have given that does not know where a charge began, and
held at the guard's own margin what is lost beside the margin. What the envelope over all sets costs on top
is told apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from edge.bench.plating_dfn import CellRun, held, under_profile
from edge.plating_burst import burst_rates
from edge.plating_follow import HIGHEST_RATE_PER_H, START_SOC_FRAC, STEP_SOC_FRAC
from edge.plating_table import MARGIN_V, SOC_NODES, margin_of, over_rests, table_of
from reconf.arrays import FloatArray
from reconf.cells.model import ZERO_CELSIUS_K
from reconf.electrochem.parameters import SETS, load_anode_set
from reconf.protection.plating import charge_limit_a

TEMPERATURES_K: Final = (263.15, 273.15, 283.15, 298.15, 313.15)
AROUND_K: Final = np.array([-5.0, -2.5, 0.0, 2.5, 5.0])
"""Nodes of the table about a temperature and the checks between them."""
END_SOC_FRAC: Final = 0.97
COMPARED_SOC: Final = np.linspace(0.2, 0.95, 76)
TOLD_SOC: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
RESTS_SOC_FRAC: Final = (0.3, 0.5, 0.6)
"""Rests that the full model is charged from as well, beside empty."""
HELD: Final = "DFN held"
STRICT: Final = "given_up_"
AGAINST: Final = (STRICT, "given_up_at_margin_", "given_up_any_rest_")
"""Beginnings of the keys of what the guard leaves: of a charge held at 0 V from empty, of one held at the
margin, of the lowest of charges held at 0 V from several rests. The strict one alone takes far less time."""
AT_THE_CAP: Final = 0.99
"""Share of the guard's highest rate from which neither it nor the anode says anything of the other."""


def run(
    sets: Sequence[str] = SETS,
    temperatures_k: Sequence[float] = TEMPERATURES_K,
    models: Sequence[str] = ("DFN", "SPMe"),
    against: Sequence[str] = AGAINST,
    progress: Callable[[str], None] = lambda _text: None,
    known: Mapping[str, Mapping[str, dict[str, Any]]] | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda _result: None,
) -> dict[str, Any]:
    """The whole comparison.

    Args:
        sets: names of parameter sets.
        temperatures_k: of the cells.
        models: of PyBaMM.
        against: what the guard is held against, of `AGAINST`.
        progress: told every case.
        known: `sets` of an earlier result; its cases are not solved again.
        keep: told the result so far after every case.

    Returns:
        `sets`: by name and temperature [K]: `min_dfn_mv` and `min_spme_mv` lowest anode potential under the
        guard's current; shares of the DFN's own current that the guard leaves, each averaged over SOC and,
        with `_worst`, at the worst SOC: `given_up_frac` of a charge held at 0 V from empty on (the strict
        one), `given_up_at_margin_frac` of one held at the guard's margin, `given_up_any_rest_frac` of the
        lowest of charges held at 0 V from empty and from `RESTS_SOC_FRAC`; each with its `_worst_soc_frac`
        (a case PyBaMM could not solve has no such keys, and is named in `unsolved`). `envelope_cost_frac`:
        what the lower envelope of all sets takes of this set's own limit; `by_soc`: at each of `TOLD_SOC` the
        rate allowed, what the DFN and the envelope allow and what a rested anode bears for `BURST_S` [1/h],
        the DFN's and SPMe's potential under the guard [mV].
        `worst`: the worst of each; `envelope_cost`: by set, mean; `margin_mv`.
    """
    logging.getLogger("pybamm").setLevel(logging.ERROR)
    from pybamm import SolverError

    results: dict[str, dict[str, dict[str, Any]]] = {}
    unsolved: list[dict[str, Any]] = []
    for name in sets:
        results[name] = {
            k: case
            for k, case in (known or {}).get(name, {}).items()
            if float(k) in temperatures_k and case.keys() >= set(_figures(models, against))
        }
        left = [kelvin for kelvin in temperatures_k if f"{kelvin:.2f}" not in results[name]]
        for kelvin, rate in zip(left, own_rates(name, left) if left else (), strict=True):
            by_soc = [
                {
                    "soc_frac": z,
                    "allowed_per_h": _at(z, rate),
                    "envelope_per_h": _shipped(z, kelvin),
                    "rested_per_h": rested,
                }
                for z, rested in zip(TOLD_SOC, _rested(name, kelvin), strict=True)
            ]
            case: dict[str, Any] = {"envelope_cost_frac": _envelope_cost(kelvin, rate), "by_soc": by_soc}
            for kind in (*models, *((HELD,) if "DFN" in models else ())):
                try:
                    case |= _case(name, kelvin, rate, kind, by_soc, against)
                except SolverError as error:
                    unsolved.append({"set": name, "kelvin": kelvin, "model": kind, "why": str(error)[:200]})
            told = ", ".join(f"{k} {v:.3g}" for k, v in case.items() if k != "by_soc")
            progress(f"{name} {kelvin:.0f} K: {told}")
            results[name][f"{kelvin:.2f}"] = case
            keep(_summary(results, unsolved, _figures(models, against)))
    return _summary(results, unsolved, _figures(models, against))


def _summary(
    results: dict[str, dict[str, dict[str, Any]]], unsolved: list[dict[str, Any]], figures: Sequence[str]
) -> dict[str, Any]:
    cases = [case for by_set in results.values() for case in by_set.values()]
    return {
        "margin_mv": 1e3 * MARGIN_V,
        "sets": results,
        "worst": {k: _worst(k, cases) for k in figures},
        "unsolved": unsolved,
        "envelope_cost": {
            name: float(np.mean([c["envelope_cost_frac"] for c in by_set.values()]))
            for name, by_set in results.items()
            if by_set
        },
    }


def _figures(models: Sequence[str], against: Sequence[str]) -> list[str]:
    """Keys of a case whose worst is told."""
    lowest = [f"min_{kind.lower()}_mv" for kind in models]
    if "DFN" not in models:
        return lowest
    return [*lowest, *(f"{of}{at}frac" for of in against for at in ("", "worst_"))]


def own_rates(name: str, temperatures_k: Sequence[float]) -> FloatArray:
    """(temperatures, SOC nodes) the table of one set alone."""
    fine = np.unique(np.add.outer(np.array(temperatures_k), AROUND_K).round(3))
    charge = over_rests(load_anode_set(name), fine, margin_of(name))
    rows = []
    for kelvin in temperatures_k:
        near = np.flatnonzero(np.abs(fine - kelvin) < AROUND_K[-1] + 0.1)
        part = type(charge)(charge.soc_frac, charge.rate_per_h[:, near], charge.potential_v[:, near])
        rows.append(table_of([part])[1])
    return np.array(rows)


def guarded_profile(rate_per_h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Times [s] and rates of a charge from empty that takes all a row of the table allows."""
    soc = np.arange(START_SOC_FRAC, END_SOC_FRAC + 1e-9, STEP_SOC_FRAC)
    rate = np.exp(np.interp(soc, SOC_NODES, np.log(rate_per_h)))
    # rates are linear in time between the samples, so a step of SOC takes its mean rate
    time_s = np.concatenate(([0.0], np.cumsum(3600.0 * STEP_SOC_FRAC / (0.5 * (rate[1:] + rate[:-1])))))
    return time_s, rate


def _worst(key: str, cases: Sequence[dict[str, Any]]) -> float | None:
    """Lowest potential or highest loss of all cases that could be solved."""
    values = [case[key] for case in cases if key in case]
    if not values:
        return None
    return float(min(values) if key.endswith("_mv") else max(values))


def _case(
    name: str,
    kelvin: float,
    rate_per_h: FloatArray,
    kind: str,
    by_soc: Sequence[dict[str, float]],
    against: Sequence[str],
) -> dict[str, float]:
    """Figures of one full model; also noted in the rows `by_soc`."""
    if kind == HELD:
        return _left(name, kelvin, rate_per_h, by_soc, against)
    time_s, rate = guarded_profile(rate_per_h)
    ran = under_profile(name, kind, kelvin, time_s, rate, START_SOC_FRAC)
    for row in by_soc:
        row[f"{kind.lower()}_mv"] = 1e3 * float(np.interp(row["soc_frac"], ran.soc_frac, ran.anode_v))
    return {f"min_{kind.lower()}_mv": 1e3 * float(ran.anode_v.min())}


def _left(
    name: str,
    kelvin: float,
    rate_per_h: FloatArray,
    by_soc: Sequence[dict[str, float]],
    against: Sequence[str],
) -> dict[str, float]:
    """What the full model could have been given beside what the guard gave."""
    strict, at_margin, any_rest = AGAINST
    free = held(name, kelvin, 0.0, START_SOC_FRAC, END_SOC_FRAC)
    for row in by_soc:
        row["dfn_allows_per_h"] = float(np.interp(row["soc_frac"], free.soc_frac, free.rate_per_h))
    charges = {strict: [free]}
    if at_margin in against:
        charges[at_margin] = [held(name, kelvin, MARGIN_V, START_SOC_FRAC, END_SOC_FRAC)]
    if any_rest in against:
        charges[any_rest] = [free, *(held(name, kelvin, 0.0, soc, END_SOC_FRAC) for soc in RESTS_SOC_FRAC)]
    own = _read(rate_per_h)
    figures: dict[str, float] = {}
    for of in against:
        figures |= _given_up(of, own, charges[of])
    return figures


def _at(soc_frac: float, rate_per_h: FloatArray) -> float:
    return float(np.exp(np.interp(soc_frac, SOC_NODES, np.log(rate_per_h))))


def _rested(name: str, kelvin: float) -> list[float]:
    """What an anode that has rested bears for a short while, at each of `TOLD_SOC` [1/h]."""
    rates = burst_rates(load_anode_set(name), np.array([kelvin]), np.array(TOLD_SOC), margin_of(name))
    return [float(rate) for rate in rates[0]]


def _shipped(soc_frac: float, kelvin: float) -> float:
    """What the shipped envelope of all sets allows a fresh module [1/h]."""
    one = np.ones(1)
    return float(charge_limit_a(soc_frac * one, (kelvin - ZERO_CELSIUS_K) * one, one)[0])


def _read(rate_per_h: FloatArray) -> FloatArray:
    rate: FloatArray = np.exp(np.interp(COMPARED_SOC, SOC_NODES, np.log(rate_per_h)))
    return rate


def _envelope_cost(kelvin: float, rate_per_h: FloatArray) -> float:
    """Share of a set's own limit that the shipped table, the lowest of all sets, takes away."""
    every = np.ones(len(COMPARED_SOC))
    shipped = charge_limit_a(COMPARED_SOC, (kelvin - ZERO_CELSIUS_K) * every, every)
    return 1.0 - float(shipped.sum() / _read(rate_per_h).sum())


def _lowest(free: Sequence[CellRun]) -> FloatArray:
    """(C,) lowest rate of full models over `COMPARED_SOC`; NaN where none of them gets."""
    rates = [np.interp(COMPARED_SOC, run.soc_frac, run.rate_per_h, left=np.inf, right=np.inf) for run in free]
    lowest = np.min(rates, axis=0)
    # a charge that begins on the way says nothing of the SOC before it
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _given_up(of: str, own: FloatArray, free: Sequence[CellRun]) -> dict[str, float]:
    """Share of the lowest free current that the guard leaves: over all SOC with a choice, and at worst."""
    allowed = _lowest(free)
    asked = allowed < AT_THE_CAP * HIGHEST_RATE_PER_H
    if not asked.any():
        return {f"{of}frac": 0.0, f"{of}worst_frac": 0.0}
    share = 1.0 - own[asked] / allowed[asked]
    worst = int(share.argmax())
    return {
        f"{of}frac": 1.0 - float(own[asked].sum() / allowed[asked].sum()),
        f"{of}worst_frac": float(share[worst]),
        f"{of}worst_soc_frac": float(COMPARED_SOC[asked][worst]),
    }
