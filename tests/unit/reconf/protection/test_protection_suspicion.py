"""Findings as faults: each on its row, with everything that was measured as evidence."""

from __future__ import annotations

import pytest

from reconf.estimation.anomaly import ANOMALY_TESTS
from reconf.estimation.state import Finding
from reconf.protection.envelope import FaultStatus
from reconf.protection.faults import row_index
from reconf.protection.suspicion import FINDING_FAULTS, TESTS_OF, fault_of, suspected, with_evidence


def finding(test, serial="B", subject="cell_2"):
    return Finding(serial, subject, test, 12.0, f"evidence of {test}")


def test_every_row_that_tells_findings_is_in_the_table_and_warns():
    assert set(FINDING_FAULTS) <= set(row_index("module"))
    assert {test for tests in TESTS_OF.values() for test in tests} == ANOMALY_TESTS


@pytest.mark.parametrize(
    ("test", "row"),
    [
        ("leakage", "cell_leakage"),
        ("cell_resistance", "cell_resistance_high"),
        ("sense_wire", "sense_wire_open"),
        ("sensor_pair", "sensor_untrue"),
        ("cell_sum", "sensor_untrue"),
    ],
)
def test_finding_marks_its_own_row_on_its_own_module(test, row):
    marks = suspected((finding(test),), ("A", "B"))
    assert fault_of(finding(test)) == row
    assert {name for name, mark in marks.items() if mark.any()} == {row}
    assert marks[row].tolist() == [False, True]


def test_all_that_was_measured_of_one_module_is_in_one_evidence():
    status = FaultStatus("sensor_untrue", "B", "warn", True, False, 12.0, "", "mend")
    other = FaultStatus("temperature_high", "B", "warn", True, False, 12.0, "51 degC", "cool")
    found = (finding("jump", subject="temperature_1"), finding("range", subject="temperature_2"))
    told = with_evidence((status, other), found)
    assert told[0].evidence == (
        "temperature_1 (jump): evidence of jump; temperature_2 (range): evidence of range"
    )
    assert told[1] is other
