"""Clears that come faster than ticks: every node is told to give its latch up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.core_orders import handle
from edge.core_state import SavedCore, fresh_state
from edge.core_values import ClearFault, SetMode
from reconf.config import load_site
from reconf.protection.protect import SavedFault
from reconf.sequences import SiteMode

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


class Seen:
    """As much of a tick's view as an order looks at."""

    def __init__(self, mode):
        self.mode = mode


def test_a_site_that_a_module_opened_is_led_out_on_site_after_the_module_has_gone():
    """Whoever carries a burnt module away writes another serial into the site file; its latch goes too."""
    saved = SavedFault("thermal_runaway", "BURNT-01", float("nan"), float("nan"))
    state = fresh_state(SITE, SavedCore(faults=(saved,)))
    view = Seen(SiteMode.FAULT)
    _, answer = handle(SITE, state, view, SetMode(SiteMode.RUN), 0.0)
    assert (answer.reason, "thermal_runaway of BURNT-01" in answer.text) == ("fault_latched", True)
    _, answer = handle(SITE, state, view, ClearFault("thermal_runaway"), 0.0)
    assert not answer.accepted, "from afar"
    assert "clear thermal_runaway on site" in answer.text
    _, answer = handle(SITE, state, view, ClearFault("over_temperature", on_site=True), 0.0)
    assert not answer.accepted, "that one never opened a site"
    _, answer = handle(SITE, state, view, ClearFault("nonsense", on_site=True), 0.0)
    assert not answer.accepted
    after, answer = handle(SITE, state, view, ClearFault("thermal_runaway", on_site=True), 0.0)
    assert answer.accepted
    assert after.pending.cleared
    assert after.protection.elsewhere == (saved,), "the module keeps its latch for the day it comes back"


def test_a_fault_that_opens_the_site_is_not_led_out_by_another_one_that_is_not_there():
    state, view = latched(("gas_alarm", "site")), Seen(SiteMode.FAULT)
    for fault in ("thermal_runaway", "fire_alarm"):
        after, answer = handle(SITE, state, view, ClearFault(fault, on_site=True), 0.0)
        assert (answer.accepted, after.pending.cleared) == (False, False)


def test_a_mode_that_stands_until_it_is_cleared_does_not_say_that_the_site_goes_off():
    state, view = latched(("gas_alarm", "site")), Seen(SiteMode.FAULT)
    _, answer = handle(SITE, state, view, SetMode(SiteMode.OFF, on_site=True), 0.0)
    assert answer.accepted
    assert "until it is cleared" in answer.text
