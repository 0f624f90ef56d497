"""Whatever is proposed while a site is proven, what gets through is harmless: recomputed here by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from guard_site import envelope, estimate, guard_site, image, silent
from hypothesis import given, settings
from hypothesis import strategies as st

from reconf.actuation import SlotCommand, VerifiedCommand
from reconf.commissioning.permit import LOW_FRAC, Known, permit
from reconf.commissioning.rules import Trial

SITE = guard_site(strings=2, positions=6)
M, S = 12, 2
bits = st.lists(st.booleans(), min_size=M, max_size=M)
pairs = st.lists(st.booleans(), min_size=S, max_size=S)


@st.composite
def proposals(draw) -> SlotCommand:
    if draw(st.integers(0, 3)) == 0:
        return SlotCommand.safe(M, S)
    few = draw(st.sets(st.integers(0, M - 1), max_size=5))
    inserted = np.array([k in few for k in range(M)]) if draw(st.booleans()) else np.array(draw(bits))
    trim = np.zeros(M)
    if draw(st.booleans()):
        trim[:2] = [draw(st.floats(-3.0, 3.0)), draw(st.floats(-3.0, 3.0))]
    return SlotCommand(
        inserted=inserted,
        duty_mode=np.zeros(M, dtype=np.bool_),
        duty_frac=np.zeros(M),
        trim_current_a=trim,
        mode=np.array([draw(st.sampled_from([0, 0, 0, 1])) for _ in range(S)]),
        power_w=np.array([draw(st.sampled_from([0.0, 0.0, 500.0, -9000.0])) for _ in range(S)]),
        bus_voltage_v=np.zeros(S),
        current_limit_a=np.array([draw(st.sampled_from([0.0, 2.0, 60.0])) for _ in range(S)]),
        contactor=np.array(draw(pairs)) & draw(st.booleans()),
    )


@given(proposals(), proposals(), pairs, st.sets(st.integers(0, M - 1), max_size=2), st.floats(36.0, 52.0))
@settings(max_examples=150, deadline=None)
def test_what_passes_a_trial_of_switches_cannot_carry_current_or_reach_the_window(
    p, before, closed, lost, volts
):
    seen = silent(image(SITE, before.inserted, closed=np.array(closed), module_v=volts), modules=lost)
    known = Known(
        seen, estimate(SITE), envelope(SITE), before, np.full(M, 6.0), np.full(S, 3.0), np.zeros(S, bool), 1.0
    )
    outcome = permit(SITE, known, p, Trial.SWITCHES)
    if not isinstance(outcome, VerifiedCommand):
        return
    assert not p.contactor.any()
    assert not p.mode.any()
    assert not p.power_w.any()
    for s in range(S):
        rows = SITE.topology.slice_of(s)
        either = p.inserted[rows] | before.inserted[rows]
        moved = p.inserted[rows] != before.inserted[rows]
        if not (moved | (p.trim_current_a[rows] != 0.0)).any():
            continue
        assert not closed[s]
        assert either.sum() <= 3
        new = p.inserted[rows] & ~before.inserted[rows]
        if new.any():
            assert either.sum() * volts <= LOW_FRAC * SITE.strings[s].converter.voltage_min_v + 1e-6
        assert not (new & ~seen.modules.answered[rows]).any()


@given(proposals(), proposals(), pairs, st.sampled_from(list(Trial)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_trial_ever_bypasses_a_whole_string_behind_a_contactor_not_read_open(
    p, before, closed, trial, less
):
    before = replace(before, inserted=np.ones(M, dtype=np.bool_), contactor=np.array(closed))
    seen = image(SITE, before.inserted, closed=np.array(closed))
    known = Known(
        seen, estimate(SITE), envelope(SITE), before, np.full(M, 6.0), np.full(S, 3.0), np.zeros(S, bool), 1.0
    )
    outcome = permit(SITE, known, p, trial, less=less)
    if isinstance(outcome, VerifiedCommand):
        kept = SITE.topology.sum_by_string(p.inserted.astype(np.float64)) > 0.0
        assert (kept | ~np.array(closed)).all()
