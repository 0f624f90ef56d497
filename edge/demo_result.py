"""What the demo's run was worth: the twin's truth against what the same modules hold otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.core_values import Summary
from edge.demo import SHORT_FOR_S, SHORT_SHARE, Cycle
from edge.plots import RunTrace
from edge.record_codec import decode
from edge.store.history import JournalEntry
from reconf.arrays import FloatArray
from reconf.site import Site
from reconf.twin.baselines import fixed_series, ideal_energy, sorted_series
from reconf.twin.truth import draw_truth


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered while the request could be served."""

    kwh: float
    """String side."""
    bus_kwh: float
    hours: float


def delivered(cycle: Cycle) -> Delivered:
    """Energy until less than half of the request could be delivered for a minute, from the twin's series."""
    series = {k: np.array(v) for k, v in cycle.ledger["series"].items()}
    time_s = series["time_s"]
    first = int(np.searchsorted(time_s, cycle.discharge_from_s))
    last = int(np.searchsorted(time_s, cycle.charge_from_s, side="right")) - 1
    short = series["bus_power_w"] < SHORT_SHARE * cycle.power_w
    served = np.flatnonzero(~short[first : last + 1])
    begun = first + int(served[0]) if served.size else first
    end, since = last, None
    for k in range(begun, last + 1):
        since = (time_s[k] if since is None else since) if short[k] else None
        if since is not None and time_s[k] - since >= SHORT_FOR_S:
            end = k
            break

    def gained(name: str) -> float:
        return float(series[name][end] - series[name][first])

    return Delivered(
        gained("string_out_kwh"), gained("bus_out_kwh"), float(time_s[end] - time_s[begun]) / 3600.0
    )


def baselines(site: Site, seed: int, soc_frac: float, power_w: float) -> dict[str, float]:
    """The same modules in fixed and in sorted strings, on the same physics, in process [kWh, string side]."""
    truth = draw_truth(site, np.random.default_rng(seed), soc_frac=soc_frac)
    return {
        "fixed_series_kwh": fixed_series(site, truth, power_w).string_energy_kwh,
        "sorted_series_kwh": sorted_series(site, truth, power_w).string_energy_kwh,
    }


def mean_c_rate(site: Site, kwh: float, hours: float) -> float:
    """Mean C-rate of a run, on the rated capacity: energy over nominal voltage, capacity and time."""
    from edge.demo import c3_power_w

    return kwh * 1e3 / max(hours, 1e-9) / (3.0 * c3_power_w(site))


def result(
    site: Site, cycle: Cycle, seed: int, soc_frac: float, compared: dict[str, float]
) -> dict[str, float]:
    """The demo's figures, keys as `reconf demo --json` writes them."""
    truth = draw_truth(site, np.random.default_rng(seed), soc_frac=soc_frac)
    given = delivered(cycle)
    ideal = ideal_energy(site, truth, mean_c_rate(site, given.kwh, given.hours)).string_energy_kwh
    ledger, figures = cycle.ledger, cycle.figures
    recharge = float(ledger["string_in_kwh"])
    # charge still missing (or gained) against the start is not the cycle's loss
    balance = float(ledger["chemical_out_kwh"])
    out_kwh = float(ledger["string_out_kwh"])
    return {
        "delivered_kwh": given.kwh,
        "delivered_bus_kwh": given.bus_kwh,
        "converter_loss_kwh": float(ledger["converter_loss_kwh"]),
        "ideal_kwh": ideal,
        "utilisation": given.kwh / ideal,
        **compared,
        "recharge_kwh": recharge,
        "round_trip": out_kwh / max(recharge + balance, 1e-9),
        "violations": int(ledger["violations"]["steps"]) + int(ledger["link_shorts"]),
        "intervals": int(figures["intervals"]),
        "fallback_intervals": int(figures["fallback_intervals"]),
        "solve_ms_p50": figures["solve_ms_p50"],
        "solve_ms_p99": figures["solve_ms_p99"],
        "tick_ms_p50": figures["tick_ms_p50"],
        "tick_ms_p99": figures["tick_ms_p99"],
        "ticks": int(figures["ticks"]),
        "overruns": int(figures["overruns"]),
        "cell_heat_kwh": float(ledger["cell_heat_kwh"]),
        "switch_loss_kwh": float(ledger["switch_loss_kwh"]),
        "trim_loss_kwh": float(ledger["trim_loss_kwh"]),
        "hours": (cycle.ended_s - cycle.discharge_from_s) / 3600.0,
    }


def trace(site: Site, entries: list[JournalEntry], soh_frac: FloatArray) -> RunTrace:
    """The run's picture from the daemon's own journal."""
    ends: list[Summary] = [decode(e.payload) for e in entries if e.kind == "summary"]
    time_s = np.array([e.time_s for e in ends])
    return RunTrace(
        time_h=(time_s - time_s[0]) / 3600.0,
        soc_frac=np.array([e.soc_frac for e in ends]),
        duty_frac=np.array([e.inserted_frac for e in ends]),
        string_power_w=np.array([e.given_w for e in ends]),
        asked_w=np.array([e.asked_w for e in ends]),
        soh_frac=soh_frac,
        string_of=site.topology.string_of,
        string_names=tuple(s.name for s in site.strings),
    )


def soh_of(cycle: Cycle) -> FloatArray:
    """(M,) true SOH."""
    return np.array(cycle.ledger["soh_frac"], dtype=np.float64)


def plain(figures: dict[str, float]) -> dict[str, Any]:
    """Rounded for people and files."""
    return {k: v if isinstance(v, int) else round(float(v), 6) for k, v in figures.items()}
