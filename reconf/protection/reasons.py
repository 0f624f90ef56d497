"""Why a limit is what it is, in words, built only for the limits worth telling."""

from __future__ import annotations

from typing import Final

import numpy as np

from reconf.arrays import FloatArray
from reconf.protection.envelope import Reason

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
    "string_unusable": ("the string may not be connected", "what the string's own faults ask for"),
    "bus_outside": ("the DC bus is outside its window", "the bus being held inside its window"),
    "converter_hot": ("the converter's heat sink is hot", "a cooler converter"),
    "converter_rating": ("the converter's rating", "nothing: this is the converter"),
    "fault": ("a fault", "clearing the fault"),
}
"""Sentence and what lifts it, by rule."""


def reason(subject: str, limit: str, rule: str, value: float) -> Reason:
    """A reason in words; a rule of the fault table has the words of its row."""
    text, lift = TEXTS.get(rule, TEXTS["fault"])
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
