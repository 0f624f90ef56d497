"""A module's life in its passport: what a site has learned of it, and how long it may still last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from edge.inventory.passport import Passport
from reconf.errors import DataFileError
from reconf.estimation.health import Forecast, forecast
from reconf.estimation.memory import SavedModule

SIGMAS_OF_INTERVAL = 2.0 * 1.645
"""Width of a 90 % interval over its deviation."""


def estimated(saved: SavedModule, rated_ah: float, saved_at: datetime) -> dict[str, Any]:
    """Data of an `estimated` entry; capacity between the groups that end discharge and charge."""
    charge, capacity = np.array(saved.charge_ah), np.array(saved.capacity_ah)
    weakest = int(charge.argmin())
    present_ah = float(charge.min() + (capacity - charge).min())
    return {
        "saved_at": saved_at.isoformat(),
        "capacity_ah": round(present_ah, 3),
        "soh_frac": round(present_ah / rated_ah, 4),
        "soh_std_frac": round(math.sqrt(max(saved.var_qq[weakest], 0.0)) / rated_ah, 4),
        "resistance_scale": round(float(np.mean(saved.resistance_scale)), 3),
        "findings": [f"{subject} ({test}): {text}" for subject, test, _, text in saved.findings],
    }


def drafts(
    cards: tuple[Passport, ...], estimates: Mapping[str, tuple[dict[str, Any], datetime]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(serial, kind, data) of entries for every module that a site's store knows more of than its passport.

    Raises:
        DataFileError: a stored estimate cannot be read.
    """
    for card in cards:
        rated = card.master.get("rated_capacity_ah")
        if card.serial not in estimates or not rated:
            continue
        row, saved_at = estimates[card.serial]
        held = card.estimates[-1]["saved_at"] if card.estimates else None
        if held == saved_at.isoformat():
            continue
        try:
            saved = SavedModule.from_json(row)
        except (TypeError, ValueError, KeyError) as error:
            raise DataFileError(f"the store's estimate of {card.serial} cannot be read: {error}") from error
        yield card.serial, "estimated", estimated(saved, float(rated), saved_at)


def expected_life(card: Passport) -> Forecast | None:
    """Trend through the grade and every estimate; None where there is neither."""
    points = [
        (datetime.fromisoformat(e.utc), *values)
        for e in card.entries
        if e.kind in {"graded", "estimated"} and (values := _soh(e.data)) is not None
    ]
    if not points:
        return None
    points.sort()
    first = points[0][0]
    age = np.array([(utc - first).total_seconds() / (365.25 * 86400.0) for utc, _, _ in points])
    return forecast(age, np.array([p[1] for p in points]), np.array([p[2] for p in points]))


def _soh(data: Mapping[str, Any]) -> tuple[float, float] | None:
    """SOH and its deviation of an entry."""
    soh = data.get("soh_frac")
    std = data.get("soh_std_frac")
    if std is None and data.get("soh_high_frac") is not None and data.get("soh_low_frac") is not None:
        std = (float(data["soh_high_frac"]) - float(data["soh_low_frac"])) / SIGMAS_OF_INTERVAL
    if soh is None or std is None or not float(std) > 0.0:
        return None
    return float(soh), float(std)


def life_document(card: Passport) -> dict[str, Any] | None:
    """Expected lifetime as JSON, None where nothing is known."""
    ahead = expected_life(card)
    if ahead is None:
        return None
    return {
        "endOfLife_soh_frac": 0.60,
        "stateOfHealth_now_frac": round(ahead.soh_now_frac, 4),
        "fade_per_year_frac": round(ahead.slope_per_year, 4),
        "years": round(ahead.years_left, 1),
        "years_90": [round(ahead.years_left_low, 1), round(ahead.years_left_high, 1)],
    }
