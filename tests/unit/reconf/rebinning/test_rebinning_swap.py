"""What is done next, from what is seen: every state, every interruption, both directions."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconf.devices.rm1 import Rm1Status
from reconf.rebinning.steps import steps_between
from reconf.rebinning.swap import (
    Direction,
    DoStep,
    Finished,
    FinishStep,
    HandsOut,
    Lost,
    NodeSeen,
    Release,
    Restart,
    Seen,
    TakeMaintenance,
    Work,
    WriteFile,
    guide,
    misfits,
    next_act,
    standing,
)
from reconf.site import Chemistry, ModuleSpec

START = {f"P{k}": f"M{k}" for k in range(5)}
WANTED = {"P0": "M1", "P1": "M2", "P2": "M0", "P3": "X9", "P4": "M4"}
STEPS = steps_between(START, WANTED)
FORWARD, BACK = (Work(START, STEPS, d) for d in (Direction.FORWARD, Direction.BACK))


def seen_of(read, *, in_file=START, in_daemon=START, maintenance=True, hands_inside=False, unfit=()):
    return Seen(read, in_file, in_daemon, maintenance, hands_inside, unfit)


def test_nothing_begins_before_maintenance_is_taken():
    assert next_act(FORWARD, seen_of(START, maintenance=False)) == TakeMaintenance()
    assert next_act(FORWARD, seen_of(START)) == DoStep(1, STEPS[0])


@pytest.mark.parametrize("done", range(len(STEPS) + 1))
def test_the_wire_tells_how_far_the_work_is(done):
    there = FORWARD.arrangement(done)
    assert standing(FORWARD, there).done == done
    act = next_act(FORWARD, seen_of(there))
    assert act == (DoStep(done + 1, STEPS[done]) if done < len(STEPS) else WriteFile(WANTED))
    act = next_act(BACK, seen_of(there))
    if done:
        assert act == DoStep(done, STEPS[done - 1].undone())
    else:
        assert act == Release()


@pytest.mark.parametrize("done", range(len(STEPS)))
@pytest.mark.parametrize("work", [FORWARD, BACK])
def test_in_the_middle_of_a_step_it_is_named_and_must_be_finished(done, work):
    there = dict(FORWARD.arrangement(done)) | {STEPS[done].places[0]: None}
    verified = done if work is FORWARD else done + 1
    act = next_act(work, replace(seen_of(there, hands_inside=True), verified=verified))
    assert isinstance(act, FinishStep)
    assert act.number == done + 1
    wanted = STEPS[done].after if work is FORWARD else STEPS[done].before
    assert act.step.after == wanted
    assert any(wanted[0] in f and "nobody answers" in f for f in act.findings)
    assert next_act(work, seen_of(there, maintenance=False)) == TakeMaintenance()


def test_the_permit_is_given_back_before_the_next_step():
    there = FORWARD.arrangement(1)
    assert next_act(FORWARD, seen_of(there, hands_inside=True)) == HandsOut()


def test_a_module_that_does_not_fit_holds_the_step_open():
    there = FORWARD.arrangement(1)
    act = next_act(FORWARD, seen_of(there, hands_inside=True, unfit=("P0: M1: cell 3 reads 0 V",)))
    assert isinstance(act, FinishStep)
    assert (act.number, act.findings) == (1, ("P0: M1: cell 3 reads 0 V",))


def test_a_swap_elsewhere_stops_everything():
    there = {**START, "P4": "M3", "P3": "M4"}
    act = next_act(FORWARD, seen_of(there))
    assert isinstance(act, Lost)
    assert any("M3" in f for f in act.findings)


def test_the_end_is_file_then_restart_then_release():
    assert next_act(FORWARD, seen_of(WANTED)) == WriteFile(WANTED)
    assert next_act(FORWARD, seen_of(WANTED, in_file=WANTED)) == Restart()
    assert next_act(FORWARD, seen_of(WANTED, in_file=WANTED, in_daemon=WANTED)) == Release()
    done = seen_of(WANTED, in_file=WANTED, in_daemon=WANTED, maintenance=False)
    assert next_act(FORWARD, done) == Finished()


def test_rolling_back_after_the_file_was_written_writes_the_old_one():
    act = next_act(BACK, seen_of(WANTED, in_file=WANTED, in_daemon=WANTED))
    assert act == DoStep(len(STEPS), STEPS[-1].undone())
    assert next_act(BACK, seen_of(START, in_file=WANTED, in_daemon=WANTED)) == WriteFile(START)


@settings(max_examples=200, deadline=None)
@given(
    st.permutations(range(8)),
    st.lists(st.sampled_from(["do", "crash", "half", "turn"]), max_size=30),
)
def test_whatever_interrupts_the_work_ends_as_wanted(order, happenings):  # noqa: C901, PLR0912 - one case for each act
    """A person who only ever does what is asked, with crashes and half-done steps in between."""
    start = {f"P{k}": f"M{k}" for k in range(6)}
    wanted = {f"P{k}": f"M{order[k]}" for k in range(6)}
    work = Work(start, steps_between(start, wanted), Direction.FORWARD)
    seen = seen_of(start, in_file=start, in_daemon=start, maintenance=False)
    events = iter(happenings)
    for _ in range(200):
        act = next_act(work, seen)
        match act:
            case Finished():
                break
            case TakeMaintenance():
                seen = replace(seen, maintenance=True)
            case DoStep(step=step) | FinishStep(step=step):
                assert seen.maintenance
                event = next(events, "do")
                after = dict(zip(step.places, step.after, strict=True))
                if event == "half":
                    after = {step.places[0]: None}
                if event == "turn":
                    other = Direction.BACK if work.direction is Direction.FORWARD else Direction.FORWARD
                    work = replace(work, direction=other)
                    continue
                if event == "crash":
                    continue
                seen = replace(seen, read={**seen.read, **after}, hands_inside=True)
            case HandsOut():
                seen = replace(seen, hands_inside=False)
            case WriteFile(arrangement):
                assert not seen.hands_inside
                seen = replace(seen, in_file=dict(arrangement))
            case Restart():
                assert seen.maintenance
                seen = replace(seen, in_daemon=seen.in_file)
            case Release():
                seen = replace(seen, maintenance=False)
            case Lost():
                raise AssertionError(act)
    else:
        raise AssertionError("it never ends")
    goal = wanted if work.direction is Direction.FORWARD else start
    assert seen.read == seen.in_file == seen.in_daemon == goal


SPEC = ModuleSpec("M1", Chemistry.NMC, "nmc_generic", 4, 1, 60.0, 0.8, 0.02, 1.0, 0.0, 0.92)
GOOD = NodeSeen("M1", 4, 2, 60.0, (3.6, 3.6, 3.61, 3.6), int(Rm1Status.WATCHDOG_EXPIRED))


def test_a_healthy_module_may_stay_and_a_node_that_has_just_booted_is_healthy():
    assert misfits(SPEC, GOOD) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"n_cells": 3}, "3 cells"),
        ({"chemistry_code": 3}, "chemistry"),
        ({"rated_capacity_ah": 50.0}, "50 Ah"),
        ({"cell_voltage_v": (3.6, 0.0, 3.6, 3.6)}, "cell 2"),
        ({"status": int(Rm1Status.SWITCH_FAULT)}, "switch"),
        ({"status": int(Rm1Status.CELL_SENSING_FAULT)}, "sense wire"),
    ],
)
def test_what_does_not_fit_is_said(change, word):
    (text,) = misfits(SPEC, replace(GOOD, **change))
    assert text.startswith("M1: ")
    assert word in text


def test_the_guide_names_modules_places_and_unit_ids():
    where, unit = dict.fromkeys(START, "A"), {p: 10 + k for k, p in enumerate(START)}
    for step in STEPS:
        text = "\n".join(guide(step, where, unit))
        assert all(word in text for word in (*step.places, *step.before, *step.after))
        assert all(str(unit[p]) in text for p in step.places)
