"""Less of what verify refuses: shares by string, and a pack at its end that still gives what it can."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge.core
from edge.bench.closed_loop import Loop
from edge.bench.protect_site import bench_site
from edge.core_steps import judge
from edge.interval import Rung
from edge.lessening import CLOSING, FIRST_SHARE, PROPORTIONAL, TRIES, Tried, less
from reconf.actuation import Refused, Violation
from reconf.site import TimingSpec
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth
from reconf.verify.rules import RULES

TWO = bench_site(48)


def refused(*found):
    """A refusal for (rule, subject, found, allowed)."""
    return Refused(tuple(Violation(*four, "", "") for four in found), 0.0)


def test_every_rule_that_less_current_may_keep_is_one_of_verify():
    assert set(RULES) >= PROPORTIONAL | CLOSING
    assert not PROPORTIONAL & CLOSING


def test_a_proportional_rule_tells_the_share_that_fits_and_the_other_string_keeps_all():
    tried = less(TWO, Tried.nothing(2), refused(("charge_left", "M00003", 0.5, 0.1)))
    assert tried.share[1] == 1.0
    assert tried.share[0] == pytest.approx(0.2, rel=0.03)
    assert tried.share[0] < 0.2


def test_two_refusals_of_a_rule_with_a_part_that_stays_tell_where_its_gap_closes():
    first = less(TWO, Tried.nothing(2), refused(("window_min", "S0", 730.0, 740.0)))
    assert first.share[0] == FIRST_SHARE
    risen = 730.0 + 20.0 * (1.0 - FIRST_SHARE)  # 20 V between all of the power and none
    second = less(TWO, first, refused(("window_min", "S0", risen, 740.0)))
    assert second.share[0] == pytest.approx(0.5, rel=0.03)
    assert second.share[0] < 0.5


def test_what_comes_no_nearer_to_its_limit_is_not_tried_on():
    first = less(TWO, Tried.nothing(2), refused(("window_min", "S1", 730.0, 740.0)))
    without_trim = less(TWO, first, refused(("window_min", "S1", 730.0, 740.0)))
    assert without_trim.still[1]
    assert without_trim.share[1] > 0.0
    last = less(TWO, without_trim, refused(("window_min", "S1", 730.0, 740.0)))
    assert last.share.tolist() == [1.0, 0.0]


def test_a_rule_that_power_has_no_part_in_stops_its_string_at_once():
    tried = less(TWO, Tried.nothing(2), refused(("stale_string", "S0", 9.0, 2.0)))
    assert tried.share.tolist() == [0.0, 1.0]


def test_switches_that_may_not_move_stay_and_cost_no_power_yet():
    tried = less(TWO, Tried.nothing(2), refused(("dwell", "M00030", 1.0, 4.0)))
    assert tried.stay.tolist() == [False, True]
    assert tried.share.tolist() == [1.0, 1.0]
    assert less(TWO, tried, refused(("dwell", "M00030", 1.0, 4.0))).share.tolist() == [1.0, 0.0]


numbers = st.floats(allow_nan=True, allow_infinity=True)
violations = st.builds(
    Violation,
    st.sampled_from(sorted(RULES)),
    st.sampled_from(["S0", "S1", "M00003", "M00030", "site"]),
    numbers,
    numbers,
    st.just(""),
    st.just(""),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(violations, min_size=1, max_size=4), min_size=1, max_size=TRIES))
def test_whatever_is_found_shares_only_fall_and_every_refusal_asks_for_less(lists):
    tried = Tried.nothing(2)
    for found in lists:
        after = less(TWO, tried, Refused(tuple(found), 0.0))
        assert (after.share >= 0.0).all()
        assert (after.share <= tried.share).all()
        changed = (after.share < tried.share) | (after.still > tried.still) | (after.stay > tried.stay)
        assert changed.any() or (tried.share == 0.0).any()
        tried = after


def at_the_end(n_modules, soc_frac, hours, power_w, monkeypatch):
    """Rungs, the loop, and every case judged, of a string run dry at ticks of a minute."""
    cases = []

    def listening(site, case, in_force, proposal):
        outcome = judge(site, case, in_force, proposal)
        cases.append((case, in_force, proposal, outcome))
        return outcome

    monkeypatch.setattr(edge.core, "judge", listening)
    site = replace(bench_site(n_modules), timing=TimingSpec(tick_s=60.0, slot_s=60.0, interval_s=60.0))
    truth = draw_truth(site, np.random.default_rng(1))
    plant = Plant(site, truth, 15.0)
    plant.cells.soc_frac[:] = soc_frac
    plant.measure_at_rest()
    loop = Loop(site, truth, lambda _: power_w, seed=1, plant=plant, physics_step_s=20.0)
    loop.start()
    rungs = [loop.step().view.rung for _ in range(int(60 * hours))]
    return rungs, loop, cases


def test_a_pack_that_runs_empty_is_never_stopped_between_two_plans(monkeypatch):
    """Its voltage falls below the converter's window from tick to tick, and modules are put in."""
    rungs, loop, _ = at_the_end(24, 0.15, 1.0, 15_676.0, monkeypatch)
    assert Rung.ZERO not in rungs
    assert loop.plant.violations.steps == 0
    assert loop.plant.energy.bus_out_j.sum() / 3.6e6 > 6.0


