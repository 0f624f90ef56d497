"""What must hold for verify and staging whatever the readings are."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from guard_site import MODULE_V, command, envelope, estimate, guard_site, image
from hypothesis import given, settings
from hypothesis import strategies as st

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.devices.rm1 import Rm1Status
from reconf.readings import Channel
from reconf.sequences import hold_zero
from reconf.switching import stage
from reconf.verify import History, circuit, verify, verify_steps
from reconf.verify.circuit import Case, exposure, exposures, solve_current_a, sources
from reconf.verify.tables import build_tables

SITE = guard_site()
M, S = 12, 2
seeds = st.integers(0, 2**32 - 1)


def garbage(rng: np.random.Generator, shape) -> np.ndarray:
    """Numbers as broken as floating point allows."""
    values = rng.normal(0.0, 100.0, shape)
    broken = rng.random(shape)
    values[broken < 0.2] = np.nan
    values[(broken >= 0.2) & (broken < 0.3)] = np.inf
    values[(broken >= 0.3) & (broken < 0.4)] = -np.inf
    return values


def wrecked_image(rng: np.random.Generator):
    seen = image(SITE, rng.random(M) < 0.5, closed=rng.random(S) < 0.5)

    def wreck(readings, size):
        changes = {}
        for name in readings.__dataclass_fields__:
            old = getattr(readings, name)
            if isinstance(old, Channel):
                changes[name] = Channel(
                    garbage(rng, old.value.shape),
                    rng.integers(0, 7, old.value.shape).astype(np.uint8),
                    np.abs(garbage(rng, old.value.shape)),
                )
        changes["answered"] = rng.random(size) < 0.5
        changes["age_s"] = np.abs(garbage(rng, size))
        changes["status"] = rng.integers(0, 1024, size)
        return replace(readings, **changes)

    return replace(seen, modules=wreck(seen.modules, M), strings=wreck(seen.strings, S))


def wrecked(rng: np.random.Generator, value):
    """A dataclass of arrays with every float array replaced by garbage."""
    changes = {}
    for name in value.__dataclass_fields__:
        old = getattr(value, name)
        if isinstance(old, np.ndarray) and old.dtype == np.float64:
            changes[name] = garbage(rng, old.shape)
        elif isinstance(old, np.ndarray) and old.dtype == np.bool_:
            changes[name] = rng.random(old.shape) < 0.5
        elif isinstance(old, np.ndarray) and old.dtype == np.uint8:
            changes[name] = rng.integers(0, 3, old.shape).astype(np.uint8)
    return replace(value, **changes)


def random_command(rng: np.random.Generator) -> SlotCommand:
    return replace(
        SlotCommand.safe(M, S),
        inserted=rng.random(M) < 0.6,
        trim_current_a=rng.normal(0.0, 2.0, M) * (rng.random(M) < 0.3),
        mode=rng.integers(0, 2, S),
        power_w=rng.normal(0.0, 8000.0, S),
        current_limit_a=rng.uniform(0.0, 80.0, S),
        contactor=rng.random(S) < 0.7,
    )


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_leaving_is_never_refused(seed):
    """Each step of leaving passes whatever image, estimate and envelope say."""
    rng = np.random.default_rng(seed)
    seen, believed = wrecked_image(rng), wrecked(rng, estimate(SITE))
    allowed = replace(wrecked(rng, envelope(SITE)), site_open=bool(rng.random() < 0.5))
    running = random_command(rng)
    unloaded = replace(hold_zero(running), mode=np.zeros(S, np.int64))
    opened = replace(unloaded, contactor=np.zeros(S, np.bool_), current_limit_a=np.zeros(S))
    for before, after in ((running, hold_zero(running)), (running, unloaded), (unloaded, opened)):
        answer = verify(SITE, seen, believed, allowed, before, after, dt_s=1.0)
        assert isinstance(answer, VerifiedCommand), answer
    read = replace(
        seen,
        strings=replace(seen.strings, answered=np.ones(S, np.bool_), status=np.zeros(S, np.int64)),
    )
    bypassed = replace(opened, inserted=np.zeros(M, np.bool_))
    assert isinstance(verify(SITE, read, believed, allowed, opened, bypassed, dt_s=1.0), VerifiedCommand)


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_garbage_never_lets_power_through_and_never_raises(seed):
    rng = np.random.default_rng(seed)
    asked = replace(random_command(rng), power_w=np.full(S, 4000.0), mode=np.ones(S, np.int64))
    believed = wrecked(rng, estimate(SITE))
    believed = replace(believed, ocv_v=np.full(M, np.nan))
    answer = verify(
        SITE, wrecked_image(rng), believed, wrecked(rng, envelope(SITE)), random_command(rng), asked, dt_s=1.0
    )
    assert isinstance(answer, Refused)


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_tighter_envelope_never_lets_more_through(seed):
    rng = np.random.default_rng(seed)
    wide = envelope(SITE, discharge_now_a=rng.uniform(10.0, 80.0, M), charge_now_a=rng.uniform(5.0, 60.0, M))
    shrink = {
        name: getattr(wide, name) * rng.uniform(0.5, 1.0, getattr(wide, name).shape)
        for name in (
            "discharge_now_a", "charge_now_a", "trim_give_a", "trim_take_a", "string_discharge_a",
            "string_charge_a", "string_discharge_w", "string_charge_w", "string_voltage_max_v",
        )
    }  # fmt: skip
    tight = replace(wide, **shrink)
    before = command(SITE, limit_a=10.0)
    after = command(SITE, power_w=rng.uniform(-9000.0, 9000.0), limit_a=rng.uniform(5.0, 60.0))
    seen, believed = image(SITE), estimate(SITE)
    if isinstance(verify(SITE, seen, believed, tight, before, after, dt_s=1.0), VerifiedCommand):
        assert isinstance(verify(SITE, seen, believed, wide, before, after, dt_s=1.0), VerifiedCommand)


@given(power=st.floats(-11_000.0, 11_000.0), volts=st.floats(120.0, 300.0), ohm=st.floats(0.01, 0.3))
@settings(max_examples=100, deadline=None)
def test_the_current_closes_the_converters_balance(power, volts, ohm):
    t = SITE.derived(build_tables)
    emf, resistance = np.full(S, volts), np.full(S, ohm)
    current = solve_current_a(t, emf, resistance, np.full(S, power))
    asked = power + 0.01 * abs(power) + 20.0
    peak = volts**2 / 4.0 / (ohm + 0.02)
    if asked > peak:
        assert np.isinf(current).all()
        return
    given = (volts - ohm * current) * current - 0.02 * current**2
    assert np.allclose(given, asked, rtol=1e-9, atol=1e-6)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_sums_of_extremes_bound_every_subset_of_unfinished_writes(seed):
    """The closed form against all 2^M * 4 enumerated subsets of one string."""
    rng = np.random.default_rng(seed)
    site = guard_site(strings=1)
    t = site.derived(build_tables)
    seen = image(site, rng.random(6) < 0.7, module_v=MODULE_V * rng.uniform(0.9, 1.1, 6))
    source = sources(t, seen, estimate(site, r0_ohm=rng.uniform(0.005, 0.03, 6)))
    one, two = (
        replace(
            SlotCommand.safe(6, 1),
            inserted=rng.random(6) < 0.7,
            mode=np.ones(1, np.int64),
            power_w=rng.uniform(-6000.0, 6000.0, 1),
            current_limit_a=rng.uniform(1.0, 60.0, 1),
            contactor=np.ones(1, np.bool_),
        )
        for _ in range(2)
    )
    both = exposure(t, source, one.inserted & two.inserted, one.inserted | two.inserted, (one, two))
    for switched in product((False, True), repeat=6):
        which = np.array(switched)
        state = np.where(which, two.inserted, one.inserted)
        for power, limit in product((one.power_w, two.power_w), (one.current_limit_a, two.current_limit_a)):
            only = replace(one, inserted=state, power_w=power, current_limit_a=limit)
            reach = exposure(t, source, state, state, (only,))
            assert (reach.voltage_low_v >= both.voltage_low_v - 1e-9).all()
            assert (reach.voltage_high_v <= both.voltage_high_v + 1e-9).all()
            assert (reach.current_high_a <= both.current_high_a + 1e-9).all()
            assert (reach.current_low_a >= both.current_low_a - 1e-9).all()


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_several_exposures_at_once_are_each_what_they_are_alone(seed):
    rng = np.random.default_rng(seed)
    t = SITE.derived(build_tables)
    source = sources(t, image(SITE, rng.random(M) < 0.7), estimate(SITE, r0_ohm=rng.uniform(0.005, 0.03, M)))
    commands = tuple(
        replace(
            SlotCommand.safe(M, S),
            inserted=rng.random(M) < 0.7,
            trim_current_a=rng.normal(0.0, 2.0, M),
            mode=rng.integers(0, 3, S),
            power_w=rng.uniform(-6000.0, 6000.0, S),
            current_limit_a=rng.uniform(0.0, 60.0, S),
        )
        for _ in range(2)
    )
    places = ((0,), (1,), (0, 1))
    cases = tuple(Case(rng.random(M) < 0.6, rng.random(M) < 0.9, p) for p in places)
    for case, found in zip(cases, exposures(t, source, cases, commands), strict=True):
        alone = exposure(t, source, case.surely, case.maybe, tuple(commands[i] for i in case.commands))
        for name in found.__dataclass_fields__:
            assert np.array_equal(getattr(found, name), getattr(alone, name)), name


@given(seed=seeds)
@settings(max_examples=150, deadline=None)
def test_compiled_exposures_are_those_of_numpy_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    t = build_tables(SITE)
    seen = wrecked_image(rng) if rng.random() < 0.5 else image(SITE, rng.random(M) < 0.5)
    believed = estimate(SITE)
    if rng.random() < 0.3:
        believed = replace(believed, ocv_v=garbage(rng, M), r0_ohm=garbage(rng, M))
    commands = tuple(
        replace(
            command(SITE, inserted=rng.random(M) < 0.8),
            power_w=rng.normal(0.0, 8e3, S) * (rng.random(S) < 0.8),
            current_limit_a=rng.choice([0.0, 5.0, 60.0, np.inf], S),
            mode=rng.integers(0, 3, S),
            trim_current_a=rng.normal(0.0, 3.0, M) * (rng.random(M) < 0.7),
        )
        for _ in range(2)
    )
    cases = tuple(Case(rng.random(M) < 0.6, rng.random(M) < 0.9, p) for p in ((0,), (1,), (0, 1)))
    with np.errstate(all="ignore"):
        source = sources(t, seen, believed)
        ours = exposures(t, source, cases, commands)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(circuit, "compiled_bounds", lambda: None)
            theirs = exposures(t, source, cases, commands)
    for one, other in zip(ours, theirs, strict=True):
        for name in one.__dataclass_fields__:
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_change_that_is_safe_at_its_end_is_staged_into_steps_that_pass(seed):
    """From one allowed state to another: the steps pass, there are few, and the last is the target."""
    rng = np.random.default_rng(seed)
    limits = rng.uniform(15.0, 60.0, M)
    allowed = envelope(SITE, discharge_now_a=limits, charge_now_a=limits)

    def state() -> SlotCommand:
        inserted = np.zeros(M, np.bool_)
        for s in range(S):
            inserted[6 * s + rng.permutation(6)[: rng.integers(5, 7)]] = True
        limit = np.array([limits[6 * s : 6 * s + 6][inserted[6 * s : 6 * s + 6]].min() for s in range(S)])
        power = rng.uniform(-1.0, 1.0, S) * 0.8 * limit * 5 * MODULE_V * 0.9
        return replace(
            command(SITE, inserted=inserted),
            current_limit_a=limit,
            power_w=np.clip(power, -11_000.0, 11_000.0),
        )

    before, target = state(), state()
    seen, believed = image(SITE, before.inserted), estimate(SITE)
    steps = stage(SITE, seen, believed, allowed, before, target)
    outcome = verify_steps(SITE, seen, believed, allowed, before, steps, dt_s=1.0)
    assert isinstance(outcome, tuple), outcome
    assert 1 <= len(steps) <= 4
    for name in SlotCommand.__dataclass_fields__:
        assert np.array_equal(getattr(steps[-1], name), getattr(target, name))


def test_staging_nothing_gives_no_steps():
    before = command(SITE, power_w=1000.0)
    assert stage(SITE, image(SITE), estimate(SITE), envelope(SITE), before, before) == ()


def test_a_module_that_shows_another_state_is_taken_for_either():
    t = SITE.derived(build_tables)
    seen = image(SITE, [False, True, True, True, True, True] * 2)
    before = command(SITE, inserted=[True, True, True, True, False, False] * 2)
    answer = verify(
        SITE, seen, estimate(SITE), envelope(SITE), before,
        replace(before, power_w=np.full(S, 1000.0)), dt_s=1.0,
    )  # fmt: skip
    assert isinstance(answer, Refused)
    settled = History(settled=np.ones(M, np.bool_))
    answer = verify(
        SITE, seen, estimate(SITE), envelope(SITE), before,
        replace(before, power_w=np.full(S, 1000.0)), dt_s=1.0, history=settled,
    )  # fmt: skip
    assert isinstance(answer, VerifiedCommand)
    assert t.n_modules == M


def test_a_stuck_switch_counts_as_what_it_shows():
    seen = image(SITE, [True] * 6 + [False] + [True] * 5)
    status = seen.modules.status.copy()
    status[6] |= int(Rm1Status.SWITCH_FAULT)
    seen = replace(seen, modules=replace(seen.modules, status=status))
    asked = command(SITE, inserted=[True] * 6 + [True, True, True, True, False, False], power_w=500.0)
    before = replace(asked, power_w=np.zeros(S))
    history = History(settled=np.ones(M, np.bool_))
    answer = verify(SITE, seen, estimate(SITE), envelope(SITE), before, asked, dt_s=1.0, history=history)
    assert isinstance(answer, Refused)
    assert "window_min" in {v.rule for v in answer.violations}


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_no_closing_that_verify_accepts_drives_more_than_a_module_bears(seed):
    """The true string anywhere within what is believed, the link precharged to what the converter sees."""
    rng = np.random.default_rng(seed)
    inserted = rng.random(M) < 0.8
    r0, aged = rng.uniform(0.0005, 0.02, M), rng.uniform(20.0, 60.0, M)
    true_v = MODULE_V * rng.uniform(0.95, 1.05, M)
    seen = image(SITE, inserted, closed=False, module_v=true_v * (1.0 + rng.uniform(-0.002, 0.002, M)))
    sums = seen.strings.voltage_v.value + rng.normal(0.0, 2.0, S)
    seen = replace(seen, strings=replace(seen.strings, voltage_v=replace(seen.strings.voltage_v, value=sums)))
    before = command(SITE, inserted=inserted, mode=0, contactor=False, limit_a=0.0)
    closes = rng.random(S) < 0.7
    answer = verify(
        SITE,
        seen,
        estimate(SITE, r0_ohm=r0, ocv_v=true_v, capacity_ah=aged),
        envelope(SITE),
        before,
        replace(before, contactor=closes),
        dt_s=1.0,
    )
    if isinstance(answer, Refused):
        return
    t = build_tables(SITE)
    loop = t.sum_by_string(np.where(inserted, 0.85 * r0, 0.0)) + t.string_r_on_ohm
    inrush = np.abs(sums - t.sum_by_string(np.where(inserted, true_v, 0.0))) / loop
    bears = t.min_by_string(3.0 * aged, inserted)
    assert (inrush[closes] <= bears[closes] + 1e-6).all()


def _odd(rng: np.random.Generator, name: str, good: np.ndarray) -> object:
    """Something else in place of a command's array, that no command may hold."""
    size = good.size
    choices: list[object] = [
        None, "off", 1.0, {}, [], list(good), [1.0, [2.0]], good.astype(object), good.astype(str), good[:-1],
        np.append(good, good[:1]), good[:0], good[None, :], good[0], np.full(size, 1j),
        np.full(size, np.datetime64("NaT")),
    ]  # fmt: skip
    if good.dtype.kind == "f":
        broken = [np.nan, np.inf, -np.inf]
        choices += [np.where(np.arange(size) == rng.integers(size), value, good) for value in broken]
        choices += [np.full(size, True), np.full(size, np.nan, np.float32)]
    else:
        choices += [good.astype(np.float64), good.astype(np.uint64)]
    if name == "mode":
        choices += [np.full(size, 3), np.full(size, -1), np.full(size, 2**62)]
    if name == "duty_frac":
        choices += [np.full(size, -1e-9), np.full(size, 1.0 + 1e-9), np.full(size, 1e308)]
    if name == "current_limit_a":
        choices += [np.full(size, -1e-9), np.full(size, -1e308)]
    return choices[int(rng.integers(len(choices)))]


