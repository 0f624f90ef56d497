"""Model checks of the tables, and random walks of the sequences over silence, lost writes and orders."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from guard_loop import Loop
from guard_nodes import Nodes
from guard_site import envelope, guard_site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconf.sequences import MODE_TABLE, OUTPUTS, PHASE_TABLE, Phase, SiteMode
from reconf.sequences.modes import CONNECTING, HELD, next_mode

MODE_CONDITIONS = sorted({row.when for row in MODE_TABLE})


def phases_from(source: Phase, without: set[tuple[Phase, Phase]]) -> set[Phase]:
    """Phases that can be reached from `source` when some ways are taken out."""
    reached, todo = {source}, [source]
    while todo:
        here = todo.pop()
        for row in PHASE_TABLE:
            if row.source is here and (here, row.target) not in without and row.target not in reached:
                reached.add(row.target)
                todo.append(row.target)
    return reached


def test_no_path_closes_a_contactor_without_precharge():
    into_closed = {(r.source, r.target) for r in PHASE_TABLE if OUTPUTS[r.target].contactor}
    # only a contactor that was read closed is kept closed without precharge, and that only to leave in order
    assert {pair for pair in into_closed if pair[1] is Phase.JOINED} == {(Phase.PRECHARGE, Phase.JOINED)}
    assert {pair for pair in into_closed if pair[1] is Phase.PRECHARGE} == {
        (Phase.INSERTING, Phase.PRECHARGE)
    }
    ramp = {r.source: r.when for r in PHASE_TABLE if r.target is Phase.RAMP_DOWN}
    assert ramp == {Phase.JOINED: "leave", Phase.LOST: "obeys_closed"}
    for source in Phase:
        if source is not Phase.JOINED:
            assert Phase.JOINED not in phases_from(source, {(Phase.INSERTING, Phase.PRECHARGE)}) or (
                source is Phase.PRECHARGE
            )
    (joining,) = [r for r in PHASE_TABLE if r.target is Phase.JOINED]
    assert joining.when == "read_closed"


def test_only_a_joined_string_carries_power():
    assert [phase for phase, row in OUTPUTS.items() if row.power] == [Phase.JOINED]


def test_switches_are_bypassed_only_after_the_contactor_was_read_open():
    whole = {phase for phase, row in OUTPUTS.items() if row.switches == "bypass"}
    for row in PHASE_TABLE:
        if row.target in whole and row.source not in whole:
            opened = row.when in {"read_open", "weld_cleared"}
            # INSERTING never closed anything: its contactor is commanded open and read so (read_closed wins)
            assert opened or row.source is Phase.INSERTING, row


def test_reading_closed_wins_over_everything_while_inserting():
    rows = [r.when for r in PHASE_TABLE if r.source is Phase.INSERTING]
    assert rows[0] == "read_closed"


def test_a_welded_string_is_left_only_by_a_person():
    assert [r.when for r in PHASE_TABLE if r.source is Phase.WELDED] == ["weld_cleared"]


def test_every_phase_can_end_open_or_welded():
    for phase in Phase:
        assert phases_from(phase, set()) & {Phase.OPEN, Phase.WELDED}


def every_condition():
    """All assignments of the conditions of the mode table."""
    for values in product((False, True), repeat=len(MODE_CONDITIONS)):
        yield dict(zip(MODE_CONDITIONS, values, strict=True))


def test_no_fault_mode_is_left_without_a_clear():
    for conditions in every_condition():
        for mode in HELD:
            after, _ = next_mode(mode, conditions)
            if after is not mode:
                assert conditions["cleared"] or (
                    conditions["emergency_stop"] and (mode, after) == (SiteMode.FAULT, SiteMode.ESTOP)
                )


def test_run_and_standby_are_reached_only_through_precharge():
    for conditions in every_condition():
        for mode in set(SiteMode) - CONNECTING:
            after, _ = next_mode(mode, conditions)
            assert after not in {SiteMode.RUN, SiteMode.STANDBY}


def test_an_emergency_stop_wins_from_everywhere():
    for conditions in every_condition():
        for mode in SiteMode:
            if conditions["emergency_stop"] and mode is not SiteMode.ESTOP:
                assert next_mode(mode, conditions)[0] is SiteMode.ESTOP


def walk(seed: int, ticks: int) -> Loop:
    """A random life: silence, lost writes, orders, faults, converters that weld."""
    rng = np.random.default_rng(seed)
    site = guard_site()
    nodes = Nodes(site)
    loop = Loop(site, nodes)
    calm = rng.choice([0.0, 0.03, 0.15])
    modes = [SiteMode.RUN, SiteMode.RUN, SiteMode.STANDBY, SiteMode.OFF]
    dark_s, cleared, locked = np.zeros(2, np.bool_), False, False
    for _ in range(ticks):
        dark_s = np.where(rng.random(2) < 0.8, dark_s & (rng.random(2) < 0.9), rng.random(2) < calm)
        faulty = rng.random() < 0.02
        allowed = envelope(
            site,
            site_open=bool(faulty and rng.random() < 0.5),
            string_usable=rng.random(2) > (0.5 if faulty else 0.0),
            insertion=(rng.random(12) < calm / 3.0).astype(np.uint8),
        )
        before_mode, closings = loop.state.mode, len(nodes.closings)
        asked_clear = bool(rng.random() < 0.4)
        request = modes[int(rng.integers(4))] if rng.random() < 0.03 else None
        if before_mode is SiteMode.OFF and rng.random() < 0.3:
            request = SiteMode.RUN
        locked = rng.random() < 0.7 if locked else rng.random() < 0.01
        loop.tick(
            quiet_m=rng.random(12) < calm,
            quiet_s=dark_s,
            lost_m=rng.random(12) < calm / 2.0,
            lost_s=rng.random(2) < calm / 2.0,
            envelope_=allowed,
            request=request,
            cleared=asked_clear,
            maintenance=bool(locked),
            emergency_stop=bool(rng.random() < 0.004),
        )
        after = loop.state.mode
        cleared = (cleared or asked_clear) and before_mode in HELD
        if before_mode in HELD and after not in HELD:
            assert cleared
        assert not (before_mode in HELD and after in CONNECTING)
        assert not (locked and after in CONNECTING)
        if len(nodes.closings) > closings:
            assert not locked
            assert before_mode in CONNECTING
            assert (nodes.mode == 0)[[s for _, s in nodes.closings[closings:]]].all()
        for string in range(2):
            if nodes.power_w[string] != 0.0:
                assert nodes.closed[string]
    return loop


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_no_walk_bypasses_a_string_behind_a_closed_contactor(seed):
    loop = walk(seed, 60)
    assert loop.unsafe_bypass == 0
    assert loop.nodes.shorted == 0


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 400, 40))
def test_no_long_walk_bypasses_a_string_behind_a_closed_contactor(first):
    for seed in range(first, first + 40):
        loop = walk(seed, 400)
        assert loop.unsafe_bypass == 0, seed
        assert loop.nodes.shorted == 0, seed