def emptied(site, case):
    """`case` with next to nothing left in the modules of the first string."""
    left = np.where(site.topology.string_of == 0, 0.05, case.estimate.remaining_ah)
    return replace(case, estimate=replace(case.estimate, remaining_ah=left))


@pytest.fixture(scope="module")
def two_strings():
    """(site, case, in_force, proposal) of the last tick of two strings that give power."""
    seen = []

    def listening(site, case, in_force, proposal):
        seen.append((site, case, in_force, proposal))
        return judge(site, case, in_force, proposal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge.core, "judge", listening)
        site = bench_site(48, tick_s=30.0)
        loop = Loop(site, draw_truth(site, np.random.default_rng(1), soc_frac=0.5), lambda _: 40e3, seed=1)
        loop.start()
        for _ in range(10):
            loop.step()
    return seen[-1]


def test_only_the_string_at_its_limit_gives_less_and_as_much_as_verify_bears(two_strings):
    site, case, in_force, proposal = two_strings
    case = emptied(site, case)
    outcome = judge(site, case, in_force, proposal)
    assert outcome.refused is None
    assert {v.rule for v in outcome.reduced.violations} >= {"charge_left"}
    given_w = outcome.steps[-1].command.power_w
    assert given_w[1] == proposal.power_w[1] > 1_000.0
    assert 0.0 < given_w[0] < 0.9 * proposal.power_w[0]
    assert outcome.share[1] == 1.0
    assert given_w[0] == np.trunc(outcome.share[0] * proposal.power_w[0])
    tight = replace(proposal, power_w=np.trunc(np.array([1.25, 1.0]) * given_w))
    tight = replace(tight, current_limit_a=1.25 * outcome.steps[-1].command.current_limit_a)
    assert isinstance(case.judge(site, in_force, (tight,)), Refused), "a quarter more would not have passed"


def test_power_that_is_made_smaller_is_told_once_with_its_reason_and_no_rung_falls(monkeypatch):
    def nearly_empty(site, case, in_force, proposal):
        return judge(site, emptied(site, case), in_force, proposal)

    site = bench_site(48, tick_s=30.0)
    loop = Loop(site, draw_truth(site, np.random.default_rng(1), soc_frac=0.5), lambda _: 40e3, seed=1)
    loop.start()
    for _ in range(10):
        loop.step()
    monkeypatch.setattr(edge.core, "judge", nearly_empty)
    loop.events.clear()
    views = [loop.step().view for _ in range(3)]
    assert {v.rung for v in views} == {Rung.NORMAL}
    assert all("charge_left" in v.lessened and "S0" in v.lessened for v in views)
    assert "verify let less through: S0 " in views[-1].rung_reason
    told = [e for e in loop.events if e.kind == "verify"]
    assert len(told) == 1
    assert told[0].text.startswith("less power let through: S0 ")
    monkeypatch.setattr(edge.core, "judge", judge)
    view = loop.step().view
    assert view.lessened == ""
    assert "less" not in view.rung_reason
