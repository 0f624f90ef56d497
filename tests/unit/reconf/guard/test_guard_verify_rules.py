"""Every rule of verify: one plain change that breaks it, on a command that is otherwise let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from guard_site import MODULE_V, command, envelope, estimate, guard_site, image, silent

from reconf.actuation import Refused, SlotCommand, VerifiedCommand
from reconf.devices.rc1 import Rc1Status
from reconf.estimation.state import Estimate
from reconf.protection.envelope import Envelope
from reconf.readings import SiteImage, SiteInputs
from reconf.site import InputsSpec, Site
from reconf.verify import RULES, History, verify, verify_steps

OUT = 0.5 * 6 * MODULE_V


@dataclass
class Case:
    """A question to verify."""

    site: Site = field(default_factory=guard_site)
    seen: SiteImage = None  # type: ignore[assignment]
    believed: Estimate = None  # type: ignore[assignment]
    allowed: Envelope = None  # type: ignore[assignment]
    before: SlotCommand = None  # type: ignore[assignment]
    after: SlotCommand = None  # type: ignore[assignment]
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self.seen = self.seen or image(self.site)
        self.believed = self.believed or estimate(self.site)
        self.allowed = self.allowed or envelope(self.site)
        self.before = self.before or command(self.site)
        self.after = self.after or command(self.site, power_w=5000.0)

    def ask(self) -> VerifiedCommand | Refused:
        return verify(
            self.site, self.seen, self.believed, self.allowed, self.before, self.after,
            dt_s=1.0, history=self.history,
        )  # fmt: skip

    def with_after(self, **changes) -> Case:
        self.after = replace(self.after, **changes)
        return self


def at(values, index: int, value):
    changed = np.array(values)
    changed[index] = value
    return changed


def first(case: Case, name: str, value) -> np.ndarray:
    """The proposal's array `name` with its first element changed."""
    return at(getattr(case.after, name), 0, value)


def closing(**image_changes) -> Case:
    """A string about to be closed, everything in order."""
    site = guard_site()
    return Case(
        site,
        seen=image(site, closed=False, **image_changes),
        before=command(site, mode=0, contactor=False, limit_a=0.0),
        after=command(site, mode=0, contactor=True, limit_a=0.0),
    )


def closing_over(apart_v: float, **estimate_changes) -> Case:
    """The converters see that much more than the modules' sum: within what sensors may differ by."""
    case = closing()
    volts = case.seen.strings.voltage_v
    seen = replace(case.seen.strings, voltage_v=replace(volts, value=volts.value + apart_v))
    case.seen = replace(case.seen, strings=seen)
    return believed(case, **{k: full(case, v) for k, v in estimate_changes.items()})


def allowed(case: Case, **changes) -> Case:
    case.allowed = envelope(case.site, **changes)
    return case


def believed(case: Case, **changes) -> Case:
    case.believed = estimate(case.site, **changes)
    return case


def full(case: Case, value: float) -> np.ndarray:
    return np.full(case.site.topology.n_modules, value)


def out_of(count: int) -> list[bool]:
    return [k >= count for k in range(6)] * 2


def _master() -> Case:
    site = guard_site(master="S0")
    before = command(site, mode=2)
    before = replace(before, mode=np.array([2, 1]), bus_voltage_v=np.array([800.0, 0.0]))
    return Case(site, before=before, after=replace(before, power_w=np.array([0.0, 2000.0])))


def _welded() -> Case:
    return Case(**{**closing().__dict__, "seen": image(guard_site(), closed=False, link_v=250.0)})


def with_inputs(case: Case, inputs: SiteInputs) -> Case:
    case.seen = replace(case.seen, inputs=inputs)
    return case


def _silent_string() -> Case:
    case = Case()
    case.seen = silent(case.seen, strings=[0])
    return case


def _silent_module_in() -> Case:
    case = Case(before=command(guard_site(), inserted=out_of(1)))
    case.seen = silent(image(case.site, out_of(1)), modules=[0])
    return case


