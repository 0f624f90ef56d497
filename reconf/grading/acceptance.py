"""Which modules are refused at intake, by the steps of UL 1974 and the records IEC 63338 asks for.

ANSI/CAN/UL 1974 (Evaluation for Repurposing or Remanufacturing Batteries, second edition 2023) sorts
retired batteries through incoming inspection, BMS check, history, open-circuit voltage, capacity, resistance
and self-discharge. IEC 63338:2024 does not permit the reuse of single cells or cell assemblies without
recorded lifetime traceability data (its Clause 4). Rules are rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

COPPER_V: Final = 1.5
"""A cell ever below this may have dissolved copper from its collector: forced over-discharge shows it
as internal shorts (Guo et al. 2016, Sci. Rep. 6:30248)."""
ISOLATION_OHM_PER_V: Final = 500.0
"""Least isolation to the case (ISO 6469-1, DC with AC circuits connected)."""
CALENDAR_YEARS: Final = 20.0
"""Past this age since manufacture a module is not taken back, unless its sheet says otherwise."""
SYSTEM_V: Final = 1000.0
"""System voltage the isolation is judged at where the sheet names none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to refuse."""

    name: str
    step: str
    """Where the standards ask for it."""
    broken: Callable[[Mapping[str, Any], date], str | None]
    """(sheet, today) -> what was found, None where all is well."""


def _no_origin(sheet: Mapping[str, Any], today: date) -> str | None:  # noqa: ARG001 - one signature for all rules
    missing = [k for k in ("origin", "manufactured") if not sheet.get(k)]
    return f"no {' and no '.join(missing)}" if missing else None


def _too_old(sheet: Mapping[str, Any], today: date) -> str | None:
    if not sheet.get("manufactured"):
        return None
    age = (today - date.fromisoformat(str(sheet["manufactured"]))).days / 365.25
    limit = float(sheet.get("calendar_expiry_years") or CALENDAR_YEARS)
    return f"{age:.1f} years old, at most {limit:g}" if age > limit else None


def _over_discharged(sheet: Mapping[str, Any], today: date) -> str | None:  # noqa: ARG001 - one signature for all rules
    lowest = sheet.get("lowest_cell_v")
    if lowest is None or float(lowest) >= COPPER_V:
        return None
    return f"a cell was seen at {float(lowest):.2f} V, at least {COPPER_V:g} V"


def _damaged(sheet: Mapping[str, Any], today: date) -> str | None:  # noqa: ARG001 - one signature for all rules
    text = str(sheet.get("damage") or "").strip()
    return text if text and text.lower() not in ("no", "none", "-", "0", "false") else None


def _not_isolated(sheet: Mapping[str, Any], today: date) -> str | None:  # noqa: ARG001 - one signature for all rules
    found = sheet.get("isolation_mohm")
    if found is None:
        return None
    need = ISOLATION_OHM_PER_V * float(sheet.get("system_v") or SYSTEM_V) / 1e6
    return f"{float(found):g} Mohm to the case, at least {need:g}" if float(found) < need else None


RULES: Final = (
    Rule(
        "no traceability",
        "UL 1974, examination of history; IEC 63338, Clause 4 (lifetime traceability data)",
        _no_origin,
    ),
    Rule("past calendar expiry", "UL 1974, examination of history (calendar expiration)", _too_old),
    Rule("over-discharged", "UL 1974, BMS data and open-circuit voltage check", _over_discharged),
    Rule("physical damage", "UL 1974, incoming inspection", _damaged),
    Rule("isolation", "UL 1974, isolation check; limit of ISO 6469-1", _not_isolated),
)


def refusals(sheet: Mapping[str, Any], today: date) -> tuple[dict[str, str], ...]:
    """Every reason to refuse a module, each with the step that asks for it.

    Args:
        sheet: origin, manufactured (ISO date), lowest_cell_v, damage, isolation_mohm, system_v.
        today: for the age.
    """
    found = []
    for rule in RULES:
        text = rule.broken(sheet, today)
        if text is not None:
            found.append({"reason": rule.name, "found": text, "step": rule.step})
    return tuple(found)
