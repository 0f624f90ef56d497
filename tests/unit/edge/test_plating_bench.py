"""The plating guard against PyBaMM's full model; a sample here, the whole matrix in soak."""

from __future__ import annotations

import os

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


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_whole_matrix_of_sets_and_temperatures():
    from edge.bench.plating import run

    check(run())