def _rising(limit_a: float, before_w: float, after_w: float, **limits) -> Case:
    """A weak module comes in while the current limit still stands high."""
    site = guard_site()
    weak = {name: at(np.full(12, 60.0), 0, 20.0) for name in limits}
    return Case(
        site,
        seen=image(site, out_of(1)),
        allowed=envelope(site, **weak),
        before=command(site, inserted=out_of(1), power_w=before_w, limit_a=limit_a),
        after=command(site, power_w=after_w, limit_a=15.0),
    )


def _balanced(give_a: float) -> Case:
    """The first module of a string gives to the second."""
    trims = np.zeros(12)
    trims[:2] = give_a, -0.92 * give_a
    return Case().with_after(trim_current_a=trims)


def small(case: Case) -> Case:
    """The first two modules have so little charge left that the string's 40 A are nearly all they bear."""
    rate = np.where(case.after.power_w[0] > 0.0, 3.0, 1.5)
    case.before = replace(case.before, current_limit_a=np.full(2, 20.0))
    left = np.where(np.arange(12) < 2, 42.0 / rate, 48.0)
    return believed(case, capacity_ah=left, capacity_std_ah=np.zeros(12))


CASES: dict[str, Callable[[], Case]] = {
    "shape": lambda: Case().with_after(power_w=np.zeros(3)),
    "not_finite": lambda: Case().with_after(power_w=np.array([np.nan, 0.0])),
    "duty_range": lambda: Case().with_after(duty_frac=np.full(12, 1.2)),
    "mode_value": lambda: Case().with_after(mode=np.array([7, 1])),
    "negative_limit": lambda: Case().with_after(current_limit_a=np.array([-1.0, 40.0])),
    "site_open": lambda: allowed(Case(), site_open=True),
    "string_unusable": lambda: allowed(Case(), string_usable=np.array([False, True])),
    "insertion_forbidden": lambda: allowed(Case(), insertion=at(np.zeros(12, np.uint8), 3, 1)),
    "insertion_forced": lambda: allowed(
        Case().with_after(inserted=at(np.ones(12, np.bool_), 3, False)),
        insertion=at(np.zeros(12, np.uint8), 3, 2),
    ),
    "stale_module": _silent_module_in,
    "stale_string": _silent_string,
    "converter_latched": lambda: Case(seen=image(guard_site(), status=int(Rc1Status.HARDWARE_FAULT))),
    "unknown_voltage": lambda: believed(
        Case(seen=image(guard_site(), module_v=at(np.full(12, MODULE_V), 2, np.nan))),
        ocv_v=at(np.full(12, MODULE_V), 2, np.nan),
    ),
    "window_min": lambda: Case(
        seen=image(guard_site(), out_of(3)),
        before=command(guard_site(), inserted=out_of(3)),
        after=command(guard_site(), inserted=out_of(3), power_w=3000.0),
    ),
    "window_max": lambda: Case(seen=image(guard_site(), module_v=1.2 * MODULE_V)),
    "module_discharge": lambda: allowed(Case(), discharge_now_a=at(np.full(12, 60.0), 5, 39.0)),
    "module_charge": lambda: allowed(
        Case().with_after(power_w=np.full(2, -4000.0)), charge_now_a=at(np.full(12, 45.0), 5, 39.0)
    ),
    "sum_discharge": lambda: small(_balanced(5.0)),
    "sum_charge": lambda: small(_balanced(5.0).with_after(power_w=np.full(2, -2000.0))),
    "cell_voltage_min": lambda: believed(Case(), cell_voltage_min_v=at(np.full(12, 3.6), 1, 2.71)),
    "cell_voltage_max": lambda: believed(
        Case().with_after(power_w=np.full(2, -5000.0)), cell_voltage_max_v=at(np.full(12, 3.7), 1, 4.24)
    ),
    "charge_left": lambda: believed(
        Case(history=History(hold_s=60.0)), remaining_ah=at(np.full(12, 20.0), 1, 0.05)
    ),
    "charge_room": lambda: believed(
        Case(history=History(hold_s=60.0)).with_after(power_w=np.full(2, -5000.0)),
        chargeable_ah=at(np.full(12, 20.0), 1, 0.05),
    ),
    "temperature_max": lambda: believed(Case(), temperature_high_degc=at(np.full(12, 26.0), 4, 61.0)),
    "temperature_min": lambda: believed(Case(), temperature_low_degc=at(np.full(12, 24.0), 4, -31.0)),
    "charge_temperature": lambda: believed(
        Case().with_after(power_w=np.full(2, -4000.0)), temperature_low_degc=at(np.full(12, 24.0), 4, -30.0)
    ),
    "converter_power": lambda: Case().with_after(power_w=np.array([12_500.0, 0.0])),
    "converter_current": lambda: allowed(
        Case().with_after(current_limit_a=np.full(2, 81.0)), discharge_now_a=np.full(12, 100.0)
    ),
    "trim_rating": lambda: allowed(
        Case().with_after(trim_current_a=at(np.zeros(12), 0, 5.2)), trim_give_a=np.full(12, 9.0)
    ),
    "trim_give": lambda: allowed(
        Case().with_after(trim_current_a=at(np.zeros(12), 0, 3.0)), trim_give_a=np.full(12, 2.0)
    ),
    "trim_take": lambda: allowed(
        Case().with_after(trim_current_a=at(np.zeros(12), 0, -3.0)), trim_take_a=np.full(12, 2.0)
    ),
    "trim_balance": lambda: Case().with_after(trim_current_a=at(np.zeros(12), 0, 3.0)),
    "ramp": lambda: Case(history=History(ramp_w_per_s=2000.0)),
    "dwell": lambda: Case(
        after=command(guard_site(), inserted=out_of(1), power_w=3000.0),
        history=History(since_switch_s=np.full(12, 1.0)),
    ),
    "switch_count": lambda: Case(
        after=command(guard_site(), inserted=out_of(1), power_w=3000.0),
        history=History(switches=np.full(12, 99.0)),
    ),
    "string_bypassed": lambda: Case(after=command(guard_site(), inserted=out_of(6), mode=0, limit_a=0.0)),
    "welded": _welded,
    "maintenance": lambda: Case(**{**closing().__dict__, "history": History(locked=True)}),
    "site_inputs": lambda: with_inputs(closing(), SiteInputs(unknown=("smoke_alarm",))),
    "insulation": lambda: with_inputs(closing(), SiteInputs(insulation_ohm_per_v=60.0)),
    "contactor_mismatch": lambda: closing(status=int(Rc1Status.CONTACTOR_MISMATCH)),
    "connect_voltage": lambda: Case(
        **{
            **closing().__dict__,
            "seen": replace(
                closing().seen,
                strings=replace(
                    closing().seen.strings,
                    voltage_v=replace(closing().seen.strings.voltage_v, value=np.array([OUT, OUT])),
                ),
            ),
        }
    ),
    "connect_inrush": lambda: closing_over(4.0, r0_ohm=0.005),
    "close_unloaded": lambda: closing().with_after(mode=np.array([1, 0])),
    "close_settled": lambda: Case(
        **{**closing().__dict__, "seen": image(guard_site(), out_of(1), closed=False)}
    ),
    "power_before_closed": lambda: closing().with_after(mode=np.array([1, 0]), power_w=np.array([500.0, 0])),
    "bus_master": lambda: Case().with_after(mode=np.array([2, 1]), bus_voltage_v=np.full(2, 800.0)),
    "bus_setpoint": lambda: _master().with_after(bus_voltage_v=np.array([900.0, 0.0])),
    "bus_lost": lambda: Case(seen=image(guard_site(), bus_v=650.0)),
    "subset_window_min": lambda: Case(
        seen=image(guard_site(), [True, True, True, True, False, False] * 2),
        before=command(guard_site(), inserted=[True, True, True, True, False, False] * 2),
        after=command(guard_site(), inserted=[False, False, True, True, True, True] * 2, power_w=2000.0),
    ),
    "subset_window_max": lambda: Case(
        guard_site(),
        seen=image(guard_site(), out_of(1), module_v=1.17 * MODULE_V),
        believed=estimate(guard_site(), ocv_v=np.full(12, 1.17 * MODULE_V)),
        before=command(guard_site(), inserted=out_of(1)),
        after=command(guard_site(), inserted=[True, False, True, True, True, True] * 2, power_w=2000.0),
    ),
    "subset_discharge": lambda: _rising(40.0, 4000.0, 2000.0, discharge_now_a=True),
    "subset_charge": lambda: _rising(40.0, -4000.0, -2000.0, charge_now_a=True),
}


