"""Which modules may, must or must not be in their string."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from reconf.arrays import BoolArray
from reconf.devices.rm1 import TRIPS, Rm1Status
from reconf.protection.bounds import Constants
from reconf.protection.conditions import Trend
from reconf.protection.currents import Belief
from reconf.protection.faults import MODULE_REFUSES, SCOPES, Machine, Scope, fault_rows, row_index
from reconf.protection.state import OperatorLimits

IMMOVABLE: Final = ("switch_fault", MODULE_REFUSES)
"""Faults with which a module cannot be switched."""


@dataclass(frozen=True, slots=True)
class InsertionRules:
    """Who may, must, must not be in; (M,)."""

    forbidden: BoolArray
    forced: BoolArray
    must_out: BoolArray
    """A fault asks for bypass."""
    rule: tuple[tuple[str, BoolArray], ...]
    """Rules that are no faults, and where they hold."""


def severe(scope: Scope, machine: Machine, severity: str) -> BoolArray:
    """(N,) subjects with a present fault of `severity`."""
    rows = _rows_of(scope, severity)
    mask: BoolArray = (machine.active[rows] | machine.latched[rows]).any(axis=0)
    return mask


@cache
def _rows_of(scope: Scope, severity: str) -> np.ndarray:
    """Row numbers of a severity."""
    return np.flatnonzero([row.severity == severity for row in fault_rows(scope)])


def any_severe(machines: Mapping[Scope, Machine], severity: str) -> bool:
    """Whether a fault of `severity` is present anywhere."""
    return any(bool(severe(scope, machines[scope], severity).any()) for scope in SCOPES)


def insertion_rules(
    constants: Constants,
    machine: Machine,
    trend: Trend,
    operator: OperatorLimits,
    belief: Belief,
) -> InsertionRules:
    """Combine faults, trips, operator's bypasses and unconfirmed nodes."""
    none = np.zeros(constants.n_modules, dtype=np.bool_)
    serials = constants.topology.serials
    taken_out = np.array([s in operator.bypass for s in serials]) if operator.bypass else none
    reads_in = (trend.status & int(Rm1Status.INSERTED)) != 0
    unconfirmed = none if operator.unconfirmed is None else operator.unconfirmed
    gone = none if operator.out_of_service is None else operator.out_of_service
    tripped = (trend.status & int(TRIPS)) != 0
    faulty = severe("module", machine, "bypass") | severe("module", machine, "open_site")
    # what cannot be switched stays where it stands
    immovable = [row_index("module")[fault] for fault in IMMOVABLE]
    stuck = machine.present[immovable].any(axis=0) & reads_in
    return InsertionRules(
        forbidden=faulty | tripped | taken_out | unconfirmed | gone | ~belief.known,
        forced=stuck | (unconfirmed & reads_in),
        must_out=faulty & stuck & _unsafe(machine) if stuck.any() else none,
        rule=(
            ("node_tripped", tripped),
            ("operator_bypass", taken_out),
            ("unconfirmed", unconfirmed | gone),
            ("estimate_missing", ~belief.known),
        ),
    )


def _unsafe(machine: Machine) -> BoolArray:
    """(M,) a bypass is asked for by more than the switch that does not move."""
    rows = fault_rows("module")
    grave = np.array([r.severity in ("bypass", "open_site") and r.fault not in IMMOVABLE for r in rows])
    mask: BoolArray = machine.present[grave].any(axis=0)
    return mask
