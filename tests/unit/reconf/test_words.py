"""What an operator reads has no infinite numbers in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edge.core_events import refusal_text
from reconf.actuation import Refused, Violation
from reconf.protection.faults import evidence
from reconf.words import quantity

ANY = st.floats(allow_nan=True, allow_infinity=True)
ENDLESS = re.compile(r"\b(inf|nan)\b", re.IGNORECASE)


@given(ANY, ANY, st.sampled_from(["s", "V", "of rating", ""]))
def test_no_text_names_an_infinite_or_missing_number(value, bound, unit):
    told = [quantity(value, unit), evidence("converter_lost", value, bound, unit)]
    told.append(refusal_text(Refused((Violation("window_min", "S0", value, bound, unit, "text"),), 0.0)))
    assert not any(ENDLESS.search(text) for text in told), told


def test_a_node_that_never_answered_says_so():
    assert evidence("converter_lost", float("inf"), 1.9, "s") == "nothing since the start against 1.9 s"
    assert evidence("cell_overvoltage", 4.2627, 4.25, "V") == "4.263 V against 4.25 V"
    assert quantity(float("nan"), "V") == "not known"