@pytest.mark.parametrize("base", [Case, closing, _master])
def test_the_base_commands_are_let_through(base):
    answer = base().ask()
    assert isinstance(answer, VerifiedCommand), answer
    assert 0.0 <= answer.min_margin_frac <= 1.0


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_a_change_that_breaks_it(rule):
    answer = CASES[rule]().ask()
    assert isinstance(answer, Refused)
    broken = {violation.rule for violation in answer.violations}
    assert rule in broken
    named = next(v for v in answer.violations if v.rule == rule)
    assert named.text == RULES[rule].text
    assert named.subject


def test_all_broken_rules_are_listed_not_only_the_first():
    case = allowed(Case(), discharge_now_a=np.full(12, 10.0), string_discharge_w=np.full(2, 100.0))
    answer = case.ask()
    assert isinstance(answer, Refused)
    by_rule = {rule: [v for v in answer.violations if v.rule == rule] for rule in RULES}
    assert len(by_rule["module_discharge"]) == 12
    assert len(by_rule["converter_power"]) == 2


def test_power_zero_is_let_through_whatever_the_envelope_says():
    case = allowed(
        Case(before=command(guard_site(), power_w=5000.0), after=command(guard_site(), power_w=0.0)),
        site_open=True,
        string_usable=np.zeros(2, np.bool_),
        discharge_now_a=np.zeros(12),
        insertion=np.ones(12, np.uint8),
    )
    assert isinstance(case.ask(), VerifiedCommand)


