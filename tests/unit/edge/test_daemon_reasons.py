"""A curtailed set point is answered with what limits its own direction."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edge.core_orders import capability_reason
from reconf.protection.envelope import FaultStatus, Reason


def reason(limit: str, text: str) -> Reason:
    return Reason(subject="M1", limit=limit, rule="r", value=1.0, text=text, lift="")


REASONS = (
    reason("charge_now_a", "plating"),
    reason("discharge_now_a", "knee"),
    reason("insertion", "untrusted"),
)


@pytest.mark.parametrize(("power_w", "word"), [(1e3, "knee"), (-1e3, "plating")])
def test_the_reason_is_one_of_this_direction(power_w: float, word: str) -> None:
    assert word in capability_reason(SimpleNamespace(faults=(), reasons=REASONS), power_w)


def test_what_concerns_both_directions_counts_for_both() -> None:
    both = SimpleNamespace(faults=(), reasons=REASONS[2:])
    assert all("untrusted" in capability_reason(both, power_w) for power_w in (1e3, -1e3))


def test_a_severe_fault_comes_first() -> None:
    fault = FaultStatus("over_temperature", "M2", "derate", True, False, 0.0, "51 degC against 48 degC", "")
    told = capability_reason(SimpleNamespace(faults=(fault,), reasons=REASONS), 1e3)
    assert told.startswith("over_temperature on M2")
