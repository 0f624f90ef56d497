"""Clears that come faster than ticks: every node is told to give its latch up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.core_orders import handle
from edge.core_state import SavedCore, fresh_state
from edge.core_values import ClearFault
from reconf.config import load_site
from reconf.protection.protect import SavedFault

SITE = load_site("demo")
FIRST, SECOND = (SITE.modules[i].serial for i in (0, 30))
STRINGS = tuple(s.name for s in SITE.strings)


def latched(*faults):
    """A core whose faults are latched and whose causes are gone."""
    saved = tuple(SavedFault(fault, subject, float("nan"), float("nan")) for fault, subject in faults)
    state = fresh_state(SITE, SavedCore(faults=saved))
    machines = {k: replace(m, active=np.zeros_like(m.active)) for k, m in state.protection.machines.items()}
    return replace(state, protection=replace(state.protection, machines=machines))


def test_clears_within_one_tick_reach_every_node():
    faults = (
        ("over_temperature_trip", FIRST),
        ("under_voltage_trip", SECOND),
        ("converter_fault", STRINGS[0]),
        ("contactor_mismatch", STRINGS[1]),
    )
    state = latched(*faults)
    for fault, subject in faults:
        state, answer = handle(SITE, state, None, ClearFault(fault, subject), 0.0)
        assert answer.accepted, answer
    told = [SITE.modules[int(i)].serial for i in np.flatnonzero(state.pending.clear_modules)]
    assert told == [FIRST, SECOND]
    assert state.pending.clear_strings.all()
    assert state.pending.cleared


def test_the_answer_to_a_clear_says_that_the_string_joins_again():
    state = latched(("contactor_mismatch", STRINGS[0]), ("over_temperature_trip", FIRST))
    _, answer = handle(SITE, state, None, ClearFault("contactor_mismatch"), 0.0)
    assert answer.text.startswith("contactor_mismatch is cleared; the string joins again at once")
    _, answer = handle(SITE, state, None, ClearFault("over_temperature_trip"), 0.0)
    assert answer.text == "over_temperature_trip is cleared"