def test_staying_at_power_with_a_limit_that_fell_is_refused():
    running = command(guard_site(), power_w=5000.0)
    case = allowed(Case(before=running, after=running), discharge_now_a=np.full(12, 10.0))
    assert isinstance(case.ask(), Refused)


def test_string_and_trim_current_of_one_module_count_together():
    assert isinstance(_balanced(5.0).ask(), VerifiedCommand)
    assert isinstance(small(_balanced(1.9)).ask(), VerifiedCommand)
    answer = small(_balanced(2.1)).ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} == {("sum_discharge", "M0-0")}


def test_a_module_bears_current_by_the_charge_that_it_surely_has_and_by_its_best_conducting_branch():
    """40 A at 3 C: 13.34 Ah must be left, doubts and branches taken off."""

    def asked(ah: float, std_ah: float, parallel: int = 1) -> set[str]:
        site = guard_site()
        strings = tuple(
            replace(s, positions=tuple(
                replace(p, module=replace(p.module, n_parallel=parallel)) for p in s.positions
            ))
            for s in site.strings
        )  # fmt: skip
        case = Case(replace(site, strings=strings))
        answer = believed(case, capacity_ah=full(case, ah), capacity_std_ah=full(case, std_ah)).ask()
        return {v.rule for v in answer.violations} if isinstance(answer, Refused) else set()

    assert asked(13.4, 0.0) == set()
    assert asked(13.2, 0.0) == {"module_discharge", "subset_discharge"}
    assert asked(14.2, 0.4) == set()
    assert asked(14.0, 0.4) == {"module_discharge", "subset_discharge"}
    # no doubt counts for more than 13 %, or a module nobody knows could not be used
    assert asked(15.4, 9.0) == set()
    # two branches, one 10 % below the middle and one above it: 1.1 of its share
    assert asked(14.6, 0.0, parallel=2) == {"module_discharge", "subset_discharge"}
    assert asked(14.8, 0.0, parallel=2) == set()


def test_a_polarisation_that_is_still_growing_counts_at_an_unchanged_current():
    """Charging on at the same current: what the reading does not hold yet is still to come."""
    running = command(guard_site(), power_w=-5000.0, limit_a=24.0)
    case = Case(seen=image(guard_site(), current_a=-20.0), before=running, after=running)
    case.history = History(hold_s=60.0)
    highest = full(case, 4.22)
    settled = believed(case, cell_voltage_max_v=highest, polarisation_v=full(case, -20.0 * 0.006))
    assert isinstance(settled.ask(), VerifiedCommand), settled.ask()
    case = believed(case, cell_voltage_max_v=highest, resistance_ohm=full(case, 0.042))
    answer = case.ask()
    assert isinstance(answer, Refused)
    assert {v.rule for v in answer.violations} == {"cell_voltage_max"}


