"""Work of `reconf rebin propose`: from what a running site has measured to moves that pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge.binning import read_lot
from edge.northbound.signature import private_key, sign
from edge.northbound.topics import Topics
from edge.northbound.watcher import gather
from edge.store.store import Store
from reconf.arrays import FloatArray, IntArray
from reconf.binning.compare import Ageing
from reconf.binning.lot import Z90, Lot
from reconf.errors import DataFileError
from reconf.rebinning.pack import Measured, Pack, kind_of, pack_of
from reconf.rebinning.search import Found, Terms, best_of_all, search
from reconf.rebinning.sharing import Sharing, sharing
from reconf.rebinning.steps import Step, steps_between
from reconf.rebinning.worth import Truths, draw_truths, life_mean_wh, site_worth_wh
from reconf.site import Site

FORMAT = "reconf rebin plan"
MINUTES_PER_HOUR = 60.0


@dataclass(frozen=True, slots=True)
class Labour:
    """What moving a module costs."""

    minutes_per_position: float = 25.0
    """Isolate, unbolt, lift, bolt to torque, plug, check."""
    price_per_hour: float = 60.0
    people: int = 2
    """Nobody works alone on a battery."""
    visit_cost: float = 0.0

    @property
    def per_position(self) -> float:
        """Money per position opened."""
        return self.minutes_per_position / MINUTES_PER_HOUR * self.price_per_hour * self.people


@dataclass(frozen=True, slots=True)
class Question:
    """Options of `reconf rebin propose`, by their names there."""

    labour: Labour
    cycles_per_year: float = 250.0
    value_per_kwh: float = 0.0
    """0: the site file's energy price."""
    years: int = 5
    confidence: float = 0.9
    current_a: float = 0.0
    spares: int | None = None
    fade_per_year: float = 0.02
    fade_cv: float = 0.4
    draws: int = 200
    seed: int = 1
    positions_max: int = 10**9


@dataclass(frozen=True, slots=True)
class Source:
    """Where the measured values come from."""

    text: str
    known: Mapping[str, Measured]
    oldest: datetime | None = None


def measured_from_state(folder: Path, serials: frozenset[str]) -> Source:
    """Estimates of a daemon's state directory; looks only, beside a running daemon.

    The capacity of a module is what its weakest group can still give and its strongest can still take.

    Raises:
        ReconfError: no such directory, or nothing in it for this site.
    """
    with Store.open(folder, read_only=True) as store:
        rows = store.history.estimates()
    known: dict[str, Measured] = {}
    oldest: datetime | None = None
    for serial, (row, saved) in rows.items():
        if serial not in serials:
            continue
        known[serial] = _measured(row)
        oldest = saved if oldest is None else min(oldest, saved)
    if not known:
        raise DataFileError(
            f"{folder}: no estimate of a module of this site in it; has 'reconf run --state-dir {folder}' "
            "run for a minute?"
        )
    return Source(f"estimates in {folder}", known, oldest)


def _measured(row: Mapping[str, Any]) -> Measured:
    charge, capacity = np.array(row["charge_ah"]), np.array(row["capacity_ah"])
    scale, var = np.array(row["resistance_scale"]), np.array(row["resistance_var"])
    weakest = int(np.argmin(charge))
    return Measured(
        capacity_ah=float(charge.min() + np.maximum(capacity - charge, 0.0).min()),
        capacity_std_ah=float(np.sqrt(row["var_qq"][weakest])),
        resistance_scale=float(scale.mean()),
        resistance_std_frac=float(np.sqrt(var.mean()) / scale.mean()),
    )


def shelf_lot(path: Path | None) -> Lot | None:
    """Graded modules that could come in."""
    return None if path is None else read_lot(path)