@given(seed=seeds)
@settings(max_examples=300, deadline=None)
def test_a_malformed_command_is_refused_by_rules_and_never_raises(seed):
    rng = np.random.default_rng(seed)
    good = command(SITE, power_w=1000.0)
    names = list(good.__dataclass_fields__)
    odd = [n for n in names if rng.random() < 0.2] or [names[int(rng.integers(len(names)))]]
    asked = replace(good, **{name: _odd(rng, name, getattr(good, name)) for name in odd})
    seen, believed, allowed = image(SITE), estimate(SITE), envelope(SITE)
    assert isinstance(verify(SITE, seen, believed, allowed, command(SITE), good, dt_s=1.0), VerifiedCommand)
    answer = verify(SITE, seen, believed, allowed, command(SITE), asked, dt_s=1.0)
    assert isinstance(answer, Refused), odd
    malformed = {"shape", "not_finite", "mode_value", "duty_range", "negative_limit"}
    assert {v.rule for v in answer.violations} <= malformed


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_any_finite_numbers_are_answered_by_rules_and_never_raise(seed):
    """The whole space of well-formed commands, to the end of what floating point holds."""
    rng = np.random.default_rng(seed)

    def numbers(size: int) -> np.ndarray:
        scale = 10.0 ** rng.uniform(-320.0, 308.0, size)
        with np.errstate(over="ignore"):  # what overflows is cut to the largest
            values = rng.choice([0.0, -0.0, 1.0, -1.0, 5e-324, 1e308, -1e308], size) + scale * rng.choice(
                [-1, 0, 1]
            )
        return np.clip(values, -1.7e308, 1.7e308)

    duty_mode, duty = rng.random(M) < 0.3, np.clip(rng.uniform(-0.5, 1.5, M), 0.0, 1.0)
    asked = SlotCommand(
        inserted=np.where(duty_mode, duty > 0.0, rng.random(M) < 0.6),
        duty_mode=duty_mode,
        duty_frac=duty,
        trim_current_a=numbers(M) * (rng.random(M) < 0.3),
        mode=rng.integers(-1, 4, S),
        power_w=numbers(S),
        bus_voltage_v=numbers(S),
        current_limit_a=np.abs(numbers(S)),
        contactor=rng.random(S) < 0.7,
    )
    before = random_command(rng)
    answer = verify(SITE, image(SITE), estimate(SITE), envelope(SITE), before, asked, dt_s=1.0)
    if isinstance(answer, VerifiedCommand):
        off = asked.mode == 0
        assert (np.abs(asked.power_w[~off]) <= 12_000.0 * (1.0 + 1e-6)).all()
        # of one that is off: nothing above its rating that did not stand there before
        stood = np.maximum(12_000.0, np.abs(before.power_w))
        assert (np.abs(asked.power_w[off]) <= stood[off] * (1.0 + 1e-6)).all()
        running = (asked.mode != 0) & (asked.power_w != 0.0)
        assert (asked.current_limit_a[running] <= 60.0 + 1e-4).all()
        assert (np.abs(asked.trim_current_a) <= np.maximum(5.0 + 1e-4, np.abs(before.trim_current_a))).all()