def test_a_polarisation_that_is_not_there_does_not_come_back_when_the_load_goes():
    """After a short load in the cold the voltage rises by what is polarised, not by all that might be."""
    site = guard_site()
    case = Case(
        site, seen=image(site, current_a=40.0), before=command(site, power_w=9000.0),
        after=command(site, power_w=-1500.0, limit_a=8.0), history=History(hold_s=60.0),
    )  # fmt: skip
    cold = {"resistance_ohm": full(case, 0.2), "cell_voltage_max_v": full(case, 3.8)}
    barely = believed(case, **cold, polarisation_v=full(case, 0.4))
    assert isinstance(barely.ask(), VerifiedCommand), barely.ask()
    deeply = believed(case, **cold, polarisation_v=full(case, 7.0))
    answer = deeply.ask()
    assert isinstance(answer, Refused)
    assert {v.rule for v in answer.violations} == {"cell_voltage_max"}


@pytest.mark.parametrize(
    ("tracked", "std", "passes"), [(1.1, 0.0, True), (1.5, 0.0, False), (1.1, 0.2, False)]
)
def test_the_worst_group_counts_with_the_resistance_that_is_tracked_and_with_its_doubt(tracked, std, passes):
    """2.92 V, 20 A over 30 mOhm in twelve groups: 58 mV times 1.15, and 2.7 V is the tier."""
    case = Case(after=command(guard_site(), power_w=4000.0))
    case = believed(
        case, cell_voltage_min_v=full(case, 2.755),
        r0_ohm=full(case, 0.030), resistance_ohm=full(case, 0.030),
        resistance_std_ohm=full(case, 0.030 * std), group_resistance_frac=full(case, tracked),
    )  # fmt: skip
    answer = case.ask()
    rules = {v.rule for v in answer.violations} if isinstance(answer, Refused) else set()
    assert rules == (set() if passes else {"cell_voltage_min"})


def test_a_group_at_its_knee_is_not_taken_for_one_on_the_plateau_of_the_others():
    """Half of what is left leaves it: so half of the way to its cut-off, whatever the mean slope says."""
    case = Case(history=History(hold_s=60.0), after=command(guard_site(), power_w=4000.0))
    plateau = believed(
        case, cell_voltage_min_v=at(np.full(12, 3.6), 2, 3.1), ocv_slope_v_per_ah=full(case, 0.01),
        remaining_ah=full(case, 20.0),
    )  # fmt: skip
    assert isinstance(plateau.ask(), VerifiedCommand), plateau.ask()
    low = at(np.full(12, 3.6), 2, 2.76)
    deep = believed(
        case, cell_voltage_min_v=low, ocv_slope_v_per_ah=full(case, 0.01), polarisation_v=full(case, 3.6),
        remaining_ah=at(np.full(12, 20.0), 2, 0.6),
    )  # fmt: skip
    answer = deep.ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} == {("cell_voltage_min", "M0-2")}


def test_a_module_that_would_pass_its_temperature_before_anybody_looks_again_is_refused():
    case = believed(Case(), temperature_high_degc=np.full(12, 49.8))
    assert isinstance(case.ask(), VerifiedCommand)
    case.history = History(hold_s=300.0)
    answer = case.ask()
    assert isinstance(answer, Refused)
    assert {v.rule for v in answer.violations} == {"temperature_max"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"remaining_ah": 0.01}, "charge_left"),
        ({"chargeable_ah": 0.01}, "charge_room"),
        ({"temperature_high_degc": 50.5}, "temperature_max"),
        ({"temperature_low_degc": -20.5}, "charge_temperature"),
        ({"cell_voltage_min_v": 2.71}, "cell_voltage_min"),
        ({"cell_voltage_max_v": 4.245}, "cell_voltage_max"),
    ],
)
def test_cells_behind_the_converter_that_holds_the_bus_are_looked_at_although_it_is_asked_for_no_power(
    changes, rule
):
    case = _master()
    case.history = History(hold_s=30.0)
    (name, value), base = next(iter(changes.items())), estimate(case.site)
    case = believed(case, **{name: at(getattr(base, name), 0, value)})
    answer = case.ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} >= {(rule, "M0-0")}


