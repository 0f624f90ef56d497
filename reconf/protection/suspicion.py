"""What the estimator has found of sensors and cells, as faults of the table.

The estimator latches its findings itself, with their evidence; here each becomes the fault of its kind on
its module, so that it is told, counted and cleared like any other. A sensor judged untrue is replaced by
its model before any rule sees it, so these rows only warn; what a missing sensor forbids has rows of its own
(`sensors_untrusted`, `cell_reading_zero`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from reconf.arrays import BoolArray
from reconf.estimation.state import Finding
from reconf.protection.envelope import FaultStatus
from reconf.replacing import replace

OF_TEST: Final = {
    "leakage": "cell_leakage",
    "cell_resistance": "cell_resistance_high",
    "sense_wire": "sense_wire_open",
}
SENSOR: Final = "sensor_untrue"
FINDING_FAULTS: Final = (*OF_TEST.values(), SENSOR)
"""Rows that mirror findings; an operator's clear goes to the estimator."""


TESTS_OF: Final = {row: frozenset({test}) for test, row in OF_TEST.items()}
"""Tests of cells whose findings a clear of that row takes back."""


def fault_of(finding: Finding) -> str:
    """Row of the fault table that tells `finding`."""
    return OF_TEST.get(finding.test, SENSOR)


def suspected(findings: Sequence[Finding], serials: tuple[str, ...]) -> dict[str, BoolArray]:
    """(M,) modules with a finding, by row of the fault table."""
    marks = {fault: np.zeros(len(serials), dtype=np.bool_) for fault in FINDING_FAULTS}
    for finding in findings:
        marks[fault_of(finding)][serials.index(finding.serial)] = True
    return marks


def with_evidence(statuses: tuple[FaultStatus, ...], findings: Sequence[Finding]) -> tuple[FaultStatus, ...]:
    """`statuses` with what was measured in those that tell findings."""
    if not findings:
        return statuses
    texts: dict[tuple[str, str], list[str]] = {}
    for found in findings:
        told = f"{found.subject} ({found.test}): {found.evidence}"
        texts.setdefault((fault_of(found), found.serial), []).append(told)
    return tuple(
        replace(s, evidence="; ".join(texts[s.fault, s.subject])) if (s.fault, s.subject) in texts else s
        for s in statuses
    )
