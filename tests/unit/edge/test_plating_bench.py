"""The plating guard against PyBaMM's full model; a sample here, the whole matrix in soak."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("pybamm", reason="PyBaMM comes with the test extra on x86_64 only")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setitem(os.environ, "PYBAMM_DISABLE_TELEMETRY", "true")


def check(result):
    assert result["worst"]["min_dfn_mv"] >= 0.0, result
    assert result["worst"]["given_up_frac"] < 0.2, result


@pytest.mark.timeout(300)
def test_the_full_model_of_the_same_set_does_not_plate_and_little_is_given_up():
    from edge.bench.plating import run

    result = run(["OKane2022"], [283.15], models=("DFN",))
    check(result)
    assert set(result["sets"]["OKane2022"]) == {"283.15"}
    # the lower envelope of the sets is close to this one in the cold
    assert -0.01 < result["envelope_cost"]["OKane2022"] < 0.1
    case = result["sets"]["OKane2022"]["283.15"]
    # most of what is given up is the margin, and what is lost at the worst SOC is the rests on the way
    assert case["given_up_at_margin_frac"] < 0.4 * case["given_up_frac"]
    assert case["given_up_any_rest_worst_frac"] < 0.2
    assert case["given_up_any_rest_worst_frac"] < case["given_up_worst_frac"]


@pytest.mark.timeout(300)
def test_a_run_goes_on_where_it_stopped(monkeypatch):
    from edge.bench import plating

    solved = []

    def case(name, kelvin, *_args):
        solved.append(kelvin)
        return {"min_dfn_mv": kelvin, "given_up_frac": 0.1, "given_up_worst_frac": 0.2}

    monkeypatch.setattr(plating, "_case", case)
    monkeypatch.setattr(plating, "own_rates", lambda _name, kelvins: np.ones((len(kelvins), 96)))
    kept = []
    asked = {"models": ("DFN",), "against": (plating.STRICT,)}
    plating.run(["Chen2020"], [263.15], **asked, keep=kept.append)
    unsolved = {"298.15": {"envelope_cost_frac": 0.0, "by_soc": []}}
    known = {"Chen2020": kept[0]["sets"]["Chen2020"] | unsolved}
    result = plating.run(["Chen2020"], [263.15, 298.15], **asked, known=known)
    assert solved == [263.15, 263.15, 298.15, 298.15]  # under the guard and held; nothing twice
    assert result["worst"]["min_dfn_mv"] == 263.15
    assert set(result["sets"]["Chen2020"]) == {"263.15", "298.15"}


def test_what_is_given_up_is_held_against_the_lowest_charge_that_has_begun():
    from edge.bench.plating import COMPARED_SOC, _given_up
    from edge.bench.plating_dfn import CellRun

    def charge(begins, rate):
        soc = np.linspace(begins, 1.0, 50)
        return CellRun(soc, np.full(50, rate), np.zeros(50))

    own = np.full(len(COMPARED_SOC), 0.8)
    from_empty, from_a_rest, at_its_cap = charge(0.0, 1.0), charge(0.6, 0.9), charge(0.0, 1.5)
    alone = _given_up("x_", own, [from_empty])
    assert alone["x_worst_frac"] == pytest.approx(0.2)
    both = _given_up("x_", own, [from_empty, from_a_rest])
    assert both["x_worst_frac"] == pytest.approx(0.2)
    assert both["x_worst_soc_frac"] < 0.6
    assert both["x_frac"] < alone["x_frac"]
    assert _given_up("x_", own, [at_its_cap])["x_frac"] == 0.0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_whole_matrix_of_sets_and_temperatures():
    from edge.bench.plating import run

    check(run())