@pytest.mark.parametrize("runs", [0, 1])
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"remaining_ah": 0.0005}, "charge_left"),
        ({"temperature_high_degc": 50.5}, "temperature_max"),
        ({"cell_voltage_min_v": 2.695}, "cell_voltage_min"),
    ],
)
def test_a_trim_out_of_a_bypassed_module_is_looked_at_without_any_power(changes, rule, runs):
    site = guard_site()
    before = command(site, inserted=out_of(1), mode=runs, limit_a=5.0)
    trims = at(at(np.zeros(12), 0, 4.0), 1, -4.0 * 0.92)
    case = Case(site, seen=image(site, out_of(1)), before=before, after=replace(before, trim_current_a=trims))
    assert isinstance(case.ask(), VerifiedCommand), case.ask()
    case.history = History(hold_s=30.0)
    (name, value), base = next(iter(changes.items())), estimate(site)
    answer = believed(case, **{name: at(getattr(base, name), 0, value)}).ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} == {(rule, "M0-0")}


def test_what_holds_the_bus_keeps_to_the_current_that_protection_allows_its_converter():
    case = _master()
    assert isinstance(case.ask(), VerifiedCommand)
    answer = allowed(case, string_charge_a=np.array([10.0, 40.0])).ask()
    assert isinstance(answer, Refused)
    assert {(v.rule, v.subject) for v in answer.violations} == {("converter_current", "S0")}


def test_a_weak_module_may_leave_although_the_current_is_still_above_its_limit():
    site = guard_site()
    case = Case(
        site,
        allowed=envelope(site, discharge_now_a=at(np.full(12, 60.0), 0, 5.0)),
        before=command(site, power_w=3000.0, limit_a=40.0),
        after=command(site, inserted=at(np.ones(12, np.bool_), 0, False), power_w=3000.0, limit_a=40.0),
    )
    assert isinstance(case.ask(), VerifiedCommand)


def test_bypassing_everything_needs_the_contactor_read_open():
    site = guard_site()
    case = Case(
        site,
        seen=image(site, closed=False),
        before=command(site, mode=0, contactor=False, limit_a=0.0),
        after=SlotCommand.safe(12, 2),
    )
    assert isinstance(case.ask(), VerifiedCommand)
    case.seen = silent(case.seen, strings=[0, 1])
    answer = case.ask()
    assert isinstance(answer, Refused)
    assert {v.rule for v in answer.violations} == {"string_bypassed"}


def test_a_silent_module_counts_as_in_and_as_out():
    site = guard_site()
    four_in = [True, True, True, True, False, False] * 2
    before = command(site, inserted=four_in)
    seen = silent(image(site, four_in), modules=[0])
    case = Case(site, seen=seen, before=before, after=replace(before, power_w=np.full(2, 1000.0)))
    answer = case.ask()
    assert isinstance(answer, Refused)
    assert "window_min" in {v.rule for v in answer.violations}
    case.seen = image(site, four_in)
    assert isinstance(case.ask(), VerifiedCommand)


def test_steps_are_judged_each_after_the_one_before():
    site = guard_site()
    weak = at(np.full(12, 60.0), 0, 20.0)
    low = command(site, inserted=out_of(1), power_w=2000.0, limit_a=15.0)
    final = command(site, power_w=2000.0, limit_a=15.0)
    before = command(site, inserted=out_of(1), power_w=4000.0, limit_a=40.0)
    seen = image(site, out_of(1))
    allowed_ = envelope(site, discharge_now_a=weak)
    at_once = verify_steps(site, seen, estimate(site), allowed_, before, (final,), dt_s=1.0)
    assert isinstance(at_once, Refused)
    staged = verify_steps(site, seen, estimate(site), allowed_, before, (low, final), dt_s=1.0)
    assert isinstance(staged, tuple)
    assert len(staged) == 2


@pytest.mark.parametrize("alarm", ["emergency_stop", "gas_alarm", "smoke_alarm", "fire_alarm"])
def test_an_alarm_in_the_image_is_enough_whatever_the_envelope_says(alarm):
    answer = with_inputs(Case(), SiteInputs(**{alarm: True})).ask()
    assert isinstance(answer, Refused)
    assert {v.rule for v in answer.violations} == {"site_open"}