def without_placed(lot: Lot, serials: frozenset[str]) -> Lot | None:
    """The lot without modules that sit in the site already (an inventory lists those too)."""
    keep = np.array([s not in serials for s in lot.serials])
    if not keep.any():
        return None
    return replace(
        lot, serials=tuple(s for s, k in zip(lot.serials, keep, strict=True) if k), kind_of=lot.kind_of[keep],
        capacity_ah=lot.capacity_ah[keep], capacity_std_ah=lot.capacity_std_ah[keep],
        resistance_ohm=lot.resistance_ohm[keep], voltage_v=lot.voltage_v[keep],
        rated_capacity_ah=lot.rated_capacity_ah[keep], resistance_scale=lot.resistance_scale[keep],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found."""

    site: Site
    pack: Pack
    question: Question
    terms: Terms
    source: Source
    found: Found
    best: tuple[IntArray, ...]
    """Where every module would sit with labour for nothing."""
    truths: Truths
    steps: tuple[Step, ...]
    before: Sharing
    after: Sharing
    worth_before_wh: FloatArray
    """(D, Y)"""
    worth_after_wh: FloatArray
    worth_best_wh: FloatArray

    @property
    def earned(self) -> float:
        """Over the years, all moves."""
        gain = life_mean_wh(self.worth_after_wh - self.worth_before_wh)
        return float(np.mean(self.terms.earned(gain)))

    @property
    def positions(self) -> int:
        """Positions that get another module."""
        return len({p for s in self.steps for p in s.places})

    @property
    def cost(self) -> float:
        """Of all moves."""
        visit = self.terms.visit_cost if self.steps else 0.0
        return self.positions * self.terms.cost_per_position + visit


def propose(
    site: Site,
    source: Source,
    shelf: Lot | None,
    question: Question,
    progress: Callable[[int], None] = lambda _n: None,
) -> Proposal:
    """Find the moves that pay.

    Raises:
        ReconfError: the site, the estimates and the options do not fit together.
    """
    pack = pack_of(site, source.known, shelf, current_a=question.current_a, spares=question.spares)
    ageing = Ageing(question.fade_per_year, question.fade_cv, question.years)
    truths = draw_truths(pack, ageing, question.draws, np.random.default_rng(question.seed))
    terms = Terms(
        value_per_kwh=question.value_per_kwh or site.economics.energy_price_per_kwh,
        cycles_per_year=question.cycles_per_year,
        years=float(question.years),
        cost_per_position=question.labour.per_position,
        visit_cost=question.labour.visit_cost,
        confidence=question.confidence,
        positions_max=question.positions_max,
    )
    found = search(pack, truths, terms, progress)
    best = best_of_all(pack, truths, terms, found)
    now = site_worth_wh(pack, truths, pack.held)
    after = site_worth_wh(pack, truths, found.held)
    if found.taken and _net(terms, now, after, found) <= 0.0:  # the visit costs more than all moves earn
        found = Found(pack.held, pack.shelf, (), found.doubtful, found.unpaid + len(found.taken))
        after = now
    there, wanted = (arrangement(site, pack, held) for held in (pack.held, found.held))
    return Proposal(
        site=site, pack=pack, question=question, terms=terms, source=source, found=found, best=best,
        truths=truths, steps=steps_between(there, wanted),
        before=sharing(pack, pack.held), after=sharing(pack, found.held),
        worth_before_wh=now, worth_after_wh=after, worth_best_wh=site_worth_wh(pack, truths, best),
    )  # fmt: skip


def _net(terms: Terms, now: FloatArray, after: FloatArray, found: Found) -> float:
    gain = float(np.mean(terms.earned(life_mean_wh(after - now))))
    positions = sum(t.positions for t in found.taken)
    return gain - positions * terms.cost_per_position - terms.visit_cost


def arrangement(site: Site, pack: Pack, held: tuple[IntArray, ...]) -> dict[str, str]:
    """Serials by label."""
    members = [int(m) for row in held for m in row]
    return {p.label: pack.lot.serials[m] for p, m in zip(site.positions, members, strict=True)}


def interval_kwh(values_wh: FloatArray) -> dict[str, Any]:
    """Mean and 5..95 % of (D,) energies."""
    low, high = np.quantile(values_wh, (0.05, 0.95))
    return {"mean": float(values_wh.mean()) / 1e3, "interval_90": [float(low) / 1e3, float(high) / 1e3]}


def document(proposal: Proposal, site_file_sha256: str, made: datetime) -> dict[str, Any]:
    """The plan as JSON: what `rebin apply` follows, and why. Unsigned."""
    before, after, best = proposal.worth_before_wh, proposal.worth_after_wh, proposal.worth_best_wh
    terms, lot = proposal.terms, proposal.pack.lot
    inside = (lot.capacity_ah * proposal.pack.loaded_v)[: len(proposal.site.modules)]
    return {
        "format": FORMAT,
        "version": 1,
        "site": proposal.site.name,
        "site_file_sha256": site_file_sha256,
        "made": made.isoformat(timespec="seconds"),
        "source": proposal.source.text,
        "question": asdict(proposal.question),
        "hardware": [
            {"string": s.name, "spares": s.spares, "trim_share_frac": s.trim.share_frac,
             "current_a": s.current_a}
            for s in proposal.pack.strings
        ],
        "energy_kwh": {
            "now": interval_kwh(before[:, 0]),
            "after": interval_kwh(after[:, 0]),
            "labour_for_nothing": interval_kwh(best[:, 0]),
            "inside": float(inside.sum()) / 1e3,
            "gain_now": interval_kwh((after - before)[:, 0]),
            "gain_mean_of_years": interval_kwh(life_mean_wh(after - before)),
        },
        "money": {
            "currency": proposal.site.economics.currency,
            "earned": proposal.earned,
            "labour": proposal.cost,
            "net": proposal.earned - proposal.cost if proposal.steps else 0.0,
            "value_per_kwh": terms.value_per_kwh,
            "cycles_per_year": terms.cycles_per_year,
            "years": terms.years,
            "cost_per_position": terms.cost_per_position,
        },
        "moves": [_move(proposal, k) for k in range(len(proposal.found.taken))],
        "not_taken": {"within_doubt": proposal.found.doubtful, "costs_more": proposal.found.unpaid},
        "steps": [{"kind": s.kind, "places": list(s.places), "before": list(s.before), "after": list(s.after)}
                  for s in proposal.steps],
        "modules": [module_row(proposal, m) for m in range(len(lot.serials))],
        "without_touching_a_wire": {
            "as_it_stands": sharing_rows(proposal, proposal.before),
            "after_the_moves": sharing_rows(proposal, proposal.after),
        },
    }  # fmt: skip


def _move(proposal: Proposal, k: int) -> dict[str, Any]:
    taken, serials = proposal.found.taken[k], proposal.pack.lot.serials
    pairs = zip(taken.exchange.first, taken.exchange.second, strict=True)
    return {
        "exchange": [[serials[a], serials[b]] for a, b in pairs],
        "gain_now_kwh": interval_kwh(taken.gain_now_wh),
        "gain_mean_of_years_kwh": interval_kwh(taken.gain_life_wh),
        "gains_in_share_of_truths": float((taken.gain_life_wh > 0.0).mean()),
        "earned": float(np.mean(proposal.terms.earned(taken.gain_life_wh))),
        "positions": taken.positions,
        "labour": taken.positions * proposal.terms.cost_per_position,
    }


def module_row(proposal: Proposal, m: int) -> dict[str, Any]:
    """What is believed of one module."""
    lot, kind = proposal.pack.lot, proposal.pack.lot.kinds[proposal.pack.lot.kind_of[m]]
    return {
        "serial": lot.serials[m],
        "chemistry": kind.chemistry.value,
        "cell_model": kind.cell_model,
        "n_cells": kind.n_cells,
        "n_parallel": kind.n_parallel,
        "rated_capacity_ah": kind.rated_capacity_ah,
        "measured": bool(proposal.pack.measured[m]),
        "soh_frac": round(float(lot.soh_frac[m]), 4),
        "soh_std_frac": round(float(max(lot.soh_std_frac[m], 1e-4)), 4),
        "resistance_scale": round(float(lot.resistance_scale[m]), 3),
    }


def sharing_rows(proposal: Proposal, shares: Sharing) -> dict[str, Any]:
    """Shares, duties and positions that can rest, string by string."""
    return {
        "energy_kwh": shares.energy_wh / 1e3,
        "energy_shared_alike_kwh": shares.alike_wh / 1e3,
        "strings": [
            {
                "string": share.name,
                "energy_kwh": share.energy_wh / 1e3,
                "share_frac": share.share_frac,
                "duty_frac": {
                    p.label: round(float(d), 4) for p, d in zip(spec.positions, share.duty_frac, strict=True)
                },
                "can_be_spared": [spec.positions[int(k)].label for k in share.can_be_spared],
                "least_loss_of_sparing_one_kwh": _least(share.spared_loss_wh),
            }
            for spec, share in zip(proposal.site.strings, shares.strings, strict=True)
        ],
    }


def _least(loss_wh: FloatArray) -> float | None:
    """Smallest loss [kWh]; None where no position may rest for good."""
    least = float(loss_wh.min())
    return least / 1e3 if np.isfinite(least) else None


def soh_text(proposal: Proposal, serial: str) -> str:
    """`81.2 %`."""
    m = proposal.pack.lot.serials.index(serial)
    return f"{float(proposal.pack.lot.soh_frac[m]):.1%}"


def doubt_text(proposal: Proposal) -> str:
    """How well the site's modules are known, median."""
    std = proposal.pack.lot.soh_std_frac[: len(proposal.site.modules)]
    return f"SOH known to +-{Z90 * float(np.median(std)):.1%} (90 %, median)"


MQTT_RESISTANCE_STD_FRAC = 0.15
"""Of a resistance published at the module's present temperature and compared with that at 25 degC."""


def measured_from_payloads(site: Site, payloads: Mapping[str, Mapping[str, Any]], where: str) -> Source:
    """From what a site publishes of its modules, by serial.

    Raises:
        DataFileError: nothing of this site's modules in it.
    """
    known: dict[str, Measured] = {}
    for spec in site.modules:
        row = payloads.get(spec.serial)
        if row is None or row.get("capacity_ah") is None or row.get("capacity_std_ah") is None:
            continue
        resistance = row.get("resistance_ohm")
        scale = resistance / kind_of(spec).resistance_new_ohm() if resistance else spec.resistance_scale
        known[spec.serial] = Measured(
            float(row["capacity_ah"]), float(row["capacity_std_ah"]), float(scale), MQTT_RESISTANCE_STD_FRAC
        )
    if not known:
        raise DataFileError(f"{where}: nothing was published of the modules of {site.name}")
    return Source(f"published at {where}", known)


async def listen(site: Site, wait_s: float) -> dict[str, dict[str, Any]]:
    """Last payload of every module, by serial, until all have been heard or the time is over.

    Raises:
        ReconfError: no broker.
    """
    topics = Topics.of(site)
    heard = await gather(site, [topics.module(s) for s in site.topology.serials], "rebin", wait_s)
    return {str(data.get("serial")): data for data in heard.values()}


def signed(doc: Mapping[str, Any], key: Path) -> dict[str, Any]:
    """The plan with an engineer's signature (Ed25519 over canonical JSON).

    Raises:
        ConfigError: the key cannot be used, or others can read it.
    """
    private = private_key(key)
    return {**doc, "signature": sign(doc, private)}
