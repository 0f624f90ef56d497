"""The phases of a capacity test, and that steering asks for no more than a string can spare."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge.bench.energy_site import energy_site
from edge.core_captest import restored_test, saved_test, told
from reconf.captest import trial as trial_module
from reconf.captest.learn import learned
from reconf.captest.point import Capacity
from reconf.captest.steer import steered, wished
from reconf.captest.trial import REST_S, STUCK_S, CapacityTest, Known, Phase, Trial, advance, begin
from reconf.cells.bank import CellBank
from reconf.estimation.filter import initial_state
from reconf.protection.envelope import Insertion
from reconf.readings import Channel
from reconf.site import Chemistry
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth

SITE = energy_site(4, 1, 0.1, Chemistry.NMC, strings=2)
M = len(SITE.modules)
BANK = CellBank.of(SITE.modules)


def estimate_of(soc, capacity=48.0, **changes):
    soc = np.full(M, float(soc))
    made = {
        "soc_frac": soc, "capacity_ah": np.full(M, capacity), "capacity_std_ah": np.linspace(1.0, 2.0, M),
        "remaining_ah": soc * capacity, "chargeable_ah": (1.0 - soc) * capacity, "trusted": np.ones(M, bool),
        "soc_std_frac": np.full(M, 0.05), "polarisation_v": np.zeros(M),
        "temperature_degc": np.full(M, 25.0), "ocv_v": np.full(M, 44.0),
    } | changes  # fmt: skip
    return SimpleNamespace(**made)


def envelope_of(**changes):
    made = {
        "insertion": np.zeros(M, np.uint8), "discharge_now_a": np.full(M, 60.0),
        "charge_now_a": np.full(M, 30.0), "trim_give_a": np.full(M, 5.0), "trim_take_a": np.full(M, 5.0),
        "string_voltage_min_v": np.full(2, 100.0),
    } | changes  # fmt: skip
    return SimpleNamespace(**made)


def known_of(time_s, soc, current_a=0.0, string_a=20.0, counter=0.0, envelope=None, **changes):
    volts = BANK.ocv_v(np.full((M, 12), float(soc)), 25.0, 0.8)
    good = np.zeros((M, 12), np.uint8)
    flat = np.zeros(M, np.uint8)
    age = np.zeros(M)
    modules = SimpleNamespace(
        answered=np.ones(M, bool), cell_voltage_v=Channel(volts, good, np.zeros((M, 12))),
        charge_counter_ah=Channel(np.full(M, float(counter)), flat, age),
        current_a=Channel(np.full(M, float(current_a)), flat, age), uptime_s=np.full(M, int(time_s) + 10),
    )  # fmt: skip
    return Known(
        SimpleNamespace(time_s=time_s, modules=modules), estimate_of(soc, **changes),
        envelope or envelope_of(), np.zeros(M), np.zeros(M), np.full(2, float(string_a)),
    )  # fmt: skip


def first(test):
    trial = test.trials[0]
    assert trial is not None
    return trial


def test_the_least_known_begins_and_the_whole_story_gives_the_capacity():
    test = begin(SITE, estimate_of(0.95), np.array([True, False]), 0.5)
    assert test.waiting[1] == ()
    test = advance(SITE, test, known_of(0.0, 0.95))
    assert (first(test).serial, first(test).sign) == (SITE.strings[0].positions[3].module.serial, 1.0)
    test = advance(SITE, test, known_of(1.0, 0.95))
    assert first(test).phase is Phase.REST_ONE
    test = advance(SITE, test, known_of(2.0, 0.95))
    test = advance(SITE, test, known_of(2.0 + REST_S / 2, 0.95, current_a=9.0))  # not at rest after all
    test = advance(SITE, test, known_of(3.0 + REST_S / 2, 0.95))
    test = advance(SITE, test, known_of(3.0 + REST_S, 0.95))
    assert first(test).phase is Phase.REST_ONE
    test = advance(SITE, test, known_of(4.0 + 1.5 * REST_S, 0.95, counter=1.0))
    assert first(test).phase is Phase.CARRY
    test = advance(SITE, test, known_of(9000.0, 0.5, current_a=20.0, counter=22.6))
    assert first(test).phase is Phase.CARRY
    test = advance(SITE, test, known_of(14000.0, 0.02, current_a=20.0, counter=45.0))
    assert first(test).phase is Phase.REST_TWO
    test = advance(SITE, test, known_of(14001.0, 0.03))
    test = advance(SITE, test, known_of(14001.0 + REST_S, 0.05, counter=44.2))
    (result,) = test.results
    assert result.capacity_ah == pytest.approx(43.2 / 0.9, rel=0.01)
    assert first(test).serial != result.serial  # the next one has begun
    assert first(test).sign == -1.0  # from the bottom, which is where it is


def test_a_site_that_turns_round_ends_the_carrying_after_half_the_charge():
    trial = Trial("E00000", 1.0, Phase.CARRY, 0.0, np.inf, first=None)
    point = SimpleNamespace(soc_frac=(0.95,))
    test = CapacityTest(0.5, ((), ()), (replace(trial, first=point), None))
    short = advance(SITE, test, known_of(10.0, 0.7, string_a=-15.0))
    assert first(short).phase is Phase.CARRY
    wide = advance(SITE, test, known_of(10.0, 0.4, string_a=-15.0))
    assert first(wide).phase is Phase.REST_TWO


def test_what_never_comes_is_given_up_and_the_next_begins():
    test = begin(SITE, estimate_of(0.6), np.array([True, True]), 0.5)
    test = advance(SITE, test, known_of(0.0, 0.6))
    serial = first(test).serial
    test = advance(SITE, test, known_of(STUCK_S + 1.0, 0.6))
    assert serial in dict(test.given_up)
    assert first(test).serial != serial


def test_where_the_curve_is_flat_it_goes_on_to_the_very_end_and_trusts_what_is_better_known(monkeypatch):
    real = trial_module.point_at

    def flat(*args):
        point = real(*args)
        return replace(point, soc_std_frac=(0.08,) * len(point.soc_std_frac))

    monkeypatch.setattr(trial_module, "point_at", flat)
    point = Trial("E00000", 1.0, Phase.REST_ONE, 0.0, 0.0)
    test = CapacityTest(0.5, ((), ()), (point, None))
    test = advance(SITE, test, known_of(REST_S + 1.0, 0.9))
    assert (first(test).phase, first(test).deep) == (Phase.APPROACH, True)
    assert first(advance(SITE, test, known_of(REST_S + 2.0, 0.9))).phase is Phase.APPROACH
    test = advance(SITE, test, known_of(REST_S + 3.0, 0.98))
    assert first(test).phase is Phase.REST_ONE
    test = advance(SITE, test, known_of(REST_S + 4.0, 0.98))
    sure = np.full(M, 0.006)
    known = advance(SITE, test, known_of(2 * REST_S + 5.0, 0.98, soc_std_frac=sure))
    assert first(known).phase is Phase.CARRY
    assert first(known).first.soc_frac == (0.98,) * 12
    lost = advance(SITE, test, known_of(2 * REST_S + 5.0, 0.98))
    assert "too flat" in dict(lost.given_up)["E00000"]


def test_the_filter_learns_what_was_measured_and_forgets_nothing_else():
    rng = np.random.default_rng(1)
    image = observe(Plant(SITE, draw_truth(SITE, rng, soc_frac=0.5)), rng, 0, 0.0)
    memory = initial_state(SITE, image)
    result = Capacity(SITE.modules[2].serial, 10.0, 41.5, 0.15, (0.95, 0.05), 37.0, 2.0, 25.0)
    after = learned(memory, result)
    charge, capacity = after.groups.charge_ah[2, :12], after.groups.capacity_ah[2, :12]
    assert charge.min() + (capacity - charge).min() == pytest.approx(41.5)
    assert np.allclose(charge / capacity, memory.groups.soc_frac[2, :12])
    assert np.allclose(np.sqrt(after.groups.var_qq[2, :12]), 0.15)
    assert np.allclose(after.groups.soc_std_frac()[2, :12], 0.01)
    others = [0, 1, *range(3, M)]
    assert np.array_equal(after.groups.capacity_ah[others], memory.groups.capacity_ah[others])
    worse = replace(result, std_ah=60.0)
    assert learned(memory, worse) is memory
    assert learned(memory, replace(result, serial="STRANGER")) is memory


def test_untrusted_modules_are_passed_over():
    trusted = np.ones(M, bool)
    trusted[3] = False
    test = begin(SITE, estimate_of(0.95), np.array([True, False]), 0.5)
    test = advance(SITE, test, known_of(0.0, 0.95, trusted=trusted))
    assert dict(test.given_up) == {SITE.modules[3].serial: "its readings are not trusted"}


@pytest.mark.parametrize(
    ("phase", "sign", "power_w", "wish"),
    [
        (Phase.CARRY, 1.0, 500.0, Insertion.FORCED),
        (Phase.CARRY, 1.0, -500.0, Insertion.FORBIDDEN),
        (Phase.CARRY, -1.0, -500.0, Insertion.FORCED),
        (Phase.APPROACH, 1.0, 500.0, Insertion.FORBIDDEN),
        (Phase.APPROACH, 1.0, -500.0, Insertion.FORCED),
        (Phase.REST_ONE, 1.0, 500.0, Insertion.FORBIDDEN),
        (Phase.CARRY, 1.0, 0.0, Insertion.ALLOWED),
    ],
)
def test_what_a_trial_would_have_its_module_do(phase, sign, power_w, wish):
    assert wished(Trial("M", sign, phase, 0.0, np.inf), power_w) is wish


@pytest.fixture
def carrying(monkeypatch):
    """A test that carries module 0; `replace` of the fake envelope is that of a namespace."""
    monkeypatch.setattr(
        "reconf.captest.steer.replace", lambda old, **new: SimpleNamespace(**{**vars(old), **new})
    )
    trial = Trial(SITE.modules[0].serial, 1.0, Phase.CARRY, 0.0, np.inf)
    return CapacityTest(0.5, ((), ()), (trial, None))


def steer(test, envelope, power_w=500.0, current_a=20.0, **changes):
    return steered(
        SITE, envelope, estimate_of(0.5, **changes), test, power_w=power_w,
        string_current_a=np.full(2, current_a),
    )  # fmt: skip


def test_only_the_module_under_test_is_steered_and_its_trim_stands_still(carrying):
    got = steer(carrying, envelope_of())
    assert list(got.insertion) == [Insertion.FORCED] + [Insertion.ALLOWED] * (M - 1)
    assert got.trim_give_a[0] == got.trim_take_a[0] == 0.0
    assert (got.trim_give_a[1:] == 5.0).all()


def test_a_module_whose_limit_would_hold_the_string_back_is_not_held_in(carrying):
    limits = np.full(M, 60.0)
    limits[0] = 20.2
    assert steer(carrying, envelope_of(discharge_now_a=limits)).insertion[0] == Insertion.ALLOWED
    assert steer(carrying, envelope_of(), current_a=40.0).insertion[0] == Insertion.ALLOWED  # above 0.5 C


def test_a_module_the_string_cannot_spare_is_not_held_out(carrying):
    rest = replace(carrying, trials=(replace(carrying.trials[0], phase=Phase.REST_ONE), None))
    assert steer(rest, envelope_of()).insertion[0] == Insertion.FORBIDDEN
    tight = envelope_of(string_voltage_min_v=np.full(2, 3 * 44.0))
    assert steer(rest, tight).insertion[0] == Insertion.ALLOWED


@pytest.mark.parametrize("held", [Insertion.FORBIDDEN, Insertion.FORCED])
def test_protection_is_never_overruled(carrying, held):
    fixed = np.zeros(M, np.uint8)
    fixed[0] = held
    assert steer(carrying, envelope_of(insertion=fixed)).insertion[0] == held
    assert steered(
        SITE, envelope_of(insertion=fixed), estimate_of(0.5), None, power_w=1.0, string_current_a=np.zeros(2)
    ).insertion[0] == held  # fmt: skip


def test_results_and_what_is_left_survive_a_restart():
    result = Capacity("E00001", 10.0, 48.0, 0.2, (0.95, 0.05), 43.0, 2.0, 25.0)
    test = CapacityTest(
        0.3, (("E00002",), ("GONE", "E10001")), (Trial("E00000", 1.0, Phase.CARRY, 5.0, np.inf), None),
        (result,), (("E10000", "why"),),
    )  # fmt: skip
    again = restored_test(SITE, saved_test(test))
    assert again == CapacityTest(
        0.3, (("E00000", "E00002"), ("E10001",)), (None, None), (result,), (("E10000", "why"),)
    )
    assert restored_test(SITE, saved_test(None)) is None
    kinds = [(e.subject, e.text.split()[0]) for e in told(1.0, None, test)]
    assert kinds == [("E00000", "carry"), ("E00001", "capacity"), ("E10000", "given")]
    assert told(1.0, test, test) == ()