@pytest.mark.parametrize("unknown", [("insulation_ohm",), ("insulation_device_fault",)])
def test_unknown_insulation_forbids_closing_where_a_monitor_is_fitted(unknown):
    site = replace(guard_site(), inputs=InputsSpec(insulation_monitor=True))
    for inputs in (SiteInputs(), SiteInputs(insulation_ohm_per_v=900.0, unknown=unknown)):
        case = with_inputs(closing(), inputs)
        assert isinstance(case.ask(), VerifiedCommand)
        case.site = site
        answer = case.ask()
        assert isinstance(answer, Refused)
        assert {v.rule for v in answer.violations} == {"insulation"}
    case = with_inputs(closing(), SiteInputs(insulation_ohm_per_v=900.0))
    case.site = site
    assert isinstance(case.ask(), VerifiedCommand)


def test_the_ramp_counts_from_the_beginning_of_the_tick_not_from_a_lowered_step():
    site = guard_site()
    before = command(site, power_w=3000.0)
    lowered, after = command(site, power_w=1000.0), command(site, power_w=3400.0)
    history = History(ramp_w_per_s=1000.0)
    answer = verify_steps(
        site, image(site), estimate(site), envelope(site), before, (lowered, after), dt_s=1.0, history=history
    )
    assert not isinstance(answer, Refused), answer
    too_much = verify_steps(
        site, image(site), estimate(site), envelope(site), before, (lowered, command(site, power_w=3600.0)),
        dt_s=1.0, history=history,
    )  # fmt: skip
    assert isinstance(too_much, Refused)
    assert {v.rule for v in too_much.violations} == {"ramp"}


def test_a_slot_that_begins_a_little_early_keeps_the_dwell_and_a_second_switch_in_one_change_does_not():
    site = guard_site()
    out = command(site, inserted=out_of(1), power_w=3000.0)
    slots_s = site.allocator.min_dwell_slots * site.timing.slot_s
    nearly = History(since_switch_s=np.full(12, slots_s - 0.4 * site.timing.tick_s))
    assert isinstance(Case(after=out, history=nearly).ask(), VerifiedCommand)
    back = verify_steps(
        site, image(site), estimate(site), envelope(site), command(site), (out, command(site)),
        dt_s=1.0, history=nearly,
    )  # fmt: skip
    assert isinstance(back, Refused)
    assert {v.rule for v in back.violations} == {"dwell"}


@pytest.mark.parametrize(("apart_v", "passes"), [(0.0, True), (3.0, True), (3.6, False), (-3.6, False)])
def test_only_a_computed_inrush_may_flow_on_closing(apart_v, passes):
    # 6 modules of 5 mOhm less 15 % and 6 switches: 28.5 mOhm; 3 C of the 48 Ah left are 144 A: 4.1 V,
    # of which 0.2 % of 266 V are doubt already
    answer = closing_over(apart_v, r0_ohm=0.005).ask()
    assert isinstance(answer, VerifiedCommand) == passes, answer
    if isinstance(answer, Refused):
        assert {v.rule for v in answer.violations} == {"connect_inrush"}


def test_an_aged_module_bears_less_inrush_and_less_current():
    aged = {"r0_ohm": 0.005, "capacity_ah": 30.0}
    refused = closing_over(2.5, **aged).ask()
    assert isinstance(refused, Refused)
    assert {v.rule for v in refused.violations} == {"connect_inrush"}
    site = guard_site()
    wide = {"discharge_now_a": np.full(12, 500.0)}
    order = command(site, power_w=5000.0, limit_a=70.0)
    assert isinstance(allowed(Case(site, after=order), **wide).ask(), VerifiedCommand)
    case = believed(allowed(Case(site, after=order), **wide), capacity_ah=np.full(12, 20.0))
    answer = case.ask()
    assert isinstance(answer, Refused)
    named = next(v for v in answer.violations if v.rule == "module_discharge")
    assert named.allowed == pytest.approx(3.0 * (20.0 - 2.0))  # two standard deviations low
