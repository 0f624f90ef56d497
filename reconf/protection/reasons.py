"""Why a limit is what it is, in words, built only for the limits worth telling."""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.protection.envelope import FaultStatus, Reason
from reconf.protection.faults import row_of

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "rating": ("the module's rating at its present capacity", "nothing: this is the module"),
    "cell_voltage": (
        "the weakest cell group would pass its operating voltage at a higher current",
        "moving charge the other way, or a smaller current before",
    ),
    "charge_left": (
        "little charge can still be moved before a cell group is at its end",
        "moving charge the other way",
    ),
    "charge_left_interval": (
        "the charge left is spread over the coming interval",
        "moving charge the other way",
    ),
    "temperature": ("the temperature is past the operating tier", "a temperature inside the operating tier"),
    "cold_charge": ("charging is reduced near the ends of the charge temperatures", "a moderate temperature"),
    "plating": (
        "lithium would plate on the anode at a higher charge current",
        "a warmer module or a lower SOC",
    ),
    "remote_limit": ("an operator's limit", "the operator lifting the limit"),
    "instantaneous": ("the instantaneous limit", "what lifts the instantaneous limit"),
    "thermal_forecast": (
        "the core would pass its operating temperature within the forecast's horizon",
        "more cooling, cooler surroundings or a rest",
    ),
    "soc_window": ("an operator's SOC window", "the operator widening the window"),
    "operator_bypass": ("an operator has taken the module out", "the operator returning the module"),
    "unconfirmed": (
        "writes to the node are not confirmed",
        "confirmed writes, or its watchdog having bypassed it",
    ),
    "node_tripped": (
        "the node has tripped and holds the module bypassed",
        "clearing the fault, then the node",
    ),
    "estimate_missing": ("nothing is known of the module's state yet", "a first set of plausible readings"),
}
"""Sentence and what lifts it, by rule."""


FAULT_LIMITS: Final = {"bypass": "insertion", "open_string": "string_usable", "open_site": "site_open"}
"""Field of the envelope that a fault of a severity sets."""


def fault_reason(status: FaultStatus) -> Reason:
    """A present fault as the reason of what it forbids."""
    row = row_of(status.fault)
    measured = f" ({status.evidence})" if status.evidence else ""
    lift = row.clear if row.latching == "none" else f"{row.clear}; then an operator's clear"
    return Reason(
        subject=status.subject,
        limit=FAULT_LIMITS[status.severity],
        rule=status.fault,
        value=0.0,
        text=f"{row.meaning}{measured}",
        lift=row.clear if row.latching == "lockout" else lift,
    )


def reason(subject: str, limit: str, rule: str, value: float) -> Reason:
    """A reason in words."""
    text, lift = TEXTS[rule]
    return Reason(subject=subject, limit=limit, rule=rule, value=value, text=text, lift=lift)


def binding(
    stack: FloatArray, nominal: FloatArray, tell_below_frac: float, at_most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Modules whose limit lies below a share of `nominal`, most restricted first, and their binding rules."""
    lowest = stack.min(axis=0)
    share = lowest / np.maximum(nominal, 1e-9)
    worth = np.flatnonzero(share < tell_below_frac)
    if worth.size > at_most:
        worth = worth[np.argpartition(share[worth], at_most)[:at_most]]
    worth = worth[np.argsort(share[worth], kind="stable")]
    return worth, stack[:, worth].argmin(axis=0)


def ordered(subject: str, limit: str, rules: tuple[str, ...], column: FloatArray) -> tuple[Reason, ...]:
    """All finite answers for one limit of one module, the binding one first."""
    order = np.argsort(column, kind="stable")
    return tuple(reason(subject, limit, rules[i], float(column[i])) for i in order if np.isfinite(column[i]))
